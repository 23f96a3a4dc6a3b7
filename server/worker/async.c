#include "worker/async.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "conf/config.h"
#include "http/exchange.h"
#include "obs/log.h"
#include "plugin/admit.h"
#include "plugin/alarm.h"
#include "plugin/boundary.h"
#include "plugin/chain.h"
#include "plugin/failure.h"
#include "plugin/heap.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/meter.h"
#include "plugin/pending.h"
#include "plugin/recover.h"
#include "plugin/shadow.h"

#define TICKET_MAGIC 0x7469636bu
#define POSTS_MAX    4096
#define REPLY_MAX    (64u << 20)

/* In the two low bits of state; the rest counts the uses of the ticket. */
enum { TICKET_FREE, TICKET_ARMED, TICKET_FIRED, TICKET_STATES = 4 };

/* Never given back to the allocator, and used again only after TICKET_REST others: a late
 * bh_resume() finds a dead ticket. */
#define TICKET_REST 1024

struct bh_ticket {
    uint32_t magic;
    _Atomic uint64_t state;
    _Atomic uint32_t is_gone; /* the request has ended */
    struct bh_ticket *next;   /* in the fired stack, or among the free ones */
    struct list node;         /* among the armed ones, by deadline */
    struct exchange *x;       /* loop thread only */
    struct shm_call
        *_Atomic runs_in; /* the call of the pool's thread that works for it; NULL: none does */
    int64_t deadline_ns;
    int32_t verdict;
    /* resume_reply() */
    int32_t status;
    char *ctype, *body;
    size_t len;
    bh_inst *crashed; /* in whose offloaded call that was; NULL: none crashed */
    struct recover_fault crash;
};

struct post {
    struct post *next;
    bh_inst *inst;
    void (*fn)(void *self, void *arg);
    void *arg;
    struct heap *heap; /* where arg may lie; pinned */
};

static struct {
    int wake_fd;
    uint32_t request_ms;
    bh_ticket *_Atomic fired;
    struct post *_Atomic posts;
    _Atomic uint32_t n_posts;
    struct list armed;                  /* soonest first */
    bh_ticket *free_first, **free_last; /* first in, first out */
    int n_free;
} async;

static void wake(void)
{
    uint64_t one = 1;

    if (write(async.wake_fd, &one, sizeof one) < 0) {
        /* The counter is at its limit: the loop is awake already. */
    }
}

/* ---- tickets ---- */

static bh_ticket *take_ticket(void)
{
    bh_ticket *t = async.free_first;
    uint64_t state = 0;

    if (async.n_free > TICKET_REST) {
        async.free_first = t->next;
        async.n_free--;
        state = atomic_load(&t->state) + TICKET_STATES;
    } else {
        t = malloc(sizeof *t);
        if (t == NULL)
            return NULL;
    }
    memset(t, 0, sizeof *t);
    t->magic = TICKET_MAGIC;
    atomic_store(&t->state, state);
    list_init(&t->node);
    return t;
}

static void give_ticket(bh_ticket *t)
{
    free(t->ctype);
    free(t->body);
    t->ctype = t->body = NULL;
    list_remove(&t->node);
    t->x = NULL;
    t->next = NULL;
    atomic_store(&t->state, atomic_load(&t->state) & ~(uint64_t)(TICKET_STATES - 1));
    *async.free_last = t;
    async.free_last = &t->next;
    async.n_free++;
}

/* From armed to fired: once, by whoever comes first. */
static bool claim(bh_ticket *t, uint64_t armed)
{
    return (armed & (TICKET_STATES - 1)) == TICKET_ARMED &&
           atomic_compare_exchange_strong(&t->state, &armed, armed + 1);
}

static void insert_by_deadline(bh_ticket *t)
{
    struct list *at = async.armed.prev;

    /* Most tickets of a server have equal times: the place is near the end. */
    while (at != &async.armed && list_entry(at, bh_ticket, node)->deadline_ns > t->deadline_ns)
        at = at->prev;
    t->node.prev = at;
    t->node.next = at->next;
    at->next->prev = &t->node;
    at->next = &t->node;
}

/* Nobody waits for it any more. A job that goes on is no client's: whoever has the descriptor next is not
 * to blame should it end the worker. */
static void disown(bh_ticket *t)
{
    struct shm_call *call = atomic_load(&t->runs_in);

    if (call != NULL)
        atomic_store(&call->fd, -1);
    give_ticket(t);
}

void async_runs_in(bh_ticket *t, uint64_t use, struct shm_call *call, int fd)
{
    atomic_store(&call->fd, fd);
    atomic_store(&t->runs_in, call);
    /* Disowned before: by somebody who did not see the call. */
    if (atomic_load(&t->state) != use)
        atomic_store(&call->fd, -1);
}

void async_ran(bh_ticket *t, struct shm_call *call)
{
    struct shm_call *own = call;

    atomic_compare_exchange_strong(&t->runs_in, &own,
                                   NULL); /* it may serve another request by now */
    atomic_store(&call->fd, -1);
}

void async_forget(struct exchange *x)
{
    bh_ticket *t = exchange_ticket(x);

    if (t == NULL)
        return;
    exchange_set_ticket(x, NULL);
    atomic_store(&t->is_gone, 1);
    t->x = NULL;
    list_remove(&t->node); /* its time is of no interest any more */
    if (claim(t, atomic_load(&t->state)))
        disown(t);
    /* Else it is on its way here: async_run() takes it from the stack. */
}

bh_ticket *async_ticket(bh_req *req, uint32_t timeout_ms)
{
    struct exchange *x;
    bh_ticket *t;

    if (!request_is(req) || (req->hook != HOOK_REQUEST && req->hook != HOOK_REQUEST_BODY))
        return NULL;
    if (shadow_runs(req)) { /* nobody waits for it */
        shadow_give_up(req);
        return NULL;
    }
    x = exchange_of(req);
    recover_critical_enter();
    async_forget(x); /* one at a time: an earlier one that was not used is dead */
    t = take_ticket();
    if (t != NULL) {
        t->x = x;
        t->deadline_ns = timeout_ms != 0
                             ? host_loop_mono_ns + (int64_t)timeout_ms * 1000000
                             : exchange_since_ns(x) + (int64_t)async.request_ms * 1000000;
        atomic_fetch_add(&t->state, TICKET_ARMED);
        insert_by_deadline(t);
        exchange_set_ticket(x, t);
    }
    recover_critical_leave();
    return t;
}

/* From then on it is the loop's, which may have given it back before this returns. */
static void push_fired(bh_ticket *t)
{
    bh_ticket *before = atomic_load(&async.fired);

    do {
        t->next = before;
    } while (!atomic_compare_exchange_weak(&async.fired, &before, t));
    if (before == NULL)
        wake();
}

uint64_t async_use(const bh_ticket *t)
{
    return atomic_load(&t->state);
}

/* A crash for a request that is gone: nobody waits, only the plugin is to be charged. */
static void note_late_crash(bh_inst *inst, const struct recover_fault *crash)
{
    admit_charge(inst, NULL, crash);
    if (crash->record != NULL)
        recover_record_done(crash->record);
}

void async_fire(bh_ticket *t, uint64_t use, int32_t verdict, bh_inst *crashed,
                const struct recover_fault *crash)
{
    if (!claim(t, use)) {
        if (crashed != NULL)
            note_late_crash(crashed, crash);
        return;
    }
    t->verdict = verdict;
    if (crashed != NULL) {
        t->crash = *crash;
        t->crashed = crashed;
    }
    push_fired(t);
}

static bh_rc host_resume(bh_ticket *t, int32_t verdict)
{
    if (t == NULL || t->magic != TICKET_MAGIC || verdict == BH_PAUSE)
        return BH_EINVAL;
    if (!claim(t, atomic_load(&t->state)))
        return BH_ENOENT;
    t->verdict = verdict;
    push_fired(t);
    return BH_OK;
}

static bh_rc host_resume_reply(bh_ticket *t, int32_t status, const char *ctype, const void *p,
                               size_t n)
{
    char *type = NULL, *body;

    if (t == NULL || t->magic != TICKET_MAGIC || status < 200 || status > 599 ||
        (p == NULL && n > 0))
        return BH_EINVAL;
    if (n > REPLY_MAX)
        return BH_ELIMIT;
    if (ctype != NULL && (strlen(ctype) > 512 || strpbrk(ctype, "\r\n") != NULL))
        return BH_EINVAL;
    if (ctype != NULL && (type = strdup(ctype)) == NULL)
        return BH_ENOMEM;
    body = malloc(n + 1);
    if (body == NULL) {
        free(type);
        return BH_ENOMEM;
    }
    if (n > 0)
        memcpy(body, p, n);
    if (!claim(t, atomic_load(&t->state))) {
        free(type);
        free(body);
        return BH_ENOENT;
    }
    t->verdict = BH_DONE;
    t->status = status;
    t->ctype = type;
    t->body = body;
    t->len = n;
    push_fired(t);
    return BH_OK;
}

static int32_t host_cancelled(bh_ticket *t)
{
    if (t == NULL || t->magic != TICKET_MAGIC)
        return 1;
    return atomic_load(&t->is_gone) != 0 ||
           (atomic_load(&t->state) & (TICKET_STATES - 1)) != TICKET_ARMED;
}

/* What resume_reply() brought becomes the request's reply. */
static bh_rc take_reply(bh_req *req, const bh_ticket *t)
{
    struct reply reply = {.kind = REPLY_BYTES, .status = t->status, .len = t->len, .fd = -1};

    reply.bytes = arena_strndup(&req->arena, t->body, t->len);
    if (reply.bytes == NULL)
        return BH_FAIL;
    req->call++;
    if (t->ctype != NULL)
        request_set_field(req, BH_RESP, bh_s("Content-Type"), bh_s(t->ctype), true);
    request_set_reply(req, &reply);
    return BH_DONE;
}

/* From a thread anything may come. */
static bh_rc known_verdict(int32_t v)
{
    return v == BH_CONTINUE || v == BH_DONE || v == BH_DECLINE ? v : BH_FAIL;
}

static void deliver(bh_ticket *t)
{
    struct exchange *x = t->x;
    bh_req *req = x != NULL ? exchange_request(x) : NULL;

    if (x != NULL)
        exchange_set_ticket(x, NULL);
    atomic_store(&t->is_gone, 1);
    if (req == NULL || !req->is_paused) { /* over, or the plugin did not pause for it */
        if (t->crashed != NULL)
            note_late_crash(t->crashed, &t->crash);
        return;
    }
    req->resume_verdict = known_verdict(t->verdict);
    if (t->crashed != NULL) {
        recover_self.fault = t->crash;
        exchange_fail(x, FAILURE_CRASHED);
    } else if (t->body != NULL) {
        req->resume_verdict = take_reply(req, t);
    }
    exchange_resume(x);
}

int async_timeout_ms(void)
{
    int64_t left;

    if (list_is_empty(&async.armed))
        return -1;
    left = list_entry(async.armed.next, bh_ticket, node)->deadline_ns - host_loop_mono_ns;
    return left <= 0 ? 0 : left > 60000000000 ? 60000 : (int)(left / 1000000 + 1);
}

void async_expire(void)
{
    while (!list_is_empty(&async.armed)) {
        bh_ticket *t = list_entry(async.armed.next, bh_ticket, node);
        struct exchange *x = t->x;

        if (t->deadline_ns > host_loop_mono_ns)
            return;
        list_remove(&t->node);
        if (!claim(t, atomic_load(&t->state)))
            continue; /* resumed at the last moment: async_run() will find it */
        exchange_set_ticket(x, NULL);
        disown(t);
        atomic_store(&t->is_gone, 1);
        if (!exchange_request(x)->is_paused)
            continue; /* the plugin did not pause for it */
        request_log(exchange_request(x), LOG_WARN, "a request was paused past its time: %.*s",
                    (int)exchange_request(x)->path.n, exchange_request(x)->path.p);
        exchange_fail(x, BH_E_DEADLINE);
        exchange_resume(x);
    }
}

/* ---- posted calls ---- */

static bh_rc host_post(bh_inst *inst, void (*fn)(void *self, void *arg), void *arg)
{
    struct post *p;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || fn == NULL)
        return BH_EINVAL;
    if (atomic_fetch_add(&async.n_posts, 1) >= POSTS_MAX) {
        atomic_fetch_sub(&async.n_posts, 1);
        return BH_EAGAIN;
    }
    p = malloc(sizeof *p);
    if (p == NULL) {
        atomic_fetch_sub(&async.n_posts, 1);
        return BH_ENOMEM;
    }
    *p = (struct post){NULL, inst, fn, arg, recover_is_armed() ? recover_self.heap : NULL};
    heap_pin(p->heap);
    p->next = atomic_load(&async.posts);
    while (!atomic_compare_exchange_weak(&async.posts, &p->next, p))
        ;
    if (p->next == NULL)
        wake();
    return BH_OK;
}

static void run_post(const struct post *p)
{
    struct incarnation *inc = incarnation_get(p->inst);
    int64_t began_ns;
    bool came_back;

    if (inc == NULL)
        return;
    if (instance_has_left(p->inst, (uintptr_t)p->fn)) {
        /* What `self` is now belongs to another copy of the object. */
        log_debug("plugin '%s': a call that a crashed copy had posted is dropped",
                  p->inst->cfg->name);
        incarnation_put(inc);
        return;
    }
    incarnation_run(inc);
    meter_count(p->inst, HOOK_POST);
    began_ns = meter_draw() ? meter_begin() : 0;
    came_back = boundary_post(p->inst->id, p->fn, inc->self, p->arg);
    if (began_ns != 0)
        meter_end(p->inst, HOOK_POST, began_ns);
    if (!came_back) {
        alarm_undo(inc);
        pending_undo(inc);
        failure_note(NULL, p->inst, inc, HOOK_POST);
    }
    incarnation_put(inc);
}

static void run_posts(void)
{
    struct post *p = atomic_exchange(&async.posts, NULL), *first = NULL, *next;

    for (; p != NULL; p = next) { /* the stack has the newest first */
        next = p->next;
        p->next = first;
        first = p;
    }
    for (p = first; p != NULL; p = next) {
        next = p->next;
        atomic_fetch_sub(&async.n_posts, 1);
        run_post(p);
        heap_unpin(p->heap);
        free(p);
    }
}

void async_run(void)
{
    bh_ticket *t = atomic_exchange(&async.fired, NULL), *next;

    for (; t != NULL; t = next) {
        next = t->next;
        list_remove(&t->node);
        deliver(t);
        give_ticket(t);
    }
    run_posts();
}

void async_init(bh_host *h, int wake_fd, uint32_t request_ms)
{
    async.wake_fd = wake_fd;
    async.request_ms = request_ms;
    async.free_last = &async.free_first;
    list_init(&async.armed);
    h->ticket = async_ticket;
    h->resume = host_resume;
    h->resume_reply = host_resume_reply;
    h->cancelled = host_cancelled;
    h->post = host_post;
}
