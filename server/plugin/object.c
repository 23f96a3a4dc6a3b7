#include "plugin/object.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "plugin/host.h"
#include "plugin/recover.h"

static char copy_dir[128];
static pid_t copy_dir_pid;

int object_dir_create(struct diag *diag)
{
    const char *tmp = getenv("TMPDIR");
    int r;

    if (tmp == NULL || tmp[0] != '/' || strlen(tmp) > 90)
        tmp = "/tmp";
    snprintf(copy_dir, sizeof copy_dir, "%s/bulkhead-%ld-XXXXXX", tmp, (long)getpid());
    if (mkdtemp(copy_dir) == NULL || chmod(copy_dir, 0755) < 0) {
        r = -errno;
        diag_add(diag, NULL, 0, 0, "TMPDIR names where private copies of plugins go",
                 "cannot make a directory in %s: %s", tmp, strerror(-r));
        copy_dir[0] = '\0';
        return r;
    }
    copy_dir_pid = getpid();
    return 0;
}

void object_dir_remove(void)
{
    DIR *d;
    const struct dirent *e;

    if (copy_dir[0] == '\0' || copy_dir_pid != getpid() || (d = opendir(copy_dir)) == NULL)
        return;
    while ((e = readdir(d)) != NULL)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(copy_dir);
    copy_dir[0] = '\0';
}

static int copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = -1, r = 0;
    struct stat st;

    if (in < 0)
        return -errno;
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0555);
    if (out < 0 || fstat(in, &st) < 0) {
        r = -errno;
    } else {
        off_t left = st.st_size;

        while (left > 0) {
            ssize_t n = sendfile(out, in, NULL, (size_t)left);

            if (n <= 0) {
                r = n < 0 ? -errno : -EIO;
                break;
            }
            left -= n;
        }
    }
    fd_close(&in);
    fd_close(&out);
    return r;
}

int object_copy(const char *path, struct diag *diag, char **out)
{
    static unsigned serial;
    const char *base = strrchr(path, '/');
    char *copy;
    int r;

    base = base != NULL ? base + 1 : path;
    if (asprintf(&copy, "%s/%u-%s", copy_dir, ++serial, base) < 0)
        return -ENOMEM;
    r = copy_file(path, copy);
    if (r < 0) {
        diag_add(diag, path, 0, 0, "TMPDIR names where private copies go",
                 "cannot make a private copy in %s: %s", copy_dir, strerror(-r));
        free(copy);
        return r;
    }
    *out = copy;
    return 0;
}

int object_load(const char *path, const char *copy, uint32_t plugin, struct diag *diag,
                struct object **out)
{
    const bh_plugin *(*entry)(const bh_host *);
    struct object *o = calloc(1, sizeof *o);
    int r;

    if (o == NULL)
        return -ENOMEM;
    o->path = strdup(path);
    o->copy = strdup(copy);
    if (o->path == NULL || o->copy == NULL) {
        r = -ENOMEM;
        goto fail;
    }
    o->handle = dlopen(o->copy, RTLD_NOW | RTLD_LOCAL);
    if (o->handle == NULL) {
        const char *why = dlerror();
        size_t n = strlen(o->copy);

        /* dlerror() names the copy; the operator knows the original. */
        if (why != NULL && strncmp(why, o->copy, n) == 0)
            why += n + strspn(why + n, ": ");
        diag_add(diag, path, 0, 0, NULL, "cannot be loaded: %s", why != NULL ? why : "dlopen failed");
        r = -ENOEXEC;
        goto fail;
    }
    recover_add_object(o->copy, plugin);
    *(void **)&entry = dlsym(o->handle, "bh_plugin_v1");
    *(void **)&o->cxa_globals = dlsym(o->handle, "__cxa_get_globals");
    o->desc = entry != NULL ? entry(host_table()) : NULL;
    if (o->desc == NULL) {
        diag_add(diag, path, 0, 0, "define it with BH_PLUGIN()", "%s",
                 entry == NULL ? "has no entry point bh_plugin_v1"
                               : "bh_plugin_v1() refused this host's ABI version");
        r = -ENOEXEC;
        goto fail;
    }
    *out = o;
    return 0;

fail:
    object_unload(&o);
    return r;
}

void object_unload(struct object **op)
{
    struct object *o = *op;

    *op = NULL;
    if (o == NULL)
        return;
    if (o->handle != NULL && (o->desc == NULL || (o->desc->flags & BH_F_PINNED) == 0))
        dlclose(o->handle);
    free(o->copy);
    free(o->path);
    free(o);
}
