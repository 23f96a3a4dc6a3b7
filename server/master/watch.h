/*
 * watch.h - `reload.watch`: a reload when the config file or a plugin object changes.
 *
 * Folders are watched, not files: editors and package managers put a new file in place of the old one,
 * and Kubernetes swaps a link (..data) for a whole folder. What a newcomer would get wrong: an event
 * only says where to look. Whether there is something new is decided by what is in the files.
 */
#ifndef MASTER_WATCH_H
#define MASTER_WATCH_H

#include <stdint.h>

#define WATCH_FOLDERS 64

struct master;

struct watch {
    int fd; /* inotify; -1: off */
    int n;
    int folder[WATCH_FOLDERS]; /* watch descriptors */
    const void *made_for;      /* the generation whose files these are */
    int64_t first_ms, due_ms;  /* of events that wait for others to follow; 0: none */
};

void watch_init(struct watch *w);
/* Watches what the current generation was made from, as far as its config wants that. */
void watch_update(struct master *m);
void watch_read(struct master *m);
void watch_tick(struct master *m, int64_t now_ms);
/* When watch_tick() has something to do; INT64_MAX: never. */
int64_t watch_next_ms(const struct master *m);
void watch_close(struct watch *w);

#endif
