/*
 * host_metrics.c - bh_metric() and what goes with it: checks what plugins say, and keeps it in shared
 * memory (ipc/series.h).
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/exposition.h"
#include "obs/log.h"
#include "plugin/host.h"
#include "plugin/instance.h"

_Static_assert(SERIES_COUNTER == BH_M_COUNTER && SERIES_GAUGE == BH_M_GAUGE &&
                   SERIES_HISTOGRAM == BH_M_HISTOGRAM && SERIES_GAUGE_MAX == BH_M_GAUGE_MAX &&
                   SERIES_GAUGE_MIN == BH_M_GAUGE_MIN && SERIES_GAUGE_AVG == BH_M_GAUGE_AVG,
               "types are the same numbers");

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && strcmp(s + n - m, end) == 0;
}

/* NULL, or why it may not be called that. Names are ASCII: only they work in every version of
 * Prometheus and in both formats. */
static const char *name_fault(const char *name)
{
    static const char *const ends[] = {"_total", "_count", "_sum", "_bucket", "_created", "_info"};

    if (!exposition_is_name(name, strlen(name)))
        return "a name has letters, digits and underscores, and does not begin with a digit";
    if (strncmp(name, "bulkhead_", 9) == 0 || strncmp(name, "process_", 8) == 0)
        return "names that begin with bulkhead_ or process_ are the server's own";
    if (strncmp(name, "__", 2) == 0)
        return "names that begin with __ are Prometheus' own";
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends_with(name, ends[i]))
            return "names that end in _total (but for a counter's), _count, _sum, _bucket, "
                   "_created or _info belong to other series";
    return NULL;
}

static const char *label_fault(const struct series_spec *spec)
{
    static const char *const taken[] = {"plugin", "le", "quantile", "job", "instance"};

    for (uint32_t i = 0; i < spec->n_labels; i++) {
        const char *label = spec->label[i];

        if (!exposition_is_name(label, strlen(label)) || strncmp(label, "__", 2) == 0)
            return "a label has letters, digits and underscores, and does not begin with a digit "
                   "or __";
        for (size_t k = 0; k < sizeof taken / sizeof taken[0]; k++)
            if (strcmp(label, taken[k]) == 0)
                return "labels plugin, le, quantile, job and instance are taken";
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(label, spec->label[k]) == 0)
                return "two labels have the same name";
    }
    return NULL;
}

static bh_rc refuse(const bh_inst *inst, const char *name, const char *why, bh_rc rc)
{
    log_error("plugin '%s': metric '%.80s' is refused: %s", inst->cfg->name, name, why);
    return rc;
}

/* Copies, since what the plugin points to may fault, or change. False: it is longer. */
static bool copy_name(char to[SERIES_NAME], const char *from)
{
    size_t n = strnlen(from, SERIES_NAME);

    if (n == SERIES_NAME)
        return false;
    memcpy(to, from, n);
    to[n] = '\0';
    return true;
}

static bh_rc host_metric(bh_inst *inst, int32_t type, const char *name, const char *help,
                         const char *const *labels, uint32_t *id)
{
    char copy[SERIES_NAME], label[SERIES_LABELS][SERIES_NAME], text[SERIES_HELP];
    struct series_spec spec = {.name = copy, .help = text};
    const char *fault;
    uint32_t number;
    int r;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || name == NULL || id == NULL)
        return BH_EINVAL;
    *id = 0;
    if (type < BH_M_COUNTER || type > BH_M_GAUGE_AVG)
        return refuse(inst, name, "there is no such type", BH_EINVAL);
    if (!copy_name(copy, name))
        return refuse(inst, name, "a name has at most 63 bytes", BH_EINVAL);
    snprintf(text, sizeof text, "%s", help != NULL && help[0] != '\0' ? help : "Of a plugin.");
    for (; labels != NULL && labels[spec.n_labels] != NULL; spec.n_labels++) {
        if (spec.n_labels == SERIES_LABELS)
            return refuse(inst, copy, "a metric has at most 4 labels", BH_EINVAL);
        if (!copy_name(label[spec.n_labels], labels[spec.n_labels]))
            return refuse(inst, copy, "a label's name has at most 63 bytes", BH_EINVAL);
        spec.label[spec.n_labels] = label[spec.n_labels];
    }
    if (type == BH_M_COUNTER && ends_with(copy, "_total"))
        copy[strlen(copy) - 6] = '\0'; /* the text says it again */
    fault = name_fault(copy);
    if (fault == NULL)
        fault = label_fault(&spec);
    if (fault != NULL)
        return refuse(inst, copy, fault, BH_EINVAL);
    spec.plugin = inst->id - 1;
    spec.type = (enum series_type)type;
    r = series_define(inst->shm, &spec, &number);
    if (r == -EEXIST)
        return refuse(inst, copy, "another plugin has one of that name and of another type",
                      BH_EINVAL);
    if (r < 0)
        return refuse(inst, copy, "a plugin has at most 64 metrics, and all together 1,024",
                      BH_ELIMIT);
    *id = number + 1;
    return BH_OK;
}

/* Once per metric and process: it will happen again and again. */
static void tell_once(const bh_inst *inst, uint32_t def, int r)
{
    static _Atomic uint32_t told[SERIES_DEFS / 32];
    uint32_t bit = 1u << (def % 32);

    if (def >= SERIES_DEFS || (atomic_fetch_or(&told[def / 32], bit) & bit) != 0)
        return;
    if (r == -EINVAL)
        log_warn("plugin '%s': an update of a metric is dropped: not one of its own, not an "
                 "operation for its type, or not a number",
                 inst->cfg->name);
    else
        log_warn("plugin '%s': metric '%.63s': no room for more sets of label values (1,024 of one "
                 "plugin, 63 bytes a value); %s",
                 inst->cfg->name, inst->shm->series.def[def].name,
                 r == -ENOSPC ? "the rest is counted as \"_overflow\"" : "the rest is dropped");
}

static void update(bh_inst *inst, uint32_t id, const bh_str *lv, enum series_op op, double v)
{
    struct series_label label[SERIES_LABELS] = {{NULL, 0}};
    const struct series_def *d;
    int r;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || id == 0)
        return; /* 0: bh_metric() has said why */
    d = series_def_at(inst->shm, id - 1);
    for (uint32_t i = 0; d != NULL && lv != NULL && i < d->n_labels; i++) {
        label[i].p = lv[i].p;
        label[i].n = lv[i].p != NULL ? lv[i].n : 0;
    }
    r = series_update(inst->shm, (uint32_t)inst->worker, inst->id - 1, id - 1, op, label, v);
    if (__builtin_expect(r < 0, 0))
        tell_once(inst, id - 1, r);
}

static void host_metric_add(bh_inst *inst, uint32_t id, const bh_str *lv, double v)
{
    update(inst, id, lv, SERIES_ADD, v);
}

static void host_metric_set(bh_inst *inst, uint32_t id, const bh_str *lv, double v)
{
    update(inst, id, lv, SERIES_SET, v);
}

static void host_metric_observe(bh_inst *inst, uint32_t id, const bh_str *lv, double v)
{
    update(inst, id, lv, SERIES_OBSERVE, v);
}

void host_fill_metrics(bh_host *h)
{
    h->metric = host_metric;
    h->metric_add = host_metric_add;
    h->metric_set = host_metric_set;
    h->metric_observe = host_metric_observe;
}
