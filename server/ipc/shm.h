/*
 * shm.h - the memory that master, workers and recorder share.
 *
 * The master maps it before the first fork, so it is at the same address everywhere and outlives
 * every child. Each worker_slot has one writer, the worker's loop thread (and its fault handler),
 * but for fields marked otherwise. What a dead worker left is read, never trusted: readers bound
 * every index and length that they take from here.
 */
#ifndef IPC_SHM_H
#define IPC_SHM_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/address.h"
#include "ipc/breaker.h"
#include "ipc/metrics.h"
#include "ipc/notice.h"
#include "ipc/quarantine.h"
#include "ipc/refusal.h"
#include "ipc/rollout.h"
#include "ipc/series.h"
#include "ipc/tally.h"

#define SHM_PAGE         4096
#define SHM_SINKS        32
#define SHM_CRASH_SLOTS  8
#define SHM_FOLDS        64
#define SHM_THREADS      256
#define SHM_PLUGINS      256 /* CONFIG_MAX_PLUGINS */
#define SHM_PLUGIN_NAME  128
#define SHM_RING_SIZE    (1u << 20)
#define SHM_STACK_COPY   (64u << 10)
#define SHM_MODULES      64
#define SHM_PATH_STEPS   64
#define SHM_REQUEST_TEXT 8192
#define SHM_BODY_COPY    (64u << 10)
#define SHM_LABEL        192
#define SHM_LINE_MAX     65535 /* longer log lines are cut */
#define SHM_FDS          (1u << 20)
#define SHM_REPLAY_SIZE  (4u << 20)

/* ---- call attribution ---- */

/* Published by the boundary before each plugin call and cleared after it, so that even SIGKILL is
 * charged to the right plugin. plugin: index + 1 in the config; 0: host code runs. */
struct shm_call {
    _Atomic uint32_t seq; /* changes with every call: the watchdog samples it */
    _Atomic int32_t fd;   /* the client's connection it came over; -1: none */
    /* The boundary writes these two in one store. */
    _Alignas(8) _Atomic uint32_t plugin;
    _Atomic uint32_t hook;   /* enum hook, plugin/hook.h */
    _Atomic uint32_t route;  /* number of the request's route (index + 1); 0: none */
    char request[SHM_LABEL]; /* method and path of the request being worked on; no query */
};

/* ---- connections ---- */

/* How far each client connection of a worker is, by descriptor number: what whoever takes them over
 * from a dead worker must know. Plain stores of the loop thread. */
enum shm_conn_flag {
    SHM_CONN_OPEN = 1,
    SHM_CONN_BUSY = 2,   /* bytes of a request were read that is not completely answered */
    SHM_CONN_SENT = 4,   /* bytes of that answer have gone out, or are about to */
    SHM_CONN_AGAIN = 8,  /* that request may be run again (escrow.replay) as long as none has */
    SHM_CONN_EXTRA = 16, /* more was read than that request: pipelining */
    SHM_CONN_TLS = 32,
    SHM_CONN_READING = 64, /* bytes may have been read that nothing else tells of so far */
    SHM_CONN_LAST = 128,   /* all is answered, and the connection is about to be closed */
};

#define SHM_CONN_LISTENER_SHIFT 8 /* bits 8 to 15: the listener's index */

struct shm_conn {
    _Atomic uint32_t flags;
    uint32_t replay_at, replay_len; /* the request's text in the replay area; 0, 0: none */
    _Atomic uint32_t seat;          /* of its address in the tally; 0: not counted */
    struct address client;          /* as a PROXY header said; family 0: none did */
};

/* A thread that works for plugins beside the loop. Taken and given back by any thread of the worker,
 * with compare-and-swap on tid. */
struct shm_thread {
    _Atomic int32_t tid;     /* 0: free */
    _Atomic uint32_t plugin; /* index + 1 of the plugin that started it; 0: of the offload pool */
    struct shm_call call;
};

/* ---- crash records, raw ---- */

enum shm_crash_state { SHM_CRASH_FREE, SHM_CRASH_FILLING, SHM_CRASH_FULL };

/* What became of it: the outcomes of the crash matrix. */
enum shm_verdict {
    SHM_RECOVERED = 'R',
    SHM_TRUNCATED = 'T',
    SHM_EJECTED = 'Q',
    SHM_WORKER_DIED = 'X',
    SHM_REFUSED = 'F',
};

struct shm_module { /* one mapped object, for symbols */
    uint64_t bias;  /* load address minus link address (l_addr) */
    uint64_t start, end;
    uint32_t plugin; /* index + 1 of the object's first instance; 0: not a plugin's */
    char path[240];  /* empty: the executable */
};

struct shm_step {    /* one stop of the error on its way up the chain */
    uint32_t plugin; /* index + 1 */
    int32_t verdict; /* BH_* of its on_error; BH_FAIL when it crashed too */
    uint32_t had_hook;
    uint32_t had_crash; /* it crashed, or ran past its deadline, in its turn */
};

/* Order of shm_crash.reg. */
enum shm_reg {
    SHM_RAX,
    SHM_RBX,
    SHM_RCX,
    SHM_RDX,
    SHM_RSI,
    SHM_RDI,
    SHM_RBP,
    SHM_RSP,
    SHM_R8,
    SHM_R9,
    SHM_R10,
    SHM_R11,
    SHM_R12,
    SHM_R13,
    SHM_R14,
    SHM_R15,
    SHM_RIP,
    SHM_EFLAGS,
    SHM_REGS
};

/*
 * Filled by the faulting thread's handler (registers, stack), completed by the worker once it is
 * safe (request, way of the error), turned into a JSON file by the recorder. state goes FREE ->
 * FILLING -> FULL in the worker, FULL -> FREE in the recorder. After the worker's death the
 * recorder takes FILLING slots as they are.
 */
struct shm_crash {
    _Atomic uint32_t state;
    char id[40];
    int64_t time_ns; /* real */
    int32_t pid, tid;
    uint32_t plugin; /* index + 1; 0: not in a plugin call */
    uint32_t hook;
    int32_t signo;     /* 0: see kind */
    int32_t code;      /* si_code */
    char kind[32];     /* "signal", "exit", "pthread_exit", "deadline", ... */
    char verdict;      /* enum shm_verdict */
    char reason[96];   /* why this verdict: "fault in plugin code", "allocator lock held", ... */
    char message[256]; /* of abort(), assert(), glibc */
    uint64_t fault_addr;
    uint64_t reg[SHM_REGS];
    uint64_t stack_addr; /* of stack[0] */
    uint32_t stack_len;
    uint32_t n_modules;
    struct shm_module module[SHM_MODULES];
    uint8_t stack[SHM_STACK_COPY];

    /* "METHOD SP target SP protocol LF" and "Name: value LF" lines, secrets redacted already. */
    char request[SHM_REQUEST_TEXT];
    uint32_t request_len;
    uint32_t n_steps;
    struct shm_step step[SHM_PATH_STEPS];
    uint32_t answered_by; /* index + 1; 0: the host */
    int32_t status;       /* what the client saw; 0: nothing */

    uint32_t n_tries; /* recorder only: how often it began to symbolise this one */

    /* Of a request with a body, where crash.record_body is on. Last, and not touched beyond body_len:
     * pages that nobody has looked at cost no memory. */
    uint32_t has_body;
    uint32_t body_len;  /* bytes of body[] */
    uint64_t body_seen; /* that plugins had been shown */
    uint8_t body[SHM_BODY_COPY];
};

/* Repeats of a crash that has its record already. fp is written once by the worker. */
struct shm_fold {
    _Atomic uint64_t fp;    /* fingerprint; 0: free */
    _Atomic uint64_t count; /* crashes folded into the record */
    _Atomic int64_t last_ns;
    char id[40]; /* the record */
    /* recorder only: */
    uint64_t written;   /* count in the file */
    int64_t written_ms; /* when, monotonic */
};

/* ---- log lines ---- */

/* Byte ring, one writer (the worker), one reader (the recorder). Records are
 * {uint16_t len, uint16_t sink, bytes[len]} laid out byte by byte modulo the size; head and tail
 * count bytes for ever. */
struct shm_ring {
    _Alignas(64) _Atomic uint64_t head; /* written up to; writer's */
    _Alignas(64) _Atomic uint64_t tail; /* read up to; reader's */
    _Atomic uint64_t dropped;           /* lines; writer's */
    uint64_t dropped_told;              /* reader only */
    uint8_t data[SHM_RING_SIZE];
};

enum shm_sink_state { SHM_SINK_FREE, SHM_SINK_CLAIMED, SHM_SINK_READY };

struct shm_sink { /* claimed by any worker, with compare-and-swap */
    _Atomic uint32_t state;
    char path[PATH_MAX]; /* absolute, or "-" */
};

/* ---- the whole ---- */

/* Connections and requests that were ended for a limit's sake, by the reason. Names: shm_limit_name(). */
enum shm_limit {
    SHM_LIMIT_SILENT,    /* no request came after connecting */
    SHM_LIMIT_HEAD,      /* 408: the head was not complete in time */
    SHM_LIMIT_BODY,      /* 408: the body came too slowly */
    SHM_LIMIT_SEND,      /* the answer was taken too slowly */
    SHM_LIMIT_IDLE,      /* no further request came */
    SHM_LIMIT_HANDSHAKE, /* of TLS */
    SHM_LIMIT_EVICTED,   /* idle or long without a request, and the worker was full */
    SHM_LIMIT_FULL,      /* 503: limits.connections */
    SHM_LIMIT_PER_IP,    /* 503: limits.per_ip */
    SHM_LIMIT_PROXY,     /* no PROXY header where there must be one, or a bad one */
    SHM_LIMIT_UNTRUSTED, /* a peer that may not say for whom it asks, on such a listener */
    SHM_LIMITS,
};

enum shm_share { /* of the requests that come to it */
                 SHM_SHARE_ALL,
                 SHM_SHARE_STABLE,    /* those that the candidate does not get */
                 SHM_SHARE_CANDIDATE, /* what the rollout says */
};

struct shm_plugin {           /* any worker, atomic adds */
    _Atomic uint64_t crashes; /* all, folded ones too */
    _Atomic uint64_t deadlines;
    _Atomic uint64_t failures; /* BH_FAIL */
    _Atomic uint64_t worker_deaths;
    _Atomic uint64_t ejections;
    _Atomic uint64_t renewals;  /* fresh instances after a crash */
    _Atomic uint64_t copies;    /* fresh copies of the object */
    _Atomic uint32_t log_level; /* master's: BH_LOG_*; 0: as the config says */
    _Atomic uint64_t crashes_by[METRICS_CRASHES];
    struct metrics_log log;
    struct quarantine quarantine;
    struct series_share series;
    /* The master's, for readers: */
    _Atomic uint32_t is_shown; /* it is in the current config, and this is filled in */
    char name[SHM_PLUGIN_NAME], module[SHM_PLUGIN_NAME];
    struct breaker_limits limits;
    _Atomic uint64_t generation; /* that brought its object */
    _Atomic uint32_t share;      /* enum shm_share */
};

struct shm_worker {
    _Atomic int32_t pid; /* master's */
    _Atomic uint64_t requests;
    _Atomic uint64_t connections; /* open now */
    _Atomic int64_t serving_ns;   /* CLOCK_MONOTONIC, when it began to serve */
    _Atomic uint64_t
        refused[REFUSAL_COUNT]; /* of this slot, whoever has it; by enum http_refusal */
    _Atomic uint32_t fds_end;   /* descriptors of connections so far were below this */
    _Atomic uint32_t beat;      /* changes once a second while the loop turns */
    _Atomic uint32_t give_up; /* master's; not 0: it cannot take the connections, so hand them over
                                     (ipc/surrender.h). A futex. */
    struct shm_call call;     /* of the loop thread */
    /* By plugin (index in the config), of any thread. */
    _Atomic uint64_t memory[SHM_PLUGINS];      /* bytes that its private heaps have taken */
    _Atomic uint32_t descriptors[SHM_PLUGINS]; /* that it has open */
    struct shm_thread thread[SHM_THREADS];     /* any thread; those beyond are not shown */
    struct metrics_slot metrics;
    struct metrics_plugin metrics_plugin[SHM_PLUGINS];
    struct series_slot series;
    struct notices notices; /* read by the master */
    struct shm_fold fold[SHM_FOLDS];
    struct shm_crash crash[SHM_CRASH_SLOTS];
    struct shm_ring ring;
    struct shm_ring spans; /* ipc/span.h; read by the exporter. Not touched without tracing */
};

struct shm_traces {           /* the exporter's: spans */
    _Atomic uint32_t is_on;   /* there were any */
    _Atomic uint64_t sent;    /* and taken by the collector */
    _Atomic uint64_t refused; /* by it, of those that were sent */
    _Atomic uint64_t lost;    /* too old, too many, or refused as a whole. Rings count their own */
};

#define SHM_ALERTS       512
#define SHM_ALERT_LABELS 384

#define SHM_RECEIVERS 16 /* as CONFIG_MAX_RECEIVERS */

enum alert_state { ALERT_NONE, ALERT_INACTIVE, ALERT_PENDING, ALERT_FIRING, ALERT_RESOLVED };

/* What has become of telling one receiver of the state that an alert is in. */
enum alert_told {
    ALERT_UNTOLD,
    ALERT_ON_ITS_WAY, /* or waits to be tried again */
    ALERT_ARRIVED,
    ALERT_NOT_ARRIVED, /* given up */
    ALERT_SPARED,      /* it is not to be told of this */
};

/* One series of one rule. The exporter's, which finds them again after it was replaced; read by all:
 * shm_alert_read(). */
struct shm_alert {
    _Atomic uint32_t seq;       /* odd while it is written */
    uint32_t state;             /* enum alert_state; ALERT_NONE: the place is free */
    int64_t since_ms;           /* monotonic: it has held, or it was over */
    int64_t told_ms;            /* monotonic: somebody was told last; 0: nobody */
    int64_t began_ns, ended_ns; /* since 1970: of firing; ended 0: it goes on */
    double value;
    char rule[64];
    char labels[SHM_ALERT_LABELS]; /* of the metric, as in the text of metrics: a="b",c="d" */
    uint8_t told[SHM_RECEIVERS];   /* enum alert_told; by place in shm.receiver */
};

/* Somebody who is told of alerts. As above: the exporter's, and shm_receiver_read(). */
struct shm_receiver {
    _Atomic uint32_t seq;
    uint32_t waiting;          /* messages that have not arrived yet */
    uint64_t arrived, dropped; /* messages */
    int64_t arrived_ns;        /* the last one, since 1970; 0: none */
    char name[64];             /* "": the place is free */
    char trouble[160];         /* why the last one did not arrive; "": it did */
};

enum shm_asleep {
    SHM_AWAKE,
    SHM_ASLEEP,  /* for ever: wake it for anything */
    SHM_NAPPING, /* for a moment: wake it when a ring is half full */
};

struct shm_admin {                           /* pages of its own: all that its process can write */
    _Atomic uint64_t refused[REFUSAL_COUNT]; /* by enum http_refusal; atomic adds */
};

struct shm {
    /* Read-only once it is made, so that a stray write of a plugin's does not lead others astray. */
    size_t size;
    uint32_t n_workers, n_plugins;
    int wake_fd;               /* eventfd of the recorder, inherited by all */
    struct shm_plugin *plugin; /* n_plugins */
    struct shm_worker *worker; /* n_workers */
    uint32_t n_fds;            /* entries of one worker's table of connections */
    size_t handover_size;      /* of one worker's table and replay area */
    char *handover;            /* n_workers: table, then replay area, each from a page's start */
    uint64_t tally_key[2];
    struct shm_admin *admin; /* behind all else */

    _Alignas(SHM_PAGE) _Atomic uint32_t asleep; /* enum shm_asleep; the recorder's */
    _Atomic uint32_t
        log_level; /* master's: for all but plugins with their own; 0: as the config says */
    _Atomic uint64_t limit[SHM_LIMITS]; /* any worker, atomic adds; outlive the workers */
    struct shm_sink sink[SHM_SINKS];
    struct tally tally;
    struct shm_traces traces;
    struct shm_alert alert[SHM_ALERTS];
    struct shm_receiver receiver[SHM_RECEIVERS];
    struct metrics_master master;
    struct metrics_name listener_name[METRICS_LISTENERS];
    struct metrics_name route_name[METRICS_ROUTES];
    struct metrics_log log; /* of all but plugins */
    struct series_table series;
    struct rollout rollout; /* of a plugin's candidate; one at a time */
};

const char *shm_limit_name(enum shm_limit limit);

/* 0 and a mapping in *out, or -errno. */
int shm_create(uint32_t n_workers, uint32_t n_plugins, struct shm **out);
void shm_destroy(struct shm **shmp);

/* Wakes the recorder if it sleeps. Async-signal-safe. To be called after what it shall see has been
 * published by an operation that is sequentially consistent (C's default). */
void shm_kick(struct shm *shm);

/* The entry of a descriptor; NULL when either number is out of range. */
static inline struct shm_conn *shm_conn(const struct shm *shm, uint32_t slot, int fd)
{
    if (slot >= shm->n_workers || fd < 0 || (uint32_t)fd >= shm->n_fds)
        return NULL;
    return (struct shm_conn *)(void *)(shm->handover + slot * shm->handover_size) + fd;
}

/* SHM_REPLAY_SIZE bytes, where a dying worker leaves the texts of requests; NULL: no such slot. */
static inline char *shm_replay(const struct shm *shm, uint32_t slot)
{
    if (slot >= shm->n_workers)
        return NULL;
    return shm->handover + (slot + 1) * shm->handover_size - SHM_REPLAY_SIZE;
}

/* Empties a worker's table of connections and replay area, and gives their pages back, and the seats of
 * its connections. The worker has ended. */
void shm_forget_conns(struct shm *shm, uint32_t slot);

/* A copy whose strings end. False: there is none at that place, or it was being written. */
bool shm_alert_read(const struct shm *shm, uint32_t i, struct shm_alert *out);
bool shm_receiver_read(const struct shm *shm, uint32_t i, struct shm_receiver *out);
/* For their one writer. */
void shm_alert_write(struct shm *shm, uint32_t i, const struct shm_alert *is);
void shm_receiver_write(struct shm *shm, uint32_t i, const struct shm_receiver *is);

/* Registers a log file; 0 and its number, or -ENOSPC, -ENAMETOOLONG. Any worker, any time. */
int shm_sink_open(struct shm *shm, const char *path, uint32_t *out);

/* Appends n bytes, at most SHM_LINE_MAX; 0, or 1 when the ring is more than half full, or -EAGAIN when
 * they do not fit (then counted as dropped). Wakes nobody. The ring's one writer only. */
int shm_ring_append(struct shm_ring *ring, uint32_t tag, const char *p, size_t n);

/* Appends one line (without newline); 0, or -EAGAIN when full (then counted as dropped). Kicks the
 * recorder when it sleeps. Loop thread only. */
int shm_ring_write(struct shm *shm, struct shm_worker *w, uint32_t sink, const char *p, size_t n);

/* Takes the oldest line (up to SHM_LINE_MAX bytes) into buf, and its length. -EAGAIN: there is
 * none. -EBADMSG: the ring did not make sense; what was in it is given up. Its one reader only. */
ssize_t shm_ring_read(struct shm_ring *ring, uint32_t *sink, char *buf);

#endif
