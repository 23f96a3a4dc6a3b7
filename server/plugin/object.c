#include "plugin/object.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "plugin/host.h"
#include "plugin/orphans.h"
#include "plugin/recover.h"
#include "plugin/text.h"

#define FRESH "fresh"

static char copy_dir[128], fresh_dir[sizeof copy_dir + sizeof "/" FRESH];
static pid_t copy_dir_pid;

const char *object_fresh_dir(void)
{
    return fresh_dir;
}

/* Workers run as server.user, and nobody else shall put objects there. */
static int make_fresh_dir(const char *user)
{
    const struct passwd *pw = user != NULL && geteuid() == 0 ? getpwnam(user) : NULL;

    snprintf(fresh_dir, sizeof fresh_dir, "%s/" FRESH, copy_dir);
    if (mkdir(fresh_dir, 0700) < 0)
        return -errno;
    /* No such user: the master says so, when it looks for it. */
    return pw != NULL && chown(fresh_dir, pw->pw_uid, pw->pw_gid) < 0 ? -errno : 0;
}

int object_dir_create(const char *user, struct diag *diag)
{
    const char *tmp = getenv("TMPDIR");
    int r;

    if (copy_dir[0] != '\0' && copy_dir_pid == getpid())
        return 0;
    if (tmp == NULL || tmp[0] != '/' || strlen(tmp) > 90)
        tmp = "/tmp";
    orphans_remove(tmp);
    snprintf(copy_dir, sizeof copy_dir, "%s/" ORPHANS_PREFIX "%ld-XXXXXX", tmp, (long)getpid());
    r = mkdtemp(copy_dir) == NULL || chmod(copy_dir, 0755) < 0 ? -errno : make_fresh_dir(user);
    if (r < 0) {
        diag_add(diag, NULL, 0, 0, "TMPDIR names where private copies of plugins go",
                 "cannot make a directory in %s: %s", tmp, strerror(-r));
        copy_dir[0] = '\0';
        return r;
    }
    orphans_mark(copy_dir);
    copy_dir_pid = getpid();
    return 0;
}

void object_dir_remove(void)
{
    int fd;

    if (copy_dir[0] == '\0' || copy_dir_pid != getpid())
        return;
    fd = open(copy_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        orphans_empty(fd);
    fd_close(&fd);
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
    /* server.user reads it, whatever the umask of who starts the server. */
    if (out < 0 || fstat(in, &st) < 0 || fchmod(out, 0555) < 0) {
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

int object_copy(const char *path, const char *from, struct diag *diag, char **out)
{
    static unsigned serial;

    return object_copy_to(copy_dir, ++serial, path, from, diag, out);
}

int object_copy_to(const char *dir, unsigned long serial, const char *path, const char *from,
                   struct diag *diag, char **out)
{
    const char *base = strrchr(path, '/');
    char *copy;
    int r;

    base = base != NULL ? base + 1 : path;
    if (asprintf(&copy, "%s/%lu-%s", dir, serial, base) < 0)
        return -ENOMEM;
    r = copy_file(from, copy);
    if (r < 0) {
        unlink(copy); /* a part of it, when the disk is full */
        diag_add(diag, path, 0, 0,
                 r == -EMFILE ? "raise the limit of descriptors (ulimit -n, LimitNOFILE)"
                              : "TMPDIR names where private copies go",
                 "cannot make a private copy in %s: %s", dir, strerror(-r));
        free(copy);
        return r;
    }
    *out = copy;
    return 0;
}

/* What constructors do is charged to the plugin; the watchdog sees a new call begin and end. */
static void publish_load(uint32_t plugin)
{
    struct shm_call *call = recover_self.call;

    if (recover_self.is_child_of_fork)
        _exit(0); /* a constructor forked: or there would be two of us */
    recover_publish(call, plugin, plugin != 0 ? HOOK_LOAD : HOOK_NONE);
    recover_next_call(call);
}

/* The message of the loader names no reason then, and the plugin is not at fault. */
static const char *noexec_hint(const char *copy)
{
    struct statvfs fs;

    return statvfs(copy, &fs) == 0 && (fs.f_flag & ST_NOEXEC) != 0
               ? "its private copy is on a file system that is mounted noexec: set TMPDIR to a folder "
                 "elsewhere"
               : NULL;
}

static int load(const char *path, const char *copy, uint32_t plugin, struct diag *diag,
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
        diag_add(diag, path, 0, 0, noexec_hint(o->copy), "cannot be loaded: %s",
                 why != NULL ? why : "dlopen failed");
        r = -ENOEXEC;
        goto fail;
    }
    recover_add_object(o->copy, plugin);
    *(void **)&entry = dlsym(o->handle, "bh_plugin_v1");
    *(void **)&o->cxa_globals = dlsym(o->handle, "__cxa_get_globals");
    o->base = text_object((uintptr_t)entry);
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

int object_load(const char *path, const char *copy, uint32_t plugin, struct diag *diag,
                struct object **out)
{
    int r;

    publish_load(plugin);
    r = load(path, copy, plugin, diag, out);
    publish_load(0);
    return r;
}

void object_unload(struct object **op)
{
    struct object *o = *op;

    *op = NULL;
    if (o == NULL)
        return;
    if (o->handle != NULL && !o->is_held &&
        (o->desc == NULL || (o->desc->flags & BH_F_PINNED) == 0))
        dlclose(o->handle);
    free(o->copy);
    free(o->path);
    free(o);
}
