#include "plugin/fresh.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/diag.h"
#include "plugin/object.h"
#include "plugin/recover.h"

#define PER_PROCESS 10000 /* a copy's name begins with its maker's pid times this, plus a number */
#define KEEP_S      60    /* of a worker that is gone: the recorder may want the symbols */

static int n_loaded;

bool fresh_is_exhausted(void)
{
    return n_loaded >= FRESH_MAX;
}

/* Files whose makers are gone. What the recorder misses it takes from the original. */
static void sweep(const char *dir)
{
    const struct dirent *entry;
    DIR *d = opendir(dir);

    while (d != NULL && (entry = readdir(d)) != NULL) {
        pid_t pid = (pid_t)(atoll(entry->d_name) / PER_PROCESS);
        struct stat st;

        if (pid <= 0 || pid == getpid() || kill(pid, 0) == 0 || errno != ESRCH)
            continue;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            time(NULL) - st.st_ctime >= KEEP_S)
            unlinkat(dirfd(d), entry->d_name, 0);
    }
    if (d != NULL)
        closedir(d);
}

int fresh_load(const struct object *old, uint32_t plugin, struct diag *diag, struct object **out)
{
    const char *dir = object_fresh_dir();
    char *copy = NULL;
    int r;

    sweep(dir);
    r = object_copy_to(dir, (unsigned long)getpid() * PER_PROCESS + (unsigned)n_loaded + 1,
                       old->path, old->copy, diag, &copy);
    if (r < 0)
        return r;
    r = object_load(old->path, copy, plugin, diag, out);
    if (r < 0)
        unlink(copy);
    else
        n_loaded++;
    free(copy);
    return r;
}
