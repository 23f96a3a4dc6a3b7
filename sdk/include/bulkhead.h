/*
 * bulkhead.h - the plugin interface of Bulkhead, ABI version 1.1.
 *
 * This is the only header a plugin includes. It compiles as C11 and as C++20.
 *
 *     #include <bulkhead.h>
 *     static bh_rc hello(void *self, bh_req *req, void *ctx)
 *     {
 *         (void)self; (void)ctx;
 *         return bh_reply(req, 200, "text/plain", "hello\n");
 *     }
 *     BH_PLUGIN("hello", "1.0.0", .on_request = hello)
 *
 *     cc -shared -fPIC $(pkg-config --cflags bulkhead) hello.c -o hello.so
 *
 * SHAPE      A plugin object exports one function, bh_plugin_v1(): a table of host functions goes
 *            in, a descriptor comes out. Beside it stand an ELF note with the ABI version and the
 *            descriptor itself as data (bh_plugin_v1_descriptor), so that the host, `bulkhead
 *            check` and `bulkhead inspect` can read both without running any of the object's code.
 *
 * VERSIONS   bh_host and bh_plugin are append-only inside a major version: a released member never
 *            changes type, order or meaning; a changed operation is a new member with the suffix
 *            2. A host of 1.N loads any plugin whose BH_TARGET_MINOR is at most N. A plugin built
 *            against 1.N runs on an older host if it defines BH_TARGET_MINOR to that host's minor;
 *            the wrappers below then answer BH_ENOSYS (or an absent bh_str) for what the host does
 *            not have. No C enums, bit-fields, varargs, by-value structs over 16 bytes, FILE *,
 *            errno or allocator ownership cross the boundary.
 *
 * THREADS    All hooks of one instance run on one thread, the worker's event loop: a plugin needs
 *            no locks for its own state. Each worker process has an instance of its own. Do not
 *            block in a hook: use bh_offload(), or bh_ticket() and BH_PAUSE. Host functions may be
 *            called from that thread only, but for those marked [any thread].
 *
 * CRASHES    Each hook runs inside a recovery boundary. A fault in it (SIGSEGV, SIGBUS, SIGFPE,
 *            SIGILL, SIGTRAP, abort(), a failed assert(), stack overflow, an uncaught C++
 *            exception, exit(), pthread_exit()) ends that one call: the request's changes made by
 *            that call are undone, on_error runs up the chain, and a fresh instance is opened.
 *            Stack frames between the fault and the hook are dropped, not unwound: no destructors
 *            run. What must be released then is registered with bh_defer().
 *
 * MEMORY     Strings that the host gives live as long as the request (or, for instance functions,
 *            the instance), unless said otherwise; they are NUL-terminated at p[n]. What a plugin
 *            passes in is copied before the call returns, but for the functions named *_ref.
 *
 * LOG        1.0  2026-11-23  first release.
 *            1.1  timer(), timer_del() work; stream_on_writable(); BH_EGONE;
 *                              save() and restore() are called. kv_*() and bucket() work;
 *                              kv_async(), kv_cancel(); http(), http_cancel(); metric() and its kin, span_begin() and its;
 *                              event().
 */
#ifndef BULKHEAD_H
#define BULKHEAD_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BH_ABI_MAJOR 1
#define BH_ABI_MINOR 1
/* The oldest host minor this plugin accepts. Define it before including to run on older hosts. */
#ifndef BH_TARGET_MINOR
#define BH_TARGET_MINOR BH_ABI_MINOR
#endif

/* ---- basic types ------------------------------------------------------------------------- */

/* A counted string. p == NULL: absent (not the same as empty). Host strings have p[n] == 0. */
typedef struct bh_str {
    const char *p;
    size_t n;
} bh_str;

typedef struct bh_inst bh_inst;     /* one configured instance of a plugin in one worker */
typedef struct bh_req bh_req;       /* one request; valid until the on_log hooks have run */
typedef struct bh_ticket bh_ticket; /* a promise to resume a paused request */
typedef struct bh_errs bh_errs;     /* collects what validate() finds wrong */

typedef int32_t bh_rc; /* a hook verdict or a host function's result */

/* Hook verdicts. Any other value counts as BH_FAIL. */
#define BH_CONTINUE 0 /* go on to the next plugin */
#define BH_DONE     1 /* a reply was set: stop the request path, start the response path */
#define BH_PAUSE    2 /* I hold a ticket or have offloaded work: hold the request until it resumes */
#define BH_DECLINE  4    /* go on, and skip my later hooks for this request (on_log too) */
#define BH_FAIL     (-1) /* I could not do my work: apply the configured on_error policy */

/* Results of host functions. */
#define BH_OK     0
#define BH_ENOENT (-2)  /* no such header, variable, key, ticket */
#define BH_EINVAL (-3)  /* an argument is out of range or malformed */
#define BH_ENOMEM (-4)  /* out of memory */
#define BH_ELIMIT (-5)  /* a configured or built-in limit would be passed */
#define BH_EPHASE (-6)  /* not possible in this phase of the request */
#define BH_EAGAIN (-7)  /* full just now, try again later */
#define BH_ECAS   (-8)  /* compare-and-set lost */
#define BH_ENOSYS (-9)  /* this host does not offer it */
#define BH_EPERM  (-10) /* the configuration does not grant it */
#define BH_ETIME  (-11) /* the deadline has passed */
#define BH_EGONE  (-12) /* the client has left */

/* The two sides of a message. */
#define BH_REQ  0
#define BH_RESP 1

/* Log levels; smaller is more severe. */
#define BH_LOG_ERROR 1
#define BH_LOG_WARN  2
#define BH_LOG_INFO  3
#define BH_LOG_DEBUG 4

/* Clocks of now_ns(). The LOOP clocks are read once per wake-up of the event loop and cost nothing
 * to ask; they lag real time by at most the hooks that ran since. */
#define BH_CLOCK_REAL      0 /* since 1970-01-01 UTC */
#define BH_CLOCK_MONO      1 /* monotonic, arbitrary origin */
#define BH_CLOCK_LOOP      2 /* monotonic, as of this wake-up */
#define BH_CLOCK_LOOP_REAL 3 /* since 1970-01-01 UTC, as of this wake-up */

/* Spans of a trace that need no span_begin(): that of the call that runs, and that of the request. */
#define BH_SPAN_CALL    UINT64_MAX
#define BH_SPAN_REQUEST (UINT64_MAX - 1)

/* How a plugin wants to see a body: body_want(). */
#define BH_BODY_NONE   0 /* not at all */
#define BH_BODY_STREAM 1 /* chunk by chunk, as it comes (the default where the hook exists) */
#define BH_BODY_BUFFER 2 /* once, whole, up to a limit */

/* Types of metrics: metric(). Workers count apart; a gauge is over all of them what its type says. */
#define BH_M_COUNTER   1
#define BH_M_GAUGE     2 /* the sum */
#define BH_M_HISTOGRAM 3
#define BH_M_GAUGE_MAX 4 /* the largest value */
#define BH_M_GAUGE_MIN 5 /* the smallest */
#define BH_M_GAUGE_AVG 6 /* the mean of the workers that have set it */

/* kv_set(): only when there is nothing under that key. */
#define BH_KV_NEW UINT64_MAX
/* bucket(): results below this are no waiting times: BH_BUCKET_FAILED + BH_E*. */
#define BH_BUCKET_FAILED (-((int64_t)1 << 62))

/* kv_async(): what to do. */
#define BH_KV_GET  1
#define BH_KV_SET  2
#define BH_KV_DEL  3
#define BH_KV_ADD  4
#define BH_KV_TAKE 5 /* from a token bucket */

typedef struct bh_kv_op {
    uint32_t struct_size;
    int32_t op; /* BH_KV_* */
    bh_str key;
    bh_str value;              /* SET */
    uint64_t cas;              /* SET: as kv_set() has it */
    int64_t delta;             /* ADD */
    double per_s, burst, cost; /* TAKE: as bucket() has them */
    double most;               /* TAKE: as many as there are, from cost to this; 0: just cost */
    uint32_t ttl_ms;           /* SET, ADD */
    uint32_t reserved;         /* 0 */
} bh_kv_op;

typedef struct bh_kv_result {
    uint32_t struct_size;
    bh_rc
        rc; /* as of the call that answers at once. BH_EAGAIN: the store cannot be had, or its answer
                       * did not come in time; then it is not known whether it was done */
    bh_str value;   /* GET; valid in the call */
    uint64_t cas;   /* GET */
    int64_t number; /* ADD: the sum. TAKE: as bucket() answers */
    double taken;   /* TAKE: tokens; 0: there were not enough */
    int32_t
        is_local; /* 1: the store cannot be had, and this machine's own has answered (when_down: local) */
    int32_t reserved;
} bh_kv_result;

/* ---- outbound HTTP (BH_ENOSYS in 1.0 hosts; there since 1.1) ----------------------------- */

typedef struct bh_http_resp {
    uint32_t struct_size;
    int32_t status; /* 0 when there was no answer: see err */
    bh_str body;
    const bh_str *hdr_kv; /* 2 * nhdr strings: name, value, name, value */
    size_t nhdr;
    int32_t
        err; /* BH_OK; BH_ETIME; BH_ELIMIT: larger than max_body, or a header of 64 KiB; BH_EAGAIN: it
                  * cannot be reached, or broke off; BH_EPERM: the address that the name led to is one
                  * where this plugin may not go; BH_ENOSYS: the server has no libcurl */
    uint32_t elapsed_ms;
    bh_str why; /* since 1.1: err in words, for a log; absent when that is BH_OK */
} bh_http_resp;

typedef struct bh_http_req {
    uint32_t struct_size;
    uint32_t timeout_ms; /* for all of it; 0: 10 s; an hour at most */
    bh_str upstream;     /* "http://HOST[:PORT]", "https://HOST[:PORT]" or "unix:/PATH" */
    bh_str method;       /* absent: GET */
    bh_str path;         /* "/...", with the query, encoded: it is sent as it is */
    bh_str body;
    const bh_str *hdr_kv; /* 2 * nhdr strings */
    size_t nhdr;          /* 100 at most */
    size_t max_body;      /* bytes; longer answers fail with BH_ELIMIT; 0: 1 MiB; 64 MiB at most */
} bh_http_req;

/* ---- the host's functions ---------------------------------------------------------------- */

/*
 * Prefer the bh_*() wrappers below: they work on older hosts too.
 * Every function checks its arguments; a bad pointer counts as the plugin's own crash.
 */
typedef struct bh_host {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;

    /* -- core -- */

    /* Write one line to the error log, tagged with the instance and, in hooks of a request, with the
     * request's id and its trace time. Control characters are escaped. At most 4,000 bytes are kept.
     * [any thread] */
    void (*log)(bh_inst *inst, int32_t level, const char *msg, size_t n);
    /* 1 when a line of this level would be written. [any thread] */
    int32_t (*log_enabled)(bh_inst *inst, int32_t level);
    /* Nanoseconds; BH_CLOCK_*. -1 for an unknown clock. REAL and MONO [any thread]. */
    int64_t (*now_ns)(int32_t clock);
    /* Fill buf with n bytes from the kernel's generator (getrandom(2)). [any thread] */
    bh_rc (*random)(void *buf, size_t n);
    /* A fact about the instance: "name", "module", "worker" (index), "version" (of the host),
     * "config_dir" (absolute; relative paths in options are meant from there). */
    bh_str (*info)(bh_inst *inst, const char *key);
    /* The value of a named option of type BH_T_SECRET. */
    bh_rc (*secret)(bh_inst *inst, const char *name, bh_str *out);
    /* The instance's `config:` mapping as JSON, secrets included: do not log it. */
    bh_rc (*cfg_raw)(bh_inst *inst, bh_str *json);
    /* In validate(): report one fault. path: the option, e.g. "rules". */
    void (*cfg_error)(bh_errs *errs, const char *path, const char *msg);

    /* -- reading a request -- */

    bh_inst *(*inst)(bh_req *req); /* the instance whose hook is running */
    /* A fact about the request, absent when unknown:
     *   method scheme host path raw_path query protocol     (path: decoded once, normalised;
     *                                                        raw_path: as sent, query included)
     *   client client_port listener route id                (client: textual address, or "unix";
     *                                                        as a trusted proxy names it, if one does)
     *   peer peer_port                                      (the other end of the socket)
     *   status bytes                                        (of the answer; on_log: bytes sent)
     *   crash_id                                            (record of a crash in this request)
     *   trace_id span_id                                    (of a request that is traced; in hex)
     *   aborted                                             (on_log: "1" when the answer was not
     *                                                        sent whole. If there was none, status
     *                                                        is 499: the client has left; 503: the
     *                                                        server stopped)
     *   tls.version tls.cipher tls.sni tls.resumed          (TLSv1.3; as IANA names it; the name that
     *                                                        the client asked for; yes or no)
     *   tls.client.verified                                 (yes: it has shown a valid certificate)
     *   tls.client.subject tls.client.fingerprint           (of that: RFC 4514; SHA-256 in hex) */
    bh_str (*attr)(bh_req *req, const char *key);
    /* The nth (from 0) header of that name; names compare without case (RFC 9110 5.1). */
    bh_str (*hdr_get)(bh_req *req, int32_t side, const char *name, size_t nth);
    /* The ith header, in order of arrival; BH_ENOENT past the last. */
    bh_rc (*hdr_at)(bh_req *req, int32_t side, size_t i, bh_str *name, bh_str *value);
    /* The nth query argument of that name, percent-decoded ('+' is a space). */
    bh_str (*query)(bh_req *req, const char *name, size_t nth);
    /* A cookie of the request (RFC 6265 5.4). */
    bh_str (*cookie)(bh_req *req, const char *name);
    /* The whole body. REQ: after buffering (body_want). RESP: of a reply() or reply_ref().
     * BH_EPHASE when it is not buffered. */
    bh_rc (*body)(bh_req *req, int32_t side, bh_str *out);

    /* -- changing a message -- */

    /* Header changes. REQ: seen by the plugins after this one. RESP: until the head is sent.
     * set replaces all of that name, add appends, del removes all.
     * BH_EINVAL: not a token, or a control character in the value (RFC 9110 5.5), or a field that
     * the host owns (Content-Length, Transfer-Encoding, Connection, Date, Upgrade, Trailer). */
    bh_rc (*hdr_set)(bh_req *req, int32_t side, const char *name, const char *v, size_t n);
    bh_rc (*hdr_add)(bh_req *req, int32_t side, const char *name, const char *v, size_t n);
    bh_rc (*hdr_del)(bh_req *req, int32_t side, const char *name);
    /* Replace the decoded path that later plugins see ("path"); must begin with '/'. The route
     * does not change. on_request only. */
    bh_rc (*set_path)(bh_req *req, const char *path, size_t n);
    /* REQ: replace the buffered request body, for later plugins. RESP: in on_response, replace the
     * body of the reply; in on_response_body, replace the chunk the hook was given (n may be 0). */
    bh_rc (*body_set)(bh_req *req, int32_t side, const void *p, size_t n);
    /* How this plugin wants to see the body of this request: BH_BODY_*. REQ: in on_request; RESP:
     * in on_request or on_response. max: bytes for BH_BODY_BUFFER; 0 or more than limits.body means
     * limits.body. A longer request body is answered 413; a longer response fails the request. */
    bh_rc (*body_want)(bh_req *req, int32_t side, int32_t mode, size_t max);

    /* -- replying (then return BH_DONE) -- */

    /* Set status, Content-Type (NULL: none) and body. Replaces an earlier reply; keeps the response
     * headers set so far. on_request, on_request_body, on_response, on_error. status: 200-599. */
    bh_rc (*reply)(bh_req *req, int32_t status, const char *ctype, const void *p, size_t n);
    int32_t (*status)(bh_req *req); /* of the reply; 0 while there is none */
    bh_rc (*status_set)(bh_req *req, int32_t status);
    /* Begin a streamed reply. len: bytes that will follow, -1 when unknown (HTTP/1.1: chunked,
     * HTTP/1.0: ends with the connection). */
    bh_rc (*stream_begin)(bh_req *req, int32_t status, int64_t len);
    /* Append to it; end != 0 closes it. From any hook, posted job or timer until the end of the
     * request, which a deferred function tells. One write of any size is taken when nothing waits.
     * BH_EAGAIN: with this more than 1 MiB would wait to be sent, nothing was taken; try again later,
     *   see stream_on_writable().
     * BH_EGONE: the client has left, the request is about to end.
     * BH_ELIMIT: more than was announced, or the end before that: nothing was taken, the plugin is
     *   charged with a failure, and the client gets 500 or, if the head is out, a cut connection.
     * BH_EPHASE: the stream has ended, or the request. */
    bh_rc (*stream_write)(bh_req *req, const void *p, size_t n, int32_t end);
    /* Reply 200 with a regular file (sendfile(2)). path: absolute or from config_dir. */
    bh_rc (*send_file)(bh_req *req, const char *path, const char *ctype);

    /* -- memory and variables of a request -- */

    /* Zeroed memory that lives until the request ends. align: a power of two, 0 means 16.
     * NULL when out of memory or over 16 MiB for this request. */
    void *(*alloc)(bh_req *req, size_t n, size_t align);
    /* Run fn(arg) at the end of the request: last registered first, whatever happened to the
     * request, each inside a boundary of its own, before the on_log hooks. */
    bh_rc (*defer)(bh_req *req, void (*fn)(void *), void *arg);
    /* Named values that plugins of one request share. Names are global: prefix them. */
    bh_rc (*var_set)(bh_req *req, const char *k, const void *v, size_t n);
    bh_str (*var_get)(bh_req *req, const char *k);

    /* -- pausing -- */

    /* A ticket for this request; then return BH_PAUSE. timeout_ms 0: 30 s. When the time is over
     * the request fails with BH_E_DEADLINE and the ticket is dead. NULL: phase or memory.
     * Tickets can be taken in on_request and on_request_body; one at a time. */
    bh_ticket *(*ticket)(bh_req *req, uint32_t timeout_ms);
    /* Resume, as if the paused hook had returned this verdict now (not BH_PAUSE). A ticket resumes
     * once: later calls, and calls after its time is over, answer BH_ENOENT. [any thread] */
    bh_rc (*resume)(bh_ticket *t, int32_t verdict);
    /* Set a reply and resume with BH_DONE. [any thread] */
    bh_rc (*resume_reply)(bh_ticket *t, int32_t status, const char *ctype, const void *p, size_t n);
    /* 1 when the request is gone (client left, time over, resumed). [any thread] */
    int32_t (*cancelled)(bh_ticket *t);
    /* Run work(arg) on the worker's offload pool and resume with the verdict it returns; return
     * BH_PAUSE after this. work must not touch the request. Its crash is caught, charged to the
     * plugin and fails the request. It may outlive its request, whose client has left; a worker that
     * ends waits for it, up to limits.timeouts.drain, before close(), and if it takes longer does
     * without close(). BH_EAGAIN: 1,024 jobs are waiting. */
    bh_rc (*offload)(bh_req *req, int32_t (*work)(void *), void *arg);
    /* Run fn(self, arg) on the event loop, soon. BH_EAGAIN: 4,096 are waiting. [any thread] */
    bh_rc (*post)(bh_inst *inst, void (*fn)(void *self, void *arg), void *arg);

    /* -- outbound HTTP and timers: NULL (BH_ENOSYS) in 1.0 hosts. There since 1.1 -- */

    /* A request to another server, HTTP/1.1, on the event loop: done(self, t, response, arg) is called when
     * the answer is there, or has failed, once, never in this call. What *rq points to is copied; *rs and
     * all in it are valid in done(). Connections are kept and used again. Certificates are checked with
     * whom the system trusts. Redirections are not followed, and proxies of the environment not used.
     * t (may be NULL) is only passed on: to hold a request meanwhile, take a ticket, return BH_PAUSE, and
     * resume in done(). id (may be NULL): for http_cancel().
     * done() ends with the instance whose code asked, as timers do; a crash in it is charged as one in a
     * posted call, and what a call that crashes has asked for is cancelled. arg must live until then:
     * where it belongs to a request, cancel in a deferred function.
     * BH_EINVAL: an address, a method or a header that is none, or one that is not the plugin's
     * (Content-Length, Transfer-Encoding, Connection, Upgrade, Expect, TE). BH_EPERM: the operator does not
     * let this plugin go there (`plugins.NAME.http.allow`); link-local addresses and metadata services of
     * clouds are refused unless that names them. BH_EAGAIN: so many are under
     * way as `plugins.NAME.outbound` says (64). BH_EPHASE: on another thread, in close(). BH_ENOSYS: in the
     * trial before the start: ask in start(), not in open(). */
    bh_rc (*http)(bh_inst *inst, bh_ticket *t, const bh_http_req *rq,
                  void (*done)(void *self, bh_ticket *t, const bh_http_resp *rs, void *arg),
                  void *arg, uint64_t *id);
    /* done() will not be called; the connection is cut. BH_ENOENT: there is none, or no longer. */
    bh_rc (*http_cancel)(bh_inst *inst, uint64_t id);
    /* Call fn(self, arg) on the event loop in first_ms milliseconds, then every every_ms; every_ms 0:
     * once. id (may be NULL): for timer_del(). From any hook, posted job or timer, open() and start()
     * included. What the loop was too late for is left out, not made up for.
     * Timers belong to the instance whose code set them: they end before its close(), and a crash in
     * one ends all of them, and cuts the streams that the instance was writing; a fresh instance sets
     * its own. Those that a crashed call had set are undone. A worker that stands by has run open() but
     * not start(). arg must live as long as the timer: where it belongs to a request, cancel the timer
     * in a deferred function.
     * BH_ELIMIT: 16,384 of one instance. BH_EPHASE: on another thread, in validate() or close(). */
    bh_rc (*timer)(bh_inst *inst, uint32_t first_ms, uint32_t every_ms,
                   void (*fn)(void *self, void *arg), void *arg, uint64_t *id);
    /* It will not be called any more; also in its own function. BH_ENOENT: there is no such timer, or
     * no longer. The id of one that is called once is dead when its function runs. */
    bh_rc (*timer_del)(bh_inst *inst, uint64_t id);

    /* -- state shared by workers: NULL (BH_ENOSYS) in 1.0 hosts. There since 1.1 -- */

    /*
     * The store: keys and values that all workers of the server see, and that outlive crashes and
     * reloads. Each instance has a namespace, of its own name unless `store.namespace` in its config
     * says another; instances with the same one share. A key has 1 to 250 bytes, a value up to 63,000;
     * both are bytes of any kind. Time-outs are in ms, 0: for ever; what is over is as good as never set.
     * A call takes some 0.1 us with `store.backend: memory`, a change 25 us with lmdb. It never waits for a network:
     * with redis these answer BH_ENOSYS, and kv_async() is the way. That works with every backend.
     * All [any thread]. In validate() and open() of the trial before the start, and under `bulkhead
     * check`, there is an empty store that nobody else sees. A value is whole or not there, whatever
     * happens to a worker that is writing it.
     * Besides those named: BH_EINVAL: key, length or number out of range. BH_EAGAIN: the store cannot be
     * reached just now; the log says why.
     */

    /* A value. *n: the room at buf, and then the value's length; also with BH_ELIMIT: it does not fit,
     * and nothing was written. *cas (may be NULL) is for kv_set(). A counter is shown in decimal.
     * BH_ENOENT: there is none. BH_EINVAL: it is a bucket. */
    bh_rc (*kv_get)(bh_inst *inst, bh_str key, void *buf, size_t *n, uint64_t *cas);
    /* cas 0: whatever is there is replaced. BH_KV_NEW: only when there is nothing. Else: only when
     * nothing has been set since kv_get() gave that cas; BH_ECAS if something was.
     * BH_ELIMIT: the namespace's quota (`store.quota`), or the store, is full, and nothing was over that
     * could be taken out. Nothing is ever dropped to make room. */
    bh_rc (*kv_set)(bh_inst *inst, bh_str key, const void *v, size_t n, uint32_t ttl_ms,
                    uint64_t cas);
    bh_rc (*kv_del)(bh_inst *inst, bh_str key); /* BH_ENOENT: there was none */
    /* Add to a counter, and its new value to *out (may be NULL). One that is not there begins at 0, and
     * lives for ttl_ms; one that is keeps its time: so a key per window counts that window.
     * BH_EINVAL: what is there is no decimal number, or the sum does not fit 64 bits. BH_ELIMIT: as
     * above. */
    bh_rc (*kv_add)(bh_inst *inst, bh_str key, int64_t delta, uint32_t ttl_ms, int64_t *out);
    /* A token bucket: holds at most `burst`, gets per_s new ones a second, and begins full. Takes `cost`,
     * or nothing (cost 0: only looks). Whole tokens left; or, negative, ms until there are enough,
     * negated; or BH_BUCKET_FAILED plus a result (see bh_bucket_rc()). A bucket that is full again takes
     * no room. All who use a key should give it the same numbers. */
    int64_t (*bucket)(bh_inst *inst, bh_str key, double per_s, double burst, double cost);

    /* -- metrics and tracing: NULL (BH_ENOSYS) in 1.0 hosts. Metrics are there since 1.1 -- */

    /* Defines a metric, which `/metrics` then shows with the label plugin="NAME" and, summed up over
     * the workers, one line per set of label values. type: BH_M_*. name: letters, digits, underscores,
     * with the unit at its end (orders_seconds), at most 63 bytes; a counter's may end in _total or
     * not. help: one line, or NULL. labels: names, ended by NULL, at most 4; or NULL. All of it is
     * copied. *id: for the functions below; 0 when it fails, and those then do nothing.
     * The same again gives the same id: call it in open(). Counters and histograms go on over crashes,
     * reloads and new workers; gauges belong to one worker, and end with it.
     * BH_EINVAL: a name or a label that cannot be, or another plugin has that name with another type.
     * BH_ELIMIT: 64 metrics of one plugin. The log says more. [any thread] */
    bh_rc (*metric)(bh_inst *inst, int32_t type, const char *name, const char *help,
                    const char *const *labels, uint32_t *id);
    /* lv: one value per label, in their order, each at most 63 bytes; NULL: all are empty, or there
     * are none. Values should be few: a plugin has 1,024 sets of them, for all its metrics. Beyond that
     * counters and histograms go on under the value "_overflow", gauges are dropped; both are counted,
     * and logged once. [any thread] */
    /* Counters: v >= 0. Gauges. */
    void (*metric_add)(bh_inst *inst, uint32_t id, const bh_str *lv, double v);
    /* Gauges. */
    void (*metric_set)(bh_inst *inst, uint32_t id, const bh_str *lv, double v);
    /* Histograms. Four buckets per factor of two, from 2^-20 to 2^44. */
    void (*metric_observe)(bh_inst *inst, uint32_t id, const bh_str *lv, double v);
    /* Begin a span of the plugin's own in the request's trace, within the call that runs or the span
     * that it began last; the name is copied, at most 255 bytes. 0: this request is not recorded
     * (tracing is off, or it was not drawn), or has 128 spans: all functions take that, and do nothing.
     * A span that is not ended ends with the request, or with the call that began it when it crashes.
     * Since 1.1. */
    uint64_t (*span_begin)(bh_req *req, const char *name);
    void (*span_end)(bh_req *req, uint64_t span);

    /* -- more replies, log files -- */

    /* As reply(), without copying: p must stay unchanged until the request ends (static data, the
     * plugin's own cache; pair it with bh_defer() to drop a reference). */
    bh_rc (*reply_ref)(bh_req *req, int32_t status, const char *ctype, const void *p, size_t n);
    /* Reply with len bytes of an open regular file, from offset (sendfile(2)). The host owns fd
     * from the call on, and closes it also when the call fails. */
    bh_rc (*send_fd)(bh_req *req, int32_t status, const char *ctype, int32_t fd, uint64_t offset,
                     uint64_t len);
    /* Open a log file for appending: "-" is stdout, else a path, from config_dir. Instances of all
     * workers that name the same path share it. Lines go through shared memory: those of a worker
     * that died are not lost. BH_ELIMIT: 32 files. In open() or start(). */
    bh_rc (*sink_open)(bh_inst *inst, const char *path, uint32_t *sink);
    /* Append one line (the newline is the host's; control characters but tab are escaped). At most
     * 8,000 bytes. BH_EAGAIN: the buffer is full; the line is counted as dropped. */
    bh_rc (*sink_write)(bh_inst *inst, uint32_t sink, const char *line, size_t n);

    /* -- since 1.1 -- */

    /* Call fn(self, req, ctx) once, when at most half a MiB of the streamed reply waits to be sent
     * (which may be now: then soon, on the loop). It writes more and, to be called again, asks again;
     * so a reply of any size is made as fast as the client takes it. fn returns BH_CONTINUE; after
     * BH_FAIL, or a crash, the connection is cut. It is not called any more once the stream was closed
     * or the request has ended; a deferred function tells that.
     * BH_EPHASE: there is no streamed reply. BH_EINVAL: asked again by fn without having written. */
    bh_rc (*stream_on_writable)(bh_req *req, bh_rc (*fn)(void *self, bh_req *req, void *ctx));

    /* An attribute of a span that goes on: of span_begin(), or BH_SPAN_CALL, BH_SPAN_REQUEST. Key and
     * value are copied, at most 255 and 1,024 bytes; the last value of a key counts. Secrets are not
     * recognised: leave them out. Keys of the host's own (http.*, bulkhead.*) are overwritten.
     * BH_ENOENT: there is no such span, or the request is not recorded. BH_ELIMIT: 40 attributes. */
    bh_rc (*span_text)(bh_req *req, uint64_t span, const char *key, const char *v, size_t n);
    /* The same; whole numbers are told as integers. */
    bh_rc (*span_number)(bh_req *req, uint64_t span, const char *key, double v);
    /* Something happened in it just now. BH_ELIMIT: 64 events. */
    bh_rc (*span_event)(bh_req *req, uint64_t span, const char *name);

    /* The store, whatever its backend: asks, and calls done(self, result, arg) on the event loop when the
     * answer is there, never in this call. What *op points to is copied. id (may be NULL): for
     * kv_cancel(). To hold a request meanwhile, take a ticket, return BH_PAUSE, and resume in done().
     * done() ends with the instance whose code asked, as timers do; a crash in it is charged as one in a
     * posted call, and what a call that crashes has asked for is not answered. arg must live until then:
     * where it belongs to a request, cancel in a deferred function.
     * BH_EAGAIN: the store cannot be had just now (when_down: error), or 10,000 wait: done() is not
     * called. BH_EINVAL: as of the call that answers at once. BH_ELIMIT: 16,384 of one instance wait.
     * BH_EPHASE: on another thread, in validate() or close(). */
    bh_rc (*kv_async)(bh_inst *inst, const bh_kv_op *op,
                      void (*done)(void *self, const bh_kv_result *result, void *arg), void *arg,
                      uint64_t *id);
    /* done() will not be called; what was asked may still be done. BH_ENOENT: there is no such question,
     * or no longer. */
    bh_rc (*kv_cancel)(bh_inst *inst, uint64_t id);

    /* Something has happened that operators should see: a line of `bulkhead events`, of the admin
     * interface's stream and of the dashboard. name: 1 to 31 of a-z, 0-9 and '_', such as "key_expired";
     * text: one line for people, of which 207 bytes are kept, and what is not printable ASCII is shown as
     * '?'. Both are copied. It appears within a second or two, and is kept among the last 512 events of
     * the server, not on disk: what must not be lost belongs into a log.
     * An instance has ten at a time in each worker, and one more every six seconds. BH_EAGAIN: it is left
     * out, and the next one says how many were. Say "so many times since", rather than each time.
     * BH_EINVAL: name. BH_EPHASE: on another thread than the loop's (post there). In the trial before the
     * start, and under `bulkhead check`, it does nothing. */
    bh_rc (*event)(bh_inst *inst, const char *name, const char *text, size_t n);
} bh_host;

/* ---- declared options -------------------------------------------------------------------- */

/*
 * A plugin declares its options; the host parses the YAML, checks types and bounds, applies
 * defaults, names the line of every mistake, and writes the values into the plugin's own config
 * struct (cfg_size bytes, zeroed first), which open() gets. The struct and what it points to live
 * as long as the instance.
 */
#define BH_T_BOOL        1  /* bool, int, ... : 0 or 1 */
#define BH_T_INT         2  /* any integer type; min and max are checked */
#define BH_T_DOUBLE      3  /* double or float */
#define BH_T_STR         4  /* const char * or bh_str; absent without a default: NULL */
#define BH_T_DURATION_MS 5  /* any integer type, in ms; YAML: 50ms 10s 5m 1h */
#define BH_T_SIZE        6  /* any integer type, in bytes; YAML: 512 8KiB 1MiB 1GiB 10kB */
#define BH_T_ENUM        7  /* any integer type: the index in choices "a|b|c" */
#define BH_T_STRLIST     8  /* bh_strlist; YAML: a list, or one string */
#define BH_T_SECRET      9  /* as BH_T_STR; never printed, redacted in crash records */
#define BH_T_CIDRLIST    10 /* bh_cidrlist; YAML: a list of 10.0.0.0/8, ::1, ... */
#define BH_T_MAP         11 /* bh_map; YAML: a mapping of strings, in order */

#define BH_O_REQUIRED    1u /* must be given */
#define BH_O_RELOAD_ONLY 2u /* a change needs a new instance */
#define BH_O_DEPRECATED  4u /* still works; the host warns */

typedef struct bh_strlist {
    const bh_str *v;
    size_t n;
} bh_strlist;

typedef struct bh_cidr {
    uint8_t addr[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint8_t bits;     /* 0-128, counted on the 16-byte form */
} bh_cidr;

typedef struct bh_cidrlist {
    const bh_cidr *v;
    size_t n;
} bh_cidrlist;

typedef struct bh_pair {
    bh_str k, v;
} bh_pair;

typedef struct bh_map {
    const bh_pair *v;
    size_t n;
} bh_map;

typedef struct bh_opt {
    const char *name;
    int32_t type;        /* BH_T_* */
    uint32_t flags;      /* BH_O_* */
    size_t off;          /* of the member in the config struct */
    const char *def;     /* as it would stand in YAML; NULL: none (0, NULL, empty) */
    double min, max;     /* both 0: unbounded */
    const char *choices; /* BH_T_ENUM: "a|b|c" */
    const char *help;    /* one line; shown by `bulkhead inspect` and `bulkhead schema` */
    size_t size;         /* of the member in the config struct */
} bh_opt;

#define BH_OPT(S, F, TYPE, FLAGS, DEF, MIN, MAX, CHOICES, HELP)                            \
    {                                                                                      \
#F, TYPE, FLAGS, offsetof(S, F), DEF, MIN, MAX, CHOICES, HELP, sizeof(((S *)0)->F) \
    }
#define BH_BOOL(S, F, DEF, HELP)             BH_OPT(S, F, BH_T_BOOL, 0, DEF, 0, 0, NULL, HELP)
#define BH_INT(S, F, DEF, MIN, MAX, HELP)    BH_OPT(S, F, BH_T_INT, 0, DEF, MIN, MAX, NULL, HELP)
#define BH_DOUBLE(S, F, DEF, MIN, MAX, HELP) BH_OPT(S, F, BH_T_DOUBLE, 0, DEF, MIN, MAX, NULL, HELP)
#define BH_STR(S, F, DEF, HELP)              BH_OPT(S, F, BH_T_STR, 0, DEF, 0, 0, NULL, HELP)
#define BH_STR_REQUIRED(S, F, HELP)          BH_OPT(S, F, BH_T_STR, BH_O_REQUIRED, NULL, 0, 0, NULL, HELP)
#define BH_DURATION(S, F, DEF, MIN_MS, MAX_MS, HELP) \
    BH_OPT(S, F, BH_T_DURATION_MS, 0, DEF, MIN_MS, MAX_MS, NULL, HELP)
#define BH_SIZE(S, F, DEF, MIN, MAX, HELP) BH_OPT(S, F, BH_T_SIZE, 0, DEF, MIN, MAX, NULL, HELP)
#define BH_ENUM(S, F, DEF, CHOICES, HELP)  BH_OPT(S, F, BH_T_ENUM, 0, DEF, 0, 0, CHOICES, HELP)
#define BH_STRLIST(S, F, DEF, HELP)        BH_OPT(S, F, BH_T_STRLIST, 0, DEF, 0, 0, NULL, HELP)
#define BH_SECRET(S, F, HELP)              BH_OPT(S, F, BH_T_SECRET, 0, NULL, 0, 0, NULL, HELP)
#define BH_CIDRLIST(S, F, HELP)            BH_OPT(S, F, BH_T_CIDRLIST, 0, NULL, 0, 0, NULL, HELP)
#define BH_MAP(S, F, HELP)                 BH_OPT(S, F, BH_T_MAP, 0, NULL, 0, 0, NULL, HELP)
#define BH_OPT_END                               \
    {                                            \
        NULL, 0, 0, 0, NULL, 0, 0, NULL, NULL, 0 \
    }

/* ---- the plugin's descriptor ------------------------------------------------------------- */

/* What on_error is told. It may set a reply and return BH_DONE, or pass the error on up the chain
 * with BH_CONTINUE. */
#define BH_E_CRASH       1 /* a hook crashed: signo says how */
#define BH_E_DEADLINE    2 /* a hook or a ticket ran past its time */
#define BH_E_FAIL        3 /* a hook returned BH_FAIL or an unknown verdict */
#define BH_E_QUARANTINED 4 /* the plugin has no working instance just now */
#define BH_E_LIMIT       5 /* a body was larger than a plugin wanted it (status() says 413) */
typedef struct bh_error {
    uint32_t struct_size;
    int32_t kind;          /* BH_E_* */
    int32_t signo;         /* BH_E_CRASH: the signal, or 0 (exit, pthread_exit) */
    const char *plugin;    /* the instance at fault */
    const char *hook;      /* "on_request", ... */
    const char *record_id; /* of the crash record; NULL: none */
} bh_error;

#define BH_F_SERIAL   1u /* host serialises hooks of one instance (it always does, in 1.0) */
#define BH_F_PINNED   2u /* never dlclose (Go or Rust run-times, threads that cannot be ended) */
#define BH_F_OWN_PROC 4u /* insists on its own process: refused by 1.0 hosts */

/*
 * Filled in by BH_PLUGIN(). Any hook may be NULL. `self` is what open() stored, NULL without one;
 * `ctx` is ctx_size zeroed bytes of this plugin for this request, NULL when ctx_size is 0.
 */
typedef struct bh_plugin {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor, min_minor, _pad;
    uint32_t flags;                              /* BH_F_* */
    const char *name, *version, *summary, *caps; /* caps: words of "body http kv timer", or NULL */
    const bh_opt *options;                       /* ends with BH_OPT_END */
    size_t cfg_size, ctx_size;
    uint32_t state_version;

    /* Is this config sound? Pure: no I/O, no threads. Report with bh_cfg_error(); BH_OK or
     * BH_FAIL. Runs in a throw-away process first, for `bulkhead check` too. */
    bh_rc (*validate)(const void *cfg, bh_errs *errs);
    /* Make an instance: files, tables. BH_OK, or BH_FAIL after bh_logf() has said why. */
    bh_rc (*open)(bh_inst *inst, const void *cfg, void **self);
    /* After a reload, before start(): what save() of this instance gave in the worker that this one
     * succeeds, possibly of another version of the plugin, whose state_version is from_version. The
     * bytes are valid during the call, aligned to 8, and may be of any length: check. BH_OK, or
     * BH_FAIL: then the instance goes on with what it has. Not called when there is nothing to
     * restore, after a crash, nor by hosts before 1.1. */
    bh_rc (*restore)(void *self, uint32_t from_version, const void *p, size_t n);
    /* The worker is about to serve. */
    bh_rc (*start)(void *self);
    /* No new requests will come; those in flight go on. */
    bh_rc (*drain)(void *self);
    /* A reload is about to replace this worker: writes what the successor's restore() shall get. On
     * entry *n is the room at buf; on return what was written, with BH_OK, or with BH_ELIMIT what it
     * takes: then it is called once more, with that much (16 MiB for all instances of a worker are
     * the most). Requests go on after it: what changes from there on is lost. Not called by hosts
     * before 1.1. */
    bh_rc (*save)(void *self, void *buf, size_t *n);
    /* Give back what open() took. Called for a crashed instance too, once its requests are done. Ends
     * its threads and timers; a plugin that leaves these, a signal handler or a key with a destructor
     * behind in the trial run is refused. */
    void (*close)(void *self);

    /* The head of a request is there. Chain order. */
    bh_rc (*on_request)(void *self, bh_req *req, void *ctx);
    /* Body bytes, valid during the call; the last call has end != 0 (its chunk may be empty).
     * A request without a body gets no call. Chain order. */
    bh_rc (*on_request_body)(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end);
    /* The answer's head is about to be sent. Reverse order, over the plugins entered. */
    bh_rc (*on_response)(void *self, bh_req *req, void *ctx);
    /* Bytes of the answer; bh_body_set(req, BH_RESP, ...) replaces them. The body of a reply() is
     * shown whole before the head is sent; streams and files chunk by chunk after it. */
    bh_rc (*on_response_body)(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end);
    /* A plugin crashed, failed or ran out of time. Reverse order, over the plugins entered before
     * it; the first to return BH_DONE answers. */
    bh_rc (*on_error)(void *self, bh_req *req, void *ctx, const bh_error *err);
    /* The request is over: exactly once per plugin entered, also after an abort or a crash
     * elsewhere. Deferred clean-ups have run by then. Reverse order. */
    void (*on_log)(void *self, bh_req *req, void *ctx);
    /* Readiness (not called by 1.0 hosts). */
    bh_rc (*on_health)(void *self, char *why, size_t n);
} bh_plugin;

/* ---- wrappers: use these ----------------------------------------------------------------- */

__attribute__((weak, visibility("hidden"))) const bh_host *bh__h;

#define BH_HAS(f) \
    (bh__h && offsetof(bh_host, f) + sizeof(bh__h->f) <= bh__h->struct_size && bh__h->f)
#define BH__CALL(f, miss, ...) (BH_HAS(f) ? bh__h->f(__VA_ARGS__) : (miss))
#define BH__FN                 __attribute__((unused)) static inline

BH__FN bh_str bh_s(const char *s)
{
    bh_str r;
    r.p = s;
    r.n = s ? strlen(s) : 0;
    return r;
}
BH__FN bh_str bh_sn(const char *p, size_t n)
{
    bh_str r;
    r.p = p;
    r.n = n;
    return r;
}
BH__FN bh_str bh__none(void)
{
    return bh_sn(NULL, 0);
}
/* Compare byte by byte. Absent equals nothing. */
BH__FN int bh_str_eq(bh_str a, const char *b)
{
    return a.p && a.n == strlen(b) && memcmp(a.p, b, a.n) == 0;
}

BH__FN void bh_log(bh_inst *i, int32_t level, const char *msg)
{
    if (BH_HAS(log))
        bh__h->log(i, level, msg, strlen(msg));
}
/* printf-style; longer messages than 1,023 bytes are cut. */
__attribute__((format(printf, 3, 4), unused)) static void bh_logf(bh_inst *i, int32_t level,
                                                                  const char *fmt, ...)
{
    char b[1024];
    va_list a;
    int n;

    if (!BH_HAS(log) || !BH__CALL(log_enabled, 1, i, level))
        return;
    va_start(a, fmt);
    n = vsnprintf(b, sizeof b, fmt, a);
    va_end(a);
    if (n > 0)
        bh__h->log(i, level, b, (size_t)n < sizeof b ? (size_t)n : sizeof b - 1);
}
BH__FN int32_t bh_log_enabled(bh_inst *i, int32_t level)
{
    return BH__CALL(log_enabled, 0, i, level);
}
BH__FN int64_t bh_now_ns(int32_t clock)
{
    return BH__CALL(now_ns, -1, clock);
}
BH__FN bh_rc bh_random(void *buf, size_t n)
{
    return BH__CALL(random, BH_ENOSYS, buf, n);
}
BH__FN bh_str bh_info(bh_inst *i, const char *key)
{
    return BH__CALL(info, bh__none(), i, key);
}
BH__FN bh_rc bh_secret(bh_inst *i, const char *name, bh_str *out)
{
    return BH__CALL(secret, BH_ENOSYS, i, name, out);
}
BH__FN bh_rc bh_cfg_raw(bh_inst *i, bh_str *json)
{
    return BH__CALL(cfg_raw, BH_ENOSYS, i, json);
}
BH__FN void bh_cfg_error(bh_errs *e, const char *path, const char *msg)
{
    if (BH_HAS(cfg_error))
        bh__h->cfg_error(e, path, msg);
}

BH__FN bh_inst *bh_instance(bh_req *r)
{
    return BH__CALL(inst, (bh_inst *)0, r);
}
BH__FN bh_str bh_attr(bh_req *r, const char *key)
{
    return BH__CALL(attr, bh__none(), r, key);
}
BH__FN bh_str bh_header(bh_req *r, const char *name)
{
    return BH__CALL(hdr_get, bh__none(), r, BH_REQ, name, 0);
}
BH__FN bh_str bh_header_nth(bh_req *r, int32_t side, const char *name, size_t nth)
{
    return BH__CALL(hdr_get, bh__none(), r, side, name, nth);
}
BH__FN bh_rc bh_header_at(bh_req *r, int32_t side, size_t i, bh_str *name, bh_str *value)
{
    return BH__CALL(hdr_at, BH_ENOSYS, r, side, i, name, value);
}
BH__FN bh_str bh_query(bh_req *r, const char *name)
{
    return BH__CALL(query, bh__none(), r, name, 0);
}
BH__FN bh_str bh_cookie(bh_req *r, const char *name)
{
    return BH__CALL(cookie, bh__none(), r, name);
}
BH__FN bh_rc bh_body(bh_req *r, int32_t side, bh_str *out)
{
    return BH__CALL(body, BH_ENOSYS, r, side, out);
}

BH__FN bh_rc bh_header_set(bh_req *r, int32_t side, const char *name, bh_str v)
{
    return BH__CALL(hdr_set, BH_ENOSYS, r, side, name, v.p, v.n);
}
BH__FN bh_rc bh_header_add(bh_req *r, int32_t side, const char *name, bh_str v)
{
    return BH__CALL(hdr_add, BH_ENOSYS, r, side, name, v.p, v.n);
}
BH__FN bh_rc bh_header_del(bh_req *r, int32_t side, const char *name)
{
    return BH__CALL(hdr_del, BH_ENOSYS, r, side, name);
}
BH__FN bh_rc bh_req_header(bh_req *r, const char *name, const char *v)
{
    return BH__CALL(hdr_set, BH_ENOSYS, r, BH_REQ, name, v, strlen(v));
}
BH__FN bh_rc bh_resp_header(bh_req *r, const char *name, const char *v)
{
    return BH__CALL(hdr_set, BH_ENOSYS, r, BH_RESP, name, v, strlen(v));
}
BH__FN bh_rc bh_set_path(bh_req *r, bh_str path)
{
    return BH__CALL(set_path, BH_ENOSYS, r, path.p, path.n);
}
BH__FN bh_rc bh_body_set(bh_req *r, int32_t side, const void *p, size_t n)
{
    return BH__CALL(body_set, BH_ENOSYS, r, side, p, n);
}
BH__FN bh_rc bh_body_want(bh_req *r, int32_t side, int32_t mode, size_t max)
{
    return BH__CALL(body_want, BH_ENOSYS, r, side, mode, max);
}

/* These return a verdict, so that a hook can end with `return bh_reply(...)`. */
BH__FN bh_rc bh__done(bh_rc r)
{
    return r == BH_OK ? BH_DONE : BH_FAIL;
}
BH__FN bh_rc bh_reply(bh_req *r, int32_t status, const char *ctype, const char *text)
{
    return bh__done(BH__CALL(reply, BH_ENOSYS, r, status, ctype, text, text ? strlen(text) : 0));
}
BH__FN bh_rc bh_reply_n(bh_req *r, int32_t status, const char *ctype, const void *p, size_t n)
{
    return bh__done(BH__CALL(reply, BH_ENOSYS, r, status, ctype, p, n));
}
BH__FN bh_rc bh_reply_ref(bh_req *r, int32_t status, const char *ctype, const void *p, size_t n)
{
    return bh__done(BH__CALL(reply_ref, BH_ENOSYS, r, status, ctype, p, n));
}
BH__FN bh_rc bh_send_file(bh_req *r, const char *path, const char *ctype)
{
    return bh__done(BH__CALL(send_file, BH_ENOSYS, r, path, ctype));
}
BH__FN bh_rc bh_send_fd(bh_req *r, int32_t status, const char *ctype, int32_t fd, uint64_t offset,
                        uint64_t len)
{
    return bh__done(BH__CALL(send_fd, BH_ENOSYS, r, status, ctype, fd, offset, len));
}
BH__FN int32_t bh_status(bh_req *r)
{
    return BH__CALL(status, 0, r);
}
BH__FN bh_rc bh_status_set(bh_req *r, int32_t status)
{
    return BH__CALL(status_set, BH_ENOSYS, r, status);
}
BH__FN bh_rc bh_stream_begin(bh_req *r, int32_t status, int64_t len)
{
    return BH__CALL(stream_begin, BH_ENOSYS, r, status, len);
}
BH__FN bh_rc bh_stream_write(bh_req *r, const void *p, size_t n, int32_t end)
{
    return BH__CALL(stream_write, BH_ENOSYS, r, p, n, end);
}
BH__FN bh_rc bh_stream_on_writable(bh_req *r, bh_rc (*fn)(void *self, bh_req *req, void *ctx))
{
    return BH__CALL(stream_on_writable, BH_ENOSYS, r, fn);
}

BH__FN void *bh_alloc(bh_req *r, size_t n)
{
    return BH__CALL(alloc, (void *)0, r, n, 0);
}
BH__FN bh_rc bh_defer(bh_req *r, void (*fn)(void *), void *arg)
{
    return BH__CALL(defer, BH_ENOSYS, r, fn, arg);
}
BH__FN bh_rc bh_var_set(bh_req *r, const char *k, bh_str v)
{
    return BH__CALL(var_set, BH_ENOSYS, r, k, v.p, v.n);
}
BH__FN bh_str bh_var(bh_req *r, const char *k)
{
    return BH__CALL(var_get, bh__none(), r, k);
}

BH__FN bh_ticket *bh_ticket_take(bh_req *r, uint32_t timeout_ms)
{
    return BH__CALL(ticket, (bh_ticket *)0, r, timeout_ms);
}
BH__FN bh_rc bh_resume(bh_ticket *t, int32_t verdict)
{
    return BH__CALL(resume, BH_ENOSYS, t, verdict);
}
BH__FN bh_rc bh_resume_reply(bh_ticket *t, int32_t status, const char *ctype, const void *p,
                             size_t n)
{
    return BH__CALL(resume_reply, BH_ENOSYS, t, status, ctype, p, n);
}
BH__FN int32_t bh_cancelled(bh_ticket *t)
{
    return BH__CALL(cancelled, 1, t);
}
/* Returns the verdict for the hook: BH_PAUSE, or BH_FAIL when the job was not taken. */
BH__FN bh_rc bh_offload(bh_req *r, int32_t (*work)(void *), void *arg)
{
    return BH__CALL(offload, BH_ENOSYS, r, work, arg) == BH_OK ? BH_PAUSE : BH_FAIL;
}
BH__FN bh_rc bh_post(bh_inst *i, void (*fn)(void *self, void *arg), void *arg)
{
    return BH__CALL(post, BH_ENOSYS, i, fn, arg);
}
BH__FN bh_rc bh_timer(bh_inst *i, uint32_t first_ms, uint32_t every_ms,
                      void (*fn)(void *self, void *arg), void *arg, uint64_t *id)
{
    return BH__CALL(timer, BH_ENOSYS, i, first_ms, every_ms, fn, arg, id);
}
BH__FN bh_rc bh_timer_del(bh_inst *i, uint64_t id)
{
    return BH__CALL(timer_del, BH_ENOSYS, i, id);
}
/* Types: BH_M_*. On hosts without metrics BH_ENOSYS, and the others do nothing. */
BH__FN bh_rc bh_metric(bh_inst *i, int32_t type, const char *name, const char *help,
                       const char *const *labels, uint32_t *id)
{
    *id = 0;
    return BH__CALL(metric, BH_ENOSYS, i, type, name, help, labels, id);
}
BH__FN void bh_metric_add(bh_inst *i, uint32_t id, const bh_str *lv, double v)
{
    if (BH_HAS(metric_add))
        bh__h->metric_add(i, id, lv, v);
}
BH__FN void bh_metric_set(bh_inst *i, uint32_t id, const bh_str *lv, double v)
{
    if (BH_HAS(metric_set))
        bh__h->metric_set(i, id, lv, v);
}
BH__FN void bh_metric_observe(bh_inst *i, uint32_t id, const bh_str *lv, double v)
{
    if (BH_HAS(metric_observe))
        bh__h->metric_observe(i, id, lv, v);
}
BH__FN bh_rc bh_http(bh_inst *i, bh_ticket *t, const bh_http_req *rq,
                     void (*done)(void *self, bh_ticket *t, const bh_http_resp *rs, void *arg),
                     void *arg, uint64_t *id)
{
    return BH__CALL(http, BH_ENOSYS, i, t, rq, done, arg, id);
}
BH__FN bh_rc bh_http_cancel(bh_inst *i, uint64_t id)
{
    return BH__CALL(http_cancel, BH_ENOSYS, i, id);
}

/* The store: see kv_get() and its kin above. */
BH__FN bh_rc bh_kv_get(bh_inst *i, bh_str key, void *buf, size_t *n, uint64_t *cas)
{
    return BH__CALL(kv_get, BH_ENOSYS, i, key, buf, n, cas);
}
BH__FN bh_rc bh_kv_set(bh_inst *i, bh_str key, const void *v, size_t n, uint32_t ttl_ms)
{
    return BH__CALL(kv_set, BH_ENOSYS, i, key, v, n, ttl_ms, 0);
}
BH__FN bh_rc bh_kv_cas(bh_inst *i, bh_str key, const void *v, size_t n, uint32_t ttl_ms,
                       uint64_t cas)
{
    return BH__CALL(kv_set, BH_ENOSYS, i, key, v, n, ttl_ms, cas);
}
BH__FN bh_rc bh_kv_del(bh_inst *i, bh_str key)
{
    return BH__CALL(kv_del, BH_ENOSYS, i, key);
}
BH__FN bh_rc bh_kv_add(bh_inst *i, bh_str key, int64_t delta, uint32_t ttl_ms, int64_t *out)
{
    return BH__CALL(kv_add, BH_ENOSYS, i, key, delta, ttl_ms, out);
}
BH__FN bh_rc bh_kv_async(bh_inst *i, const bh_kv_op *op,
                         void (*done)(void *self, const bh_kv_result *result, void *arg), void *arg,
                         uint64_t *id)
{
    return BH__CALL(kv_async, BH_ENOSYS, i, op, done, arg, id);
}
BH__FN bh_rc bh_kv_cancel(bh_inst *i, uint64_t id)
{
    return BH__CALL(kv_cancel, BH_ENOSYS, i, id);
}
/* Whole tokens left after taking `cost`; or negative: ms until there are enough, negated, or what
 * bh_bucket_rc() tells. */
BH__FN int64_t bh_bucket_take(bh_inst *i, bh_str key, double per_s, double burst, double cost)
{
    return BH__CALL(bucket, BH_BUCKET_FAILED + BH_ENOSYS, i, key, per_s, burst, cost);
}
BH__FN int64_t bh_bucket(bh_req *r, bh_str key, double per_s, double burst)
{
    return bh_bucket_take(bh_instance(r), key, per_s, burst, 1.0);
}
/* BH_OK when that is an answer (tokens left, or a time to wait), else why there is none. */
BH__FN bh_rc bh_bucket_rc(int64_t result)
{
    return result >= BH_BUCKET_FAILED ? BH_OK : (bh_rc)(result - BH_BUCKET_FAILED);
}

BH__FN uint64_t bh_span_begin(bh_req *r, const char *name)
{
    return BH__CALL(span_begin, 0, r, name);
}
BH__FN void bh_span_end(bh_req *r, uint64_t span)
{
    if (BH_HAS(span_end))
        bh__h->span_end(r, span);
}
BH__FN bh_rc bh_span_text(bh_req *r, uint64_t span, const char *key, bh_str v)
{
    return BH__CALL(span_text, BH_ENOSYS, r, span, key, v.p, v.n);
}
BH__FN bh_rc bh_span_number(bh_req *r, uint64_t span, const char *key, double v)
{
    return BH__CALL(span_number, BH_ENOSYS, r, span, key, v);
}
BH__FN bh_rc bh_span_event(bh_req *r, uint64_t span, const char *name)
{
    return BH__CALL(span_event, BH_ENOSYS, r, span, name);
}

BH__FN bh_rc bh_event(bh_inst *i, const char *name, const char *text)
{
    return BH__CALL(event, BH_ENOSYS, i, name, text, text ? strlen(text) : 0);
}

BH__FN bh_rc bh_sink_open(bh_inst *i, const char *path, uint32_t *sink)
{
    return BH__CALL(sink_open, BH_ENOSYS, i, path, sink);
}
BH__FN bh_rc bh_sink_write(bh_inst *i, uint32_t sink, const char *line, size_t n)
{
    return BH__CALL(sink_write, BH_ENOSYS, i, sink, line, n);
}

/* ---- defining a plugin ------------------------------------------------------------------- */

#define BH_EXPORT __attribute__((visibility("default")))
#ifdef __cplusplus
#define BH__C extern "C"
#else
#define BH__C extern
#endif

/* The ELF note "bulkhead", type 1: read by the host before dlopen() runs any constructor. */
typedef struct bh__note_t {
    uint32_t namesz, descsz, type;
    char name[12];
    uint16_t major, minor, min_minor, ptr; /* ptr: sizeof(void *) */
} bh__note_t;

#define BH__NOTE                                                                         \
    {                                                                                    \
        9, 8, 1, "bulkhead", BH_ABI_MAJOR, BH_ABI_MINOR, BH_TARGET_MINOR, sizeof(void *) \
    }

/* Once per object, at file level: BH_PLUGIN("name", "1.2.3", .on_request = f, .on_log = g)
 * C++ wants the members in the order of struct bh_plugin. */
#define BH_PLUGIN(NAME, VERSION, ...)                                                              \
    __attribute__((section(".note.bulkhead"), used,                                                \
                   aligned(4))) static const bh__note_t bh__note = BH__NOTE;                       \
    _Pragma("GCC diagnostic push")                                                                 \
        _Pragma("GCC diagnostic ignored \"-Wmissing-field-initializers\"")                         \
            BH__C BH_EXPORT const bh_plugin bh_plugin_v1_descriptor;                               \
    const bh_plugin bh_plugin_v1_descriptor = {.struct_size = sizeof(bh_plugin),                   \
                                               .abi_major = BH_ABI_MAJOR,                          \
                                               .abi_minor = BH_ABI_MINOR,                          \
                                               .min_minor = BH_TARGET_MINOR,                       \
                                               .name = NAME,                                       \
                                               .version = VERSION,                                 \
                                               __VA_ARGS__};                                       \
    _Pragma("GCC diagnostic pop") BH__C BH_EXPORT const bh_plugin *bh_plugin_v1(const bh_host *h); \
    BH__C BH_EXPORT const bh_plugin *bh_plugin_v1(const bh_host *h)                                \
    {                                                                                              \
        if (h && (h->abi_major != BH_ABI_MAJOR || h->abi_minor < BH_TARGET_MINOR))                 \
            return NULL;                                                                           \
        bh__h = h;                                                                                 \
        return &bh_plugin_v1_descriptor;                                                           \
    }

#ifdef __cplusplus
}
#endif
#endif
