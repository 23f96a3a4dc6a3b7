#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void fd_close(int *fd)
{
    int saved = errno;

    if (*fd < 0)
        return; /* not even written: in a forked child that would copy the page */
    close(*fd);
    *fd = -1;
    errno = saved;
}

int fd_write_all(int fd, const void *p, size_t n)
{
    const char *c = p;

    while (n > 0) {
        ssize_t w = write(fd, c, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -errno;
        c += w;
        n -= (size_t)w;
    }
    return 0;
}

int fd_read_file(const char *path, size_t max, char **out, size_t *n)
{
    size_t len = 0, cap = 8192;
    struct stat st;
    char *buf = NULL;
    int fd, r;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && st.st_size >= (off_t)cap && (size_t)st.st_size <= max)
        cap = (size_t)st.st_size + 1; /* all in one go; what is read decides, all the same */
    buf = malloc(cap + 1);
    for (;;) {
        ssize_t got;

        if (buf == NULL) {
            r = -ENOMEM;
            goto fail;
        }
        got = read(fd, buf + len, cap - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            r = -errno;
            goto fail;
        }
        if (got == 0)
            break;
        len += (size_t)got;
        if (len > max) {
            r = -EFBIG;
            goto fail;
        }
        if (len == cap) {
            char *more = realloc(buf, (cap *= 2) + 1);

            if (more == NULL) {
                r = -ENOMEM;
                goto fail;
            }
            buf = more;
        }
    }
    buf[len] = '\0';
    *out = buf;
    *n = len;
    fd_close(&fd);
    return 0;

fail:
    free(buf);
    fd_close(&fd);
    return r;
}

int fd_make_dirs(const char *path, mode_t mode)
{
    char part[PATH_MAX];
    size_t n = strlen(path);

    if (n == 0 || n >= sizeof part)
        return -ENAMETOOLONG;
    memcpy(part, path, n + 1);
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    if (mkdir(part, mode) < 0 && errno != EEXIST)
        return -errno;
    return 0;
}
