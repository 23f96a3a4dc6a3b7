/*
 * kept_claim.c - one state folder, one server: kept.h.
 *
 * A record lock of fcntl(), since it ends with the process, however that ends, is not inherited by
 * workers, and tells who has it. What a newcomer would get wrong: closing any descriptor of that file
 * gives it up; nobody but this file opens it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "master/internal.h"
#include "master/kept_internal.h"

int kept_claim(struct master *m, pid_t *other)
{
    static char claimed[PATH_MAX];
    static int fd = -1;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX];
    int r = kept_path(m->cfg, "lock", path), next;

    if (r < 0 || (fd >= 0 && strcmp(path, claimed) == 0))
        return r;
    /* The master before this one, in an upgrade, has it until it ends. */
    if (m->predecessor_fd >= 0)
        return 0;
    r = kept_make_folder(path);
    if (r < 0)
        return r;
    next = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (next < 0)
        return -errno;
    if (fcntl(next, F_SETLK, &lock) < 0) {
        r = errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
        if (r == -EBUSY && other != NULL && fcntl(next, F_GETLK, &lock) == 0 &&
            lock.l_type != F_UNLCK)
            *other = lock.l_pid;
        fd_close(&next);
        return r;
    }
    fd_close(&fd); /* of a state.dir that was */
    fd = next;
    snprintf(claimed, sizeof claimed, "%s", path);
    return 0;
}
