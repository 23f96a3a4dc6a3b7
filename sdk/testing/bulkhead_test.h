/*
 * bulkhead_test.h - a host for the unit tests of one plugin: no server, no sockets, no threads.
 *
 * It owns everything that bh_plugin_v1() gets from a real host, in memory, so that a cmocka test
 * that is linked with the plugin's objects can run requests through its hooks and look at what
 * came out. C only. Include it first, in one file; it brings <cmocka.h> and <bulkhead.h>.
 *
 *     cc $(pkg-config --cflags bulkhead) -I.../testing test_hello.c hello.c -lcmocka -lpthread
 *
 *     static void greets_by_name(void **state)
 *     {
 *         bht *t = bht_open("greeting=Hi", NULL);            // options, defaults applied
 *         bh_req *r = bht_request(t, "GET", "/?name=Eve");
 *
 *         (void)state;
 *         bht_run(r);                                        // all hooks, in the host's order
 *         assert_int_equal(bht_status(r), 200);
 *         assert_string_equal(bht_resp_body(r), "Hi Eve\n");
 *         bht_close(t);                                      // frees requests too
 *     }
 *
 * OPTIONS    "name=value", NULL at the end; bht_open(NULL) for none. Durations and sizes have their
 *            units, as in YAML. Lists take commas, or the option repeated. A mapping's entry is
 *            "option.KEY=value". Relative paths are meant from bht_dir(), see bht_file().
 * REQUESTS   What is not set is GET / from 192.0.2.1. When the plugin lets a request pass, "the
 *            rest of the chain" answers 200 text/plain "next\n", or what bht_next() says, or fails
 *            as bht_next_error() says, which is how on_error gets called.
 * ORDER      bht_run(): on_request, on_request_body, on_error, on_response, on_response_body,
 *            deferred functions (last first), on_log. The strings it gives back live until
 *            bht_close().
 * A NEWCOMER would expect a crash to be caught: it is not, there is no recovery boundary here, and
 *            the test fails. That is what a unit test is for.
 *
 * There is one clock for all (bht_clock(), bht_advance()); it stands still otherwise. Timers run
 * when bht_advance() moves it past their time, at their time. The store is one for all instances of
 * one test executable, in one namespace; it is emptied when the last of them is closed. Other servers
 * (bh_http()) are what bht_upstream() says; nothing is connected to.
 */
#ifndef BULKHEAD_TEST_H
#define BULKHEAD_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw(), getrandom() */
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <bulkhead.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

extern const bh_plugin *bh_plugin_v1(const bh_host *host);

#define BHT_FN __attribute__((unused)) static

/* 2026-01-01T00:00:00Z: what the clocks show after bht_open(). */
#define BHT_EPOCH_NS   (1767225600LL * 1000000000LL)
#define BHT_BODY_LIMIT ((size_t)8 << 20) /* limits.body */

typedef struct bh_inst bht; /* a world with one instance in it */

/* ---- what a test calls ------------------------------------------------------------------- */

/* An instance: options checked, validate(), open() and start() called. The test fails when one of
 * them does not like what it gets. */
#define bht_open(...) bht__open(1, __VA_ARGS__)
/* As bht_open(), for what should be refused: bht_rc() and bht_errors() tell. Never NULL. */
#define bht_try(...) bht__open(0, __VA_ARGS__)
__attribute__((unused, sentinel)) static bht *bht__open(int must, ...);
/* BH_OK, or what the options, validate(), open() or start() failed with. */
BHT_FN bh_rc bht_rc(const bht *t);
/* What was reported by bh_cfg_error() and by the option checks: lines "option: message\n". */
BHT_FN const char *bht_errors(const bht *t);
/* drain() and close(), and free everything that t and its requests have handed out. */
BHT_FN void bht_close(bht *t);

/* The folder that relative paths in options are meant from: empty, and removed at exit. */
BHT_FN const char *bht_dir(void);
/* Write a file there; folders in the name are made. Returns the absolute name (static buffer). */
BHT_FN const char *bht_file(const char *name, const void *p, size_t n);

/* The clocks: since 1970 (REAL, LOOP_REAL), and the monotonic ones. */
BHT_FN void bht_clock(int64_t real_ns, int64_t mono_ns);
/* The clocks go on. Timers that fall due on the way are called, each at its time, in order. */
BHT_FN void bht_advance(int64_t ns);
/* Lets the store refuse what is new (BH_ELIMIT) from now on, or again not. */
BHT_FN void bht_store_full(bool full);
/* kv_async() answers BH_EAGAIN from now on, as when a store on another machine is down; or again not. */
BHT_FN void bht_store_down(bool down);
/* How often kv_async() was called. */
BHT_FN unsigned bht_store_asked(void);
/* What other servers answer to bh_http() from now on, after the hook that asked. status 0: nothing, and err
 * is BH_ETIME, BH_EAGAIN, ...; until this is called: that, with BH_EAGAIN. headers: "Name: value" lines, or
 * NULL. A body longer than the request's max_body is BH_ELIMIT. */
BHT_FN void bht_upstream(bht *t, int32_t status, const char *headers, const char *body,
                         int32_t err);
/* All that was asked, "GET http://host/path\nName: value\n\nbody\n" one after the other; "" when nothing
 * was. */
BHT_FN const char *bht_asked(const bht *t);
/* How many timers of the instance are set. */
BHT_FN unsigned bht_timers(const bht *t);
/* How often now_ns() was asked for that clock since bht_open(). */
BHT_FN unsigned bht_clock_reads(int32_t clock);

/* The log, as lines "error: text\n"; and all that was written to a sink. "" when nothing was. */
BHT_FN const char *bht_log_text(const bht *t);
BHT_FN const char *bht_sink_text(const bht *t, const char *path);
/* What it has told by bh_event(), as lines "name: text\n". */
BHT_FN const char *bht_events_text(const bht *t);
/* Lets sink_write() answer BH_EAGAIN from now on (or again not). */
BHT_FN void bht_sink_full(bht *t, bool full);

/* The value of a metric: "orders_total", or with label values, in their order, "orders_total{a,b}". Of
 * a histogram, how many values it has seen. 0 when nothing has been counted there; the test fails when
 * the plugin has defined no such metric. */
BHT_FN double bht_metric(const bht *t, const char *series);

/* A request. target: as in the request line, query included. */
BHT_FN bh_req *bht_request(bht *t, const char *method, const char *target);
BHT_FN void bht_header(bh_req *r, const char *name, const char *value);
/* One chunk of the request's body; call again for more. */
BHT_FN void bht_body(bh_req *r, const void *p, size_t n);
/* Any fact of attr(): "client", "host", "scheme", "listener", "route", "id"... NULL: absent. */
BHT_FN void bht_attr(bh_req *r, const char *key, const char *value);
/* What the rest of the chain does when the plugin lets the request pass. ctype may be NULL. */
BHT_FN void bht_next(bh_req *r, int32_t status, const char *ctype, const char *body);
BHT_FN void bht_next_header(bh_req *r, const char *name, const char *value);
/* The same body, but as a stream of pieces of n bytes. */
BHT_FN void bht_next_stream(bh_req *r, size_t piece);
/* A later plugin fails: on_error gets this. The struct must live until bht_run() is over. */
BHT_FN void bht_next_error(bh_req *r, const bh_error *err);
/* The whole life of the request. Offloaded work and posted jobs run here and now. Returns false
 * when a ticket is not resumed yet: the request waits for bht_wait(). */
BHT_FN bool bht_run(bh_req *r);
/* Before bht_run(): a streamed answer that was not ended stays open. bht_run() returns false for it
 * then, and so does bht_wait(), which takes what was written meanwhile, until the stream has ended;
 * bht_cancel() is a client that leaves. Otherwise the request ends with what there is. */
BHT_FN void bht_keep_open(bh_req *r);
/* Wait for that, at most ms, and then go on as bht_run(). */
BHT_FN bool bht_wait(bh_req *r, int ms);
/* The client has gone, or the time is over: cancelled() says 1, the rest of the hooks run. */
BHT_FN void bht_cancel(bh_req *r);

/* What came of it. */
BHT_FN int32_t bht_status(const bh_req *r);   /* of the answer */
BHT_FN bh_rc bht_verdict(const bh_req *r);    /* of on_request or on_request_body, the last one */
BHT_FN bool bht_passed(const bh_req *r);      /* the plugin let the request pass */
BHT_FN const char *bht_path(const bh_req *r); /* as plugins after this one see it */
/* Headers of the answer, and of the request as plugins after this one see it; NULL: none.
 * Several of one name come joined with ", ". */
BHT_FN const char *bht_resp_header(bh_req *r, const char *name);
BHT_FN const char *bht_req_header(bh_req *r, const char *name);
/* The answer's body; NUL-terminated. Files are read in. */
BHT_FN const char *bht_resp_body(const bh_req *r);
BHT_FN size_t bht_resp_len(const bh_req *r);
/* How the answer was given. */
#define BHT_NONE   0
#define BHT_COPY   1 /* reply() */
#define BHT_REF    2 /* reply_ref() */
#define BHT_FILE   3 /* send_file(), send_fd() */
#define BHT_STREAM 4 /* stream_begin() */
BHT_FN int bht_kind(const bh_req *r);
BHT_FN const char *bht_var(bh_req *r, const char *key); /* NULL: none */

/* ---- the inside -------------------------------------------------------------------------- */

/* Everything hangs on blocks: one list per instance, one per request, freed as a whole. */
struct bht__block {
    struct bht__block *next;
    void *p;
};

struct bht__text {
    char *p;
    size_t n, size;
};

struct bht__field {
    const char *name, *value;
    struct bht__field *next;
};

struct bht__job {
    void (*fn)(void *self, void *arg);
    void *arg;
    struct bht__job *next;
};

struct bht__timer {
    uint64_t id;
    int64_t due_ns, every_ns;
    void (*fn)(void *self, void *arg);
    void *arg;
    struct bht__timer *next;
};

struct bht__kv {
    char *key;
    size_t key_n, n;
    char *value;
    uint64_t cas;
    int64_t until_ns; /* 0: for ever. Of a bucket: when it will be full */
    bool is_bucket;
    struct bht__kv *next;
};

struct bht__metric {
    char name[64];
    int32_t type;
    size_t n_labels;
};

struct bht__series {
    char name[400]; /* "name{a,b}" */
    double value;
    struct bht__series *next;
};

struct bht__sink {
    char path[256];
    struct bht__text text;
};

struct bh_errs {
    struct bht__text text;
    unsigned n;
};

struct bh_ticket {
    bh_req *req;
    bool dead;
    int32_t verdict; /* BH_PAUSE until it is resumed */
};

struct bh_inst {
    const bh_plugin *plugin;
    void *self;
    char *cfg; /* cfg_size bytes */
    bool opened;
    bh_rc rc;
    struct bh_errs errs;
    struct bht__field *secrets;
    struct bht__text json, log, events, asked;
    struct {
        int32_t status, err;
        struct bht__text headers, body;
    } upstream;
    struct bht__call *calls;
    struct bht__sink sink[32];
    uint32_t n_sinks;
    bool sink_full;
    struct bht__metric metric[64];
    uint32_t n_metrics;
    struct bht__series *series;
    struct bht__job *jobs;
    struct bht__timer *timers;
    struct bht__block *blocks;
    bh_req *requests;
    struct bh_inst *next; /* of those that are open */
};

enum bht__phase {
    BHT__NEW,
    BHT__REQUEST,
    BHT__BODY,
    BHT__ERROR,
    BHT__RESPONSE,
    BHT__RESPONSE_BODY,
    BHT__DEFER,
    BHT__LOG,
    BHT__OVER
};

struct bht__chunk {
    size_t n;
    struct bht__chunk *next;
    char p[];
};

struct bht__deferred {
    void (*fn)(void *);
    void *arg;
    struct bht__deferred *next;
};

struct bh_req {
    bht *t;
    void *ctx;
    enum bht__phase phase;
    bh_rc verdict;
    bool passed, declined;
    struct bht__field *attrs, *vars, *next_fields, *fields[2];
    const char *path;
    struct bht__chunk *chunks;
    int32_t want[2];
    size_t want_max[2];
    struct bht__text body[2];
    int32_t status;
    int kind;
    bool stream_over, keep_open, is_open, gone, broken;
    int64_t announced, written; /* bytes of the stream; -1: unknown */
    bh_rc (*writable)(void *self, bh_req *req, void *ctx);
    struct bht__chunk *stream; /* what was written, not shown to on_response_body yet */
    bool chunk_replaced;
    struct bht__text chunk;
    int32_t next_status;
    const char *next_type, *next_body;
    size_t next_piece;
    const bh_error *next_error;
    struct bht__deferred *deferred;
    bh_ticket *ticket;
    int32_t (*work)(void *);
    void *work_arg;
    size_t allocated;
    struct bht__block *blocks;
    bh_req *next;
};

static struct {
    int64_t real_ns, mono_ns;
    unsigned reads[4];
    char dir[64];
    bht *open;
    uint64_t last_timer;
    struct bht__kv *kv;
    uint64_t last_cas;
    bool kv_full, kv_down;
    struct bht__ask *asks;
    uint64_t last_ask, last_call;
} bht__world;

static pthread_mutex_t bht__lock = PTHREAD_MUTEX_INITIALIZER;

BHT_FN void *bht__must(void *p)
{
    if (p == NULL)
        fail_msg("bulkhead_test.h: out of memory");
    return p;
}

BHT_FN void *bht__alloc(struct bht__block **list, size_t n, size_t align)
{
    struct bht__block *b = (struct bht__block *)bht__must(calloc(1, sizeof *b));

    n = (n + align - 1) / align * align;
    b->p = bht__must(aligned_alloc(align, n ? n : align));
    memset(b->p, 0, n ? n : align);
    b->next = *list;
    *list = b;
    return b->p;
}

BHT_FN char *bht__dup(struct bht__block **list, const void *p, size_t n)
{
    char *s = (char *)bht__alloc(list, n + 1, 16);

    if (n > 0)
        memcpy(s, p, n);
    return s;
}

BHT_FN void bht__free(struct bht__block **list)
{
    while (*list != NULL) {
        struct bht__block *b = *list;

        *list = b->next;
        free(b->p);
        free(b);
    }
}

BHT_FN void bht__add(struct bht__text *t, const void *p, size_t n)
{
    if (t->n + n + 1 > t->size) {
        t->size = (t->n + n + 1) * 2;
        t->p = (char *)bht__must(realloc(t->p, t->size));
    }
    if (n > 0)
        memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = '\0';
}

BHT_FN void bht__adds(struct bht__text *t, const char *s)
{
    bht__add(t, s, strlen(s));
}

/* As logs and sinks escape what a client may have sent. */
BHT_FN void bht__add_escaped(struct bht__text *t, const char *p, size_t n)
{
    char hex[8];

    for (; n > 0; n--, p++) {
        if ((unsigned char)*p >= 0x20 && *p != 0x7f) {
            bht__add(t, p, 1);
        } else if (*p == '\t') {
            bht__add(t, p, 1);
        } else {
            snprintf(hex, sizeof hex, "\\x%02x", (unsigned char)*p);
            bht__adds(t, hex);
        }
    }
}

BHT_FN bh_str bht__str(const char *s)
{
    return bh_s(s);
}

/* ---- options ------------------------------------------------------------------------------ */

BHT_FN void bht__complain(struct bh_errs *e, const char *path, const char *msg)
{
    e->n++;
    bht__adds(&e->text, path);
    bht__adds(&e->text, ": ");
    bht__adds(&e->text, msg);
    bht__adds(&e->text, "\n");
}

BHT_FN bool bht__number(const char *s, const char *const *units, const double *factors, double *out)
{
    char *end;
    double v;
    size_t i;

    if (*s == '\0' || isspace((unsigned char)*s))
        return false;
    v = strtod(s, &end);
    if (end == s)
        return false;
    for (i = 0; units[i] != NULL; i++) {
        if (strcmp(end, units[i]) == 0) {
            *out = v * factors[i];
            return true;
        }
    }
    return false;
}

BHT_FN void bht__store_int(const bh_opt *o, char *cfg, int64_t v)
{
    char *at = cfg + o->off;
    int8_t v8 = (int8_t)v;
    int16_t v16 = (int16_t)v;
    int32_t v32 = (int32_t)v;

    if (o->size == 1)
        memcpy(at, &v8, 1);
    else if (o->size == 2)
        memcpy(at, &v16, 2);
    else if (o->size == 4)
        memcpy(at, &v32, 4);
    else
        memcpy(at, &v, 8);
}

BHT_FN void bht__store_str(const bh_opt *o, char *cfg, bh_str v)
{
    if (o->size == sizeof(bh_str))
        memcpy(cfg + o->off, &v, sizeof v);
    else
        memcpy(cfg + o->off, &v.p, sizeof v.p);
}

BHT_FN bool bht__choice(const char *choices, const char *value, int64_t *out)
{
    size_t n = strlen(value);
    int64_t i = 0;

    while (choices != NULL && *choices != '\0') {
        size_t len = strcspn(choices, "|");

        if (len == n && memcmp(choices, value, n) == 0) {
            *out = i;
            return true;
        }
        choices += len + (choices[len] == '|');
        i++;
    }
    return false;
}

BHT_FN bool bht__cidr(const char *s, bh_cidr *out)
{
    char host[64];
    const char *slash = strchr(s, '/');
    size_t n = slash ? (size_t)(slash - s) : strlen(s);
    bool v4;
    char *end;
    unsigned long bits;

    if (n >= sizeof host)
        return false;
    memcpy(host, s, n);
    host[n] = '\0';
    memset(out, 0, sizeof *out);
    v4 = inet_pton(AF_INET, host, out->addr + 12) == 1;
    if (v4)
        out->addr[10] = out->addr[11] = 0xff;
    else if (inet_pton(AF_INET6, host, out->addr) != 1)
        return false;
    bits = slash ? strtoul(slash + 1, &end, 10) : v4 ? 32 : 128;
    if ((slash && (end == slash + 1 || *end != '\0')) || bits > (v4 ? 32 : 128))
        return false;
    out->bits = (uint8_t)(bits + (v4 ? 96 : 0));
    return true;
}

/* One more element of a list: the array is copied, as the old one may be anybody's by now. */
BHT_FN void *bht__grow(bht *t, const void *old, size_t n, size_t size)
{
    void *v = bht__alloc(&t->blocks, (n + 1) * size, 16);

    if (n > 0)
        memcpy(v, old, n * size);
    return v;
}

BHT_FN void bht__add_item(bht *t, const bh_opt *o, const char *key, bh_str value)
{
    char *at = t->cfg + o->off;

    if (o->type == BH_T_STRLIST) {
        bh_strlist l;
        bh_str *v;

        memcpy(&l, at, sizeof l);
        v = (bh_str *)bht__grow(t, l.v, l.n, sizeof *v);
        v[l.n++] = value;
        l.v = v;
        memcpy(at, &l, sizeof l);
    } else if (o->type == BH_T_CIDRLIST) {
        bh_cidrlist l;
        bh_cidr *v;

        memcpy(&l, at, sizeof l);
        v = (bh_cidr *)bht__grow(t, l.v, l.n, sizeof *v);
        if (!bht__cidr(value.p, &v[l.n])) {
            bht__complain(&t->errs, o->name, "not an address or network");
            return;
        }
        l.n++;
        l.v = v;
        memcpy(at, &l, sizeof l);
    } else {
        bh_map m;
        bh_pair *v;

        memcpy(&m, at, sizeof m);
        v = (bh_pair *)bht__grow(t, m.v, m.n, sizeof *v);
        v[m.n].k = bht__str(key);
        v[m.n++].v = value;
        m.v = v;
        memcpy(at, &m, sizeof m);
    }
}

BHT_FN void bht__set_option(bht *t, const bh_opt *o, const char *key, const char *value)
{
    static const char *const none[] = {"", NULL};
    static const char *const times[] = {"ms", "s", "m", "h", "d", NULL};
    static const char *const sizes[] = {"", "B", "kB", "MB", "GB", "KiB", "MiB", "GiB", NULL};
    static const double one[] = {1};
    static const double ms[] = {1, 1e3, 6e4, 36e5, 864e5};
    static const double bytes[] = {1, 1, 1e3, 1e6, 1e9, 1024, 1048576, 1073741824};
    double d = 0;
    float f;
    int64_t i;
    struct bht__field *secret;

    switch (o->type) {
    case BH_T_BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            bht__complain(&t->errs, o->name, "neither true nor false");
        else
            bht__store_int(o, t->cfg, strcmp(value, "true") == 0);
        return;
    case BH_T_ENUM:
        if (!bht__choice(o->choices, value, &i))
            bht__complain(&t->errs, o->name, "not one of the choices");
        else
            bht__store_int(o, t->cfg, i);
        return;
    case BH_T_INT:
    case BH_T_DOUBLE:
    case BH_T_DURATION_MS:
    case BH_T_SIZE:
        if (!bht__number(value,
                         o->type == BH_T_DURATION_MS ? times
                         : o->type == BH_T_SIZE      ? sizes
                                                     : none,
                         o->type == BH_T_DURATION_MS ? ms
                         : o->type == BH_T_SIZE      ? bytes
                                                     : one,
                         &d) ||
            (o->type != BH_T_DOUBLE && d != (double)(int64_t)d))
            bht__complain(&t->errs, o->name, "not a number of this kind");
        else if ((o->min != 0 || o->max != 0) && (d < o->min || d > o->max))
            bht__complain(&t->errs, o->name, "out of range");
        else if (o->type != BH_T_DOUBLE)
            bht__store_int(o, t->cfg, (int64_t)d);
        else if (o->size == sizeof f)
            f = (float)d, memcpy(t->cfg + o->off, &f, sizeof f);
        else
            memcpy(t->cfg + o->off, &d, sizeof d);
        return;
    case BH_T_SECRET:
        secret = (struct bht__field *)bht__alloc(&t->blocks, sizeof *secret, 16);
        secret->name = o->name;
        secret->value = bht__dup(&t->blocks, value, strlen(value));
        secret->next = t->secrets;
        t->secrets = secret;
        bht__store_str(o, t->cfg, bht__str(secret->value));
        return;
    case BH_T_STR:
        bht__store_str(o, t->cfg, bht__str(bht__dup(&t->blocks, value, strlen(value))));
        return;
    case BH_T_MAP:
        if (key == NULL)
            bht__complain(&t->errs, o->name, "wants \"option.KEY=value\"");
        else
            bht__add_item(t, o, key, bht__str(bht__dup(&t->blocks, value, strlen(value))));
        return;
    case BH_T_STRLIST:
    case BH_T_CIDRLIST:
        while (*value != '\0') {
            size_t n = strcspn(value, ",");

            bht__add_item(t, o, NULL, bh_sn(bht__dup(&t->blocks, value, n), n));
            value += n + (value[n] == ',');
        }
        return;
    default: fail_msg("option %s has an unknown type %d", o->name, (int)o->type);
    }
}

BHT_FN void bht__json_str(struct bht__text *j, const char *s)
{
    char hex[8];

    bht__adds(j, "\"");
    for (; *s != '\0'; s++) {
        if (*s == '"' || *s == '\\' || (unsigned char)*s < 0x20) {
            snprintf(hex, sizeof hex, "\\u%04x", (unsigned char)*s);
            bht__adds(j, hex);
        } else {
            bht__add(j, s, 1);
        }
    }
    bht__adds(j, "\"");
}

/* "name=value" or "name.KEY=value"; seen[i] is set for the option it names. */
BHT_FN void bht__parse_option(bht *t, const char *pair, bool *seen)
{
    const char *eq = strchr(pair, '=');
    size_t n = strcspn(pair, "=.");
    const bh_opt *o = t->plugin->options;
    const char *key = NULL;

    if (eq == NULL)
        fail_msg("\"%s\" is not option=value", pair);
    if (pair[n] == '.')
        key = bht__dup(&t->blocks, pair + n + 1, (size_t)(eq - pair) - n - 1);
    while (o != NULL && o->name != NULL && (strlen(o->name) != n || memcmp(o->name, pair, n) != 0))
        o++;
    if (o == NULL || o->name == NULL) {
        bht__complain(&t->errs, pair, "no such option");
        return;
    }
    seen[o - t->plugin->options] = true;
    bht__set_option(t, o, key, eq + 1);
    /* Good enough for cfg_raw(): every value as a string, entries of a mapping as "option.KEY". */
    bht__adds(&t->json, t->json.n > 1 ? ", " : "");
    bht__json_str(&t->json, bht__dup(&t->blocks, pair, (size_t)(eq - pair)));
    bht__adds(&t->json, ": ");
    bht__json_str(&t->json, eq + 1);
}

BHT_FN void bht__options(bht *t, va_list options)
{
    bool seen[256] = {false};
    const bh_opt *o = t->plugin->options;
    const char *pair;

    bht__adds(&t->json, "{");
    while ((pair = va_arg(options, const char *)) != NULL)
        bht__parse_option(t, pair, seen);
    bht__adds(&t->json, "}");
    for (size_t i = 0; o != NULL && o[i].name != NULL; i++) {
        assert_true(i < 256);
        assert_true(o[i].off + o[i].size <= t->plugin->cfg_size);
        if (!seen[i] && (o[i].flags & BH_O_REQUIRED))
            bht__complain(&t->errs, o[i].name, "is required");
        else if (!seen[i] && o[i].def != NULL)
            bht__set_option(t, &o[i], NULL, o[i].def);
    }
}

/* ---- the host's functions ----------------------------------------------------------------- */

BHT_FN void bht__h_log(bh_inst *t, int32_t level, const char *msg, size_t n)
{
    static const char *const names[] = {"error: ", "warn: ", "info: ", "debug: "};

    pthread_mutex_lock(&bht__lock);
    bht__adds(&t->log, names[level >= BH_LOG_ERROR && level <= BH_LOG_DEBUG ? level - 1 : 0]);
    bht__add_escaped(&t->log, msg, n < 4000 ? n : 4000);
    bht__adds(&t->log, "\n");
    pthread_mutex_unlock(&bht__lock);
}

BHT_FN int32_t bht__h_log_enabled(bh_inst *t, int32_t level)
{
    (void)t, (void)level;
    return 1;
}

BHT_FN int64_t bht__h_now_ns(int32_t clock)
{
    int64_t now;

    if (clock < BH_CLOCK_REAL || clock > BH_CLOCK_LOOP_REAL)
        return -1;
    pthread_mutex_lock(&bht__lock);
    bht__world.reads[clock]++;
    now = clock == BH_CLOCK_REAL || clock == BH_CLOCK_LOOP_REAL ? bht__world.real_ns
                                                                : bht__world.mono_ns;
    pthread_mutex_unlock(&bht__lock);
    return now;
}

BHT_FN bh_rc bht__h_random(void *buf, size_t n)
{
    char *p = (char *)buf;

    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);

        if (got < 0 && errno != EINTR)
            return BH_FAIL;
        p += got > 0 ? got : 0;
        n -= got > 0 ? (size_t)got : 0;
    }
    return BH_OK;
}

BHT_FN bh_str bht__h_info(bh_inst *t, const char *key)
{
    if (strcmp(key, "name") == 0 || strcmp(key, "module") == 0)
        return bht__str(t->plugin->name);
    if (strcmp(key, "worker") == 0)
        return bht__str("0");
    if (strcmp(key, "version") == 0)
        return bht__str("1.0.0");
    if (strcmp(key, "config_dir") == 0)
        return bht__str(bht_dir());
    return bht__str(NULL);
}

BHT_FN const char *bht__find(const struct bht__field *f, const char *name)
{
    while (f != NULL && strcmp(f->name, name) != 0)
        f = f->next;
    return f ? f->value : NULL;
}

BHT_FN bh_rc bht__h_secret(bh_inst *t, const char *name, bh_str *out)
{
    const char *v = bht__find(t->secrets, name);

    if (v == NULL)
        return BH_ENOENT;
    *out = bht__str(v);
    return BH_OK;
}

BHT_FN bh_rc bht__h_cfg_raw(bh_inst *t, bh_str *json)
{
    *json = bh_sn(t->json.p, t->json.n);
    return BH_OK;
}

BHT_FN void bht__h_cfg_error(bh_errs *errs, const char *path, const char *msg)
{
    bht__complain(errs, path, msg);
}

BHT_FN bh_inst *bht__h_inst(bh_req *r)
{
    return r->t;
}

BHT_FN bh_str bht__h_attr(bh_req *r, const char *key)
{
    char buf[32];

    if (strcmp(key, "path") == 0)
        return bht__str(r->path);
    if (strcmp(key, "status") == 0 && r->status != 0)
        snprintf(buf, sizeof buf, "%d", (int)r->status);
    else if (strcmp(key, "bytes") == 0 && r->status != 0)
        snprintf(buf, sizeof buf, "%zu", r->body[BH_RESP].n);
    else
        return bht__str(bht__find(r->attrs, key));
    return bht__str(bht__dup(&r->blocks, buf, strlen(buf)));
}

BHT_FN bh_str bht__h_hdr_get(bh_req *r, int32_t side, const char *name, size_t nth)
{
    if (side != BH_REQ && side != BH_RESP)
        return bht__str(NULL);
    for (struct bht__field *f = r->fields[side]; f != NULL; f = f->next) {
        if (strcasecmp(f->name, name) == 0 && nth-- == 0)
            return bht__str(f->value);
    }
    return bht__str(NULL);
}

BHT_FN bh_rc bht__h_hdr_at(bh_req *r, int32_t side, size_t i, bh_str *name, bh_str *value)
{
    struct bht__field *f;

    if (side != BH_REQ && side != BH_RESP)
        return BH_EINVAL;
    for (f = r->fields[side]; f != NULL && i > 0; i--)
        f = f->next;
    if (f == NULL)
        return BH_ENOENT;
    *name = bht__str(f->name);
    *value = bht__str(f->value);
    return BH_OK;
}

/* Percent-decoding; plus: '+' is a space. */
BHT_FN char *bht__decode(bh_req *r, const char *p, size_t n, bool plus)
{
    char *out = bht__dup(&r->blocks, p, n), *o = out;
    char hex[3] = "";

    for (size_t i = 0; i < n; i++) {
        if (p[i] == '%' && i + 2 < n && isxdigit((unsigned char)p[i + 1]) &&
            isxdigit((unsigned char)p[i + 2])) {
            memcpy(hex, p + i + 1, 2);
            *o++ = (char)strtol(hex, NULL, 16);
            i += 2;
        } else {
            *o++ = plus && p[i] == '+' ? ' ' : p[i];
        }
    }
    *o = '\0';
    return out;
}

BHT_FN bh_str bht__h_query(bh_req *r, const char *name, size_t nth)
{
    const char *q = bht__find(r->attrs, "query");

    while (q != NULL && *q != '\0') {
        size_t n = strcspn(q, "&"), k = strcspn(q, "=&");

        if (strcmp(bht__decode(r, q, k, true), name) == 0 && nth-- == 0)
            return bht__str(q[k] == '=' ? bht__decode(r, q + k + 1, n - k - 1, true) : "");
        q += n + (q[n] == '&');
    }
    return bht__str(NULL);
}

BHT_FN bh_str bht__h_cookie(bh_req *r, const char *name)
{
    const char *c = bht__h_hdr_get(r, BH_REQ, "Cookie", 0).p;
    size_t len = strlen(name);

    while (c != NULL && *c != '\0') {
        size_t n = strcspn(c, ";");

        if (n > len && memcmp(c, name, len) == 0 && c[len] == '=')
            return bh_sn(bht__dup(&r->blocks, c + len + 1, n - len - 1), n - len - 1);
        c += n;
        c += strspn(c, "; ");
    }
    return bht__str(NULL);
}

BHT_FN bh_rc bht__h_body(bh_req *r, int32_t side, bh_str *out)
{
    if (side != BH_REQ && side != BH_RESP)
        return BH_EINVAL;
    if (side == BH_REQ && (r->want[BH_REQ] != BH_BODY_BUFFER || r->phase < BHT__BODY))
        return BH_EPHASE;
    if (side == BH_RESP && r->kind != BHT_COPY && r->kind != BHT_REF)
        return BH_EPHASE;
    bht__add(&r->body[side], "", 0);
    *out = bh_sn(r->body[side].p, r->body[side].n);
    return BH_OK;
}

BHT_FN bh_rc bht__check_field(bh_req *r, int32_t side, const char *name, const char *v, size_t n)
{
    static const char *const owned[] = {"Content-Length", "Transfer-Encoding", "Connection",
                                        "Date",           "Upgrade",           "Trailer"};
    size_t len = strlen(name);

    if ((side != BH_REQ && side != BH_RESP) || len == 0 ||
        strspn(name,
               "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") !=
            len)
        return BH_EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (((unsigned char)v[i] < ' ' && v[i] != '\t') || v[i] == 0x7f)
            return BH_EINVAL;
    }
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        if (strcasecmp(owned[i], name) == 0)
            return BH_EINVAL;
    }
    if (side == BH_RESP && r->phase >= BHT__RESPONSE_BODY &&
        (r->kind == BHT_STREAM || r->kind == BHT_FILE || r->phase > BHT__RESPONSE_BODY))
        return BH_EPHASE;
    return BH_OK;
}

BHT_FN void bht__append(struct bht__block **blocks, struct bht__field **list, const char *name,
                        const char *v, size_t n)
{
    struct bht__field *f = (struct bht__field *)bht__alloc(blocks, sizeof *f, 16);

    f->name = bht__dup(blocks, name, strlen(name));
    f->value = bht__dup(blocks, v, n);
    while (*list != NULL)
        list = &(*list)->next;
    *list = f;
}

BHT_FN bool bht__remove(struct bht__field **list, const char *name)
{
    bool any = false;

    while (*list != NULL) {
        if (strcasecmp((*list)->name, name) == 0) {
            *list = (*list)->next;
            any = true;
        } else {
            list = &(*list)->next;
        }
    }
    return any;
}

BHT_FN bh_rc bht__h_hdr_add(bh_req *r, int32_t side, const char *name, const char *v, size_t n)
{
    bh_rc rc = bht__check_field(r, side, name, v, n);

    if (rc == BH_OK)
        bht__append(&r->blocks, &r->fields[side], name, v, n);
    return rc;
}

BHT_FN bh_rc bht__h_hdr_set(bh_req *r, int32_t side, const char *name, const char *v, size_t n)
{
    bh_rc rc = bht__check_field(r, side, name, v, n);

    if (rc != BH_OK)
        return rc;
    bht__remove(&r->fields[side], name);
    bht__append(&r->blocks, &r->fields[side], name, v, n);
    return BH_OK;
}

BHT_FN bh_rc bht__h_hdr_del(bh_req *r, int32_t side, const char *name)
{
    bh_rc rc = bht__check_field(r, side, name, "", 0);

    if (rc != BH_OK)
        return rc;
    return bht__remove(&r->fields[side], name) ? BH_OK : BH_ENOENT;
}

BHT_FN bh_rc bht__h_set_path(bh_req *r, const char *path, size_t n)
{
    if (r->phase != BHT__REQUEST)
        return BH_EPHASE;
    if (n == 0 || path[0] != '/' || memchr(path, '\0', n) != NULL)
        return BH_EINVAL;
    r->path = bht__dup(&r->blocks, path, n);
    return BH_OK;
}

BHT_FN bh_rc bht__h_body_set(bh_req *r, int32_t side, const void *p, size_t n)
{
    if (side == BH_REQ && r->want[BH_REQ] == BH_BODY_BUFFER && r->phase == BHT__BODY) {
        r->body[BH_REQ].n = 0;
        bht__add(&r->body[BH_REQ], p, n);
        return BH_OK;
    }
    if (side == BH_RESP && r->phase == BHT__RESPONSE &&
        (r->kind == BHT_COPY || r->kind == BHT_REF)) {
        r->body[BH_RESP].n = 0;
        bht__add(&r->body[BH_RESP], p, n);
        return BH_OK;
    }
    if (side == BH_RESP && r->phase == BHT__RESPONSE_BODY) {
        r->chunk.n = 0;
        bht__add(&r->chunk, p, n);
        r->chunk_replaced = true;
        return BH_OK;
    }
    return side == BH_REQ || side == BH_RESP ? BH_EPHASE : BH_EINVAL;
}

BHT_FN bh_rc bht__h_body_want(bh_req *r, int32_t side, int32_t mode, size_t max)
{
    if ((side != BH_REQ && side != BH_RESP) || mode < BH_BODY_NONE || mode > BH_BODY_BUFFER)
        return BH_EINVAL;
    if (r->phase != BHT__REQUEST && (side == BH_REQ || r->phase != BHT__RESPONSE))
        return BH_EPHASE;
    r->want[side] = mode;
    r->want_max[side] = max == 0 || max > BHT_BODY_LIMIT ? BHT_BODY_LIMIT : max;
    return BH_OK;
}

BHT_FN bh_rc bht__answer(bh_req *r, int kind, int32_t status, const char *ctype)
{
    if (r->phase < BHT__REQUEST || r->phase > BHT__RESPONSE)
        return BH_EPHASE;
    if (status < 200 || status > 599)
        return BH_EINVAL;
    r->kind = kind;
    r->status = status;
    r->body[BH_RESP].n = 0;
    bht__add(&r->body[BH_RESP], "", 0);
    if (kind == BHT_STREAM)
        return BH_OK;
    bht__remove(&r->fields[BH_RESP], "Content-Type");
    return ctype ? bht__h_hdr_set(r, BH_RESP, "Content-Type", ctype, strlen(ctype)) : BH_OK;
}

BHT_FN bh_rc bht__h_reply(bh_req *r, int32_t status, const char *ctype, const void *p, size_t n)
{
    bh_rc rc = bht__answer(r, BHT_COPY, status, ctype);

    if (rc == BH_OK)
        bht__add(&r->body[BH_RESP], p, n);
    return rc;
}

BHT_FN bh_rc bht__h_reply_ref(bh_req *r, int32_t status, const char *ctype, const void *p, size_t n)
{
    bh_rc rc = bht__h_reply(r, status, ctype, p, n);

    if (rc == BH_OK)
        r->kind = BHT_REF;
    return rc;
}

BHT_FN int32_t bht__h_status(bh_req *r)
{
    return r->status;
}

BHT_FN bh_rc bht__h_status_set(bh_req *r, int32_t status)
{
    if (r->status == 0 || r->phase > BHT__RESPONSE)
        return BH_EPHASE;
    if (status < 200 || status > 599)
        return BH_EINVAL;
    r->status = status;
    return BH_OK;
}

BHT_FN bh_rc bht__h_stream_begin(bh_req *r, int32_t status, int64_t len)
{
    if (len < -1)
        return BH_EINVAL;
    r->stream = NULL;
    r->stream_over = r->broken = false;
    r->announced = len;
    r->written = 0;
    return bht__answer(r, BHT_STREAM, status, NULL);
}

BHT_FN void bht__add_chunk(struct bht__block **blocks, struct bht__chunk **list, const void *p,
                           size_t n)
{
    struct bht__chunk *c = (struct bht__chunk *)bht__alloc(blocks, sizeof *c + n + 1, 16);

    c->n = n;
    if (n > 0)
        memcpy(c->p, p, n);
    while (*list != NULL)
        list = &(*list)->next;
    *list = c;
}

BHT_FN bh_rc bht__h_stream_write(bh_req *r, const void *p, size_t n, int32_t end)
{
    size_t waiting = 0;

    if (r->kind != BHT_STREAM || r->stream_over)
        return BH_EPHASE;
    for (struct bht__chunk *c = r->stream; c != NULL; c = c->next)
        waiting += c->n;
    if (r->gone)
        return BH_EGONE;
    if (n > 0 && waiting > 0 && waiting + n > (size_t)1 << 20)
        return BH_EAGAIN;
    if (r->broken ||
        (r->announced >= 0 && ((int64_t)n > r->announced - r->written ||
                               (end != 0 && (int64_t)n < r->announced - r->written)))) {
        r->broken = true;
        return BH_ELIMIT;
    }
    r->written += (int64_t)n;
    if (n > 0)
        bht__add_chunk(&r->blocks, &r->stream, p, n);
    r->stream_over = end != 0;
    return BH_OK;
}

BHT_FN bh_rc bht__h_stream_on_writable(bh_req *r, bh_rc (*fn)(void *self, bh_req *req, void *ctx))
{
    if (fn == NULL)
        return BH_EINVAL;
    if (r->kind != BHT_STREAM || r->phase >= BHT__DEFER)
        return BH_EPHASE;
    r->writable = fn;
    return BH_OK;
}

/* ---- the store ---- */

BHT_FN void bht__kv_free(struct bht__kv **at)
{
    struct bht__kv *e = *at;

    *at = e->next;
    free(e->key);
    free(e->value);
    free(e);
}

/* Where that key is, or the end of the list. */
BHT_FN struct bht__kv **bht__kv_find(bh_str key)
{
    struct bht__kv **at = &bht__world.kv;

    while (*at != NULL) {
        struct bht__kv *e = *at;

        if (e->until_ns != 0 && e->until_ns <= bht__world.mono_ns)
            bht__kv_free(at);
        else if (e->key_n == key.n && memcmp(e->key, key.p, key.n) == 0)
            return at;
        else
            at = &e->next;
    }
    return at;
}

BHT_FN bool bht__kv_is_key(bh_str key)
{
    return key.p != NULL && key.n > 0 && key.n <= 250;
}

BHT_FN bh_rc bht__kv_put(bh_str key, const void *v, size_t n, int64_t until_ns)
{
    struct bht__kv **at = bht__kv_find(key), *e = *at;
    char *value = (char *)bht__must(malloc(n + 1));

    if (e == NULL && bht__world.kv_full) {
        free(value);
        return BH_ELIMIT;
    }
    if (e == NULL) {
        e = *at = (struct bht__kv *)bht__must(calloc(1, sizeof *e));
        e->key = (char *)bht__must(malloc(key.n));
        e->key_n = key.n;
        memcpy(e->key, key.p, key.n);
    }
    if (n > 0)
        memcpy(value, v, n);
    value[n] = '\0';
    free(e->value);
    e->value = value;
    e->n = n;
    e->cas = ++bht__world.last_cas;
    e->until_ns = until_ns;
    e->is_bucket = false;
    return BH_OK;
}

BHT_FN bh_rc bht__h_kv_get(bh_inst *t, bh_str key, void *buf, size_t *n, uint64_t *cas)
{
    const struct bht__kv *e;
    size_t room = n != NULL ? *n : 0;

    (void)t;
    if (!bht__kv_is_key(key) || n == NULL || (buf == NULL && room > 0))
        return BH_EINVAL;
    e = *bht__kv_find(key);
    if (e == NULL)
        return BH_ENOENT;
    if (e->is_bucket)
        return BH_EINVAL;
    *n = e->n;
    if (e->n > room)
        return BH_ELIMIT;
    memcpy(buf, e->value, e->n);
    if (cas != NULL)
        *cas = e->cas;
    return BH_OK;
}

BHT_FN int64_t bht__kv_until(uint32_t ttl_ms)
{
    return ttl_ms == 0 ? 0 : bht__world.mono_ns + (int64_t)ttl_ms * 1000000;
}

BHT_FN bh_rc bht__h_kv_set(bh_inst *t, bh_str key, const void *v, size_t n, uint32_t ttl_ms,
                           uint64_t cas)
{
    const struct bht__kv *e;

    (void)t;
    if (!bht__kv_is_key(key) || n > 63000 || (v == NULL && n > 0))
        return BH_EINVAL;
    e = *bht__kv_find(key);
    if (cas == BH_KV_NEW ? e != NULL : cas != 0 && (e == NULL || e->cas != cas))
        return BH_ECAS;
    return bht__kv_put(key, v, n, bht__kv_until(ttl_ms));
}

BHT_FN bh_rc bht__h_kv_del(bh_inst *t, bh_str key)
{
    struct bht__kv **at;

    (void)t;
    if (!bht__kv_is_key(key))
        return BH_EINVAL;
    at = bht__kv_find(key);
    if (*at == NULL)
        return BH_ENOENT;
    bht__kv_free(at);
    return BH_OK;
}

BHT_FN bh_rc bht__h_kv_add(bh_inst *t, bh_str key, int64_t delta, uint32_t ttl_ms, int64_t *out)
{
    const struct bht__kv *e;
    int64_t sum = 0;
    char text[32], *end;
    bh_rc rc;
    int n;

    (void)t;
    if (!bht__kv_is_key(key))
        return BH_EINVAL;
    e = *bht__kv_find(key);
    if (e != NULL) {
        errno = 0;
        sum = strtoll(e->is_bucket ? "" : e->value, &end, 10);
        if (e->is_bucket || e->n == 0 || *end != '\0' || errno != 0)
            return BH_EINVAL;
    }
    if (__builtin_add_overflow(sum, delta, &sum))
        return BH_EINVAL;
    n = snprintf(text, sizeof text, "%lld", (long long)sum);
    rc = bht__kv_put(key, text, (size_t)n, e != NULL ? e->until_ns : bht__kv_until(ttl_ms));
    if (rc == BH_OK && out != NULL)
        *out = sum;
    return rc;
}

BHT_FN int64_t bht__h_bucket(bh_inst *t, bh_str key, double per_s, double burst, double cost)
{
    int64_t now = bht__world.mono_ns, full = now, depth, price;
    struct bht__kv *e;
    bh_rc rc;

    (void)t;
    if (!bht__kv_is_key(key) || !(per_s > 0) || !(burst > 0) || !(cost >= 0) || !(cost <= burst))
        return BH_BUCKET_FAILED + BH_EINVAL;
    e = *bht__kv_find(key);
    if (e != NULL && !e->is_bucket)
        return BH_BUCKET_FAILED + BH_EINVAL;
    depth = (int64_t)(burst * 1e9 / per_s + 0.5);
    price = (int64_t)(cost * 1e9 / per_s + 0.5);
    if (e != NULL)
        full = e->until_ns < now + depth ? e->until_ns : now + depth;
    if (full + price > now + depth)
        return -((full + price - now - depth + 999999) / 1000000);
    if (price > 0) {
        rc = bht__kv_put(key, "", 0, full + price);
        if (rc != BH_OK)
            return BH_BUCKET_FAILED + rc;
        (*bht__kv_find(key))->is_bucket = true;
    }
    return (int64_t)(((double)(now + depth - full - price) + 1) * per_s / 1e9);
}

BHT_FN bh_rc bht__h_post(bh_inst *t, void (*fn)(void *self, void *arg), void *arg);

struct bht__ask {
    bh_kv_op op;
    void (*done)(void *self, const bh_kv_result *result, void *arg);
    void *arg;
    uint64_t id;
    bht *t;
    struct bht__ask *next;
};

/* As a posted job: after the hook that asked. */
BHT_FN void bht__kv_answer(void *self, void *arg)
{
    struct bht__ask *a = (struct bht__ask *)arg;
    bh_kv_result r = {.struct_size = sizeof r};
    const bh_kv_op *op = &a->op;
    char *value = (char *)bht__must(malloc(63000));
    size_t n = 63000;
    double cost = op->cost;
    int64_t have;

    switch (op->op) {
    case BH_KV_GET:
        r.rc = bht__h_kv_get(a->t, op->key, value, &n, &r.cas);
        if (r.rc == BH_OK)
            r.value = bh_sn(value, n);
        break;
    case BH_KV_SET:
        r.rc = bht__h_kv_set(a->t, op->key, op->value.p, op->value.n, op->ttl_ms, op->cas);
        break;
    case BH_KV_DEL: r.rc = bht__h_kv_del(a->t, op->key); break;
    case BH_KV_ADD: r.rc = bht__h_kv_add(a->t, op->key, op->delta, op->ttl_ms, &r.number); break;
    default:
        have = bht__h_bucket(a->t, op->key, op->per_s, op->burst, 0);
        if (op->most > cost && (double)have > cost)
            cost = (double)have < op->most ? (double)have : op->most;
        r.number = bht__h_bucket(a->t, op->key, op->per_s, op->burst, cost);
        r.rc = bh_bucket_rc(r.number);
        r.taken = r.rc == BH_OK && r.number >= 0 ? cost : 0;
    }
    if (bht__world.kv_down)
        r.rc = BH_EAGAIN;
    if (a->id != 0)
        a->done(self, &r, a->arg);
    for (struct bht__ask **at = &bht__world.asks; *at != NULL; at = &(*at)->next)
        if (*at == a) {
            *at = a->next;
            break;
        }
    free(value);
    free((void *)(uintptr_t)op->key.p);
    free((void *)(uintptr_t)op->value.p);
    free(a);
}

BHT_FN bh_str bht__kv_dup(bh_str s)
{
    char *p = (char *)bht__must(malloc(s.n + 1));

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return bh_sn(p, s.n);
}

BHT_FN bh_rc bht__h_kv_async(bh_inst *t, const bh_kv_op *op,
                             void (*done)(void *self, const bh_kv_result *result, void *arg),
                             void *arg, uint64_t *id)
{
    struct bht__ask *a;

    if (op == NULL || done == NULL || !bht__kv_is_key(op->key) || op->op < BH_KV_GET ||
        op->op > BH_KV_TAKE)
        return BH_EINVAL;
    a = (struct bht__ask *)bht__must(calloc(1, sizeof *a));
    a->op = *op;
    a->op.key = bht__kv_dup(op->key);
    a->op.value = bht__kv_dup(op->value);
    a->done = done;
    a->arg = arg;
    a->t = t;
    a->id = ++bht__world.last_ask;
    a->next = bht__world.asks;
    bht__world.asks = a;
    if (id != NULL)
        *id = a->id;
    return bht__h_post(t, bht__kv_answer, a);
}

BHT_FN bh_rc bht__h_kv_cancel(bh_inst *t, uint64_t id)
{
    for (struct bht__ask *a = bht__world.asks; a != NULL; a = a->next)
        if (a->id == id && a->t == t) {
            a->id = 0;
            return BH_OK;
        }
    return BH_ENOENT;
}

BHT_FN unsigned bht_store_asked(void)
{
    return (unsigned)bht__world.last_ask;
}

BHT_FN void bht_store_down(bool down)
{
    bht__world.kv_down = down;
}

BHT_FN void bht_store_full(bool full)
{
    bht__world.kv_full = full;
}

/* ---- other servers ---- */

struct bht__call {
    void (*done)(void *self, bh_ticket *ticket, const bh_http_resp *rs, void *arg);
    void *arg;
    bh_ticket *ticket;
    uint64_t id; /* 0: cancelled */
    size_t max_body;
    bht *t;
    struct bht__call *next;
};

/* "Name: value" lines to pairs; how many. */
BHT_FN size_t bht__pairs(char *lines, bh_str *kv, size_t max)
{
    size_t n = 0;

    for (char *rest = lines, *line; n < max && (line = strsep(&rest, "\n")) != NULL;) {
        char *value = strstr(line, ": ");

        if (value == NULL)
            continue;
        *value = '\0';
        kv[2 * n] = bh_s(line);
        kv[2 * n + 1] = bh_s(value + 2);
        n++;
    }
    return n;
}

BHT_FN void bht__http_answer(void *self, void *arg)
{
    struct bht__call *c = (struct bht__call *)arg;
    bht *t = c->t;
    bh_http_resp rs = {.struct_size = sizeof rs};
    char *lines = strdup(t->upstream.headers.p != NULL ? t->upstream.headers.p : "");
    bh_str kv[200];

    bht__must(lines);
    rs.body = bh_s("");
    rs.status = t->upstream.status;
    rs.err = rs.status == 0 && t->upstream.err == BH_OK ? BH_EAGAIN : t->upstream.err;
    if (rs.err == BH_OK && t->upstream.body.n > c->max_body)
        rs.err = BH_ELIMIT;
    if (rs.err != BH_OK) {
        rs.status = 0;
        rs.why = bh_s("as the test says");
    } else {
        rs.body = bh_sn(t->upstream.body.p != NULL ? t->upstream.body.p : "", t->upstream.body.n);
        rs.nhdr = bht__pairs(lines, kv, sizeof kv / sizeof kv[0] / 2);
        rs.hdr_kv = kv;
    }
    if (c->id != 0)
        c->done(self, c->ticket, &rs, c->arg);
    for (struct bht__call **at = &t->calls; *at != NULL; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    free(lines);
    free(c);
}

BHT_FN void bht__note_call(struct bht__text *to, const bh_http_req *rq)
{
    if (rq->method.p != NULL)
        bht__add(to, rq->method.p, rq->method.n);
    else
        bht__adds(to, "GET");
    bht__adds(to, " ");
    bht__add(to, rq->upstream.p, rq->upstream.n);
    bht__add(to, rq->path.p, rq->path.n);
    for (size_t i = 0; i < rq->nhdr; i++) {
        bht__adds(to, "\n");
        bht__add(to, rq->hdr_kv[2 * i].p, rq->hdr_kv[2 * i].n);
        bht__adds(to, ": ");
        if (rq->hdr_kv[2 * i + 1].n > 0)
            bht__add(to, rq->hdr_kv[2 * i + 1].p, rq->hdr_kv[2 * i + 1].n);
    }
    bht__adds(to, "\n\n");
    if (rq->body.n > 0)
        bht__add(to, rq->body.p, rq->body.n);
    bht__adds(to, "\n");
}

BHT_FN bh_rc bht__h_http(bh_inst *t, bh_ticket *ticket, const bh_http_req *rq,
                         void (*done)(void *self, bh_ticket *ticket, const bh_http_resp *rs,
                                      void *arg),
                         void *arg, uint64_t *id)
{
    struct bht__call *c;

    if (rq == NULL || done == NULL || rq->struct_size < sizeof *rq || rq->upstream.p == NULL ||
        rq->path.p == NULL || rq->path.n == 0 || rq->path.p[0] != '/' || rq->nhdr > 100)
        return BH_EINVAL;
    if (strncmp(rq->upstream.p, "http://", 7) != 0 && strncmp(rq->upstream.p, "https://", 8) != 0 &&
        strncmp(rq->upstream.p, "unix:/", 6) != 0)
        return BH_EINVAL;
    for (size_t i = 0; i < 2 * rq->nhdr; i++)
        for (size_t k = 0; k < rq->hdr_kv[i].n; k++)
            if (rq->hdr_kv[i].p[k] == '\r' || rq->hdr_kv[i].p[k] == '\n')
                return BH_EINVAL;
    bht__note_call(&t->asked, rq);
    c = (struct bht__call *)bht__must(calloc(1, sizeof *c));
    c->done = done;
    c->arg = arg;
    c->ticket = ticket;
    c->t = t;
    c->max_body = rq->max_body != 0 ? rq->max_body : (size_t)1 << 20;
    c->id = ++bht__world.last_call;
    c->next = t->calls;
    t->calls = c;
    if (id != NULL)
        *id = c->id;
    return bht__h_post(t, bht__http_answer, c);
}

BHT_FN bh_rc bht__h_http_cancel(bh_inst *t, uint64_t id)
{
    for (struct bht__call *c = t->calls; c != NULL; c = c->next)
        if (c->id == id && id != 0) {
            c->id = 0;
            return BH_OK;
        }
    return BH_ENOENT;
}

BHT_FN void bht_upstream(bht *t, int32_t status, const char *headers, const char *body, int32_t err)
{
    t->upstream.status = status;
    t->upstream.err = err;
    t->upstream.headers.n = t->upstream.body.n = 0;
    bht__adds(&t->upstream.headers, headers != NULL ? headers : "");
    bht__adds(&t->upstream.body, body != NULL ? body : "");
}

BHT_FN const char *bht_asked(const bht *t)
{
    return t->asked.p != NULL ? t->asked.p : "";
}

/* ---- timers ---- */

BHT_FN bh_rc bht__h_timer(bh_inst *t, uint32_t first_ms, uint32_t every_ms,
                          void (*fn)(void *self, void *arg), void *arg, uint64_t *id)
{
    struct bht__timer *timer;

    if (fn == NULL)
        return BH_EINVAL;
    if (bht_timers(t) >= 16384)
        return BH_ELIMIT;
    timer = (struct bht__timer *)bht__must(calloc(1, sizeof *timer));
    timer->id = ++bht__world.last_timer;
    timer->due_ns = bht__world.mono_ns + (first_ms > 0 ? (int64_t)first_ms * 1000000 : 1);
    timer->every_ns = (int64_t)every_ms * 1000000;
    timer->fn = fn;
    timer->arg = arg;
    timer->next = t->timers;
    t->timers = timer;
    if (id != NULL)
        *id = timer->id;
    return BH_OK;
}

BHT_FN bh_rc bht__h_timer_del(bh_inst *t, uint64_t id)
{
    for (struct bht__timer **at = &t->timers; *at != NULL; at = &(*at)->next) {
        struct bht__timer *timer = *at;

        if (timer->id != id)
            continue;
        *at = timer->next;
        free(timer);
        return BH_OK;
    }
    return BH_ENOENT;
}

BHT_FN bh_rc bht__h_send_fd(bh_req *r, int32_t status, const char *ctype, int32_t fd,
                            uint64_t offset, uint64_t len)
{
    char buf[4096];
    bh_rc rc = fd < 0 ? BH_EINVAL : bht__answer(r, BHT_FILE, status, ctype);

    while (rc == BH_OK && len > 0) {
        ssize_t got = pread(fd, buf, len < sizeof buf ? len : sizeof buf, (off_t)offset);

        if (got <= 0)
            rc = BH_EINVAL;
        else
            bht__add(&r->body[BH_RESP], buf, (size_t)got), offset += (size_t)got,
                len -= (size_t)got;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

BHT_FN bh_rc bht__h_send_file(bh_req *r, const char *path, const char *ctype)
{
    char name[PATH_MAX];
    struct stat st;
    int fd;

    snprintf(name, sizeof name, "%s%s%s", path[0] == '/' ? "" : bht_dir(),
             path[0] == '/' ? "" : "/", path);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return BH_ENOENT;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return BH_EINVAL;
    }
    return bht__h_send_fd(r, 200, ctype, fd, 0, (uint64_t)st.st_size);
}

BHT_FN void *bht__h_alloc(bh_req *r, size_t n, size_t align)
{
    if (align == 0)
        align = 16;
    if ((align & (align - 1)) != 0 || n > ((size_t)16 << 20) - r->allocated)
        return NULL;
    r->allocated += n;
    return bht__alloc(&r->blocks, n, align < 16 ? 16 : align);
}

BHT_FN bh_rc bht__h_defer(bh_req *r, void (*fn)(void *), void *arg)
{
    struct bht__deferred *d;

    if (r->phase >= BHT__DEFER)
        return BH_EPHASE;
    d = (struct bht__deferred *)bht__alloc(&r->blocks, sizeof *d, 16);
    d->fn = fn;
    d->arg = arg;
    d->next = r->deferred;
    r->deferred = d;
    return BH_OK;
}

BHT_FN bh_rc bht__h_var_set(bh_req *r, const char *k, const void *v, size_t n)
{
    bht__remove(&r->vars, k);
    bht__append(&r->blocks, &r->vars, k, (const char *)v, n);
    return BH_OK;
}

BHT_FN bh_str bht__h_var_get(bh_req *r, const char *k)
{
    return bht__str(bht__find(r->vars, k));
}

BHT_FN bh_ticket *bht__h_ticket(bh_req *r, uint32_t timeout_ms)
{
    (void)timeout_ms;
    if (r->ticket != NULL || (r->phase != BHT__REQUEST && r->phase != BHT__BODY))
        return NULL;
    r->ticket = (bh_ticket *)bht__alloc(&r->t->blocks, sizeof *r->ticket, 16);
    r->ticket->req = r;
    r->ticket->verdict = BH_PAUSE;
    return r->ticket;
}

BHT_FN bh_rc bht__h_resume(bh_ticket *ticket, int32_t verdict)
{
    bh_rc rc = BH_ENOENT;

    pthread_mutex_lock(&bht__lock);
    if (!ticket->dead && verdict != BH_PAUSE) {
        ticket->verdict = verdict;
        ticket->dead = true;
        rc = BH_OK;
    }
    pthread_mutex_unlock(&bht__lock);
    return verdict == BH_PAUSE ? BH_EINVAL : rc;
}

BHT_FN bh_rc bht__h_resume_reply(bh_ticket *ticket, int32_t status, const char *ctype,
                                 const void *p, size_t n)
{
    bh_rc rc;

    if (ticket->dead)
        return BH_ENOENT;
    rc = bht__h_reply(ticket->req, status, ctype, p, n);
    return rc == BH_OK ? bht__h_resume(ticket, BH_DONE) : rc;
}

BHT_FN int32_t bht__h_cancelled(bh_ticket *ticket)
{
    int32_t dead;

    pthread_mutex_lock(&bht__lock);
    dead = ticket->dead;
    pthread_mutex_unlock(&bht__lock);
    return dead;
}

BHT_FN bh_rc bht__h_offload(bh_req *r, int32_t (*work)(void *), void *arg)
{
    if (r->work != NULL || r->ticket != NULL || (r->phase != BHT__REQUEST && r->phase != BHT__BODY))
        return BH_EPHASE;
    r->work = work;
    r->work_arg = arg;
    return BH_OK;
}

BHT_FN bh_rc bht__h_post(bh_inst *t, void (*fn)(void *self, void *arg), void *arg)
{
    struct bht__job *j = (struct bht__job *)bht__must(calloc(1, sizeof *j));
    struct bht__job **last = &t->jobs;

    j->fn = fn;
    j->arg = arg;
    pthread_mutex_lock(&bht__lock);
    while (*last != NULL)
        last = &(*last)->next;
    *last = j;
    pthread_mutex_unlock(&bht__lock);
    return BH_OK;
}

BHT_FN bh_rc bht__h_event(bh_inst *t, const char *name, const char *text, size_t n)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    size_t len = name != NULL ? strlen(name) : 0;

    if (len == 0 || len > 31 || strspn(name, chars) != len || (text == NULL && n > 0))
        return BH_EINVAL;
    bht__adds(&t->events, name);
    bht__adds(&t->events, ": ");
    bht__add_escaped(&t->events, text, n < 207 ? n : 207);
    bht__adds(&t->events, "\n");
    return BH_OK;
}

BHT_FN const char *bht_events_text(const bht *t)
{
    return t->events.p != NULL ? t->events.p : "";
}

BHT_FN bh_rc bht__h_sink_open(bh_inst *t, const char *path, uint32_t *sink)
{
    uint32_t i;

    for (i = 0; i < t->n_sinks; i++) {
        if (strcmp(t->sink[i].path, path) == 0) {
            *sink = i;
            return BH_OK;
        }
    }
    if (i == sizeof t->sink / sizeof t->sink[0])
        return BH_ELIMIT;
    snprintf(t->sink[i].path, sizeof t->sink[i].path, "%s", path);
    *sink = i;
    t->n_sinks++;
    return BH_OK;
}

BHT_FN bh_rc bht__h_sink_write(bh_inst *t, uint32_t sink, const char *line, size_t n)
{
    if (sink >= t->n_sinks || n > 8000)
        return BH_EINVAL;
    if (t->sink_full)
        return BH_EAGAIN;
    bht__add_escaped(&t->sink[sink].text, line, n);
    bht__adds(&t->sink[sink].text, "\n");
    return BH_OK;
}

BHT_FN bh_rc bht__h_metric(bh_inst *t, int32_t type, const char *name, const char *help,
                           const char *const *labels, uint32_t *id)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    size_t n_labels = 0;
    uint32_t i = 0;

    (void)help;
    while (labels != NULL && labels[n_labels] != NULL)
        n_labels++;
    if (type < BH_M_COUNTER || type > BH_M_GAUGE_AVG || n_labels > 4 || strlen(name) > 63 ||
        name[strspn(name, chars)] != '\0' || strspn(name, chars + 53) != 0)
        return BH_EINVAL;
    pthread_mutex_lock(&bht__lock);
    while (i < t->n_metrics && strcmp(t->metric[i].name, name) != 0)
        i++;
    if (i < 64) {
        snprintf(t->metric[i].name, sizeof t->metric[i].name, "%s", name);
        t->metric[i].type = type;
        t->metric[i].n_labels = n_labels;
        t->n_metrics += i == t->n_metrics;
        *id = i + 1;
    }
    pthread_mutex_unlock(&bht__lock);
    return i < 64 ? BH_OK : BH_ELIMIT;
}

BHT_FN void bht__metric(bh_inst *t, uint32_t id, const bh_str *lv, double v, bool add)
{
    const struct bht__metric *m;
    struct bht__series *s;
    char name[400];
    size_t n;

    pthread_mutex_lock(&bht__lock);
    if (id > 0 && id <= t->n_metrics) {
        m = &t->metric[id - 1];
        n = (size_t)snprintf(name, sizeof name, "%s", m->name);
        for (size_t i = 0; i < m->n_labels; i++)
            n += (size_t)snprintf(name + n, sizeof name - n, "%c%.*s", i == 0 ? '{' : ',',
                                  lv ? (int)(lv[i].n < 63 ? lv[i].n : 63) : 0, lv ? lv[i].p : "");
        snprintf(name + n, sizeof name - n, m->n_labels > 0 ? "}" : "");
        for (s = t->series; s != NULL && strcmp(s->name, name) != 0;)
            s = s->next;
        if (s == NULL) {
            s = (struct bht__series *)bht__alloc(&t->blocks, sizeof *s, 16);
            snprintf(s->name, sizeof s->name, "%s", name);
            s->next = t->series;
            t->series = s;
        }
        s->value = add ? s->value + v : v;
    }
    pthread_mutex_unlock(&bht__lock);
}

BHT_FN void bht__h_metric_add(bh_inst *t, uint32_t id, const bh_str *lv, double v)
{
    bht__metric(t, id, lv, v, true);
}

BHT_FN void bht__h_metric_set(bh_inst *t, uint32_t id, const bh_str *lv, double v)
{
    bht__metric(t, id, lv, v, false);
}

BHT_FN void bht__h_metric_observe(bh_inst *t, uint32_t id, const bh_str *lv, double v)
{
    (void)v;
    bht__metric(t, id, lv, 1, true);
}

BHT_FN double bht_metric(const bht *t, const char *series)
{
    size_t n = strcspn(series, "{");
    double value = 0;
    uint32_t i = 0;

    pthread_mutex_lock(&bht__lock);
    while (i < t->n_metrics &&
           (strlen(t->metric[i].name) != n || memcmp(t->metric[i].name, series, n) != 0))
        i++;
    for (struct bht__series *s = t->series; s != NULL; s = s->next)
        if (strcmp(s->name, series) == 0)
            value = s->value;
    n = t->n_metrics;
    pthread_mutex_unlock(&bht__lock);
    if (i == n)
        fail_msg("the plugin has no metric %s", series);
    return value;
}

static const bh_host bht__host = {
    .struct_size = sizeof(bh_host),
    .abi_major = BH_ABI_MAJOR,
    .abi_minor = BH_ABI_MINOR,
    .log = bht__h_log,
    .log_enabled = bht__h_log_enabled,
    .now_ns = bht__h_now_ns,
    .random = bht__h_random,
    .info = bht__h_info,
    .secret = bht__h_secret,
    .cfg_raw = bht__h_cfg_raw,
    .cfg_error = bht__h_cfg_error,
    .inst = bht__h_inst,
    .attr = bht__h_attr,
    .hdr_get = bht__h_hdr_get,
    .hdr_at = bht__h_hdr_at,
    .query = bht__h_query,
    .cookie = bht__h_cookie,
    .body = bht__h_body,
    .hdr_set = bht__h_hdr_set,
    .hdr_add = bht__h_hdr_add,
    .hdr_del = bht__h_hdr_del,
    .set_path = bht__h_set_path,
    .body_set = bht__h_body_set,
    .body_want = bht__h_body_want,
    .reply = bht__h_reply,
    .status = bht__h_status,
    .status_set = bht__h_status_set,
    .stream_begin = bht__h_stream_begin,
    .stream_write = bht__h_stream_write,
    .stream_on_writable = bht__h_stream_on_writable,
    .timer = bht__h_timer,
    .timer_del = bht__h_timer_del,
    .kv_get = bht__h_kv_get,
    .kv_set = bht__h_kv_set,
    .kv_del = bht__h_kv_del,
    .kv_add = bht__h_kv_add,
    .bucket = bht__h_bucket,
    .kv_async = bht__h_kv_async,
    .kv_cancel = bht__h_kv_cancel,
    .event = bht__h_event,
    .http = bht__h_http,
    .http_cancel = bht__h_http_cancel,
    .metric = bht__h_metric,
    .metric_add = bht__h_metric_add,
    .metric_set = bht__h_metric_set,
    .metric_observe = bht__h_metric_observe,
    .send_file = bht__h_send_file,
    .alloc = bht__h_alloc,
    .defer = bht__h_defer,
    .var_set = bht__h_var_set,
    .var_get = bht__h_var_get,
    .ticket = bht__h_ticket,
    .resume = bht__h_resume,
    .resume_reply = bht__h_resume_reply,
    .cancelled = bht__h_cancelled,
    .offload = bht__h_offload,
    .post = bht__h_post,
    .reply_ref = bht__h_reply_ref,
    .send_fd = bht__h_send_fd,
    .sink_open = bht__h_sink_open,
    .sink_write = bht__h_sink_write,
};

/* ---- instances ---------------------------------------------------------------------------- */

__attribute__((unused, sentinel)) static bht *bht__open(int must, ...)
{
    bht *t = (bht *)bht__must(calloc(1, sizeof *t));
    const bh_plugin *p = bh_plugin_v1(&bht__host);
    va_list options;

    assert_non_null(p);
    assert_int_equal(p->struct_size, sizeof *p);
    assert_non_null(p->name);
    t->plugin = p;
    t->next = bht__world.open;
    bht__world.open = t;
    t->cfg = (char *)bht__alloc(&t->blocks, p->cfg_size, 16);
    memset(bht__world.reads, 0, sizeof bht__world.reads);
    bht_clock(BHT_EPOCH_NS, 1000000000LL);
    va_start(options, must);
    bht__options(t, options);
    va_end(options);
    if (t->errs.n == 0 && p->validate != NULL)
        t->rc = p->validate(t->cfg, &t->errs);
    if (t->errs.n > 0)
        t->rc = BH_FAIL;
    if (t->rc == BH_OK && p->open != NULL)
        t->rc = p->open(t, t->cfg, &t->self);
    t->opened = t->rc == BH_OK;
    if (t->rc == BH_OK && p->start != NULL)
        t->rc = p->start(t->self);
    if (must && t->rc != BH_OK)
        fail_msg("%s did not open: %s%s", p->name, bht_errors(t), bht_log_text(t));
    return t;
}

BHT_FN bh_rc bht_rc(const bht *t)
{
    return t->rc;
}

BHT_FN const char *bht_errors(const bht *t)
{
    return t->errs.text.p ? t->errs.text.p : "";
}

BHT_FN void bht__jobs(bht *t)
{
    for (;;) {
        struct bht__job *j;

        pthread_mutex_lock(&bht__lock);
        j = t->jobs;
        if (j != NULL)
            t->jobs = j->next;
        pthread_mutex_unlock(&bht__lock);
        if (j == NULL)
            return;
        j->fn(t->self, j->arg);
        free(j);
    }
}

BHT_FN void bht_close(bht *t)
{
    bht__jobs(t);
    if (t->opened && t->plugin->drain != NULL)
        assert_int_equal(t->plugin->drain(t->self), BH_OK);
    for (bht **at = &bht__world.open; *at != NULL; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            break;
        }
    while (t->timers != NULL)
        bht__h_timer_del(t, t->timers->id);
    if (t->opened && t->plugin->close != NULL)
        t->plugin->close(t->self);
    while (bht__world.open == NULL && bht__world.kv != NULL)
        bht__kv_free(&bht__world.kv);
    while (t->requests != NULL) {
        bh_req *r = t->requests;

        t->requests = r->next;
        bht__free(&r->blocks);
        free(r->body[0].p);
        free(r->body[1].p);
        free(r->chunk.p);
        free(r);
    }
    for (uint32_t i = 0; i < t->n_sinks; i++)
        free(t->sink[i].text.p);
    free(t->log.p);
    free(t->events.p);
    free(t->asked.p);
    free(t->upstream.headers.p);
    free(t->upstream.body.p);
    free(t->json.p);
    free(t->errs.text.p);
    bht__free(&t->blocks);
    free(t);
}

BHT_FN int bht__rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

BHT_FN void bht__clean_up(void)
{
    nftw(bht__world.dir, bht__rm, 8, FTW_DEPTH | FTW_PHYS);
}

BHT_FN const char *bht_dir(void)
{
    if (bht__world.dir[0] == '\0') {
        snprintf(bht__world.dir, sizeof bht__world.dir, "/tmp/bulkhead-test-XXXXXX");
        assert_non_null(mkdtemp(bht__world.dir));
        atexit(bht__clean_up);
    }
    return bht__world.dir;
}

BHT_FN const char *bht_file(const char *name, const void *p, size_t n)
{
    static char path[PATH_MAX];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", bht_dir(), name);
    for (char *s = path + strlen(bht_dir()) + 1; (s = strchr(s, '/')) != NULL; s++) {
        *s = '\0';
        mkdir(path, 0777);
        *s = '/';
    }
    f = fopen(path, "we");
    if (f == NULL || fwrite(p, 1, n, f) != n || fclose(f) != 0)
        fail_msg("cannot write %s: %s", path, strerror(errno));
    return path;
}

BHT_FN void bht_clock(int64_t real_ns, int64_t mono_ns)
{
    pthread_mutex_lock(&bht__lock);
    bht__world.real_ns = real_ns;
    bht__world.mono_ns = mono_ns;
    pthread_mutex_unlock(&bht__lock);
}

BHT_FN unsigned bht_timers(const bht *t)
{
    unsigned n = 0;

    for (const struct bht__timer *timer = t->timers; timer != NULL; timer = timer->next)
        n++;
    return n;
}

/* The one that is due first, until then; of equal ones, the one that was set first. */
BHT_FN struct bht__timer *bht__due(int64_t until_ns, bht **owner)
{
    struct bht__timer *first = NULL;

    for (bht *t = bht__world.open; t != NULL; t = t->next) {
        for (struct bht__timer *timer = t->timers; timer != NULL; timer = timer->next) {
            if (timer->due_ns > until_ns ||
                (first != NULL && (timer->due_ns > first->due_ns ||
                                   (timer->due_ns == first->due_ns && timer->id > first->id))))
                continue;
            first = timer;
            *owner = t;
        }
    }
    return first;
}

BHT_FN void bht_advance(int64_t ns)
{
    int64_t until_ns = bht__world.mono_ns + ns;
    struct bht__timer *timer;
    bht *t = NULL;

    while ((timer = bht__due(until_ns, &t)) != NULL) {
        void (*fn)(void *, void *) = timer->fn;
        void *arg = timer->arg;

        if (timer->due_ns > bht__world.mono_ns)
            bht_clock(bht__world.real_ns + timer->due_ns - bht__world.mono_ns, timer->due_ns);
        if (timer->every_ns > 0)
            timer->due_ns += timer->every_ns;
        else
            bht__h_timer_del(t, timer->id);
        fn(t->self, arg);
        bht__jobs(t);
    }
    bht_clock(bht__world.real_ns + until_ns - bht__world.mono_ns, until_ns);
}

BHT_FN unsigned bht_clock_reads(int32_t clock)
{
    return bht__world.reads[clock];
}

BHT_FN const char *bht_log_text(const bht *t)
{
    return t->log.p ? t->log.p : "";
}

BHT_FN const char *bht_sink_text(const bht *t, const char *path)
{
    for (uint32_t i = 0; i < t->n_sinks; i++) {
        if (strcmp(t->sink[i].path, path) == 0)
            return t->sink[i].text.p ? t->sink[i].text.p : "";
    }
    return "";
}

BHT_FN void bht_sink_full(bht *t, bool full)
{
    t->sink_full = full;
}

/* ---- requests ----------------------------------------------------------------------------- */

BHT_FN bh_req *bht_request(bht *t, const char *method, const char *target)
{
    bh_req *r = (bh_req *)bht__must(calloc(1, sizeof *r));
    size_t n = strcspn(target, "?");

    if (t->rc != BH_OK)
        fail_msg("this instance did not open");
    r->t = t;
    r->next = t->requests;
    t->requests = r;
    if (t->plugin->ctx_size > 0)
        r->ctx = bht__alloc(&r->blocks, t->plugin->ctx_size, 16);
    r->path = bht__decode(r, target, n, false);
    r->want[BH_REQ] = t->plugin->on_request_body ? BH_BODY_STREAM : BH_BODY_NONE;
    r->want[BH_RESP] = t->plugin->on_response_body ? BH_BODY_STREAM : BH_BODY_NONE;
    r->want_max[BH_REQ] = r->want_max[BH_RESP] = BHT_BODY_LIMIT;
    bht_attr(r, "method", method);
    bht_attr(r, "raw_path", target);
    bht_attr(r, "query", target[n] == '?' ? target + n + 1 : NULL);
    bht_attr(r, "scheme", "http");
    bht_attr(r, "host", "example.com");
    bht_attr(r, "protocol", "HTTP/1.1");
    bht_attr(r, "client", "192.0.2.1");
    bht_attr(r, "client_port", "40000");
    bht_attr(r, "listener", "public");
    bht_attr(r, "route", "/**");
    bht_attr(r, "id", "1");
    bht_next(r, 200, "text/plain", "next\n");
    return r;
}

BHT_FN void bht_header(bh_req *r, const char *name, const char *value)
{
    bht__append(&r->blocks, &r->fields[BH_REQ], name, value, strlen(value));
}

BHT_FN void bht_body(bh_req *r, const void *p, size_t n)
{
    bht__add_chunk(&r->blocks, &r->chunks, p, n);
}

BHT_FN void bht_attr(bh_req *r, const char *key, const char *value)
{
    bht__remove(&r->attrs, key);
    if (value != NULL)
        bht__append(&r->blocks, &r->attrs, key, value, strlen(value));
}

BHT_FN void bht_next(bh_req *r, int32_t status, const char *ctype, const char *body)
{
    r->next_status = status;
    r->next_type = ctype ? bht__dup(&r->blocks, ctype, strlen(ctype)) : NULL;
    r->next_body = bht__dup(&r->blocks, body, strlen(body));
}

BHT_FN void bht_next_header(bh_req *r, const char *name, const char *value)
{
    bht__append(&r->blocks, &r->next_fields, name, value, strlen(value));
}

BHT_FN void bht_next_stream(bh_req *r, size_t piece)
{
    r->next_piece = piece;
}

BHT_FN void bht_next_error(bh_req *r, const bh_error *err)
{
    r->next_error = err;
}

BHT_FN void bht__host_reply(bh_req *r, int32_t status, const char *text)
{
    bht__h_reply(r, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* What follows a verdict of on_request or on_request_body. True: the request path goes on. */
BHT_FN bool bht__go_on(bh_req *r)
{
    if (r->verdict == BH_CONTINUE)
        return true;
    if (r->verdict == BH_DECLINE) {
        r->declined = true;
        return true;
    }
    if (r->verdict == BH_DONE && r->status != 0 && !(r->kind == BHT_STREAM && r->broken))
        return false;
    bht__host_reply(r, 500, "500 Internal Server Error\n");
    return false;
}

/* True: there is a verdict. False: it waits for its ticket. */
BHT_FN bool bht__settle(bh_req *r)
{
    if (r->verdict == BH_PAUSE && r->work != NULL) {
        int32_t (*work)(void *) = r->work;

        r->work = NULL;
        r->verdict = work(r->work_arg);
    }
    bht__jobs(r->t);
    if (r->verdict == BH_PAUSE && r->ticket != NULL) {
        pthread_mutex_lock(&bht__lock);
        r->verdict = r->ticket->verdict;
        pthread_mutex_unlock(&bht__lock);
        if (r->verdict == BH_PAUSE)
            return false;
    }
    r->ticket = NULL;
    return true;
}

BHT_FN void bht__show(bh_req *r, const char *p, size_t n, int32_t end)
{
    r->chunk_replaced = false;
    if (r->t->plugin->on_response_body(r->t->self, r, r->ctx, bh_sn(p, n), end) != BH_CONTINUE)
        fail_msg("on_response_body failed");
    if (r->chunk_replaced)
        bht__add(&r->body[BH_RESP], r->chunk.p, r->chunk.n);
    else
        bht__add(&r->body[BH_RESP], p, n);
}

/* The body through on_response_body: a reply whole, a file or a stream in pieces. */
BHT_FN void bht__response_body(bh_req *r)
{
    char *all;
    size_t n = r->body[BH_RESP].n;
    bool hook = r->t->plugin->on_response_body != NULL && !r->declined &&
                r->want[BH_RESP] != BH_BODY_NONE;

    while (r->kind == BHT_STREAM) {
        bh_rc (*writable)(void *, bh_req *, void *) = r->writable;

        while (r->stream != NULL) {
            struct bht__chunk *c = r->stream;

            r->stream = c->next;
            if (hook)
                bht__show(r, c->p, c->n, c->next == NULL && r->stream_over);
            else
                bht__add(&r->body[BH_RESP], c->p, c->n);
        }
        r->writable = NULL;
        if (writable == NULL || r->stream_over || r->gone || r->broken)
            return;
        if (writable(r->t->self, r, r->ctx) < 0) /* the connection would be cut */
            r->broken = true;
    }
    if (!hook)
        return;
    all = bht__dup(&r->blocks, r->body[BH_RESP].p, n);
    r->body[BH_RESP].n = 0;
    for (; r->kind == BHT_FILE && n > 4096; n -= 4096, all += 4096)
        bht__show(r, all, 4096, 0);
    bht__show(r, all, n, 1);
}

/* Deferred functions, on_log. False: a stream is kept open. */
BHT_FN bool bht__end(bh_req *r)
{
    const bh_plugin *p = r->t->plugin;

    bht__response_body(r);
    bht__jobs(r->t);
    r->is_open = r->keep_open && r->kind == BHT_STREAM && !r->stream_over && !r->gone && !r->broken;
    if (r->is_open)
        return false;
    r->phase = BHT__DEFER;
    while (r->deferred != NULL) {
        struct bht__deferred *d = r->deferred;

        r->deferred = d->next;
        d->fn(d->arg);
    }
    r->phase = BHT__LOG;
    if (p->on_log != NULL && !r->declined)
        p->on_log(r->t->self, r, r->ctx);
    r->phase = BHT__OVER;
    return true;
}

BHT_FN bool bht__finish(bh_req *r)
{
    const bh_plugin *p = r->t->plugin;

    if (p->on_response != NULL && !r->declined) {
        r->phase = BHT__RESPONSE;
        if (p->on_response(r->t->self, r, r->ctx) < 0)
            bht__host_reply(r, 500, "500 Internal Server Error\n");
    }
    r->phase = BHT__RESPONSE_BODY;
    return bht__end(r);
}

/* The plugins after this one: their answer, or their failure. */
BHT_FN void bht__rest_of_chain(bh_req *r)
{
    const bh_plugin *p = r->t->plugin;
    size_t n = strlen(r->next_body);

    r->passed = true;
    if (r->next_error != NULL) {
        r->phase = BHT__ERROR;
        if (r->next_error->kind == BH_E_LIMIT)
            bht__host_reply(r, 413, "413 Content Too Large\n");
        if (p->on_error == NULL || r->declined ||
            p->on_error(r->t->self, r, r->ctx, r->next_error) != BH_DONE)
            bht__host_reply(r, r->status ? r->status : 500, "error\n");
        return;
    }
    for (struct bht__field *f = r->next_fields; f != NULL; f = f->next)
        bht__append(&r->blocks, &r->fields[BH_RESP], f->name, f->value, strlen(f->value));
    if (r->next_piece == 0) {
        bht__h_reply(r, r->next_status, r->next_type, r->next_body, n);
        return;
    }
    bht__h_stream_begin(r, r->next_status, (int64_t)n);
    if (r->next_type != NULL)
        bht__h_hdr_set(r, BH_RESP, "Content-Type", r->next_type, strlen(r->next_type));
    for (size_t at = 0; at < n; at += r->next_piece) {
        size_t piece = n - at < r->next_piece ? n - at : r->next_piece;

        bht__h_stream_write(r, r->next_body + at, piece, at + piece == n);
    }
}

/* From the request's body on; again after each pause. */
BHT_FN bool bht__proceed(bh_req *r)
{
    const bh_plugin *p = r->t->plugin;

    for (;;) {
        struct bht__chunk *c = r->chunks;

        if (!bht__settle(r))
            return false;
        if (!bht__go_on(r))
            break;
        if (c == NULL) {
            bht__rest_of_chain(r);
            break;
        }
        r->phase = BHT__BODY;
        r->chunks = c->next;
        if (r->want[BH_REQ] == BH_BODY_BUFFER) {
            bht__add(&r->body[BH_REQ], c->p, c->n);
            if (r->body[BH_REQ].n > r->want_max[BH_REQ]) {
                bht__host_reply(r, 413, "413 Content Too Large\n");
                break;
            }
            if (c->next != NULL)
                continue;
        }
        if (p->on_request_body == NULL || r->declined || r->want[BH_REQ] == BH_BODY_NONE)
            continue;
        r->verdict = r->want[BH_REQ] == BH_BODY_BUFFER
                         ? p->on_request_body(r->t->self, r, r->ctx,
                                              bh_sn(r->body[BH_REQ].p, r->body[BH_REQ].n), 1)
                         : p->on_request_body(r->t->self, r, r->ctx, bh_sn(c->p, c->n),
                                              c->next == NULL);
    }
    return bht__finish(r);
}

BHT_FN void bht_keep_open(bh_req *r)
{
    r->keep_open = true;
}

BHT_FN bool bht_run(bh_req *r)
{
    const bh_plugin *p = r->t->plugin;

    if (r->phase != BHT__NEW)
        fail_msg("a request runs once");
    r->phase = BHT__REQUEST;
    if (p->on_request != NULL)
        r->verdict = p->on_request(r->t->self, r, r->ctx);
    return bht__proceed(r);
}

BHT_FN bool bht_wait(bh_req *r, int ms)
{
    if (r->is_open)
        return bht__end(r);
    for (; ms > 0; ms--) {
        int32_t verdict;

        bht__jobs(r->t);
        pthread_mutex_lock(&bht__lock);
        verdict = r->ticket ? r->ticket->verdict : r->verdict;
        pthread_mutex_unlock(&bht__lock);
        if (verdict != BH_PAUSE)
            return bht__proceed(r);
        usleep(1000);
    }
    return false;
}

BHT_FN void bht_cancel(bh_req *r)
{
    pthread_mutex_lock(&bht__lock);
    if (r->ticket != NULL)
        r->ticket->dead = true;
    pthread_mutex_unlock(&bht__lock);
    if (r->is_open) {
        r->gone = true;
        bht__end(r);
        return;
    }
    r->verdict = BH_FAIL;
    r->chunks = NULL;
    bht__host_reply(r, 504, "504 Gateway Timeout\n");
    bht__finish(r);
}

BHT_FN int32_t bht_status(const bh_req *r)
{
    return r->status;
}

BHT_FN bh_rc bht_verdict(const bh_req *r)
{
    return r->verdict;
}

BHT_FN bool bht_passed(const bh_req *r)
{
    return r->passed;
}

BHT_FN const char *bht_path(const bh_req *r)
{
    return r->path;
}

BHT_FN const char *bht__joined(bh_req *r, int32_t side, const char *name)
{
    const char *all = NULL;

    for (struct bht__field *f = r->fields[side]; f != NULL; f = f->next) {
        if (strcasecmp(f->name, name) != 0)
            continue;
        if (all == NULL) {
            all = f->value;
        } else {
            size_t size = strlen(all) + strlen(f->value) + 3;
            char *both = (char *)bht__alloc(&r->blocks, size, 16);

            snprintf(both, size, "%s, %s", all, f->value);
            all = both;
        }
    }
    return all;
}

BHT_FN const char *bht_resp_header(bh_req *r, const char *name)
{
    return bht__joined(r, BH_RESP, name);
}

BHT_FN const char *bht_req_header(bh_req *r, const char *name)
{
    return bht__joined(r, BH_REQ, name);
}

BHT_FN const char *bht_resp_body(const bh_req *r)
{
    return r->body[BH_RESP].p ? r->body[BH_RESP].p : "";
}

BHT_FN size_t bht_resp_len(const bh_req *r)
{
    return r->body[BH_RESP].n;
}

BHT_FN int bht_kind(const bh_req *r)
{
    return r->kind;
}

BHT_FN const char *bht_var(bh_req *r, const char *key)
{
    return bht__find(r->vars, key);
}

#endif
