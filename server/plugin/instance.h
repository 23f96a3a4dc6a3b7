/*
 * instance.h - a configured plugin in this worker, and its incarnations.
 *
 * After a crash what open() made is not trusted: a fresh incarnation takes over, while requests
 * that entered the old one keep it until they end. After a second crash a fresh copy of the object
 * takes over as well (fresh.h), with static variables as they were at first. What a newcomer would
 * get wrong: `self` and the descriptor belong to the incarnation, not to the instance, so a request
 * must use those of the one it entered.
 */
#ifndef PLUGIN_INSTANCE_H
#define PLUGIN_INSTANCE_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "ipc/breaker.h"
#include "plugin/recover.h"
#include "store/store.h"

struct config;
struct config_plugin;
struct diag;
struct alarm;
struct pending;
struct heap;
struct metrics_plugin;
struct object;
struct rollout;
struct stream;
struct shm;
struct shm_plugin;

#define INSTANCE_MAGIC 0x696e7374u

struct incarnation {
    bh_inst *inst;
    const bh_plugin *desc; /* of the object that its self belongs to */
    struct object *object; /* that one */
    struct heap *heap;     /* what it allocates; NULL: libc's */
    void *self;
    struct metrics_plugin *meter; /* as inst->meter, at hand where calls are made */
    uint32_t refs;                /* requests, and the instance while it is current */
    bool is_closing;
    struct alarm *alarms; /* its timers: alarm.h */
    uint32_t n_alarms, n_pending;
    struct pending *pending; /* what it is to be called back about: pending.h */
    struct stream *streams;  /* that it has begun, of requests that go on: stream.h */
};

/* Whose code runs, or ran last, on the loop thread; NULL: it is gone. */
extern struct incarnation *incarnation_running;

/* The request it is called for, or was; NULL: for none. What it logs is about that one. */
extern bh_req *incarnation_request;

/* Which call that is, or was: what it asked for is undone by this number if it crashes. Not the sequence
 * number of attribution, which has moved on by then. */
extern uint32_t incarnation_calls;

/* Before each call of it on the loop thread. */
static inline void incarnation_run_for(struct incarnation *inc, bh_req *req)
{
    incarnation_running = inc;
    incarnation_request = req;
    incarnation_calls++;
    recover_use_heap(inc->heap);
}
static inline void incarnation_run(struct incarnation *inc)
{
    incarnation_run_for(inc, NULL);
}

struct event_ration { /* of bh_event(): host_event.c */
    int64_t at_ms;
    uint32_t left, left_out;
};

struct bh_inst {
    uint32_t magic;
    uint32_t id; /* index + 1 in the config: what attribution publishes */
    const struct config_plugin *cfg;
    const struct config *config;
    struct object *object;       /* for incarnations to come; borrowed, unless it is `fresh` */
    const bh_plugin *desc;       /* of that object */
    struct object *fresh;        /* the instance's own copy, after repeated crashes; or NULL */
    const void *options;         /* the plugin's config struct, filled */
    struct incarnation *current; /* NULL: no working instance just now */
    int64_t retry_at_ms;         /* then: the next try to open one, monotonic */
    uint32_t retry_delay_ms;
    struct breaker_limits limits;
    int64_t crashed_at_ms, copied_at_ms; /* monotonic; 0: never */
    bool is_stained;                     /* it has crashed since its object was loaded */
    bool is_started;
    bool is_ejected;        /* for good, in this worker: eject.h */
    uint32_t alarm_hold_ms; /* alarm.c: after crashes in timers they stand still for a while */
    int64_t alarm_crashed_ns, alarm_held_ns;
    uint32_t n_outbound; /* requests to others that go on: worker/outbound.c */
    /* Offloaded calls that wait or run: a job may outlive its request, but not the instance, which pays
     * if it crashes (worker/offload.c). */
    _Atomic uint32_t n_jobs;
    struct event_ration events;
    struct store_ns ns; /* host_store.c */
    _Atomic uint32_t is_ns_open;
    struct arena arena; /* options and what info() answers */
    struct shm *shm;
    struct shm_plugin *stat;
    struct metrics_plugin *meter; /* of this worker: meter.h */
    struct bh_inst *next; /* the candidate that may take its place (arm.h); NULL: there is none */
    struct rollout *rollout; /* of it and of its candidate */
    int worker;              /* its slot */
    char worker_text[12];
};

/* Fills the options; object is borrowed and shared. 0, or -errno and diag. */
int instance_create(const struct config *cfg, int index, struct object *object, struct shm *shm,
                    int worker, struct diag *diag, bh_inst **out);
/* Closes the current incarnation (in a boundary) and frees. No request may be left. */
void instance_destroy(bh_inst **instp);

/* validate() and open(), each in a boundary; 0, or -errno and the reason in diag. */
int instance_validate(bh_inst *inst, struct diag *diag);
int instance_open(bh_inst *inst, struct diag *diag);
void instance_start(bh_inst *inst);
void instance_drain(bh_inst *inst);
/* What it keeps in memory, to a file (ipc/state.h), and from there. Nothing happens where the plugin has
 * no such hook, or there is nothing; what fails is logged. */
void instance_save(bh_inst *inst, int fd);
/* 0, too, when there was nothing to restore; -EFAULT: it crashed; -EINVAL: it failed. */
int instance_restore(bh_inst *inst, const char *map, size_t size);

/* The current incarnation with a reference, or NULL while there is none (and then, when its time
 * has come, tries to open one). */
struct incarnation *incarnation_get_slow(bh_inst *inst);
void incarnation_free(struct incarnation *inc); /* closes */
/* Its streams are cut: nobody is left who would go on writing to them. */
void incarnation_break_streams(struct incarnation *inc);

static inline struct incarnation *incarnation_get(bh_inst *inst)
{
    if (__builtin_expect(inst->current == NULL, 0))
        return incarnation_get_slow(inst);
    inst->current->refs++;
    return inst->current;
}

static inline void incarnation_put(struct incarnation *inc)
{
    if (--inc->refs == 0)
        incarnation_free(inc);
}

/* After a crash in inc: retires it if it is current, and opens a fresh one; none, when the plugin was
 * ejected. When it is not the first crash within the breaker's window, of a fresh copy of the object,
 * once per window. */
void instance_renew(bh_inst *inst, struct incarnation *inc);
/* A trial is to begin: on a fresh copy, if the instance has crashed since its object was loaded. */
void instance_freshen(bh_inst *inst);
/* Is this a function of an object that the instance has left behind? */
bool instance_has_left(const bh_inst *inst, uintptr_t function);
/* No working instance just now: seconds until it is worth trying again. */
uint32_t instance_retry_s(const bh_inst *inst);

/* Takes the plugin out of this worker (eject.h): no request enters it any more, and close() is not
 * called, since it might hang or crash where the rest did. why: for the log. */
void instance_eject(bh_inst *inst, const char *why);

#endif
