/*
 * events.h - what has happened lately, for `bulkhead events` and the admin interface.
 *
 * A ring in the master. Whoever asks says which they have seen last, and gets the rest; what has been
 * overwritten meanwhile is told by the gap in the numbers.
 */
#ifndef MASTER_EVENTS_H
#define MASTER_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#define EVENTS_KEPT 512

enum event_kind {
    EVENT_STARTED, /* the server */
    EVENT_RELOADED,
    EVENT_RELOAD_FAILED,
    EVENT_ROLLOUT,         /* one has begun, takes a step, pauses, resumes */
    EVENT_PROMOTED,        /* one has ended: the new version serves */
    EVENT_ROLLED_BACK,     /* the old one does, since the new one is bad */
    EVENT_ROLLOUT_ABORTED, /* the old one does, as somebody wished */
    EVENT_QUARANTINED,
    EVENT_WORKER_ENDED,
    EVENT_CRASHED, /* a plugin, once or more within a second */
    EVENT_BREAKER, /* of a plugin opens, closes, lets trials through */
    EVENT_PLUGIN,  /* what a plugin tells: bh_event() */
    EVENT_KINDS,
};

struct event {
    uint32_t number; /* from 1 */
    int64_t time_ns;
    enum event_kind kind;
    char plugin[64]; /* "": none */
    char name[32];   /* EVENT_PLUGIN: as it calls that */
    char text[256];
};

struct events {
    uint32_t n; /* so many there were */
    struct event kept[EVENTS_KEPT];
};

struct master;

/* Looks, once a second, at what workers have noted in shared memory: crashes, breakers, what plugins tell. */
void events_look(struct master *m, int64_t now_ms);
/* An operator has opened or closed it, and an event says so: events_look() has no news of it. */
void events_note_breaker(int place, bool is_open);
const char *event_name(enum event_kind kind);
/* plugin may be NULL. */
__attribute__((format(printf, 4, 5))) void events_add(struct events *e, enum event_kind kind,
                                                      const char *plugin, const char *fmt, ...);
/* Those after number `after`, oldest first: {"events": [...], "last": N}. Malloc'd; NULL: no memory. */
char *events_json(const struct events *e, uint32_t after);

#endif
