/*
 * spool.c - reads the log behind those who write it.
 *
 * The state is one line of fixed width, "INODE OFFSET\n", written by one pwrite(): a process that dies
 * leaves the old one or the new one. The inode tells a log that was rotated: its rest is read before
 * the new one, under whatever name it has in the same folder.
 */
#include "spool.h"

#include "event.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_BYTES 42 /* two numbers of 20 digits, a space, a newline */

int spool_init(struct spool *s, const char *path, const char *name, int keep)
{
    memset(s, 0, sizeof *s);
    s->fd = s->state_fd = -1;
    s->keep = keep;
    if ((size_t)snprintf(s->path, sizeof s->path, "%s", path) >= sizeof s->path ||
        (size_t)snprintf(s->state_path, sizeof s->state_path, "%s.%s", path, name) >=
            sizeof s->state_path)
        return -ENAMETOOLONG;
    s->buf = malloc(SPOOL_BYTES);
    return s->buf != NULL ? 0 : -ENOMEM;
}

static void close_log(struct spool *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

void spool_fini(struct spool *s)
{
    close_log(s);
    if (s->state_fd >= 0)
        close(s->state_fd); /* the lock goes with it */
    s->state_fd = -1;
    free(s->buf);
    s->buf = NULL;
}

static void read_state(struct spool *s)
{
    char text[STATE_BYTES + 1] = "";
    unsigned long long inode = 0, done = 0;

    if (pread(s->state_fd, text, STATE_BYTES, 0) == STATE_BYTES &&
        sscanf(text, "%llu %llu", &inode, &done) == 2) {
        s->inode = (ino_t)inode;
        s->done = (off_t)done;
    }
}

static int write_state(struct spool *s)
{
    char text[STATE_BYTES + 1];

    snprintf(text, sizeof text, "%020llu %020llu\n", (unsigned long long)s->inode,
             (unsigned long long)s->done);
    if (pwrite(s->state_fd, text, STATE_BYTES, 0) != STATE_BYTES || fdatasync(s->state_fd) != 0)
        return errno != 0 ? -errno : -EIO;
    return 0;
}

int spool_lock(struct spool *s, char *why, size_t size)
{
    int fd = open(s->state_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640), r;

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
        r = errno == EWOULDBLOCK ? -EAGAIN : -errno;
        snprintf(why, size, "%s: %s", s->state_path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return r;
    }
    s->state_fd = fd;
    read_state(s);
    return 0;
}

/* The file with that inode, in the log's folder. */
static int open_by_inode(const struct spool *s)
{
    char copy[PATH_MAX], *folder;
    struct dirent *e;
    struct stat st;
    DIR *dir;
    int fd = -1;

    snprintf(copy, sizeof copy, "%s", s->path);
    folder = dirname(copy);
    dir = opendir(folder);
    while (dir != NULL && fd < 0 && (e = readdir(dir)) != NULL)
        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            st.st_ino == s->inode)
            fd = openat(dirfd(dir), e->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (dir != NULL)
        closedir(dir);
    return fd;
}

static int open_log(struct spool *s)
{
    struct stat st;

    if (s->fd >= 0)
        return 0;
    if (s->inode != 0)
        s->fd = open_by_inode(s);
    if (s->fd < 0) {
        s->fd = open(s->path, O_RDWR | O_CLOEXEC);
        if (s->fd < 0)
            return -errno;
    }
    if (fstat(s->fd, &st) != 0)
        return -errno;
    /* Another file, or one that was emptied: from its beginning. */
    if (st.st_ino != s->inode || st.st_size < s->done) {
        s->inode = st.st_ino;
        s->done = 0;
    }
    return 0;
}

/* All of this file has been read: is there a newer one under its name? */
static int was_rotated(struct spool *s)
{
    struct stat st;

    return stat(s->path, &st) == 0 && st.st_ino != s->inode;
}

static void split(struct spool *s, size_t n, size_t max, struct batch *out)
{
    size_t at = 0;

    while (out->n < max) {
        char *end = memchr(s->buf + at, '\n', n - at);
        bh_str line;

        if (end == NULL)
            break;
        line = bh_sn(s->buf + at, (size_t)(end - s->buf) - at);
        at = (size_t)(end - s->buf) + 1;
        /* What was given back to the disk reads as zeros. */
        while (line.n > 0 && line.p[0] == '\0')
            line = bh_sn(line.p + 1, line.n - 1);
        if (event_is_whole(line))
            out->line[out->n++] = line;
        else
            out->bad++;
    }
    /* A line that fills the buffer is none of ours. */
    if (at == 0 && n == SPOOL_BYTES) {
        at = n;
        out->bad++;
    }
    out->end = s->done + (off_t)at;
}

int spool_read(struct spool *s, size_t max, struct batch *out)
{
    ssize_t n;
    int r;

    out->n = out->bad = 0;
    for (;;) {
        r = open_log(s);
        if (r < 0)
            return r == -ENOENT ? 0 : r;
        n = pread(s->fd, s->buf, SPOOL_BYTES, s->done);
        if (n < 0)
            return -errno;
        if (n > 0 || !was_rotated(s))
            break;
        close_log(s);
        s->inode = 0;
        s->done = 0;
    }
    split(s, (size_t)n, max < SPOOL_LINES ? max : SPOOL_LINES, out);
    return 0;
}

int spool_acknowledge(struct spool *s, const struct batch *b)
{
    int r;

    s->done = b->end;
    r = write_state(s);
    /* Not all file systems can: then the file keeps its room. */
    if (r == 0 && !s->keep)
        (void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, s->done);
    return r;
}

off_t spool_lag(const struct spool *s)
{
    struct stat st;

    return s->fd >= 0 && fstat(s->fd, &st) == 0 && st.st_size > s->done ? st.st_size - s->done : 0;
}
