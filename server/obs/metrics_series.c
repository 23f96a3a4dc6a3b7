#include "obs/metrics_series.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/shm.h"
#include "obs/exposition.h"

/* Copies of the definitions that are to be told, since what lies in shared memory may change. */
struct told {
    struct series_def def;
    uint32_t number;
    bool is_first; /* of its family: its type and help are told */
};

struct item {  /* one series */
    int order; /* of its definition, in the sorted list */
    uint32_t number;
    size_t n;
    char text[SERIES_TEXT];
};

static enum family_type family_type_of(uint32_t type)
{
    return type == SERIES_COUNTER     ? FAMILY_COUNTER
           : type == SERIES_HISTOGRAM ? FAMILY_HISTOGRAM
                                      : FAMILY_GAUGE;
}

/* A copy whose strings end; false: it is not one to be told, or not sound. */
static bool take_def(const struct shm *shm, uint32_t i, struct told *out)
{
    const struct series_def *d = series_def_at(shm, i);

    if (d == NULL)
        return false;
    memcpy((void *)&out->def, (const void *)d, sizeof out->def);
    if (out->def.plugin >= shm->n_plugins || out->def.n_labels > SERIES_LABELS ||
        atomic_load(&shm->plugin[out->def.plugin].is_shown) == 0)
        return false;
    out->number = i;
    out->def.name[SERIES_NAME - 1] = out->def.help[SERIES_HELP - 1] = '\0';
    for (uint32_t k = 0; k < out->def.n_labels; k++) {
        out->def.label[k][SERIES_NAME - 1] = '\0';
        if (!exposition_is_name(out->def.label[k], strlen(out->def.label[k])))
            return false;
    }
    return exposition_is_name(out->def.name, strlen(out->def.name));
}

/* By family; in it by plugin, and the last definition of a plugin first. */
static int compare_told(const void *a, const void *b)
{
    const struct told *x = a, *y = b;
    int r = strcmp(x->def.name, y->def.name);

    if (r != 0)
        return r;
    if (x->def.plugin != y->def.plugin)
        return x->def.plugin < y->def.plugin ? -1 : 1;
    return x->def.edition > y->def.edition ? -1 : x->def.edition < y->def.edition;
}

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int r;

    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    r = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return r != 0 ? r : (x->n > y->n) - (x->n < y->n);
}

/* Leaves one definition per plugin, and one type per family. */
static int thin_out(struct told *told, int n)
{
    int kept = 0, first = 0;

    for (int i = 0; i < n; i++) {
        bool is_same = kept > 0 && strcmp(told[kept - 1].def.name, told[i].def.name) == 0;

        if (is_same && (told[kept - 1].def.plugin == told[i].def.plugin ||
                        family_type_of(told[first].def.type) != family_type_of(told[i].def.type)))
            continue;
        if (!is_same)
            first = kept;
        told[kept] = told[i];
        told[kept].is_first = !is_same;
        kept++;
    }
    return kept;
}

static int collect(const struct shm *shm, const struct told *told, int n, struct item *item,
                   int room)
{
    int16_t order[SERIES_DEFS];
    int n_items = 0;

    memset(order, -1, sizeof order);
    for (int i = 0; i < n; i++)
        order[told[i].number] = (int16_t)i;
    for (uint32_t i = 0; i < SERIES_MAX && n_items < room; i++) {
        const struct series *s = series_at(shm, i);
        struct item *it = &item[n_items];
        uint32_t def = s != NULL ? s->def : SERIES_DEFS;
        uint32_t len = s != NULL ? s->text_len : 0;

        if (def >= SERIES_DEFS || order[def] < 0 || len > SERIES_TEXT)
            continue;
        it->order = order[def];
        it->number = i;
        it->n = len;
        memcpy(it->text, s->text, len);
        n_items++;
    }
    qsort(item, (size_t)n_items, sizeof *item, compare_items);
    return n_items;
}

/* False: the text does not have the values that the definition wants. */
static bool put_labels(const struct shm *shm, struct exposition *e, const struct told *t,
                       const struct item *it)
{
    const char *name = shm->plugin[t->def.plugin].name;
    size_t at = 0;

    e->n_labels = 0;
    exposition_label_n(e, "plugin", name, strnlen(name, SHM_PLUGIN_NAME));
    for (uint32_t i = 0; i < t->def.n_labels; i++) {
        size_t n = at < it->n ? (unsigned char)it->text[at] : SIZE_MAX;

        if (n >= it->n - at)
            return false;
        exposition_label_n(e, t->def.label[i], it->text + at + 1, n);
        at += 1 + n;
    }
    return at == it->n;
}

static void put_item(const struct shm *shm, struct exposition *e, const struct told *t,
                     const struct item *it)
{
    enum series_type type = (enum series_type)t->def.type;
    uint64_t bucket[HISTOGRAM_X_SIZE] = {0};
    double v = 0;

    if (!put_labels(shm, e, t, it))
        return;
    if (type == SERIES_HISTOGRAM) {
        if (series_histogram(shm, it->number, bucket, &v))
            exposition_histogram_x(e, bucket, v);
    } else if (series_value(shm, it->number, type, &v)) {
        exposition_number(e, v);
    }
}

static bool is_repeated(const struct item *item, int i)
{
    return i > 0 && compare_items(&item[i - 1], &item[i]) == 0;
}

/* So that a server with few of them does not take memory for all that there may be. Those that come
 * while it tells are told the next time. */
static void count(const struct shm *shm, int *n_defs, int *n_series)
{
    *n_defs = *n_series = 0;
    for (uint32_t i = 0; i < SERIES_DEFS; i++)
        *n_defs += series_def_at(shm, i) != NULL;
    for (uint32_t i = 0; i<SERIES_MAX && * n_defs> 0; i++)
        *n_series += series_at(shm, i) != NULL;
}

int metrics_series_text(const struct shm *shm, struct exposition *e)
{
    struct told *told;
    struct item *item;
    struct family *family;
    int n = 0, n_items, at = 0, r = -ENOMEM, n_defs, n_series;

    count(shm, &n_defs, &n_series);
    if (n_defs == 0)
        return 0;
    told = calloc((size_t)n_defs, sizeof *told);
    item = calloc((size_t)n_series + 1, sizeof *item);
    family = calloc(1, sizeof *family);
    if (told == NULL || item == NULL || family == NULL)
        goto out;
    for (uint32_t i = 0; i < SERIES_DEFS && n < n_defs; i++)
        n += take_def(shm, i, &told[n]);
    qsort(told, (size_t)n, sizeof *told, compare_told);
    n = thin_out(told, n);
    n_items = collect(shm, told, n, item, n_series);
    for (int i = 0; i < n; i++) {
        family->name = told[i].def.name;
        family->type = family_type_of(told[i].def.type);
        family->help = told[i].def.help;
        if (told[i].is_first)
            exposition_family(e, family);
        e->family = family;
        for (; at < n_items && item[at].order == i; at++)
            if (!is_repeated(item, at))
                put_item(shm, e, &told[i], &item[at]);
    }
    r = 0;
out:
    e->family = NULL;
    free(family);
    free(told);
    free(item);
    return r;
}
