#include "plugin/instance.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/must.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "ipc/state.h"
#include "obs/log.h"
#include "plugin/admit.h"
#include "plugin/alarm.h"
#include "plugin/boundary.h"
#include "plugin/eject.h"
#include "plugin/fresh.h"
#include "plugin/heap.h"
#include "plugin/host.h"
#include "plugin/object.h"
#include "plugin/options.h"
#include "plugin/pending.h"
#include "plugin/recover.h"
#include "plugin/remains.h"
#include "plugin/stream.h"
#include "plugin/text.h"
#include "plugin/thread.h"

#define RETRY_FIRST_MS 500
#define RETRY_LAST_MS  30000
#define STATE_FIRST    65536 /* room for save(), at first */
#define OPTIONS_MEMORY (16u << 20)

struct incarnation *incarnation_running;
uint32_t incarnation_calls;

/* A fault outside a request: its record is complete as it is. */
static void finish_record(char verdict)
{
    struct shm_crash *record = recover_self.fault.record;

    if (record == NULL)
        return;
    if (verdict != SHM_RECOVERED || record->verdict != SHM_EJECTED)
        record->verdict = verdict;
    recover_record_done(record);
    recover_self.fault.record = NULL;
}

static const char *fault_text(char *buf, size_t size)
{
    const struct recover_fault *f = &recover_self.fault;

    if (f->signo != 0)
        snprintf(buf, size, "crashed with SIG%s", sigabbrev_np(f->signo));
    else if (f->is_deadline)
        snprintf(buf, size, "ran past its deadline");
    else
        snprintf(buf, size, "called %s()", f->kind);
    if (f->record_id[0] != '\0')
        snprintf(buf + strlen(buf), size - strlen(buf), " (crash record %s)", f->record_id);
    return buf;
}

int instance_create(const struct config *cfg, int index, struct object *object, struct shm *shm,
                    int worker, struct diag *diag, bh_inst **out)
{
    const struct config_plugin *p = &cfg->plugin[index];
    bh_inst *inst = calloc(1, sizeof *inst);
    void *options;
    int r;

    if (inst == NULL)
        return -ENOMEM;
    inst->magic = INSTANCE_MAGIC;
    inst->id = (uint32_t)index + 1;
    inst->cfg = p;
    inst->config = cfg;
    inst->object = object;
    object->uses++;
    inst->desc = object->desc;
    inst->shm = shm;
    inst->stat = &shm->plugin[index];
    inst->meter = &shm->worker[worker].metrics_plugin[index];
    inst->limits = (struct breaker_limits){.crashes = p->breaker.crashes,
                                           .window_ms = p->breaker.window_ms,
                                           .open_ms = p->breaker.open_ms,
                                           .trials = p->breaker.trials};
    inst->worker = worker;
    snprintf(inst->worker_text, sizeof inst->worker_text, "%d", worker);
    arena_init(&inst->arena, OPTIONS_MEMORY);
    options = arena_zalloc(&inst->arena, inst->desc->cfg_size + 1);
    r = options == NULL ? -ENOMEM
                        : options_apply(inst->desc, p->name, cfg->path, p->options, p->pos.line,
                                        p->pos.column, &inst->arena, options, diag);
    if (r < 0) {
        instance_destroy(&inst);
        return r;
    }
    inst->options = options;
    *out = inst;
    return 0;
}

void instance_destroy(bh_inst **instp)
{
    bh_inst *inst = *instp;

    *instp = NULL;
    if (inst == NULL)
        return;
    if (inst->current != NULL)
        incarnation_put(inst->current);
    inst->object->uses--;
    if (inst->fresh != NULL && thread_count(inst->id) > 0)
        inst->fresh->is_held = true;
    object_unload(&inst->fresh);
    arena_fini(&inst->arena);
    inst->magic = 0;
    free(inst);
}

int instance_validate(bh_inst *inst, struct diag *diag)
{
    struct bh_errs errs = {.inst = inst, .diag = diag};
    const struct config_plugin *p = inst->cfg;
    struct heap *heap;
    char why[160];
    bool came_back;
    bh_rc rc;

    if (inst->desc->validate == NULL)
        return 0;
    heap = heap_create(inst->id, inst->object->base, &inst->object->uses); /* of this call alone */
    recover_use_heap(heap);
    came_back = boundary_validate(inst->id, inst->desc, inst->options, &errs, &rc);
    remains_keep(heap);
    if (!came_back) {
        diag_add(diag, inst->config->path, p->pos.line, p->pos.column, NULL,
                 "plugin '%s': validate() %s", p->name, fault_text(why, sizeof why));
        finish_record(SHM_REFUSED);
        return -EFAULT;
    }
    if (rc != BH_OK && errs.n == 0)
        diag_add(diag, inst->config->path, p->pos.line, p->pos.column, NULL,
                 "plugin '%s' refuses its configuration without saying why", p->name);
    return rc == BH_OK && errs.n == 0 ? 0 : -EINVAL;
}

static void forget(struct incarnation *inc)
{
    alarm_drop_all(inc);
    pending_drop_all(inc);
    inc->object->uses--;
    remains_keep(inc->heap);
    if (incarnation_running == inc)
        incarnation_running = NULL;
    free(inc);
}

int instance_open(bh_inst *inst, struct diag *diag)
{
    struct incarnation *inc = calloc(1, sizeof *inc);
    const struct config_plugin *p = inst->cfg;
    char why[160];
    bh_rc rc = BH_OK;

    if (inc == NULL)
        return -ENOMEM;
    must(inst->current == NULL);
    inc->inst = inst;
    inc->meter = inst->meter;
    inc->desc = inst->desc;
    inc->object = inst->object;
    inc->object->uses++;
    inc->heap = heap_create(inst->id, inc->object->base, &inc->object->uses);
    inc->refs = 1;
    incarnation_run(inc);
    if (inst->desc->open != NULL &&
        !boundary_open(inst->id, inst->desc, inst, inst->options, &inc->self, &rc)) {
        diag_add(diag, inst->config->path, p->pos.line, p->pos.column, NULL,
                 "plugin '%s': open() %s", p->name, fault_text(why, sizeof why));
        finish_record(SHM_REFUSED);
        forget(inc);
        return -EFAULT;
    }
    if (rc != BH_OK) {
        diag_add(diag, inst->config->path, p->pos.line, p->pos.column,
                 "the plugin's own log line above says why", "plugin '%s': open() failed", p->name);
        forget(inc);
        return -EINVAL;
    }
    inst->current = inc;
    inst->retry_delay_ms = 0;
    return 0;
}

/* A crash outside of requests. */
static void settle_crash(bh_inst *inst, char verdict)
{
    admit_charge(inst, NULL, &recover_self.fault);
    finish_record(verdict);
}

static void call_self(bh_inst *inst, enum hook hook, bh_rc (*fn)(void *))
{
    char why[160];
    bh_rc rc;

    if (fn == NULL || inst->current == NULL)
        return;
    incarnation_run(inst->current);
    if (!boundary_self(inst->id, hook, fn, inst->current->self, &rc)) {
        alarm_undo(inst->current);
        pending_undo(inst->current);
        log_error("plugin '%s': %s() %s", inst->cfg->name, hook_name(hook),
                  fault_text(why, sizeof why));
        settle_crash(inst, SHM_RECOVERED);
        instance_renew(inst, inst->current);
    } else if (rc != BH_OK) {
        log_warn("plugin '%s': %s() failed (%d)", inst->cfg->name, hook_name(hook), rc);
    }
}

void instance_start(bh_inst *inst)
{
    if (inst->is_started)
        return;
    inst->is_started = true;
    call_self(inst, HOOK_START, inst->desc->start);
}

void instance_drain(bh_inst *inst)
{
    call_self(inst, HOOK_DRAIN, inst->desc->drain);
}

void incarnation_break_streams(struct incarnation *inc)
{
    streams_break(inc->streams);
}

/* It has failed, or crashed, and goes on without. */
static void tell_state(bh_inst *inst, enum hook hook, bool came_back, int rc)
{
    char why[160];

    if (came_back) {
        log_error("plugin '%s': %s() failed (%d); its state is lost", inst->cfg->name,
                  hook_name(hook), rc);
        return;
    }
    log_error("plugin '%s': %s() %s; its state is lost", inst->cfg->name, hook_name(hook),
              fault_text(why, sizeof why));
    settle_crash(inst, SHM_RECOVERED);
    instance_renew(inst, inst->current);
}

void instance_save(bh_inst *inst, int fd)
{
    size_t room = STATE_FIRST, n = room;
    bool came_back;
    char *buf;
    bh_rc rc = BH_OK;
    int r;

    if (inst->current == NULL || inst->current->desc->save == NULL || inst->is_ejected ||
        inst->cfg->candidate_of != NULL) /* the stable one's goes on, whoever is promoted */
        return;
    buf = calloc(1, room);
    came_back = buf != NULL &&
                boundary_save(inst->id, inst->current->desc, inst->current->self, buf, &n, &rc);
    if (came_back && rc == BH_ELIMIT && n > room && n <= STATE_MAX) {
        free(buf);
        room = n;
        buf = calloc(1, room);
        came_back = buf != NULL &&
                    boundary_save(inst->id, inst->current->desc, inst->current->self, buf, &n, &rc);
    }
    if (buf == NULL) {
        log_error("plugin '%s': no memory for its state; it is lost", inst->cfg->name);
    } else if (!came_back || rc != BH_OK || n > room) {
        tell_state(inst, HOOK_SAVE, came_back, came_back && rc == BH_OK ? BH_ELIMIT : rc);
    } else {
        r = state_put(fd, inst->cfg->name, inst->desc->state_version, buf, n);
        if (r < 0)
            log_error("plugin '%s': its state of %zu bytes is lost: %s", inst->cfg->name, n,
                      strerror(-r));
    }
    free(buf);
}

int instance_restore(bh_inst *inst, const char *map, size_t size)
{
    const struct state_record *record;
    const void *bytes;
    bool came_back;
    bh_rc rc = BH_OK;

    if (inst->current == NULL || inst->current->desc->restore == NULL)
        return 0;
    record = state_find(map, size, config_plugin_name(inst->cfg), &bytes);
    if (record == NULL)
        return 0;
    came_back = boundary_restore(inst->id, inst->current->desc, inst->current->self,
                                 record->version, bytes, record->len, &rc);
    if (!came_back || rc != BH_OK)
        tell_state(inst, HOOK_RESTORE, came_back, rc);
    return !came_back ? -EFAULT : rc != BH_OK ? -EINVAL : 0;
}

void incarnation_free(struct incarnation *inc)
{
    bh_inst *inst = inc->inst;
    char why[160];

    inc->is_closing = true;
    incarnation_run(inc);
    alarm_drop_all(inc);
    pending_drop_all(inc);
    streams_disown(&inc->streams);
    if (inc->desc->close != NULL && !inst->is_ejected &&
        !boundary_void(inst->id, HOOK_CLOSE, inc->desc->close, inc->self)) {
        log_error("plugin '%s': close() %s", inst->cfg->name, fault_text(why, sizeof why));
        settle_crash(inst, SHM_RECOVERED);
    }
    forget(inc);
}

static void try_open(bh_inst *inst)
{
    struct diag diag;
    char text[512];

    int r;

    diag_init(&diag);
    r = instance_open(inst, &diag);
    if (r < 0) {
        if (r == -EFAULT) /* open() crashed */
            admit_charge(inst, NULL, &recover_self.fault);
        inst->retry_delay_ms = inst->retry_delay_ms == 0 ? RETRY_FIRST_MS
                                                         : inst->retry_delay_ms * 2;
        if (inst->retry_delay_ms > RETRY_LAST_MS)
            inst->retry_delay_ms = RETRY_LAST_MS;
        inst->retry_at_ms = clock_mono_ms() + inst->retry_delay_ms;
        for (int i = 0; i < diag.n; i++) {
            diag_format(&diag, i, text, sizeof text);
            log_error("%s", text);
        }
        log_error("plugin '%s' has no working instance; next try in %u ms", inst->cfg->name,
                  inst->retry_delay_ms);
    } else if (inst->is_started && inst->desc->start != NULL) {
        bh_rc rc;

        incarnation_run(inst->current);
        if (!boundary_self(inst->id, HOOK_START, inst->desc->start, inst->current->self, &rc))
            settle_crash(inst, SHM_RECOVERED);
    }
    diag_fini(&diag);
}

struct incarnation *incarnation_get_slow(bh_inst *inst)
{
    if (inst->is_ejected || clock_mono_ms() < inst->retry_at_ms)
        return NULL;
    try_open(inst);
    if (inst->current != NULL)
        inst->current->refs++;
    return inst->current;
}

bool instance_has_left(const bh_inst *inst, uintptr_t function)
{
    uintptr_t base = inst->fresh != NULL ? text_object(function) : 0;

    return base != 0 && base != inst->fresh->base;
}

uint32_t instance_retry_s(const bh_inst *inst)
{
    int64_t left_ms = inst->is_ejected ? 0 : inst->retry_at_ms - clock_mono_ms();

    return left_ms > 0 ? (uint32_t)((left_ms + 999) / 1000) : 1;
}

/* ---- after a crash ---- */

/* Where no copy can be made, the object goes on as it is: its statics may be what the crash left. */
static void replace_object(bh_inst *inst, int64_t now_ms)
{
    struct object *fresh;
    struct diag diag;
    char text[512];

    inst->copied_at_ms = now_ms; /* a failure counts as well: it is not tried in a tight circle */
    if (fresh_is_exhausted()) {
        eject(inst->id, "so many copies of crashed objects are in memory that a fresh worker is "
                        "better");
        return;
    }
    diag_init(&diag);
    if (fresh_load(inst->object, inst->id, &diag, &fresh) == 0) {
        log_info("plugin '%s' goes on with a fresh copy of %s: it crashed more than once",
                 inst->cfg->name, fresh->path);
        atomic_fetch_add_explicit(&inst->stat->copies, 1, memory_order_relaxed);
        /* What crashed is not unloaded: requests may still be in it, and its destructors cannot be
         * trusted. */
        inst->object->uses--;
        inst->object = inst->fresh = fresh;
        fresh->uses++;
        inst->desc = fresh->desc;
        inst->is_stained = false;
    }
    for (int i = 0; i < diag.n; i++) {
        diag_format(&diag, i, text, sizeof text);
        log_error("plugin '%s' goes on with what is left of its static variables: %s",
                  inst->cfg->name, text);
    }
    diag_fini(&diag);
}

static bool is_within(int64_t since_ms, int64_t now_ms, uint32_t ms)
{
    return since_ms != 0 && now_ms - since_ms < ms;
}

void instance_renew(bh_inst *inst, struct incarnation *inc)
{
    int64_t now_ms;
    bool is_repeat;

    if (inst->object->cxa_globals != NULL) /* an exception may be half thrown: forget it */
        memset(inst->object->cxa_globals(), 0, sizeof(void *) + sizeof(unsigned int));
    if (inc != inst->current || inc == NULL)
        return; /* replaced already */
    if (eject_is_out(inst->id)) {
        instance_eject(inst, NULL);
        return;
    }
    now_ms = clock_mono_ms();
    is_repeat = is_within(inst->crashed_at_ms, now_ms, inst->limits.window_ms);
    inst->crashed_at_ms = now_ms;
    inst->is_stained = true;
    inst->current = NULL;
    incarnation_put(inc);
    inst->retry_at_ms = 0;
    if (is_repeat && inst->limits.crashes > 0 &&
        !is_within(inst->copied_at_ms, now_ms, inst->limits.window_ms))
        replace_object(inst, now_ms);
    atomic_fetch_add_explicit(&inst->stat->renewals, 1, memory_order_relaxed);
    try_open(inst);
    remains_settle();
}

void instance_freshen(bh_inst *inst)
{
    struct incarnation *inc = inst->current;
    int64_t now_ms = clock_mono_ms();

    if (!inst->is_stained || inst->is_ejected ||
        is_within(inst->copied_at_ms, now_ms, inst->limits.open_ms))
        return;
    replace_object(inst, now_ms);
    if (inst->is_stained)
        return; /* there is no fresh copy: the instance that there is will do */
    inst->current = NULL;
    if (inc != NULL)
        incarnation_put(inc);
    inst->retry_at_ms = 0;
    try_open(inst);
}

void instance_eject(bh_inst *inst, const char *why)
{
    struct incarnation *inc = inst->current;

    if (why != NULL)
        log_error("plugin '%s' is taken out of this worker, which asks to be replaced: %s",
                  inst->cfg->name, why);
    if (!inst->is_ejected) {
        atomic_fetch_add_explicit(&inst->stat->ejections, 1, memory_order_relaxed);
        admit_charge_eject(inst);
    }
    inst->is_ejected = true;
    if (inc != NULL) {
        alarm_drop_all(inc);
        pending_drop_all(inc);
    }
    inst->current = NULL;
    if (inc != NULL)
        incarnation_put(inc);
}
