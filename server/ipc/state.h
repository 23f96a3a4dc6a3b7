/*
 * state.h - what plugins keep in memory, on its way from a worker to its successor.
 *
 * A sealed-size memory file: records of {name of the instance, version of the format, bytes}. Made by
 * the master, written by the old worker, read by the new one. What a newcomer would get wrong: the
 * writer runs plugins, and is not trusted; every length is checked against what is there.
 */
#ifndef IPC_STATE_H
#define IPC_STATE_H

#include <stddef.h>
#include <stdint.h>

#define STATE_NAME 128
#define STATE_MAX  (16u << 20) /* bytes of all instances of one worker */

struct state_record {
    uint32_t magic;
    uint32_t version;
    uint32_t len;
    uint32_t reserved;     /* 0; the bytes are aligned to 8 */
    char name[STATE_NAME]; /* NUL-terminated */
};

/* A descriptor, close-on-exec, or -errno. */
int state_create(void);

/* Appends; 0, -ENOSPC when STATE_MAX would be passed, or -errno. */
int state_put(int fd, const char *name, uint32_t version, const void *p, size_t n);

/* Maps all of it for reading: 0 and *out with its size (munmap() it), or -errno: empty, too large. */
int state_map(int fd, const char **out, size_t *size);
/* The record of that name in what was mapped, and its bytes; NULL: there is none, or it made no
 * sense. */
const struct state_record *state_find(const char *map, size_t size, const char *name,
                                      const void **bytes);

#endif
