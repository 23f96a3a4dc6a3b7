/*
 * spool.h - the log, read from where a backend has it all up to.
 *
 * One process of all reads for a backend: the one that has locked the state file, PATH.NAME, in which
 * stands how far it has got. When that process dies, the lock is free, and another goes on there.
 */
#ifndef EXPOSURE_SPOOL_H
#define EXPOSURE_SPOOL_H

#include <bulkhead.h>
#include <limits.h>
#include <sys/types.h>

#define SPOOL_LINES 1000
#define SPOOL_BYTES (1u << 20)

struct spool {
    char path[PATH_MAX], state_path[PATH_MAX];
    int state_fd; /* -1: not ours */
    int fd;       /* -1: not open */
    ino_t inode;
    off_t done; /* up to there it is acknowledged */
    int keep;   /* no: what is acknowledged gives its room on the disk back */
    char *buf;  /* SPOOL_BYTES */
};

struct batch {
    bh_str line[SPOOL_LINES]; /* into the spool's buffer, without newline */
    size_t n, bad;            /* bad: lines that are none, left out */
    off_t end;
};

/* path: absolute. 0 or -errno. Touches no file yet. */
int spool_init(struct spool *s, const char *path, const char *name, int keep);
void spool_fini(struct spool *s);

/* 0: it is ours. -EAGAIN: another process has it. -errno with the reason in why. */
int spool_lock(struct spool *s, char *why, size_t size);

/* The next whole lines, at most max. 0 with n == 0 and bad == 0: nothing new. -errno. */
int spool_read(struct spool *s, size_t max, struct batch *out);
/* They are safe where they were sent to. 0 or -errno. */
int spool_acknowledge(struct spool *s, const struct batch *b);
/* Bytes that wait. */
off_t spool_lag(const struct spool *s);

#endif
