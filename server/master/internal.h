/*
 * internal.h - what the files of the master share.
 */
#ifndef MASTER_INTERNAL_H
#define MASTER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/align.h"
#include "conf/config.h"
#include "conf/diff.h"
#include "conf/overlay.h"
#include "master/admin.h"
#include "master/control.h"
#include "master/events.h"
#include "master/inherit.h"
#include "master/kept.h"
#include "master/listen.h"
#include "master/master.h"
#include "master/respawn.h"
#include "master/rollout.h"
#include "master/status.h"
#include "master/user.h"
#include "master/watch.h"

#define MASTER_READY_MS 10000 /* from fork to "ready" */
#define CHILD_OWN_THREADS \
    1 /* of a worker, or a preflight process, that yields: its watchdog does not */
#define MASTER_YIELD_MS 50 /* so long one that nobody waits for leaves the CPU to others */

/* What an event of the loop is about: a slot (its ready_fd), or one of these. */
#define MASTER_CHANNEL_EVENT 0x10000u /* | slot */
#define MASTER_SIGNAL_EVENT  UINT32_MAX
#define MASTER_UPGRADE_EVENT (UINT32_MAX - 1)
#define MASTER_CONTROL_EVENT (UINT32_MAX - 2)
#define MASTER_WATCH_EVENT   (UINT32_MAX - 3)
#define MASTER_ADMIN_EVENT   (UINT32_MAX - 4)

enum master_phase {
    MASTER_STARTING, /* until every worker is ready */
    MASTER_SERVING,
    MASTER_DRAINING, /* workers finish what they have */
    MASTER_FORCING,  /* workers stop at once */
    MASTER_FLUSHING, /* workers are gone; the recorder writes the rest */
    MASTER_ENDED,
};

enum child_state {
    CHILD_DOWN,    /* the slot is free */
    CHILD_WAITING, /* recorder, admin: is started again at due_ms */
    CHILD_STARTING,
    CHILD_RUNNING,
};

/* What a worker is there for. A post is a set of listening sockets that wants a worker; a slot (its
 * index) is a place in shared memory, which the process keeps for life. */
enum child_duty {
    DUTY_NONE,
    DUTY_STANDBY,   /* has opened all plugins, and waits for a post */
    DUTY_CANDIDATE, /* the same, for a config that is being loaded (reload.c) */
    DUTY_SERVING,   /* holds its post, or will once it is ready */
    DUTY_RETIRING,  /* serves until its successor does */
    DUTY_LEAVING,   /* has a successor; finishes what it has begun */
    DUTY_PARKED,    /* stands still after a fault; its connections were taken, it was killed */
};

#define CHILD_RECORDER (-1) /* as an index */
#define CHILD_ADMIN    (-2)
#define CHILD_EXPORTER (-3)
#define CHILD_MESSAGE  1024

struct haul { /* what became of a parked worker's connections */
    int n_idle, n_replayed, n_refused, n_cut;
};

struct keys { /* certificates and keys, as they were last read: keys.c */
    int fd;   /* -1: no listener needs them */
    uint32_t edition;
    uint64_t signature, seen; /* of the files: as they were read, as they were last looked at */
    int64_t next_ms;          /* when they are looked at */
};

/* A config as it was loaded once, and what was made for it. Those before the current one are kept as
 * long as workers with it live. */
struct generation {
    uint64_t number; /* from 1 */
    const struct config *cfg;
    const struct setup *setup;
    bool is_borrowed; /* of master_run()'s caller */
    struct keys keys;
    struct generation *older;
};

struct child {
    int index;                    /* slot of the worker, or CHILD_RECORDER, CHILD_ADMIN */
    const struct generation *gen; /* that it was forked with */
    enum child_state state;
    enum child_duty duty;
    int post;       /* -1: none */
    pid_t pid;      /* 0 unless STARTING or RUNNING */
    int ready_fd;   /* what the worker says when it is ready, or why not; -1: closed */
    int channel_fd; /* ipc/channel.h; -1: closed */
    int far_fd;     /* its end of that: for what it will not read any more (escrow_take_back()) */
    int64_t started_ms;
    int64_t due_ms;              /* WAITING: start; STARTING: ready by then; LEAVING: gone by then;
                          a helper of an older generation: the same */
    uint32_t beat;               /* of its loop, as last seen ... */
    int64_t beat_ms;             /* ... to change */
    struct haul haul;            /* PARKED */
    char record_id[64];          /* PARKED: of the crash, for the one it answered just then */
    bool is_surrendering;        /* PARKED: we wait for what it hands over by itself, till due_ms */
    bool is_stopped;             /* by a signal, as was said */
    int64_t hurry_ms;            /* STARTING: when it has yielded to others for long enough */
    bool was_told_to_end;        /* by SIGQUIT or SIGKILL of ours: however it ends is fine */
    char message[CHILD_MESSAGE]; /* why it is not ready */
    size_t message_len;
    struct respawn respawn; /* of the recorder, of the admin process */
    uint32_t keys_edition;  /* of the certificates that it has */
};

struct post {
    int holder;     /* slot of the worker that serves it, or is about to; -1: nobody */
    int64_t due_ms; /* nobody holds it: when a successor is to be had */
    bool is_to_recycle;
    int state_fd; /* during a reload: what plugins of the old worker had in memory; -1: nothing */
    bool is_saving;
    struct respawn respawn;
};

struct channel_message;
struct held; /* a connection on its way between two workers: escrow.c */
struct escrow {
    struct held *item;
    int n, cap;
    bool cannot_take; /* pidfd_getfd() is denied: workers hand over by themselves. It was said. */
};

enum reload_state {
    RELOAD_IDLE,
    RELOAD_ASKING,    /* a worker for what its plugins have in memory, to try restore() with it */
    RELOAD_TRYING,    /* the plugins, in a process of their own */
    RELOAD_PREPARING, /* workers with the new config open all plugins */
    RELOAD_SAVING,    /* workers with the old one write down what plugins have in memory */
};

/* What a part of a reload begins with, and the one before ends: reload_times.c */
enum reload_mark {
    RELOAD_BEGUN,
    RELOAD_CHECKED,
    RELOAD_TRIED,
    RELOAD_PREPARED,
    RELOAD_COMMITTED,
    RELOAD_TAKEN, /* all successors serve */
    RELOAD_MARKS
};

struct master;

/* A reload for a rollout's sake: what is laid over the file, and who is to know. */
typedef void reload_ended(struct master *m, bool is_done);
struct reload_variants {
    const struct overlay *overlay; /* copied */
    reload_ended *ended;           /* it is over, idle again */
    /* What was loaded: NULL, or why not. */
    const char *(*check)(struct master *m, const struct generation *next);
};

/* follow.c */
struct follow {
    int64_t first_ms;  /* of reloads close to each other: the first one; ... */
    int64_t commit_ms; /* ... and the last; 0: there was none */
    bool is_patient;   /* there may be more of them */
    int64_t told_ms;   /* when they were told to; 0: not yet */
};

#define RELOAD_RESULTS 16

struct reload {
    enum reload_state state;
    uint32_t id; /* of the one under way, or of the last */
    bool is_dry, is_wanted_again, is_brave;
    unsigned flags_again; /* of who wants it again, together, and why: of the last of them */
    const char *reason, *reason_again;
    int64_t began_ms;
    int64_t mark_ns[RELOAD_MARKS]; /* 0: it has not come to that */
    bool is_taking;                /* it is done, but who takes over has not begun to serve */
    int n_changes;                 /* then: that it made */
    struct generation *next;       /* what may become the current one */
    struct listen_set listeners;
    bool is_fresh[CONFIG_MAX_PLACES]; /* plugins of `next` that were not there before */
    struct changes changes;
    struct preflight *preflight;
    struct overlay overlay; /* that next was loaded with */
    reload_ended *ended;
    int64_t save_until_ms;
    /* JSON of the last ones, by number: whoever waits for one may come late, when there was another. */
    char *result[RELOAD_RESULTS];
    int64_t result_ns;
    bool has_failed; /* the last one */
    char why[512];   /* then: the first of the reasons */
};

struct master {
    const struct config *cfg; /* of the current generation, as is setup */
    const struct setup *setup;
    struct generation *generation;
    struct reload reload;
    struct follow follow;
    struct overlay overlay; /* in what the current plugins differ from those of the file */
    struct rollout_run rollout;
    struct bans bans;
    char *kept; /* the variants as they were last written; NULL: there is no such file */
    struct events events;
    const struct master_roles *roles;
    struct shm *shm;
    struct store_memory *store; /* of all generations */
    struct listen_set listeners;
    struct user user;
    enum master_phase phase;
    int64_t phase_end_ms; /* DRAINING, FORCING, FLUSHING: patience ends */
    int64_t flush_end_ms; /* FLUSHING: that with the recorder */
    int exit_status;
    int epoll_fd, signal_fd;
    struct child recorder, admin_child, exporter;
    _Atomic uint32_t *beats; /* of these: ipc/beat.h */
    struct admin admin;
    struct child *worker; /* n_slots */
    int n_slots;
    struct post *post; /* cfg->n_workers */
    struct {           /* the worker that stands by */
        int64_t due_ms;
        struct respawn respawn;
    } standby;
    struct escrow escrow;
    struct { /* session tickets' keys are made of it, in all generations */
        unsigned char secret[64];
        int64_t until_ms; /* 0: there is none yet */
    } tickets;
    struct {            /* SIGUSR2: the new master */
        pid_t pid;      /* 0: there is none */
        int channel_fd; /* to it; -1: none */
        int64_t due_ms;
        /* In the new one, when the old one has gone: the state folder is to be claimed; 0: it is not. */
        int64_t claim_ms, claim_until_ms;
    } upgrade;
    bool is_succeeded; /* it serves: this one finishes */
    struct inherit inherited;
    int predecessor_fd; /* to the old master, which hands its connections over; -1: none */
    struct control control;
    struct history history;
    struct watch watch;
    struct { /* systemd's, notify.c */
        int64_t every_ms, patience_ms;
        int64_t next_ms;   /* a sign of life is due; INT64_MAX: none is waited for */
        int64_t turned_ms; /* a worker's loop was last seen to turn */
        bool is_withheld;
    } watchdog;
};

/* ---- start.c ---- */

/* One line on stderr, wherever the log goes, and in the log. */
__attribute__((format(printf, 2, 3))) void master_say(const struct master *m, const char *fmt, ...);
/* "bulkhead 0.1.0 serving on ..." */
void master_announce(const struct master *m);
/* Sockets, user, folder, shared memory; 0, or -errno and it has been said. */
int master_prepare(struct master *m);

/* ---- child.c ---- */

void child_init(struct child *c, int index, const struct config *cfg);
/* Forks; 0 or -errno. A worker for that post, or, with post -1, one that stands by. */
int child_start(struct master *m, struct child *c, int post, const struct generation *gen);
/* In a child: closes what is the master's alone; listening sockets are another matter. */
void child_close_masters(struct master *m);
bool child_is_alive(const struct child *c);
/* "worker 0", "recorder" */
void child_name(const struct child *c, char *buf, size_t size);
void child_kill(struct child *c, int signo);
/* Has somebody stopped it by a signal, or debugs it? Says so, once. */
bool child_look_stopped(struct child *c);
/* Something came through ready_fd. The worker is RUNNING if that was the word. */
void child_read_ready(struct child *c);
/* Collects it if it has ended; true then, with *status as of waitpid(), and it is DOWN. What it said
 * last still stands in the channel: posts_read_last(). */
bool child_reap(struct child *c, int *status, bool *was_serving);
/* In a child, before its role: signals, name, user, end of the parent. Leaves when that fails. */
void child_become(const struct user *user, pid_t parent, bool ignore_quit, const char *role);

/* ---- posts.c ---- */

void posts_init(struct master *m);
/* Forks a worker for every post. False: that could not be done, and has been said. */
bool posts_start(struct master *m);
/* Does what is due: successors, the one that stands by, recycling, patience with those that leave. */
void posts_tick(struct master *m, int64_t now_ms);
int64_t posts_next_ms(const struct master *m);
/* The worker has said that it is ready. */
void posts_ready(struct master *m, struct child *c);
/* It is no more; was: what its duty and post were. */
void posts_ended(struct master *m, struct child *c, enum child_duty was, int post, bool was_serving,
                 const char *reason);
/* Workers that stand by with a new config take over all posts; those with the old one go. */
void posts_change_generation(struct master *m);
/* Its successor shall take over, gracefully: outcome Q, recycling. why: for the log. */
void posts_retire(struct master *m, struct child *c, const char *why);
/* All: their connections go to another server's workers. */
void posts_dismiss_all(struct master *m);
/* A message came from it. */
void posts_read_channel(struct master *m, struct child *c);
/* It has ended: all that it had sent, then the channel is closed. */
void posts_read_last(struct master *m, struct child *c);
/* The one that stands by, as far as it has the current config; a free slot. Or NULL. */
struct child *posts_find_standby(struct master *m);
struct child *posts_find_free_slot(struct master *m);
int posts_count_free(const struct master *m);
/* The one place where a duty changes. */
void posts_set_duty(struct child *c, enum child_duty duty);
extern int posts_stuck_ms; /* patience with a loop that does not turn; tests have less */
/* Workers that hold a post and are ready. */
int posts_count_ready(const struct master *m);
const char *duty_name(enum child_duty duty);

/* Has workers replaced, one after the other, without losing a connection. slot: of the worker; -1:
 * all that serve. 0, or -ENOENT. */
int master_recycle(struct master *m, int slot);

/* ---- stuck.c ---- */

/* Kills a recorder, admin process or exporter that stands still. */
void stuck_tick(struct master *m, int64_t now_ms);
extern int stuck_helper_ms; /* tests have less */

/* ---- escrow.c ---- */

/* The worker stands still: takes its connections, kills it, and charges whom it may concern. */
void escrow_take(struct master *m, struct child *c);
/* What a parked worker hands over by itself; entries without a descriptor: that was all. */
void escrow_surrendered(struct master *m, struct child *c, const struct channel_message *msg,
                        const int *fds);
/* What was sent to it and it has not read, nor will any more: connections on their way to it. */
void escrow_take_back(struct master *m, struct child *c);
/* It is at its end, whether it said so or not: no more is expected of it. */
void escrow_taken(struct master *m, struct child *c);
/* A connection that was given back, for the worker of that post, or, with -1, any. fd is taken over;
 * text goes with some entries (ipc/channel.h). Handed out by escrow_deliver(). */
struct channel_entry;
void escrow_put(struct master *m, int post, int listener, const struct channel_entry *entry, int fd,
                const char *text, uint32_t text_len);
/* What is held is about the listeners of another config than before. */
void escrow_change_config(struct master *m, const struct config *before);
/* Hands out what is held to workers that serve; closes what nobody took in time. */
void escrow_deliver(struct master *m, int64_t now_ms);
/* Is something held that could not be handed out yet? */
bool escrow_is_waiting(const struct master *m);
/* Closes all. In a child: those are the master's. */
void escrow_close(struct master *m);

/* ---- keys.c ---- */

/* Reads a generation's certificates and keys; 0, or -errno and what is wrong in diag. */
int keys_load(struct master *m, struct generation *g, struct diag *diag);
/* That of the first one; what is wrong has been said. */
int keys_open(struct master *m);
/* In a child: closes those of all generations, but that one. */
void keys_close(const struct master *m, int keep_fd);
/* Looks whether files have changed, reads them again if so; hands out what could not be handed out. */
void keys_tick(struct master *m, int64_t now_ms);
int64_t keys_next_ms(const struct master *m);

/* ---- reload_times.c ---- */

/* The reload has come that far. */
void reload_mark(struct master *m, enum reload_mark mark);
/* It is done: what it took is told, and logged, when all successors serve (reload_times_tick()), or
 * else now (reload_times_end()). */
void reload_times_begin(struct master *m, int n_changes);
void reload_times_tick(struct master *m);
void reload_times_end(struct master *m);

/* ---- reload.c ---- */

enum {
    RELOAD_DRY = 1,    /* only says what would change */
    RELOAD_ANYWAY = 2, /* also when nothing has changed that we look at */
    RELOAD_FORCE = 4,  /* what the file says, be it quarantined or rolled back */
};

/* Begins to load the config anew. reason: for the log. variants: NULL: as it is now. 0 and its number;
 * -EBUSY: not now; else it has failed, as reload_result() tells. Without id and variants, one that finds
 * another under way, no room, or that the server is starting, comes after that. */
int reload_begin(struct master *m, const char *reason, unsigned flags,
                 const struct reload_variants *variants, uint32_t *id);
void reload_tick(struct master *m, int64_t now_ms);
/* The server stops: whatever is under way is given up. */
void reload_abandon(struct master *m, const char *why);
/* JSON, malloc'd; NULL: no such number, or no memory. {"state": "running"} while it is. */
char *reload_result(const struct master *m, uint32_t id);
void reload_fini(struct master *m);
/* The end of the one under way, or of one that got nowhere. stage: where it failed; NULL: all went
 * well. errors: a line each. */
void reload_finish(struct master *m, const char *state, const char *stage, const char *errors);

/* ---- reload_prepare.c ---- */

/* Opens what the next generation listens on, and forks workers with it, which open all plugins. */
void reload_prepare(struct master *m);
/* Every one of them has. */
bool reload_is_prepared(const struct master *m);
/* Or not: they go, and the reload has failed. */
void reload_fail_prepare(struct master *m, const char *why);
/* One of them has ended. */
void reload_candidate_ended(struct master *m, const char *reason);

/* ---- reload_state.c ---- */

/* Asks one worker what its plugins have in memory, so that restore() is tried with something real. False:
 * there is nothing to ask for. */
bool reload_ask_for_state(struct master *m);
/* It has answered, or will not: then *state_fd is -1. */
bool reload_is_answered(struct master *m, int64_t now_ms, int *state_fd);
/* Asks all of them, for their successors. */
void reload_begin_saving(struct master *m, int64_t now_ms);
bool reload_is_saved(struct master *m, int64_t now_ms);
/* What was saved is not wanted. */
void reload_drop_saved(struct master *m);

/* ---- reload_check.c ---- */

/* In what the generation that is being loaded differs, into m->reload.changes. */
void reload_find_changes(struct master *m);
/* One that no reload can make; or NULL. */
const struct change *reload_find_refused(const struct changes *changes);
/* An object that is to be loaded anew is in quarantine, as text says; or that is lifted by force. */
bool reload_find_banned(struct master *m, char *text, size_t size);
/* That plugin of it crashed when it was tried. What runs already cannot be to blame. */
void reload_ban_culprit(struct master *m, const char *culprit, const char *said);
/* Puts an object into quarantine. */
void reload_ban(struct master *m, const char *plugin, const char *version, const char *sha256,
                const char *why);

/* ---- generation.c ---- */

/* Gives g back; its files too, as far as the others, and what is being loaded, do without. */
void generation_discard(struct master *m, struct generation *g);
/* Gives back generations that no worker has any more. */
void reload_sweep(struct master *m);
/* The listener of the current config that was number i in c's; -1: it is gone. */
int reload_map_listener(const struct master *m, const struct child *c, int i);
/* The one of `now` with the address of number i of `old`, and that speaks the same there; -1: none. */
int generation_map_listener(const struct config *old, const struct config *now, int i);

/* ---- reap.c ---- */

/* Collects the children that have ended; their successors follow. */
void reap_children(struct master *m);
/* It was forked MASTER_READY_MS ago and is not ready: kills it. */
void reap_late_worker(struct master *m, struct child *c);

/* ---- give_way.c ---- */

/* Each turn of the loop: has the master less of the CPU just now than those that serve? */
void give_way(const struct master *m, int64_t now_ms);

/* ---- follow.c ---- */

/* A reload has been committed; m->reload.changes are what it changed. */
void follow_commit(struct master *m);
/* Those beside the workers that have an older generation may be replaced now. */
bool follow_is_due(const struct master *m, int64_t now_ms);
void follow_tick(struct master *m, int64_t now_ms);
/* INT64_MAX: nobody waits. */
int64_t follow_next_ms(const struct master *m);

/* ---- helper.c: recorder, exporter, admin process ---- */

/* It is WAITING then. reason: why it could not be forked; NULL: it has ended, as was said. */
void helper_start_later(struct child *c, const char *reason);
/* It is no more. True: it made room for one with another config, which is to be started now; or it is
 * started again later. */
bool helper_ended(const struct master *m, struct child *c, int status);
/* When it is to be started again; INT64_MAX: it is not. */
int64_t helper_next_ms(const struct child *c);
/* SIGTERM, and none follows. */
void helper_stop(struct child *c);

/* ---- recorder.c ---- */

void recorder_start(struct master *m);
void recorder_tick(struct master *m, int64_t now_ms);
/* It is no more. */
void recorder_ended(struct master *m, int status);
/* The workers are gone: it writes out what they left. */
void recorder_stop(struct master *m);

/* ---- exporter.c ---- */

/* Has the config anything for it to do? */
bool exporter_is_wanted_by(const struct master *m);
/* Forks the process that sends traces and alerts, if the config wants one. */
void exporter_start(struct master *m);
void exporter_tick(struct master *m, int64_t now_ms);
/* It is no more. */
void exporter_ended(struct master *m, int status);
/* The config has changed: the next one begins when this one has ended. */
void exporter_commit(struct master *m);
/* The server stops: it sends the rest. */
void exporter_stop(struct master *m);

/* ---- publish.c ---- */

/* Names and limits of the current config's plugins, and so on. */
void publish_generation(struct master *m);
/* One has come to its end that was more than a look. */
void publish_reload(struct master *m, bool has_failed);
void publish_haul(struct master *m, const struct haul *haul);
/* Once a turn of the loop. */
void publish_workers(struct master *m);

/* ---- breakers.c ---- */

/* CONTROL_BREAKER: 0; -ENOENT, -EINVAL; -EOPNOTSUPP: that plugin's breaker is off. */
int breaker_control(struct master *m, int argument);

/* ---- alerts.c ---- */

/* CONTROL_ALERTS: malloc'd; NULL: no memory. */
char *alerts_text(const struct master *m);
struct json_t;
/* "alert 'x' is firing", for `bulkhead status`. */
void alerts_add_problems(const struct master *m, struct json_t *list);
/* {"rules": N, "pending": N, "firing": N} */
struct json_t *alerts_count_json(const struct master *m);
/* Events for what has begun to fire, or has ended, since the last look. */
void alerts_look(struct master *m);

/* ---- loglevel.c ---- */

/* CONTROL_LOG_LEVEL. 0 and JSON, malloc'd; -ENOENT: no such plugin; -EINVAL; -ENOMEM. */
int log_level_control(struct master *m, int argument, char **text);
/* How r went, malloc'd, or NULL; the first of the errors in why. stage: where it failed; NULL: it did not. */
char *reload_tell(const struct reload *r, const char *state, const char *stage, uint64_t generation,
                  const char *errors, char *why, size_t size);

/* ---- upgrade.c ---- */

/* SIGUSR2: executes roles->argv, to take this one's place. */
void upgrade_begin(struct master *m);
/* True when the new master has ended before it served. */
bool upgrade_reap(struct master *m);
void upgrade_tick(struct master *m, int64_t now_ms);
int64_t upgrade_next_ms(const struct master *m);
/* Something came from the other master. */
void upgrade_read(struct master *m);
/* Is this the new one? Reads what it inherits. 0 or -errno. */
int upgrade_inherit(struct master *m);
/* It serves: tells the old one, which tells systemd. */
void upgrade_announce(struct master *m);

/* ---- phase.c ---- */

const char *phase_name(enum master_phase phase);
/* The one place where the phase changes; only forward. */
void phase_enter(struct master *m, enum master_phase phase);
/* The server cannot start: the children that did are stopped. */
void phase_fail_start(struct master *m);
/* phase_end_ms has come: who has not finished is killed. */
void phase_out_of_patience(struct master *m);
int phase_count_workers(const struct master *m);

/* The successor serves: workers hand over what is idle, finish the rest, and end; then this does. */
void master_give_way(struct master *m);

/* ---- death.c ---- */

/* "was killed by SIGSEGV", "ended with exit status 1" */
void death_describe(int status, char *buf, size_t size);
/* Where the worker is, or was when it died: "in plugin 'x', on_request, at GET /y", "outside of
 * plugins". */
void death_where(const struct master *m, int worker, char *buf, size_t size);
/* The worker died, or stands still for good: charges the plugin, leaves a crash record to the
 * recorder, logs the one line. status: as of waitpid(), or -1: it stands still. The id of the record
 * ("" if none) in record_id, which may be NULL. */
void death_charge(const struct master *m, int worker, pid_t pid, int status, char *record_id,
                  size_t size);
/* Nothing of the dead one is taken for its successor's. */
void death_clear(const struct master *m, int worker);

/* ---- preflight.c ---- */

extern int preflight_wall_ms; /* patience; tests have less */

/*
 * A trial that does not keep anybody waiting. m: the master in whose loop it runs; NULL: there is
 * none yet, and what is wrong goes to stderr as well. consequence: "nothing was started". state_fd: what plugins of a worker
 * have saved, for a rehearsal; -1: nothing. 0 or
 * -errno; then preflight_step() until it says something else than -EAGAIN: 0, all is well; -ENOEXEC:
 * it is not; -EINTR.
 */
struct preflight;
int preflight_start(const struct config *cfg, const struct setup *setup, struct shm *shm,
                    struct master *m, const struct master_roles *roles, int validate_only,
                    const struct user *user, struct listen_set *listeners, const char *consequence,
                    int state_fd, struct preflight **out);
int preflight_step(struct preflight *p);
/* The plugin that crashed, or did not come to an end though it had the processor; "": none did. */
const char *preflight_culprit(const struct preflight *p);
/* What was wrong, a line each; "" when nothing was. */
const char *preflight_said(const struct preflight *p);
/* Ends it, if it is not over, and frees. */
pid_t preflight_pid(const struct preflight *p); /* 0: it has ended */
void preflight_end(struct preflight **pp);

/* As master_preflight(), but -errno; -EINTR: a signal to stop is pending. listeners, which its
 * child closes, may be NULL. */
int preflight_run(const struct config *cfg, const struct setup *setup, struct shm *shm,
                  const struct master_roles *roles, int validate_only, const struct user *user,
                  struct listen_set *listeners);

#endif
