#include "plugin/alarm.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/must.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/boundary.h"
#include "plugin/failure.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/meter.h"
#include "plugin/pending.h"
#include "plugin/recover.h"

#define NS_PER_MS 1000000

/* After a crash in a timer's function the instance's timers stand still for so long; doubled with each
 * that follows within CALM_MS. A function that crashes whenever it runs must not take the loop. */
#define HOLD_FIRST_MS 100
#define HOLD_LAST_MS  10000
#define CALM_MS       60000

#define NOWHERE UINT32_MAX

struct alarm { /* never given back to the allocator: ids of dead ones are looked up here */
    int64_t due_ns, every_ns;
    struct incarnation *inc;
    struct alarm *next, **prev; /* of the incarnation; or among the free ones */
    void (*fn)(void *self, void *arg);
    void *arg;
    uint32_t use;  /* counts the timers that this was */
    uint32_t slot; /* in alarms.all */
    uint32_t at;   /* in alarms.heap, or NOWHERE */
    uint32_t call; /* in which it was set */
};

static struct {
    struct alarm **all, **heap;
    struct alarm *spare;
    uint32_t n_all, cap, n;
    pthread_t loop;
} alarms;

/* ---- the heap: the soonest first ---- */

static void place(uint32_t at, struct alarm *a)
{
    alarms.heap[at] = a;
    a->at = at;
}

static void sift_up(struct alarm *a)
{
    uint32_t at = a->at;

    while (at > 0 && alarms.heap[(at - 1) / 2]->due_ns > a->due_ns) {
        place(at, alarms.heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(at, a);
}

static void sift_down(struct alarm *a)
{
    uint32_t at = a->at;

    for (;;) {
        uint32_t child = at * 2 + 1;

        if (child + 1 < alarms.n && alarms.heap[child + 1]->due_ns < alarms.heap[child]->due_ns)
            child++;
        if (child >= alarms.n || alarms.heap[child]->due_ns >= a->due_ns)
            break;
        place(at, alarms.heap[child]);
        at = child;
    }
    place(at, a);
}

static void move_to(struct alarm *a, int64_t due_ns)
{
    a->due_ns = due_ns;
    sift_up(a);
    sift_down(a);
}

/* ---- taking and giving ---- */

static bool grow(void)
{
    uint32_t cap = alarms.cap == 0 ? 64 : alarms.cap * 2;
    struct alarm **all = realloc((void *)alarms.all, cap * sizeof *all), **heap;

    if (all == NULL)
        return false;
    alarms.all = all;
    heap = realloc((void *)alarms.heap, cap * sizeof *heap);
    if (heap == NULL)
        return false;
    alarms.heap = heap;
    alarms.cap = cap;
    return true;
}

static struct alarm *take(void)
{
    struct alarm *a = alarms.spare;

    if (a != NULL) {
        alarms.spare = a->next;
    } else {
        if (alarms.n_all == alarms.cap && !grow())
            return NULL;
        a = calloc(1, sizeof *a);
        if (a == NULL)
            return NULL;
        a->slot = alarms.n_all;
        alarms.all[alarms.n_all++] = a;
    }
    a->use++;
    return a;
}

static void drop(struct alarm *a)
{
    struct alarm *last = alarms.heap[--alarms.n];

    must(a->inc != NULL);
    if (last != a) {
        place(a->at, last);
        sift_up(last);
        sift_down(last);
    }
    a->at = NOWHERE;
    *a->prev = a->next;
    if (a->next != NULL)
        a->next->prev = a->prev;
    a->inc->n_alarms--;
    a->inc = NULL;
    a->next = alarms.spare;
    alarms.spare = a;
}

void alarm_drop_all(struct incarnation *inc)
{
    recover_critical_enter();
    while (inc->alarms != NULL)
        drop(inc->alarms);
    recover_critical_leave();
}

void alarm_undo(struct incarnation *inc)
{
    struct alarm *next;

    /* The newest come first, and the call that crashed is the last one. */
    for (struct alarm *a = inc->alarms; a != NULL && a->call == incarnation_calls; a = next) {
        next = a->next;
        drop(a);
    }
}

/* ---- what plugins call ---- */

/* Whose code is it that runs? The instance's current incarnation may be a fresh one by now. */
static struct incarnation *owner_of(const bh_inst *inst)
{
    if (incarnation_running != NULL && incarnation_running->inst == inst)
        return incarnation_running;
    return inst->current;
}

static bool is_loop(void)
{
    return pthread_equal(pthread_self(), alarms.loop) != 0;
}

static bh_rc host_timer(bh_inst *inst, uint32_t first_ms, uint32_t every_ms,
                        void (*fn)(void *self, void *arg), void *arg, uint64_t *id)
{
    struct incarnation *inc;
    struct alarm *a;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || fn == NULL)
        return BH_EINVAL;
    if (id != NULL)
        *(volatile uint64_t *)id = 0; /* faults here, if it must */
    if (!is_loop() || (inc = owner_of(inst)) == NULL || inc->is_closing || inst->is_ejected)
        return BH_EPHASE;
    if (inc->n_alarms == ALARMS_MAX)
        return BH_ELIMIT;
    recover_critical_enter();
    a = take();
    if (a == NULL) {
        recover_critical_leave();
        return BH_ENOMEM;
    }
    a->due_ns = host_loop_mono_ns + (first_ms > 0 ? (int64_t)first_ms * NS_PER_MS : 1);
    a->every_ns = (int64_t)every_ms * NS_PER_MS;
    a->inc = inc;
    a->fn = fn;
    a->arg = arg;
    a->call = incarnation_calls;
    a->next = inc->alarms;
    a->prev = &inc->alarms;
    if (a->next != NULL)
        a->next->prev = &a->next;
    inc->alarms = a;
    inc->n_alarms++;
    a->at = alarms.n++;
    sift_up(a);
    recover_critical_leave();
    if (id != NULL)
        *id = (uint64_t)a->use << 32 | a->slot;
    return BH_OK;
}

static bh_rc host_timer_del(bh_inst *inst, uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    struct alarm *a;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC)
        return BH_EINVAL;
    if (!is_loop())
        return BH_EPHASE;
    if (slot >= alarms.n_all)
        return BH_ENOENT;
    a = alarms.all[slot];
    if (a->inc == NULL || a->use != id >> 32 || a->inc->inst != inst)
        return BH_ENOENT;
    recover_critical_enter();
    drop(a);
    recover_critical_leave();
    return BH_OK;
}

void alarm_fill(bh_host *h)
{
    alarms.loop = pthread_self();
    h->timer = host_timer;
    h->timer_del = host_timer_del;
}

/* ---- the loop's side ---- */

int alarm_timeout_ms(void)
{
    int64_t left_ns;

    if (alarms.n == 0)
        return -1;
    left_ns = alarms.heap[0]->due_ns - host_loop_mono_ns;
    if (left_ns <= 0)
        return 0;
    return left_ns > 60000LL * NS_PER_MS ? 60000 : (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
}

static void settle_crash(bh_inst *inst, struct incarnation *inc)
{
    int64_t since_ms = (host_loop_mono_ns - inst->alarm_crashed_ns) / NS_PER_MS;

    if (inst->alarm_crashed_ns == 0 || since_ms > CALM_MS || inst->alarm_hold_ms == 0)
        inst->alarm_hold_ms = HOLD_FIRST_MS;
    else if (inst->alarm_hold_ms < HOLD_LAST_MS)
        inst->alarm_hold_ms *= 2;
    inst->alarm_crashed_ns = host_loop_mono_ns;
    inst->alarm_held_ns = host_loop_mono_ns + (int64_t)inst->alarm_hold_ms * NS_PER_MS;
    /* Nobody writes to its streams any more: their clients are to know, and to come again. */
    alarm_drop_all(inc);
    pending_undo(inc);
    incarnation_break_streams(inc);
    failure_note(NULL, inst, inc, HOOK_TIMER);
}

static void call(struct incarnation *inc, void (*fn)(void *, void *), void *arg)
{
    bh_inst *inst = inc->inst;
    int64_t began_ns;
    bool came_back;

    inc->refs++;
    incarnation_run(inc);
    meter_count(inst, HOOK_TIMER);
    began_ns = meter_draw() ? meter_begin() : 0;
    came_back = boundary_timer(inst->id, fn, inc->self, arg);
    if (began_ns != 0)
        meter_end(inst, HOOK_TIMER, began_ns);
    if (!came_back)
        settle_crash(inst, inc);
    incarnation_put(inc);
}

void alarm_run(void)
{
    int64_t now_ns = host_loop_mono_ns;

    while (alarms.n > 0 && alarms.heap[0]->due_ns <= now_ns) {
        struct alarm *a = alarms.heap[0];
        struct incarnation *inc = a->inc;
        void (*fn)(void *, void *) = a->fn;
        void *arg = a->arg;

        must(inc != NULL);
        if (inc->inst->is_ejected) { /* one of an incarnation that only its requests keep */
            drop(a);
            continue;
        }
        if (inc->inst->alarm_held_ns > now_ns) {
            move_to(a, inc->inst->alarm_held_ns);
            continue;
        }
        if (a->every_ns == 0) /* its id is dead when the function runs */
            drop(a);
        else if (a->due_ns + a->every_ns > now_ns)
            move_to(a, a->due_ns + a->every_ns);
        else /* the loop was late: what it missed is not made up for */
            move_to(a, now_ns + a->every_ns);
        call(inc, fn, arg);
    }
}
