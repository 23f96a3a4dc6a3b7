/*
 * memory.h - the store in a shared segment: fast, shared by all workers of one server, gone when the
 * server ends.
 *
 * The master makes the segment before it forks, so it outlives every worker and every reload; its
 * descriptor is handed to the next master in an upgrade. Any process may be killed between any two of
 * its instructions: see memory_internal.h for why that is sound.
 */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct store;
struct store_memory; /* the mapped segment */

#define STORE_MEMORY_MIN (2u << 20)
#define STORE_MEMORY_MAX (2ull << 30)

/* A new segment; size: bytes for what is stored, index included. 0 or -errno. */
int store_memory_create(uint64_t size, struct store_memory **out);
/* The segment behind fd, which is the caller's to close. -EINVAL: it is none, or of another version or
 * size than asked for. */
int store_memory_attach(int fd, uint64_t size, struct store_memory **out);
int store_memory_fd(const struct store_memory *m); /* owned by m; close-on-exec */
void store_memory_destroy(struct store_memory **mp);

/* A store on it; m is borrowed. 0 or -ENOMEM. */
int store_memory_open(struct store_memory *m, struct store **out);

/* For people; each may be a moment old. */
struct store_memory_stat {
    uint64_t size, used; /* bytes */
    uint64_t entries;
    uint64_t expired;  /* taken out since their time was over */
    uint64_t refused;  /* sets and adds for which there was no room, or no quota */
    uint64_t repaired; /* times that a lock's holder had died */
};
void store_memory_stat(struct store_memory *m, struct store_memory_stat *out);

#endif
