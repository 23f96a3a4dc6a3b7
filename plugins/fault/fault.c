/*
 * fault.c - a plugin that misbehaves on request: for Bulkhead's own tests, demos and for drills.
 *
 * It decides which fault is due, where and for which request; kinds.c commits it. The count of
 * `every` begins anew in a fresh instance, and as a fault ends the instance just after a full
 * round, "every third request" stays every third request.
 */
#include "kinds.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* In the order of AT_NAMES. */
enum {
    AT_REQUEST,
    AT_REQUEST_BODY,
    AT_RESPONSE,
    AT_RESPONSE_BODY,
    AT_ERROR,
    AT_LOG,
    AT_DEFER,
    AT_OPEN,
    AT_VALIDATE,
    AT_START,
    AT_DRAIN,
    AT_CLOSE,
    AT_HOST_CALL,
    AT_OFFLOAD,
    AT_POST,
    AT_THREAD,
    AT_THREAD_END,
    AT_TIMER,
    AT_COUNT
};

#define AT_NAMES                                                                                   \
    "on_request|on_request_body|on_response|on_response_body|on_error|on_log|defer|open|validate|" \
    "start|drain|close|host_call|offload|post|thread|thread_end|timer"

#define STREAM_CHUNKS 5

struct config {
    bh_str fault;
    uint8_t at;
    uint8_t from_request, reply, stream;
    uint32_t every, chunk;
};

static const bh_opt options[] = {
    BH_STR(struct config, fault, "none", "What to do; see the list in README.md"),
    BH_ENUM(struct config, at, "on_request", AT_NAMES, "Where to do it"),
    BH_INT(struct config, every, "1", 1, 1e9, "Only on every Nth request"),
    BH_BOOL(struct config, from_request, "false",
            "Query arguments fault, at, chunk and stream overrule the options"),
    BH_BOOL(struct config, reply, "true", "Answer 200 \"ok\"; false: let requests pass"),
    BH_BOOL(struct config, stream, "false", "Answer with a stream of 5 chunks"),
    BH_INT(struct config, chunk, "1", 1, 1e6,
           "Which call of on_request_body or on_response_body is at fault"),
    BH_OPT_END,
};

struct instance {
    bh_inst *inst;
    const struct config *cfg;
    const struct fault_kind *kind; /* NULL: none */
    uint32_t requests;
};

/* ctx: what was decided for this request. */
struct plan {
    const struct fault_kind *kind; /* NULL: nothing is due */
    struct fault_site site;
    uint32_t at, chunk, seen;
    int stream;
};

/* ---- options ------------------------------------------------------------------------------ */

static int find_kind(bh_str name, const struct fault_kind **kind)
{
    *kind = NULL;
    if (name.p == NULL || name.n == 0 || bh_str_eq(name, "none"))
        return 1;
    *kind = fault_kind_find(name.p, name.n);
    return *kind != NULL;
}

static int find_place(bh_str name, uint32_t *at)
{
    const char *p = AT_NAMES;

    for (uint32_t i = 0; i < AT_COUNT; i++) {
        size_t n = strcspn(p, "|");

        if (n == name.n && memcmp(p, name.p, n) == 0) {
            *at = i;
            return 1;
        }
        p += n + (p[n] == '|');
    }
    return 0;
}

static bh_rc validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    const struct fault_kind *kind;

    if (!find_kind(c->fault, &kind)) {
        bh_cfg_error(errs, "fault", "there is no such fault; README.md has the list");
        return BH_FAIL;
    }
    if (kind != NULL && c->at == AT_VALIDATE)
        kind->commit(&(struct fault_site){NULL, NULL});
    return BH_OK;
}

/* ---- the instance ------------------------------------------------------------------------- */

static void commit_at(const struct instance *self, uint8_t at)
{
    if (self->kind != NULL && self->cfg->at == at)
        self->kind->commit(&(struct fault_site){self->inst, NULL});
}

static bh_rc open_instance(bh_inst *inst, const void *cfg, void **selfp)
{
    struct instance *self = calloc(1, sizeof *self);

    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    self->cfg = cfg;
    *selfp = self;
    find_kind(self->cfg->fault, &self->kind);
    commit_at(self, AT_OPEN);
    return BH_OK;
}

static bh_rc start_instance(void *self)
{
    commit_at(self, AT_START);
    return BH_OK;
}

static bh_rc drain_instance(void *self)
{
    commit_at(self, AT_DRAIN);
    return BH_OK;
}

static void close_instance(void *self)
{
    commit_at(self, AT_CLOSE);
    free(self);
}

/* ---- other places than hooks -------------------------------------------------------------- */

static void deferred(void *arg)
{
    const struct plan *plan = arg;

    plan->kind->commit(&plan->site);
}

static int32_t offloaded(void *arg)
{
    const struct fault_kind *kind = arg;

    kind->commit(&(struct fault_site){NULL, NULL});
    return BH_DONE;
}

static void posted(void *self, void *arg)
{
    const struct instance *s = self;
    const struct fault_kind *kind = arg;

    kind->commit(&(struct fault_site){s->inst, NULL});
}

static void *in_thread(void *arg)
{
    const struct fault_kind *kind = arg;

    kind->commit(&(struct fault_site){NULL, NULL});
    return NULL;
}

static void at_thread_end(void *arg)
{
    in_thread(arg);
}

static pthread_key_t end_key;

/* What a thread_local object's destructor is in C. */
static void *end_thread(void *arg)
{
    pthread_setspecific(end_key, arg);
    return NULL;
}

static void make_end_key(void)
{
    pthread_key_create(&end_key, at_thread_end);
}

static void start_thread(const struct fault_kind *kind, int at_end)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_t thread;

    pthread_once(&once, make_end_key);
    if (pthread_create(&thread, NULL, at_end ? end_thread : in_thread, (void *)(uintptr_t)kind) ==
        0)
        pthread_detach(thread);
}

static void at_expiry(union sigval value)
{
    in_thread(value.sival_ptr);
}

static void start_timer(const struct fault_kind *kind)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD,
                             .sigev_value.sival_ptr = (void *)(uintptr_t)kind};
    struct itimerspec soon = {.it_value.tv_nsec = 1000000};
    timer_t timer;

    event.sigev_notify_function = at_expiry;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &soon, NULL);
}

/* The fault happens in the host's code, which follows a pointer of ours. */
__attribute__((noinline)) static void fault_host_call(const struct plan *plan)
{
    if (strcmp(plan->kind->name, "bus") == 0)
        bh_reply_n(plan->site.req, 200, "text/plain", fault_truncated_page(), 100);
    else if (strcmp(plan->kind->name, "jump") == 0)
        bh_defer(plan->site.req, (void (*)(void *))fault_unmapped_page(), NULL);
    else
        bh_header_set(plan->site.req, BH_RESP, "X-Fault", bh_sn(fault_unmapped_page(), 100));
    __asm__ volatile(""); /* keeps this function in the backtrace */
}

/* ---- requests ----------------------------------------------------------------------------- */

static int is_true(bh_str s)
{
    return bh_str_eq(s, "1") || bh_str_eq(s, "true") || bh_str_eq(s, "on");
}

/* What the client wants: 0 when it wants what there is not. */
static int overrule(bh_req *req, struct plan *plan)
{
    bh_str fault = bh_query(req, "fault"), at = bh_query(req, "at");
    bh_str chunk = bh_query(req, "chunk"), stream = bh_query(req, "stream");

    if (fault.p != NULL && !find_kind(fault, &plan->kind))
        return 0;
    if (at.p != NULL && !find_place(at, &plan->at))
        return 0;
    if (chunk.p != NULL)
        plan->chunk = (uint32_t)strtoul(chunk.p, NULL, 10);
    if (stream.p != NULL)
        plan->stream = is_true(stream);
    return 1;
}

static bh_rc answer_choices(bh_req *req)
{
    char text[8192];
    size_t n = 0;
    const struct fault_kind *kind;

    n += (size_t)snprintf(text, sizeof text, "?fault= one of:\n");
    for (size_t i = 0; (kind = fault_kind_at(i)) != NULL && n < sizeof text - 128; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "  %-18s %s\n", kind->name, kind->what);
    n += (size_t)snprintf(text + n, sizeof text - n, "&at= one of:\n  %s\n", AT_NAMES);
    return bh_reply_n(req, 400, "text/plain; charset=utf-8", text,
                      n < sizeof text ? n : sizeof text - 1);
}

static bh_rc answer_stream(bh_req *req)
{
    char line[32];

    if (bh_resp_header(req, "Content-Type", "text/plain; charset=utf-8") != BH_OK ||
        bh_stream_begin(req, 200, -1) != BH_OK)
        return BH_FAIL;
    for (int i = 1; i <= STREAM_CHUNKS; i++) {
        int n = snprintf(line, sizeof line, "chunk %d\n", i);

        if (bh_stream_write(req, line, (size_t)n, i == STREAM_CHUNKS) != BH_OK)
            return BH_FAIL;
    }
    return BH_DONE;
}

static bh_rc answer(bh_req *req, const struct instance *self, const struct plan *plan)
{
    if (!self->cfg->reply)
        return BH_CONTINUE;
    if (plan->stream)
        return answer_stream(req);
    return bh_reply(req, 200, "text/plain; charset=utf-8", "ok\n");
}

/* Commit the fault if it is due at this place. */
static void commit(const struct plan *plan, uint32_t at)
{
    if (plan->kind != NULL && plan->at == at)
        plan->kind->commit(&plan->site);
}

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    struct plan *plan = ctx;
    bh_rc rc;

    plan->kind = self->kind;
    plan->at = self->cfg->at;
    plan->chunk = self->cfg->chunk;
    plan->stream = self->cfg->stream;
    plan->site.inst = self->inst;
    plan->site.req = req;
    if (self->cfg->from_request && !overrule(req, plan)) {
        plan->kind = NULL;
        return answer_choices(req);
    }
    if (++self->requests % self->cfg->every != 0)
        plan->kind = NULL;

    /* Nothing to do with the answer's body: files then go out by sendfile, with their length. */
    if (plan->kind == NULL || plan->at != AT_RESPONSE_BODY)
        bh_body_want(req, BH_RESP, BH_BODY_NONE, 0);
    commit(plan, AT_REQUEST);
    if (plan->kind != NULL && plan->at == AT_HOST_CALL)
        fault_host_call(plan);
    if (plan->kind != NULL && plan->at == AT_DEFER)
        bh_defer(req, deferred, plan);
    if (plan->kind != NULL && plan->at == AT_POST)
        bh_post(self->inst, posted, (void *)(uintptr_t)plan->kind);
    if (plan->kind != NULL && (plan->at == AT_THREAD || plan->at == AT_THREAD_END))
        start_thread(plan->kind, plan->at == AT_THREAD_END);
    if (plan->kind != NULL && plan->at == AT_TIMER)
        start_timer(plan->kind);
    if (plan->at == AT_REQUEST_BODY)
        return BH_CONTINUE; /* on_request_body answers */
    if (plan->kind != NULL && plan->at == AT_OFFLOAD) {
        rc = bh_reply(req, 200, "text/plain; charset=utf-8", "ok\n");
        return rc == BH_DONE ? bh_offload(req, offloaded, (void *)(uintptr_t)plan->kind) : rc;
    }
    return answer(req, self, plan);
}

static bh_rc on_request_body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    struct plan *plan = ctx;

    (void)chunk;
    if (++plan->seen == plan->chunk)
        commit(plan, AT_REQUEST_BODY);
    if (!end)
        return BH_CONTINUE;
    plan->seen = 0;
    return answer(req, self, plan);
}

static bh_rc on_response(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req;
    commit(ctx, AT_RESPONSE);
    return BH_CONTINUE;
}

static bh_rc on_response_body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    struct plan *plan = ctx;

    (void)self, (void)req, (void)chunk, (void)end;
    if (++plan->seen == plan->chunk)
        commit(plan, AT_RESPONSE_BODY);
    return BH_CONTINUE;
}

static bh_rc on_error(void *self, bh_req *req, void *ctx, const bh_error *err)
{
    (void)self, (void)req, (void)err;
    commit(ctx, AT_ERROR);
    return BH_CONTINUE;
}

static void on_log(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req;
    commit(ctx, AT_LOG);
}

/* ---- the object --------------------------------------------------------------------------- */

/* Before the host has any say: constructors and destructors of the object obey the environment. */
static void commit_from_environment(const char *variable)
{
    const char *name = getenv(variable);
    const struct fault_kind *kind = name ? fault_kind_find(name, strlen(name)) : NULL;

    if (kind != NULL)
        kind->commit(&(struct fault_site){NULL, NULL});
}

__attribute__((constructor)) static void fault_constructor(void)
{
    commit_from_environment("BULKHEAD_FAULT_CONSTRUCTOR");
}

__attribute__((destructor)) static void fault_destructor(void)
{
    commit_from_environment("BULKHEAD_FAULT_DESTRUCTOR");
}

BH_PLUGIN("fault", "1.0.0", .summary = "Crashes, hangs and leaks on request, for tests and drills",
          .options = options, .cfg_size = sizeof(struct config), .ctx_size = sizeof(struct plan),
          .validate = validate, .open = open_instance, .start = start_instance,
          .drain = drain_instance, .close = close_instance, .on_request = on_request,
          .on_request_body = on_request_body, .on_response = on_response,
          .on_response_body = on_response_body, .on_error = on_error, .on_log = on_log)
