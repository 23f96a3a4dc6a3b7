#include "ipc/series.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/must.h"
#include "base/siphash.h"
#include "ipc/shm.h"

#define PROBES     64
#define FREE       0
#define FREE_AGAIN 1
#define FULL_AT    (SERIES_MAX / 4 * 3)

static uint64_t digest(const struct shm *shm, const void *p, size_t n)
{
    uint64_t key = siphash13(shm->tally_key, p, n);

    return key > FREE_AGAIN ? key : key + 2;
}

/* ---- tables of digests ---- */

/* The entry of that key; -1: there is none. size: a power of two. */
static int find(const _Atomic uint64_t *table, uint32_t size, uint64_t key)
{
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t at = (uint32_t)(key + i) & (size - 1);
        uint64_t found = atomic_load_explicit(&table[at], memory_order_acquire);

        if (found == key)
            return (int)at;
        if (found == FREE)
            break;
    }
    return -1;
}

/* The same, or a new one. Who comes second for a place looks whether it is for the same key. */
static int claim(_Atomic uint64_t *table, uint32_t size, uint64_t key, bool *is_new)
{
    *is_new = false;
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t at = (uint32_t)(key + i) & (size - 1);
        uint64_t found = atomic_load(&table[at]);

        while (found == FREE || found == FREE_AGAIN) {
            if (atomic_compare_exchange_strong(&table[at], &found, key)) {
                *is_new = true;
                return (int)at;
            }
        }
        if (found == key)
            return (int)at;
    }
    return -1;
}

/* ---- definitions ---- */

static bool is_same_family(const struct series_def *d, const char *name)
{
    return strncmp(d->name, name, sizeof d->name) == 0;
}

static bool is_gauge(uint32_t type)
{
    return type != SERIES_COUNTER && type != SERIES_HISTOGRAM;
}

/* A name has one type, whoever defines it: that is what a reader of all of them expects. */
static bool is_taken(const struct shm *shm, const struct series_spec *spec)
{
    for (uint32_t i = 0; i < SERIES_DEFS; i++) {
        const struct series_def *d = series_def_at(shm, i);

        if (d != NULL && d->plugin != spec->plugin && is_same_family(d, spec->name) &&
            d->type != (uint32_t)spec->type && !(is_gauge(d->type) && is_gauge(spec->type)))
            return true;
    }
    return false;
}

static uint64_t def_digest(const struct shm *shm, const struct series_spec *spec)
{
    char text[16 + (SERIES_LABELS + 1) * SERIES_NAME];
    uint32_t head[3] = {spec->plugin, (uint32_t)spec->type, spec->n_labels};
    size_t n = sizeof head;

    memcpy(text, head, n);
    memcpy(text + n, spec->name, strlen(spec->name) + 1);
    n += strlen(spec->name) + 1;
    for (uint32_t i = 0; i < spec->n_labels; i++) {
        memcpy(text + n, spec->label[i], strlen(spec->label[i]) + 1);
        n += strlen(spec->label[i]) + 1;
    }
    return digest(shm, text, n);
}

static void fill_def(struct shm *shm, struct series_def *d, const struct series_spec *spec)
{
    d->plugin = spec->plugin;
    d->type = (uint32_t)spec->type;
    d->n_labels = spec->n_labels;
    d->edition = atomic_fetch_add(&shm->series.editions, 1) + 1;
    snprintf(d->name, sizeof d->name, "%s", spec->name);
    snprintf(d->help, sizeof d->help, "%s", spec->help);
    for (uint32_t i = 0; i < spec->n_labels; i++)
        snprintf(d->label[i], sizeof d->label[i], "%s", spec->label[i]);
    atomic_store_explicit(&d->is_ready, 1, memory_order_release);
}

int series_define(struct shm *shm, const struct series_spec *spec, uint32_t *out)
{
    struct series_table *t = &shm->series;
    struct series_share *share;
    uint64_t key;
    bool is_new;
    int at;

    must(spec->plugin < shm->n_plugins && spec->n_labels <= SERIES_LABELS);
    share = &shm->plugin[spec->plugin].series;
    key = def_digest(shm, spec);
    at = find(t->def_key, SERIES_DEFS, key);
    if (at < 0) {
        if (is_taken(shm, spec))
            return -EEXIST;
        if (atomic_load(&share->n_defs) >= SERIES_PLUGIN_DEFS)
            return -ENOSPC;
        at = claim(t->def_key, SERIES_DEFS, key, &is_new);
        if (at < 0)
            return -ENOSPC;
        if (is_new)
            atomic_fetch_add(&share->n_defs, 1);
    }
    if (atomic_load_explicit(&t->def[at].is_ready, memory_order_acquire) == 0)
        fill_def(shm, &t->def[at], spec);
    *out = (uint32_t)at;
    return 0;
}

/* ---- series ---- */

/* Values as they stand in an entry. False: one is too long. */
static bool encode(const struct series_def *d, const struct series_label *label, char *text,
                   size_t *out)
{
    size_t n = 0;

    for (uint32_t i = 0; i < d->n_labels; i++) {
        if (label[i].n > SERIES_VALUE)
            return false;
        text[n++] = (char)label[i].n;
        if (label[i].n > 0)
            memcpy(text + n, label[i].p, label[i].n);
        n += label[i].n;
    }
    *out = n;
    return true;
}

_Static_assert(SERIES_LABELS *(SERIES_VALUE + 1) <= SERIES_TEXT, "all values fit");

/* is_extra: beyond the share, for the one entry "_overflow" of a definition. -1: there is no room. */
static int find_series(struct shm *shm, uint32_t def, const char *text, size_t n, bool is_extra)
{
    struct series_table *t = &shm->series;
    const struct series_def *d = &t->def[def];
    struct series_share *share = &shm->plugin[d->plugin].series;
    char named[sizeof(uint32_t) + SERIES_TEXT];
    struct series *s;
    uint64_t key;
    bool is_new;
    int at;

    memcpy(named, &def, sizeof def);
    memcpy(named + sizeof def, text, n);
    key = digest(shm, named, sizeof def + n);
    at = find(t->series_key, SERIES_MAX, key);
    if (at < 0) {
        if (!is_extra && (atomic_load(&share->n_series) >= SERIES_PLUGIN_SERIES ||
                          atomic_load(&t->n_series) >= FULL_AT))
            return -1;
        at = claim(t->series_key, SERIES_MAX, key, &is_new);
        if (at < 0)
            return -1;
        if (is_new) {
            atomic_fetch_add(&share->n_series, 1);
            atomic_fetch_add(&t->n_series, 1);
        }
    }
    s = &t->series[at];
    if (__builtin_expect(atomic_load_explicit(&s->is_ready, memory_order_acquire) == 0, 0)) {
        s->def = def;
        memcpy(s->text, text, n);
        s->text_len = (uint32_t)n;
        atomic_store_explicit(&s->is_ready, 1, memory_order_release);
    }
    return at;
}

/* Its buckets; -1: all are taken. */
static int find_histogram(struct shm *shm, uint32_t at, uint32_t plugin)
{
    struct series_table *t = &shm->series;
    struct series_share *share = &shm->plugin[plugin].series;
    uint32_t number = atomic_load(&t->series[at].histogram);

    if (number != 0)
        return number <= SERIES_HISTOGRAMS ? (int)number - 1 : -1;
    if (atomic_load(&share->n_histograms) >= SERIES_PLUGIN_HISTOGRAMS)
        return -1;
    for (uint32_t i = 0; i < SERIES_HISTOGRAMS; i++) {
        uint32_t nobody = 0;

        if (!atomic_compare_exchange_strong(&t->owner[i], &nobody, at + 1))
            continue;
        if (atomic_compare_exchange_strong(&t->series[at].histogram, &number, i + 1)) {
            atomic_fetch_add(&share->n_histograms, 1);
            return (int)i;
        }
        atomic_store(&t->owner[i], 0); /* another was first */
        return (int)number - 1;
    }
    return -1;
}

static uint64_t to_cell(double v)
{
    uint64_t bits;

    if (v == 0)
        v = -0.0;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double from_cell(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, sizeof v);
    return v + 0.0; /* of -0.0, too, 0 */
}

static void add_to(_Atomic uint64_t *cell, double v)
{
    uint64_t old = atomic_load_explicit(cell, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(cell, &old, to_cell(from_cell(old) + v),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

static bool is_fit(uint32_t type, enum series_op op, double v)
{
    switch (op) {
    case SERIES_ADD: return isfinite(v) && (is_gauge(type) || (type == SERIES_COUNTER && v >= 0));
    case SERIES_SET: return is_gauge(type) && !isnan(v);
    case SERIES_OBSERVE: return type == SERIES_HISTOGRAM && isfinite(v);
    default: return false;
    }
}

/* False: there is no room. */
static bool apply(struct shm *shm, uint32_t slot, uint32_t def, enum series_op op, const char *text,
                  size_t n, bool is_extra, double v)
{
    struct series_slot *mine = &shm->worker[slot].series;
    int at = find_series(shm, def, text, n, is_extra), h;

    if (at < 0)
        return false;
    switch (op) {
    case SERIES_SET:
        atomic_store_explicit(&mine->cell[at], to_cell(v), memory_order_relaxed);
        return true;
    case SERIES_ADD: add_to(&mine->cell[at], v); return true;
    default:
        h = find_histogram(shm, (uint32_t)at, shm->series.def[def].plugin);
        if (h < 0)
            return false;
        atomic_fetch_add_explicit(&mine->histogram[h].bucket[histogram_x_index(v)], 1,
                                  memory_order_relaxed);
        add_to(&mine->histogram[h].sum, v);
        return true;
    }
}

static int update_overflow(struct shm *shm, uint32_t slot, uint32_t def, enum series_op op,
                           double v)
{
    struct series_label label[SERIES_LABELS];
    const struct series_def *d = &shm->series.def[def];
    char text[SERIES_TEXT];
    size_t n;

    for (int i = 0; i < SERIES_LABELS; i++)
        label[i] = (struct series_label){SERIES_OVERFLOW, sizeof SERIES_OVERFLOW - 1};
    /* Of gauges of several things there is no sum. */
    if (d->n_labels == 0 || is_gauge(d->type) || !encode(d, label, text, &n) ||
        !apply(shm, slot, def, op, text, n, true, v)) {
        atomic_fetch_add(&shm->plugin[d->plugin].series.n_dropped, 1);
        return -ENOBUFS;
    }
    atomic_fetch_add(&shm->plugin[d->plugin].series.n_overflowed, 1);
    return -ENOSPC;
}

int series_update(struct shm *shm, uint32_t slot, uint32_t plugin, uint32_t def, enum series_op op,
                  const struct series_label *label, double v)
{
    const struct series_def *d = def < SERIES_DEFS ? &shm->series.def[def] : NULL;
    char text[SERIES_TEXT];
    size_t n;

    must(slot < shm->n_workers && plugin < shm->n_plugins);
    if (d == NULL || atomic_load_explicit(&d->is_ready, memory_order_acquire) == 0 ||
        d->plugin != plugin || d->n_labels > SERIES_LABELS || !is_fit(d->type, op, v)) {
        atomic_fetch_add(&shm->plugin[plugin].series.n_dropped, 1);
        return -EINVAL;
    }
    if (!encode(d, label, text, &n) || !apply(shm, slot, def, op, text, n, false, v))
        return update_overflow(shm, slot, def, op, v);
    return 0;
}

/* ---- readers ---- */

const struct series_def *series_def_at(const struct shm *shm, uint32_t i)
{
    const struct series_def *d;

    if (i >= SERIES_DEFS || atomic_load(&shm->series.def_key[i]) <= FREE_AGAIN)
        return NULL;
    d = &shm->series.def[i];
    if (atomic_load_explicit(&d->is_ready, memory_order_acquire) == 0 ||
        d->plugin >= shm->n_plugins || d->type < SERIES_COUNTER || d->type >= SERIES_TYPE_END ||
        d->n_labels > SERIES_LABELS)
        return NULL;
    return d;
}

const struct series *series_at(const struct shm *shm, uint32_t i)
{
    const struct series *s;

    if (i >= SERIES_MAX || atomic_load(&shm->series.series_key[i]) <= FREE_AGAIN)
        return NULL;
    s = &shm->series.series[i];
    if (atomic_load_explicit(&s->is_ready, memory_order_acquire) == 0 || s->text_len > SERIES_TEXT)
        return NULL;
    return s;
}

static double combine(enum series_type type, double a, double b)
{
    switch (type) {
    case SERIES_GAUGE_MAX: return a > b ? a : b;
    case SERIES_GAUGE_MIN: return a < b ? a : b;
    default: return a + b;
    }
}

bool series_value(const struct shm *shm, uint32_t i, enum series_type type, double *out)
{
    double v = 0;
    int n = 0;

    for (uint32_t k = 0; i < SERIES_MAX && k < shm->n_workers; k++) {
        const struct shm_worker *w = &shm->worker[k];
        uint64_t bits;

        if (atomic_load(&w->metrics.is_used) == 0 ||
            (is_gauge(type) && atomic_load(&w->metrics.is_serving) == 0))
            continue;
        bits = atomic_load_explicit(&w->series.cell[i], memory_order_relaxed);
        if (bits == 0)
            continue;
        v = n++ == 0 ? from_cell(bits) : combine(type, v, from_cell(bits));
    }
    if (n == 0)
        return false;
    *out = type == SERIES_GAUGE_AVG ? v / n : v;
    return true;
}

bool series_histogram(const struct shm *shm, uint32_t i, uint64_t bucket[HISTOGRAM_X_SIZE],
                      double *sum)
{
    uint32_t number = i < SERIES_MAX ? atomic_load(&shm->series.series[i].histogram) : 0;

    if (number == 0 || number > SERIES_HISTOGRAMS)
        return false;
    for (uint32_t k = 0; k < shm->n_workers; k++) {
        const struct histogram_x *h = &shm->worker[k].series.histogram[number - 1];

        if (atomic_load(&shm->worker[k].metrics.is_used) == 0)
            continue;
        *sum += from_cell(atomic_load_explicit(&h->sum, memory_order_relaxed));
        for (int b = 0; b < HISTOGRAM_X_SIZE; b++)
            bucket[b] += atomic_load_explicit(&h->bucket[b], memory_order_relaxed);
    }
    return true;
}

/* Of several of that name the one that was defined last: a reload may have changed type or labels. */
static int find_def(const struct shm *shm, uint32_t plugin, const char *name)
{
    size_t n = strlen(name);
    uint64_t edition = 0;
    int found = -1;

    for (uint32_t i = 0; i < SERIES_DEFS; i++) {
        const struct series_def *d = series_def_at(shm, i);
        size_t m = d != NULL ? strnlen(d->name, sizeof d->name) : 0;

        if (d == NULL || d->plugin != plugin || d->edition < edition ||
            strncmp(d->name, name, m) != 0)
            continue;
        if (m == n || (d->type == SERIES_COUNTER && strcmp(name + m, "_total") == 0)) {
            edition = d->edition;
            found = (int)i;
        }
    }
    return found;
}

int series_read(const struct shm *shm, uint32_t plugin, const char *name,
                struct series_reading *out)
{
    int def = find_def(shm, plugin, name), n = 0;
    struct series_reading r = {0};

    if (def < 0)
        return -ENOENT;
    r.type = (enum series_type)shm->series.def[def].type;
    for (uint32_t i = 0; i < SERIES_MAX; i++) {
        const struct series *s = series_at(shm, i);
        uint64_t bucket[HISTOGRAM_X_SIZE] = {0};
        double v = 0;

        if (s == NULL || s->def != (uint32_t)def)
            continue;
        if (r.type == SERIES_HISTOGRAM ? !series_histogram(shm, i, bucket, &v)
                                       : !series_value(shm, i, r.type, &v))
            continue;
        for (int b = 0; r.type == SERIES_HISTOGRAM && b < HISTOGRAM_X_SIZE; b++)
            r.count += bucket[b];
        r.value = n++ == 0 ? v : combine(r.type, r.value, v);
    }
    if (n == 0)
        return -ENODATA;
    if (r.type == SERIES_GAUGE_AVG)
        r.value /= n;
    *out = r;
    return 0;
}

/* ---- beginnings ---- */

void series_begin(struct shm *shm, uint32_t slot)
{
    for (uint32_t i = 0; i < SERIES_MAX; i++) {
        const struct series *s = series_at(shm, i);
        const struct series_def *d = s != NULL ? series_def_at(shm, s->def) : NULL;

        if (d != NULL && is_gauge(d->type))
            atomic_store(&shm->worker[slot].series.cell[i], 0);
    }
}

static void forget_series(struct shm *shm, uint32_t i)
{
    struct series_table *t = &shm->series;
    uint32_t number = atomic_load(&t->series[i].histogram);

    for (uint32_t k = 0; k < shm->n_workers; k++) {
        struct series_slot *slot = &shm->worker[k].series;

        if (atomic_load(&shm->worker[k].metrics.is_used) == 0)
            continue;
        atomic_store(&slot->cell[i], 0);
        if (number > 0 && number <= SERIES_HISTOGRAMS)
            memset((void *)&slot->histogram[number - 1], 0, sizeof slot->histogram[0]);
    }
    if (number > 0 && number <= SERIES_HISTOGRAMS)
        atomic_store(&t->owner[number - 1], 0);
    atomic_store(&t->series[i].histogram, 0);
    atomic_store(&t->series[i].is_ready, 0);
    atomic_store(&t->series_key[i], FREE_AGAIN);
    atomic_fetch_sub(&t->n_series, 1);
}

void series_forget(struct shm *shm, uint32_t plugin)
{
    struct series_table *t = &shm->series;

    for (uint32_t i = 0; i < SERIES_MAX; i++) {
        const struct series *s = series_at(shm, i);
        const struct series_def *d = s != NULL ? series_def_at(shm, s->def) : NULL;

        if (d != NULL && d->plugin == plugin)
            forget_series(shm, i);
    }
    for (uint32_t i = 0; i < SERIES_DEFS; i++) {
        const struct series_def *d = series_def_at(shm, i);

        if (d == NULL || d->plugin != plugin)
            continue;
        atomic_store(&t->def[i].is_ready, 0);
        atomic_store(&t->def_key[i], FREE_AGAIN);
    }
    memset((void *)&shm->plugin[plugin].series, 0, sizeof shm->plugin[plugin].series);
}
