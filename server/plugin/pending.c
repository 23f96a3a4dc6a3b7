#include "plugin/pending.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/must.h"
#include "plugin/alarm.h"
#include "plugin/boundary.h"
#include "plugin/failure.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/meter.h"
#include "plugin/recover.h"

struct pending { /* never given back to the allocator: numbers of dead ones are looked up here */
    struct incarnation *inc;      /* NULL: free */
    struct pending *next, **prev; /* of the incarnation; or among the free ones */
    pending_fn *fn;
    void *arg;
    void (*dropped)(void *owner);
    void *owner;
    uint32_t use;  /* counts what this was; never 0 */
    uint32_t slot; /* in all */
    uint32_t call; /* in which it was asked */
};

static struct {
    struct pending **all;
    struct pending *spare;
    uint32_t n, cap;
} table;

static struct pending *find(uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    struct pending *p = slot < table.n ? table.all[slot] : NULL;

    return p != NULL && p->inc != NULL && p->use == id >> 32 ? p : NULL;
}

static struct pending *take(void)
{
    struct pending *p = table.spare;

    if (p != NULL) {
        table.spare = p->next;
    } else {
        if (table.n == table.cap) {
            uint32_t cap = table.cap == 0 ? 64 : table.cap * 2;
            struct pending **all = realloc((void *)table.all, cap * sizeof *all);

            if (all == NULL)
                return NULL;
            table.all = all;
            table.cap = cap;
        }
        p = calloc(1, sizeof *p);
        if (p == NULL)
            return NULL;
        p->slot = table.n;
        table.all[table.n++] = p;
    }
    if (++p->use == 0)
        p->use = 1;
    return p;
}

static void unlink_it(struct pending *p)
{
    must(p->inc != NULL);
    *p->prev = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
    p->inc->n_pending--;
    p->inc = NULL;
    p->next = table.spare;
    table.spare = p;
}

static struct incarnation *owner_of(const bh_inst *inst)
{
    if (incarnation_running != NULL && incarnation_running->inst == inst)
        return incarnation_running;
    return inst->current;
}

bh_rc pending_add(bh_inst *inst, pending_fn *fn, void *arg, void (*dropped)(void *owner),
                  void *owner, uint64_t *id)
{
    struct incarnation *inc = host_is_loop() ? owner_of(inst) : NULL;
    struct pending *p;

    if (inc == NULL || inc->is_closing || inst->is_ejected)
        return BH_EPHASE;
    if (inc->n_pending == PENDING_MAX)
        return BH_ELIMIT;
    recover_critical_enter();
    p = take();
    if (p != NULL) {
        p->inc = inc;
        p->fn = fn;
        p->arg = arg;
        p->dropped = dropped;
        p->owner = owner;
        p->call = incarnation_calls;
        p->next = inc->pending;
        p->prev = &inc->pending;
        if (p->next != NULL)
            p->next->prev = &p->next;
        inc->pending = p;
        inc->n_pending++;
        *id = (uint64_t)p->use << 32 | p->slot;
    }
    recover_critical_leave();
    return p != NULL ? BH_OK : BH_ENOMEM;
}

bool pending_is(uint64_t id)
{
    return find(id) != NULL;
}

static void finish(uint64_t id, bool has_ticket, bh_ticket *ticket, const void *result)
{
    struct pending *p = find(id);
    struct incarnation *inc;
    pending_fn *fn;
    void *arg;
    uint64_t who, came_back;
    int64_t began_ns;

    if (p == NULL)
        return;
    fn = p->fn;
    arg = p->arg;
    inc = p->inc;
    unlink_it(p); /* its number is dead when the function runs */
    if (inc->inst->is_ejected)
        return;
    inc->refs++;
    incarnation_run(inc);
    meter_count(inc->inst, HOOK_POST);
    began_ns = meter_draw() ? meter_begin() : 0;
    who = boundary_who(inc->inst->id, HOOK_POST);
    came_back = has_ticket ? boundary_call(who, fn, inc->self, ticket, result, arg).came_back
                           : boundary_call(who, fn, inc->self, result, arg, NULL).came_back;
    if (began_ns != 0)
        meter_end(inc->inst, HOOK_POST, began_ns);
    if (came_back == 0) {
        alarm_undo(inc);
        pending_undo(inc);
        failure_note(NULL, inc->inst, inc, HOOK_POST);
    }
    incarnation_put(inc);
}

void pending_finish(uint64_t id, const void *result)
{
    finish(id, false, NULL, result);
}

void pending_finish_with(uint64_t id, bh_ticket *ticket, const void *result)
{
    finish(id, true, ticket, result);
}

static void drop(struct pending *p)
{
    void (*dropped)(void *) = p->dropped;
    void *owner = p->owner;

    unlink_it(p);
    if (dropped != NULL)
        dropped(owner);
}

bh_rc pending_cancel(bh_inst *inst, uint64_t id)
{
    struct pending *p;

    if (!host_is_loop())
        return BH_EPHASE;
    p = find(id);
    if (p == NULL || p->inc->inst != inst)
        return BH_ENOENT;
    recover_critical_enter();
    drop(p);
    recover_critical_leave();
    return BH_OK;
}

void pending_undo(struct incarnation *inc)
{
    /* The newest come first, and the call that crashed is the last one. */
    while (inc->pending != NULL && inc->pending->call == incarnation_calls)
        drop(inc->pending);
}

void pending_drop_all(struct incarnation *inc)
{
    recover_critical_enter();
    while (inc->pending != NULL)
        drop(inc->pending);
    recover_critical_leave();
}
