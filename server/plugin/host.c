#include "plugin/host.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/diag.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/alarm.h"
#include "plugin/instance.h"
#include "plugin/options.h"
#include "plugin/request.h"
#include "plugin/trace.h"

int64_t host_loop_mono_ns, host_loop_real_ns;

static pthread_t loop;

#define LOG_LINE_MAX 4000

static bool is_inst(const bh_inst *inst)
{
    return inst != NULL && inst->magic == INSTANCE_MAGIC;
}

/* Shall a line of that level be written? What the operator has set since counts, then its own level in
 * the config, then that of the server. */
static bool is_logged(const bh_inst *inst, int32_t level)
{
    uint32_t most = 0;

    if (is_inst(inst)) {
        most = inst->stat != NULL
                   ? atomic_load_explicit(&inst->stat->log_level, memory_order_relaxed)
                   : 0;
        if (most < BH_LOG_ERROR || most > BH_LOG_DEBUG)
            most = (uint32_t)inst->cfg->log_level;
    }
    return most != 0 ? level <= (int32_t)most : log_is_on(level);
}

static void host_log(bh_inst *inst, int32_t level, const char *msg, size_t n)
{
    struct log_subject about = {0};
    char text[LOG_LINE_MAX];

    if (level < BH_LOG_ERROR || level > BH_LOG_DEBUG)
        level = BH_LOG_INFO;
    if (msg == NULL || !is_logged(inst, level))
        return;
    if (n > sizeof text)
        n = sizeof text;
    memcpy(text, msg, n); /* faults here, if it must */
    if (host_is_loop() && request_is(incarnation_request))
        about = request_subject(incarnation_request);
    log_plugin(level, is_inst(inst) ? inst->cfg->name : "?", &about, text, n);
}

static int32_t host_log_enabled(bh_inst *inst, int32_t level)
{
    return is_logged(inst, level);
}

static int64_t host_now_ns(int32_t clock)
{
    switch (clock) {
    case BH_CLOCK_REAL: return clock_real_ns();
    case BH_CLOCK_MONO: return clock_mono_ns();
    case BH_CLOCK_LOOP: return host_loop_mono_ns != 0 ? host_loop_mono_ns : clock_mono_ns();
    case BH_CLOCK_LOOP_REAL: return host_loop_real_ns != 0 ? host_loop_real_ns : clock_real_ns();
    default: return -1;
    }
}

static bh_rc host_random(void *buf, size_t n)
{
    char *p = buf;

    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);

        if (got <= 0)
            return BH_EINVAL; /* EFAULT: the kernel checked the pointer */
        p += got;
        n -= (size_t)got;
    }
    return BH_OK;
}

static bh_str host_info(bh_inst *inst, const char *key)
{
    if (!is_inst(inst) || key == NULL)
        return (bh_str){NULL, 0};
    if (strcmp(key, "name") == 0)
        return bh_s(config_plugin_name(inst->cfg));
    if (strcmp(key, "module") == 0)
        return bh_s(inst->cfg->module);
    if (strcmp(key, "worker") == 0)
        return bh_s(inst->worker_text);
    if (strcmp(key, "version") == 0)
        return bh_s(BULKHEAD_VERSION);
    if (strcmp(key, "config_dir") == 0)
        return bh_s(inst->config->dir);
    return (bh_str){NULL, 0};
}

static bh_rc host_secret(bh_inst *inst, const char *name, bh_str *out)
{
    if (!is_inst(inst) || name == NULL)
        return BH_EINVAL;
    for (const bh_opt *o = inst->desc->options; o != NULL && o->name != NULL; o++) {
        const char *at = (const char *)inst->options + o->off;
        bh_str v;

        if (o->type != BH_T_SECRET || strcmp(o->name, name) != 0)
            continue;
        v = o->size == sizeof(bh_str) ? *(const bh_str *)(const void *)at
                                      : bh_s(*(const char *const *)(const void *)at);
        if (v.p == NULL)
            return BH_ENOENT;
        *out = v;
        return BH_OK;
    }
    return BH_ENOENT;
}

static bh_rc host_cfg_raw(bh_inst *inst, bh_str *json)
{
    bh_str text;

    if (!is_inst(inst))
        return BH_EINVAL;
    text = options_json(inst->cfg->options, &inst->arena);
    if (text.p == NULL)
        return BH_ENOMEM;
    *json = text;
    return BH_OK;
}

static void host_cfg_error(bh_errs *errs, const char *path, const char *msg)
{
    const struct config_plugin *p;

    if (errs == NULL || !is_inst(errs->inst))
        return;
    p = errs->inst->cfg;
    diag_add(errs->diag, errs->inst->config->path, p->pos.line, p->pos.column, NULL,
             "plugin '%s': %s%s%s", p->name, path != NULL ? path : "", path != NULL ? ": " : "",
             msg != NULL ? msg : "not valid");
    errs->n++;
}

bool host_is_loop(void)
{
    return pthread_equal(pthread_self(), loop) != 0;
}

bh_host *host_table(void)
{
    static bh_host table;

    if (table.struct_size == 0) {
        loop = pthread_self();
        table.struct_size = sizeof table;
        table.abi_major = BH_ABI_MAJOR;
        table.abi_minor = BH_ABI_MINOR;
        table.log = host_log;
        table.log_enabled = host_log_enabled;
        table.now_ns = host_now_ns;
        table.random = host_random;
        table.info = host_info;
        table.secret = host_secret;
        table.cfg_raw = host_cfg_raw;
        table.cfg_error = host_cfg_error;
        host_fill_request(&table);
        host_fill_message(&table);
        host_fill_metrics(&table);
        host_fill_events(&table);
        alarm_fill(&table);
        trace_fill(&table);
    }
    return &table;
}
