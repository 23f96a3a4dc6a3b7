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
#include "obs/log.h"
#include "plugin/boundary.h"
#include "plugin/eject.h"
#include "plugin/host.h"
#include "plugin/object.h"
#include "plugin/options.h"
#include "plugin/recover.h"

#define RETRY_FIRST_MS 500
#define RETRY_LAST_MS 30000
#define OPTIONS_MEMORY (16u << 20)

/* A fault outside a request: its record is complete as it is. */
static void finish_record(char verdict)
{
    struct shm_crash *record = recover_self.fault.record;

    if (record == NULL)
        return;
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
    inst->desc = object->desc;
    inst->stat = &shm->plugin[index];
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
    arena_fini(&inst->arena);
    inst->magic = 0;
    free(inst);
}

int instance_validate(bh_inst *inst, struct diag *diag)
{
    struct bh_errs errs = {.inst = inst, .diag = diag};
    const struct config_plugin *p = inst->cfg;
    char why[160];
    bh_rc rc;

    if (inst->desc->validate == NULL)
        return 0;
    if (!boundary_validate(inst->id, inst->desc, inst->options, &errs, &rc)) {
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
    inc->refs = 1;
    if (inst->desc->open != NULL &&
        !boundary_open(inst->id, inst->desc, inst, inst->options, &inc->self, &rc)) {
        diag_add(diag, inst->config->path, p->pos.line, p->pos.column, NULL,
                 "plugin '%s': open() %s", p->name, fault_text(why, sizeof why));
        finish_record(SHM_REFUSED);
        free(inc);
        return -EFAULT;
    }
    if (rc != BH_OK) {
        diag_add(diag, inst->config->path, p->pos.line, p->pos.column,
                 "the plugin's own log line above says why", "plugin '%s': open() failed", p->name);
        free(inc);
        return -EINVAL;
    }
    inst->current = inc;
    inst->retry_delay_ms = 0;
    return 0;
}

static void call_self(bh_inst *inst, enum hook hook, bh_rc (*fn)(void *))
{
    char why[160];
    bh_rc rc;

    if (fn == NULL || inst->current == NULL)
        return;
    if (!boundary_self(inst->id, hook, fn, inst->current->self, &rc)) {
        log_error("plugin '%s': %s() %s", inst->cfg->name, hook_name(hook),
                  fault_text(why, sizeof why));
        finish_record(SHM_RECOVERED);
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

void incarnation_free(struct incarnation *inc)
{
    bh_inst *inst = inc->inst;
    char why[160];

    if (inst->desc->close != NULL && !inst->is_ejected &&
        !boundary_void(inst->id, HOOK_CLOSE, inst->desc->close, inc->self)) {
        log_error("plugin '%s': close() %s", inst->cfg->name, fault_text(why, sizeof why));
        finish_record(SHM_RECOVERED);
    }
    free(inc);
}

static void try_open(bh_inst *inst)
{
    struct diag diag;
    char text[512];

    diag_init(&diag);
    if (instance_open(inst, &diag) < 0) {
        inst->retry_delay_ms = inst->retry_delay_ms == 0 ? RETRY_FIRST_MS : inst->retry_delay_ms * 2;
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

        if (!boundary_self(inst->id, HOOK_START, inst->desc->start, inst->current->self, &rc))
            finish_record(SHM_RECOVERED);
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

void instance_renew(bh_inst *inst, struct incarnation *inc)
{
    if (inst->object->cxa_globals != NULL) /* an exception may be half thrown: forget it */
        memset(inst->object->cxa_globals(), 0, sizeof(void *) + sizeof(unsigned int));
    if (inc != inst->current || inc == NULL)
        return; /* replaced already */
    if (eject_is_out(inst->id)) {
        instance_eject(inst, NULL);
        return;
    }
    inst->current = NULL;
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
    inst->is_ejected = true;
    inst->current = NULL;
    if (inc != NULL)
        incarnation_put(inc);
}
