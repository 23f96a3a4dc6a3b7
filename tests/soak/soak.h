/*
 * soak.h - the chaos test: load whose every answer is checked, while everything that can go wrong does.
 *
 *     mixture.c   what is asked, which faults strike where, and what each of them must come to
 *     client.c    connections of several kinds, one thread for each group of them
 *     witness.c   what such a thread can say of time
 *     story.c     what the server's log says happened: deaths, ejections, open breakers
 *     verdict.c   holds the two against each other: each failure needs an outcome that explains it
 *     vitals.c    memory, threads and descriptors of the server's processes
 *     test_soak.c the mischief, and the end
 *
 * What a newcomer would get wrong: a client cannot know which worker has its connection, as it may have
 * moved. It knows who answered last (X-Worker), and when; the log knows who died when. So failures are
 * explained after the event, when the whole log is there.
 */
#ifndef SOAK_H
#define SOAK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- mixture.c ---- */

/* Instances of plugins that faults strike in. */
enum soak_victim {
    VICTIM_PLAIN,   /* fail_closed, no breaker */
    VICTIM_GUARDED, /* fail_closed, with a breaker */
    VICTIM_OPEN,    /* fail_open, with a breaker */
    VICTIM_INSIDE,  /* faults where libc holds a lock */
    VICTIM_CXX,     /* throws */
    N_VICTIMS
};

extern const char *const soak_victim_names[N_VICTIMS];

/* What a fault comes to: outcomes of the crash matrix, by what its client sees. */
enum soak_outcome {
    OUTCOME_R,       /* 500 */
    OUTCOME_LATE,    /* R or Q after the answer: 200 */
    OUTCOME_T,       /* the answer is cut */
    OUTCOME_LOCK,    /* Q: 504, the plugin is ejected */
    OUTCOME_TIME,    /* R: 504 */
    OUTCOME_X,       /* 500, by a successor */
    OUTCOME_KILLED,  /* the worker is gone, and its connections with it */
    OUTCOME_NOTHING, /* 200: refused, or harmless */
    N_OUTCOMES
};

extern const char *const soak_outcome_names[N_OUTCOMES];

struct soak_trick {
    const char *fault, *at;
    enum soak_victim victim;
    enum soak_outcome outcome;
    bool is_violent; /* a worker is replaced */
    int weight;
    bool is_unsure; /* whether it is charged cannot be told from the answer */
};

extern const struct soak_trick soak_tricks[];

enum soak_what { ASK_TEXT, ASK_SUM, ASK_STREAM, ASK_OFFLOAD, ASK_FILE, ASK_HEAD, N_WHATS };

extern const char *const soak_what_names[N_WHATS];

struct soak_ask {
    enum soak_what what;
    enum soak_victim victim;        /* in whose route */
    const struct soak_trick *trick; /* NULL: an innocent request */
    uint64_t key;
    uint32_t n;      /* bytes of the answer, or of the request's body */
    bool is_chunked; /* the request's body */
    bool is_last;    /* Connection: close */
};

#define SOAK_FILE_KEY  4242
#define SOAK_FILE_SIZE 300000

uint64_t soak_random(uint64_t *state);

/* is_violent_allowed: what replaces workers, too. */
void soak_pick(uint64_t *random, bool with_fault, bool is_violent_allowed, struct soak_ask *out);

/* The request's bytes; malloc'd. */
char *soak_write(const struct soak_ask *ask, size_t *n);

/* The whole config, but for the first lines; malloc'd. */
char *soak_config(void);

/* ---- witness.c ---- */

struct soak_witness { /* zero: nothing seen so far */
    struct soak_heard {
        pid_t worker;
        int64_t at_ms;
    } * heard; /* the youngest worker last */
    struct soak_lull {
        int64_t from_ms, to_ms;
    } * lull;
    size_t n_heard, n_lull;
    int64_t turn_ms;
};

/* Once a turn of the thread's loop. */
void soak_witness_turn(struct soak_witness *w, int64_t now_ms);
/* That worker has answered just now; 0: it did not say which. */
void soak_witness_heard(struct soak_witness *w, pid_t worker, int64_t now_ms);
/* So many of these milliseconds the thread got no CPU. */
int64_t soak_witness_lull(const struct soak_witness *w, int64_t from_ms, int64_t to_ms);
/* When that worker answered last; 0: never. */
int64_t soak_witness_last(const struct soak_witness *w, pid_t worker);
void soak_witness_free(struct soak_witness *w);

/* ---- client.c ---- */

enum soak_result {
    RESULT_RIGHT,   /* 200, every byte as it must be */
    RESULT_REFUSED, /* another status */
    RESULT_CUT, /* the connection ended before the answer did; n_bytes tells whether it had begun */
    RESULT_WRONG,   /* an answer that is no answer to that question */
    RESULT_SILENCE, /* nothing for SOAK_PATIENCE_MS */
};

#define SOAK_PATIENCE_MS 20000

struct soak_event {
    struct soak_ask ask;
    enum soak_result result;
    int status;
    bool is_bare;     /* no Date: by whoever took over the connection, not by a chain */
    bool has_retry;   /* Retry-After */
    uint32_t n_bytes; /* of the answer */
    int n_before;     /* requests on the same connection, not answered yet when it was sent */
    pid_t worker;     /* who had answered on that connection last when it was sent; 0: nobody yet */
    /* Real time. before: when the last one that was answered was sent, and its answer complete. */
    int64_t before_ms, before_end_ms, sent_ms, end_ms;
    char note[96]; /* what was wrong */
};

struct soak_totals {
    uint64_t n_asked, n_right, n_moved, n_connections, n_idle_closed;
};

struct soak_group; /* connections of one thread */

/* Set by the test, read by all groups. */
extern _Atomic bool soak_is_paused, soak_is_over, soak_may_fault, soak_may_be_violent;

struct soak_group *soak_group_start(int port, uint64_t seed, int n_connections);
/* All its connections are idle, and no faulty request is on its way. */
bool soak_group_is_quiet(const struct soak_group *g);
bool soak_group_is_faultless(const struct soak_group *g);
/* Connections that are open. */
int soak_group_open(const struct soak_group *g);
/* After soak_is_over: its end. Every request but those that were RIGHT and innocent, in order. */
void soak_group_join(struct soak_group *g, struct soak_totals *totals, struct soak_event **events,
                     size_t *n);
const struct soak_witness *soak_group_witness(const struct soak_group *g);
void soak_group_free(struct soak_group **gp);

/* ---- story.c ---- */

struct soak_death { /* of a worker, or the time in which a plugin was out */
    int64_t from_ms, to_ms;
    int64_t told_ms; /* when the log has it; from_ms is that or earlier */
    pid_t pid;
    enum {
        STORY_PARKED,
        STORY_KILLED,
        STORY_LEFT,
        STORY_EJECTED,
        STORY_BREAKER,
        STORY_UPGRADE
    } kind;
    enum soak_victim victim; /* of an ejection, a breaker */
};

struct soak_story {
    struct soak_death *v;
    size_t n;
    struct soak_group *const *groups; /* whose clocks stood still now and then; NULL: nobody's */
    int n_groups;
    int n_parked, n_killed, n_left, n_ejected;
};

void soak_story_read(const char *log, struct soak_story *out);
/* The log has a death when the master came to write it, which can be late; the worker has answered nobody
 * since it was heard of last. The groups are kept. */
void soak_story_date(struct soak_story *s, struct soak_group *const *groups, int n);
void soak_story_free(struct soak_story *s);

/* ---- verdict.c ---- */

struct soak_bill { /* of one victim: what the clients saw of its crashes */
    uint64_t sure, maybe;
};

/* Prints every failure that nothing explains; their number. */
int soak_judge(const struct soak_event *events, size_t n, const struct soak_story *story,
               struct soak_bill bill[N_VICTIMS]);

/* ---- vitals.c ---- */

struct soak_vital {
    char name[16]; /* thread name: bulkhead, bh-recorder, bh-standby, bh-worker N */
    pid_t pid;
    long rss_kib; /* its own: without what it shares */
    int threads, fds;
};

/* The master and its children; how many there are, at most max of them in v. */
int soak_vitals(pid_t master, struct soak_vital *v, int max);
/* Children that nobody has waited for. */
int soak_zombies(pid_t master);

#endif
