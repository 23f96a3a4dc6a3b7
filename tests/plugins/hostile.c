/*
 * hostile.c - calls the host with everything that a careless or malicious plugin could think of.
 *
 * ?try=NAME picks the attempt. One that comes back says "NAME: ok", or which calls answered what
 * they should not have; one whose pointer is bad crashes, and that is the plugin's own crash.
 */
#include <bulkhead.h>

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct instance {
    bh_inst *inst;
    bh_req *old;       /* of an earlier request, over by now */
    bh_ticket *ticket; /* the same */
};

static char wrong[1024];

/* Notes that a call answered what it should not have. */
static void expect(const char *what, long got, long wanted)
{
    size_t n = strlen(wrong);

    if (got != wanted)
        snprintf(wrong + n, sizeof wrong - n, "%s answered %ld, not %ld; ", what, got, wanted);
}

#define EXPECT(CALL, WANTED) expect(#CALL, (long)(CALL), (long)(WANTED))

static void nothing(void *arg)
{
    (void)arg;
}

static void nothing2(void *self, void *arg)
{
    (void)self, (void)arg;
}

static int32_t no_work(void *arg)
{
    (void)arg;
    return BH_CONTINUE;
}

/* Every function of a request on something that is none. */
static void call_all(bh_req *r)
{
    bh_str s;

    EXPECT(bh_instance(r), NULL);
    EXPECT(bh_attr(r, "path").p, NULL);
    EXPECT(bh_header(r, "Host").p, NULL);
    EXPECT(bh_header_at(r, BH_REQ, 0, &s, &s), BH_EINVAL);
    EXPECT(bh_query(r, "try").p, NULL);
    EXPECT(bh_cookie(r, "a").p, NULL);
    EXPECT(bh_body(r, BH_REQ, &s), BH_EINVAL);
    EXPECT(bh_req_header(r, "A", "b"), BH_EINVAL);
    EXPECT(bh_header_add(r, BH_RESP, "A", bh_s("b")), BH_EINVAL);
    EXPECT(bh_header_del(r, BH_RESP, "A"), BH_EINVAL);
    EXPECT(bh_set_path(r, bh_s("/")), BH_EINVAL);
    EXPECT(bh_body_set(r, BH_RESP, "a", 1), BH_EINVAL);
    EXPECT(bh_body_want(r, BH_REQ, BH_BODY_BUFFER, 0), BH_EINVAL);
    EXPECT(bh_reply(r, 200, NULL, "a"), BH_FAIL);
    EXPECT(bh_reply_ref(r, 200, NULL, "a", 1), BH_FAIL);
    EXPECT(bh_send_file(r, "/etc/hostname", NULL), BH_FAIL);
    EXPECT(bh_send_fd(r, 200, NULL, -1, 0, 0), BH_FAIL);
    EXPECT(bh_status(r), 0);
    EXPECT(bh_status_set(r, 200), BH_EINVAL);
    EXPECT(bh_stream_begin(r, 200, -1), BH_EINVAL);
    EXPECT(bh_stream_write(r, "a", 1, 0), BH_EINVAL);
    EXPECT(bh_alloc(r, 1), NULL);
    EXPECT(bh_defer(r, nothing, NULL), BH_EINVAL);
    EXPECT(bh_var_set(r, "a", bh_s("b")), BH_EINVAL);
    EXPECT(bh_var(r, "a").p, NULL);
    EXPECT(bh_ticket_take(r, 0), NULL);
    EXPECT(bh_offload(r, no_work, NULL), BH_FAIL);
}

static void try_null(struct instance *self, bh_req *req)
{
    uint32_t sink;
    bh_str s;

    call_all(NULL);
    EXPECT(bh_resume(NULL, BH_DONE), BH_EINVAL);
    EXPECT(bh_resume_reply(NULL, 200, NULL, "a", 1), BH_EINVAL);
    EXPECT(bh_cancelled(NULL), 1);
    EXPECT(bh_post(NULL, nothing2, NULL), BH_EINVAL);
    EXPECT(bh_post(self->inst, NULL, NULL), BH_EINVAL);
    EXPECT(bh_info(NULL, "name").p, NULL);
    EXPECT(bh_info(self->inst, NULL).p, NULL);
    EXPECT(bh_secret(NULL, "a", &s), BH_EINVAL);
    EXPECT(bh_secret(self->inst, NULL, &s), BH_EINVAL);
    EXPECT(bh_secret(self->inst, "none", &s), BH_ENOENT);
    EXPECT(bh_cfg_raw(NULL, &s), BH_EINVAL);
    EXPECT(bh_sink_open(NULL, "a", &sink), BH_EINVAL);
    EXPECT(bh_sink_open(self->inst, NULL, &sink), BH_EINVAL);
    EXPECT(bh_sink_write(self->inst, 0, NULL, 0), BH_EINVAL);
    EXPECT(bh_sink_write(self->inst, 4000000000u, "a", 1), BH_EINVAL);
    EXPECT(bh_defer(req, NULL, NULL), BH_EINVAL);
    EXPECT(bh_offload(req, NULL, NULL), BH_FAIL);
    EXPECT(bh_attr(req, NULL).p, NULL);
    EXPECT(bh_attr(req, "").p, NULL);
    EXPECT(bh_attr(req, "no such thing").p, NULL);
    EXPECT(bh_header(req, NULL).p, NULL);
    EXPECT(bh_query(req, NULL).p, NULL);
    EXPECT(bh_cookie(req, NULL).p, NULL);
    EXPECT(bh_var(req, NULL).p, NULL);
    EXPECT(bh_var_set(req, NULL, bh_s("a")), BH_EINVAL);
    EXPECT(bh_var_set(req, "a", bh_sn(NULL, 1)), BH_EINVAL);
    EXPECT(bh_set_path(req, bh__none()), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, NULL, bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "A", bh_sn(NULL, 1)), BH_EINVAL);
    EXPECT(bh_reply_n(req, 200, NULL, NULL, 1), BH_FAIL);
    EXPECT(bh_reply_ref(req, 200, NULL, NULL, 1), BH_FAIL);
    bh_log(NULL, BH_LOG_ERROR, "from nobody");
    bh__h->log(self->inst, 99, "a strange level", 15);
    bh__h->log(self->inst, -99, NULL, 15);
    bh_cfg_error(NULL, "a", "b");
    EXPECT(bh_now_ns(77), -1);
}

static void try_wrong(struct instance *self, bh_req *req)
{
    static uint64_t zeros[4096];
    uint32_t sink;

    call_all((bh_req *)zeros);
    call_all((bh_req *)self->inst);
    EXPECT(bh_info((bh_inst *)req, "name").p, NULL);
    EXPECT(bh_post((bh_inst *)req, nothing2, NULL), BH_EINVAL);
    EXPECT(bh_resume((bh_ticket *)zeros, BH_DONE), BH_EINVAL);
    EXPECT(bh_resume((bh_ticket *)req, BH_DONE), BH_EINVAL);
    EXPECT(bh_cancelled((bh_ticket *)req), 1);
    EXPECT(bh_sink_open((bh_inst *)zeros, "a", &sink), BH_EINVAL);
}

static void try_values(struct instance *self, bh_req *req)
{
    static char big[70000];
    bh_str s;

    (void)self;
    memset(big, 'a', sizeof big - 1);
    EXPECT(bh_header_set(req, BH_RESP, "A", bh_s("a\r\nSet-Cookie: b")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "A", bh_s("a\nb")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "A", bh_sn("a\0b", 3)), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "A: b\r\nC", bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "", bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "A B", bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "\303\244", bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, big, bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "Content-Length", bh_s("1")), BH_EINVAL);
    EXPECT(bh_header_add(req, BH_RESP, "TRANSFER-encoding", bh_s("chunked")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "connection", bh_s("close")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "Date", bh_s("now")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "Upgrade", bh_s("h2c")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "Trailer", bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_set(req, BH_RESP, "A", bh_s(big)), BH_ELIMIT);
    EXPECT(bh_header_set(req, 2, "A", bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_set(req, -1, "A", bh_s("a")), BH_EINVAL);
    EXPECT(bh_header_del(req, BH_RESP, "none"), BH_ENOENT);
    EXPECT(bh_set_path(req, bh_s("no slash")), BH_EINVAL);
    EXPECT(bh_set_path(req, bh_sn("/a\0b", 4)), BH_EINVAL);
    big[0] = '/';
    EXPECT(bh_set_path(req, bh_s(big)), BH_ELIMIT);
    EXPECT(bh_reply(req, 99, NULL, "a"), BH_FAIL);
    EXPECT(bh_reply(req, 100, NULL, "a"), BH_FAIL);
    EXPECT(bh_reply(req, 600, NULL, "a"), BH_FAIL);
    EXPECT(bh_reply(req, -200, NULL, "a"), BH_FAIL);
    EXPECT(bh_reply(req, 200, "a\r\nb: c", "a"), BH_FAIL);
    EXPECT(bh_reply(req, 200, big, "a"), BH_FAIL);
    EXPECT(bh_status(req), 0);
    EXPECT(bh_status_set(req, 200), BH_EPHASE);
    EXPECT(bh_stream_begin(req, 0, -1), BH_EINVAL);
    EXPECT(bh_stream_write(req, "a", 1, 0), BH_EPHASE);
    EXPECT(bh_body(req, BH_REQ, &s), BH_EPHASE);
    EXPECT(bh_body(req, BH_RESP, &s), BH_EPHASE);
    EXPECT(bh_body_set(req, BH_REQ, "a", 1), BH_EPHASE);
    EXPECT(bh_body_set(req, BH_RESP, "a", 1), BH_EPHASE);
    EXPECT(bh_body_want(req, BH_REQ, 3, 0), BH_EINVAL);
    EXPECT(bh_body_want(req, BH_REQ, -1, 0), BH_EINVAL);
    EXPECT(bh_send_file(req, "/", NULL), BH_FAIL);
    EXPECT(bh_send_file(req, "/dev/zero", NULL), BH_FAIL);
    EXPECT(bh_send_file(req, "/does/not/exist", NULL), BH_FAIL);
    EXPECT(bh_send_file(req, big, NULL), BH_FAIL);
    EXPECT(bh_send_fd(req, 200, NULL, 100000, 0, 1), BH_FAIL);
    EXPECT(bh_send_fd(req, 200, NULL, -1, 0, 1), BH_FAIL);
    EXPECT(bh_var_set(req, "", bh_s("a")), BH_ELIMIT);
    EXPECT(bh_var_set(req, big, bh_s("a")), BH_ELIMIT);
    EXPECT(bh__h->alloc(req, 8, 3), NULL);
    EXPECT(bh__h->alloc(req, 8, 1u << 20), NULL);
    EXPECT(bh_header_nth(req, BH_REQ, "Host", 1000).p, NULL);
    EXPECT(bh_header_nth(req, 7, "Host", 0).p, NULL);
    EXPECT(bh_header_at(req, BH_REQ, (size_t)-1, &s, &s), BH_ENOENT);
    EXPECT(bh_sink_open(bh_instance(req), "", &(uint32_t){0}), BH_EINVAL);
    EXPECT(bh_sink_open(bh_instance(req), big, &(uint32_t){0}), BH_EINVAL);
}

/* Sizes whose sums with anything overflow, or that nobody can have. */
static void try_sizes(struct instance *self, bh_req *req)
{
    static const size_t sizes[] = {(size_t)-1,      (size_t)-2,      (size_t)-16,
                                   (size_t)-17,     (size_t)-40,     (size_t)-4096,
                                   (size_t)1 << 63, (size_t)1 << 47, 17u << 20};
    static char text[] = "/text";

    (void)self;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i];

        EXPECT(bh_alloc(req, n), NULL);
        expect("var_set", bh_var_set(req, "a", bh_sn(text, n)) == BH_OK, 0);
        expect("hdr_set", bh_header_set(req, BH_RESP, "A", bh_sn(text, n)) == BH_OK, 0);
    }
    expect("stream_begin", bh_stream_begin(req, 200, INT64_MIN), BH_OK);
    expect("stream_write", bh_stream_write(req, text, (size_t)-1, 0) == BH_OK, 0);
    expect("stream_write", bh_stream_write(req, text, (size_t)-17, 0) == BH_OK, 0);
    expect("stream_write", bh_stream_write(req, text, (size_t)-24, 0) == BH_OK, 0);
    expect("reply", bh_reply_n(req, 200, NULL, text, (size_t)-1), BH_FAIL);
    expect("reply", bh_reply_n(req, 200, NULL, text, (size_t)-2), BH_FAIL);
    expect("reply", bh_reply_n(req, 200, NULL, text, (size_t)1 << 62), BH_FAIL);
    expect("body_set", bh_body_set(req, BH_RESP, text, (size_t)-1) == BH_OK, 0);
}

static void try_memory(struct instance *self, bh_req *req)
{
    size_t got = 0;
    unsigned char *p;

    (void)self;
    while (got < 1u << 30 && (p = bh_alloc(req, 1u << 20)) != NULL) {
        expect("zeroed", p[0] | p[(1u << 20) - 1], 0);
        memset(p, 0xff, 1u << 20);
        got += 1u << 20;
    }
    expect("alloc: MiB given", (long)(got >> 20), 16);
    for (size_t align = 1; align <= 4096; align *= 2) {
        p = bh__h->alloc(req, 0, align);
        expect("aligned", (long)((uintptr_t)p % align), 0);
    }
}

/* As many fields as the host takes. */
static void try_fields(struct instance *self, bh_req *req)
{
    static char value[8192];
    bh_rc rc;
    int n;

    (void)self;
    memset(value, 'v', sizeof value);
    for (int32_t side = BH_REQ; side <= BH_RESP; side++) {
        for (n = 0, rc = BH_OK; n < 100000 && rc == BH_OK; n++)
            rc = bh_header_add(req, side, "X-Many", bh_sn(value, side == BH_REQ ? 8192 : 100));
        expect("the last hdr_add", rc, BH_ELIMIT);
    }
}

static void try_many_defers(struct instance *self, bh_req *req)
{
    (void)self;
    for (int i = 0; i < 10000; i++)
        expect("defer", bh_defer(req, nothing, NULL), BH_OK);
}

static void try_old(struct instance *self, bh_req *req)
{
    /* Handles of an earlier request. The request's memory may serve this one by now. */
    if (self->old != NULL && self->old != req)
        call_all(self->old);
    if (self->ticket != NULL) {
        EXPECT(bh_resume(self->ticket, BH_DONE), BH_ENOENT);
        EXPECT(bh_resume_reply(self->ticket, 200, NULL, "a", 1), BH_ENOENT);
        EXPECT(bh_cancelled(self->ticket), 1);
    }
}

static void handler(int signo)
{
    (void)signo;
}

static void try_signals(struct instance *self, bh_req *req)
{
    struct sigaction act = {.sa_handler = handler};
    sigset_t all;

    (void)self, (void)req;
    expect("sigaction(SIGSEGV)", sigaction(SIGSEGV, &act, NULL), -1);
    expect("sigaction(SIGTERM)", sigaction(SIGTERM, &act, NULL), -1);
    expect("signal(SIGABRT)", signal(SIGABRT, handler) == SIG_ERR, 1);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static void try_fork(struct instance *self, bh_req *req)
{
    pid_t pid = fork();

    (void)self, (void)req;
    if (pid == 0)
        _exit(7);
    if (pid > 0) {
        int status = 0;

        expect("waitpid", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7, 1);
    }
}

static const struct {
    const char *name;
    void (*fn)(struct instance *self, bh_req *req);
} attempts[] = {{"null", try_null},          {"wrong", try_wrong},   {"values", try_values},
                {"sizes", try_sizes},        {"memory", try_memory}, {"fields", try_fields},
                {"defers", try_many_defers}, {"old", try_old},       {"signals", try_signals},
                {"fork", try_fork}};

/* Things that end in odd answers, not in a text. */
static bh_rc odd(struct instance *self, bh_req *req, const char *what)
{
    static char value[8000];

    if (strcmp(what, "big_head") == 0) {
        memset(value, 'v', sizeof value);
        for (int i = 0; i < 4; i++)
            bh_header_add(req, BH_RESP, "X-Big", bh_sn(value, sizeof value)); /* one fits */
        return bh_reply(req, 200, NULL, "big head");
    }
    if (strcmp(what, "no_content") == 0)
        return bh_reply(req, 204, "text/plain", "there should be none");
    if (strcmp(what, "not_modified") == 0)
        return bh_reply(req, 304, NULL, NULL);
    if (strcmp(what, "empty_value") == 0) {
        bh_resp_header(req, "X-Empty", "");
        return bh_reply(req, 200, NULL, "");
    }
    if (strcmp(what, "replace_stream") == 0) {
        bh_stream_begin(req, 200, -1);
        bh_stream_write(req, "lost", 4, 1);
        return bh_reply(req, 200, NULL, "kept");
    }
    if (strcmp(what, "posted_calls") == 0) {
        self->old = req;
        return BH_CONTINUE;
    }
    return BH_FAIL;
}

/* In a posted call while the request waits for its body: no hook of it is running. */
static void from_outside(void *self_, void *arg)
{
    bh_req *req = arg;

    (void)self_;
    bh_instance(req);
    bh_defer(req, nothing, NULL);
    bh_send_file(req, "relative", NULL);
    bh_body_want(req, BH_REQ, BH_BODY_BUFFER, 0);
    bh_ticket_take(req, 0);
    bh_offload(req, no_work, NULL);
    bh_reply(req, 200, NULL, "from outside");
    bh_body_set(req, BH_RESP, "x", 1);
    bh_resp_header(req, "X-Outside", "yes");
}

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    bh_str what = bh_query(req, "try");
    char text[1200];

    (void)ctx;
    if (what.p == NULL)
        return BH_CONTINUE;
    if (strcmp(what.p, "outside") == 0)
        return bh_post(self->inst, from_outside, req) == BH_OK ? BH_CONTINUE : BH_FAIL;
    wrong[0] = '\0';
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) {
        if (strcmp(attempts[i].name, what.p) != 0)
            continue;
        attempts[i].fn(self, req);
        snprintf(text, sizeof text, "%s: %s", what.p, wrong[0] != '\0' ? wrong : "ok");
        self->old = req;
        self->ticket = bh_ticket_take(req, 50);
        return bh_reply(req, 200, "text/plain", text);
    }
    return odd(self, req, what.p);
}

static bh_rc on_request_body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    (void)self, (void)ctx, (void)chunk;
    return end ? bh_reply(req, 200, NULL, "inside") : BH_CONTINUE;
}

/* Out of season. */
static bh_rc on_response(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)ctx;
    wrong[0] = '\0';
    EXPECT(bh_set_path(req, bh_s("/late")), BH_EPHASE);
    EXPECT(bh_req_header(req, "A", "b"), BH_EPHASE);
    EXPECT(bh_body_want(req, BH_REQ, BH_BODY_STREAM, 0), BH_EPHASE);
    EXPECT(bh_ticket_take(req, 0), NULL);
    EXPECT(bh_offload(req, no_work, NULL), BH_FAIL);
    if (wrong[0] != '\0')
        bh_resp_header(req, "X-Wrong", wrong);
    return BH_CONTINUE;
}

static void on_log(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;

    (void)ctx;
    wrong[0] = '\0';
    EXPECT(bh_reply(req, 200, NULL, "late"), BH_FAIL);
    EXPECT(bh_resp_header(req, "A", "b"), BH_EPHASE);
    EXPECT(bh_status_set(req, 201), BH_EPHASE);
    EXPECT(bh_stream_begin(req, 200, -1), BH_EPHASE);
    EXPECT(bh_stream_write(req, "a", 1, 0), BH_EPHASE);
    EXPECT(bh_defer(req, nothing, NULL), BH_EPHASE);
    EXPECT(bh_body_set(req, BH_RESP, "a", 1), BH_EPHASE);
    EXPECT(bh_ticket_take(req, 0), NULL);
    if (wrong[0] != '\0')
        bh_logf(self->inst, BH_LOG_ERROR, "on_log: %s", wrong);
}

static bh_rc open_(bh_inst *inst, const void *cfg, void **out)
{
    struct instance *self = calloc(1, sizeof *self);

    (void)cfg;
    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    *out = self;
    return BH_OK;
}

BH_PLUGIN("hostile", "1.0.0", .summary = "Abuses the host", .open = open_, .close = free,
          .on_request = on_request, .on_request_body = on_request_body, .on_response = on_response,
          .on_log = on_log)
