/*
 * experiment.c - from an id to a bucket, from a bucket to a group.
 *
 * Buckets do not move when weights change: only those at the borders change hands. That is why there
 * is a fixed number of them, and not a modulus by the sum of the weights.
 */
#include "experiment.h"

#include "siphash.h"

#include <stdlib.h>
#include <time.h>

#define WEIGHT_MAX 1000000u

int is_word(bh_str s)
{
    return s.n > 0 && s.n <= WORD_MAX &&
           strspn(s.p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == s.n;
}

/* Whole numbers only: shares are of the sum. */
static int parse_weight(bh_str text, uint32_t *out)
{
    unsigned long v = 0;

    if (text.n == 0 || text.n > 7 || strspn(text.p, "0123456789") != text.n)
        return 0;
    v = strtoul(text.p, NULL, 10);
    *out = (uint32_t)v;
    return v <= WEIGHT_MAX;
}

const char *experiment_init(struct experiment *e, bh_str name, bh_str salt, const bh_map *groups)
{
    uint64_t sum = 0, so_far = 0;
    uint32_t weight[GROUPS_MAX];

    memset(e, 0, sizeof *e);
    if (groups->n < 1 || groups->n > GROUPS_MAX)
        return "wants 1 to 16 groups, such as {control: 50, blue: 50}";
    for (size_t i = 0; i < groups->n; i++) {
        if (!is_word(groups->v[i].k))
            return "a group's name has 1 to 48 letters, digits, hyphens or underscores";
        if (!parse_weight(groups->v[i].v, &weight[i]))
            return "a group's weight is a whole number from 0 to 1000000";
        sum += weight[i];
    }
    if (sum == 0)
        return "at least one group needs a weight above 0";
    e->name = name;
    e->salt = salt;
    e->n_groups = groups->n;
    for (size_t i = 0; i < groups->n; i++) {
        so_far += weight[i];
        e->group[i] = groups->v[i].k;
        e->end[i] = (uint32_t)((so_far * BUCKETS + sum / 2) / sum);
    }
    return NULL;
}

/* The parts are kept apart by a NUL, which none of them contains. */
struct message {
    size_t n;
    char p[3 * ID_MAX + 128];
};

static void add(struct message *m, const char *p, size_t n)
{
    if (n + 1 > sizeof m->p - m->n)
        n = sizeof m->p - m->n - 1;
    memcpy(m->p + m->n, p, n);
    m->n += n;
    m->p[m->n++] = '\0';
}

static uint64_t hash(const struct experiment *e, bh_str id, const char *more, size_t n_more,
                     int64_t window)
{
    struct message m;
    char number[24];

    m.n = 0;
    add(&m, e->salt.p, e->salt.n);
    add(&m, e->name.p, e->name.n);
    add(&m, id.p, id.n);
    if (more != NULL)
        add(&m, more, n_more);
    if (window >= 0) {
        snprintf(number, sizeof number, "%lld", (long long)window);
        add(&m, number, strlen(number));
    }
    return siphash(m.p, m.n - 1);
}

uint32_t experiment_bucket(const struct experiment *e, bh_str id, int64_t window)
{
    return (uint32_t)(hash(e, id, NULL, 0, window) % BUCKETS);
}

uint32_t experiment_bucket_by_id(bh_str id)
{
    uint64_t v = 0;
    size_t digits = 0;

    for (; digits < id.n && id.p[digits] >= '0' && id.p[digits] <= '9' && digits < 19; digits++)
        v = v * 10 + (uint64_t)(id.p[digits] - '0');
    if (digits == 0 || digits != id.n || digits > 18)
        v = siphash(id.p, id.n);
    return (uint32_t)(v % BUCKETS_OLD) * (BUCKETS / BUCKETS_OLD);
}

size_t experiment_group(const struct experiment *e, uint32_t bucket)
{
    size_t i = 0;

    while (i + 1 < e->n_groups && bucket >= e->end[i])
        i++;
    return i;
}

size_t experiment_find(const struct experiment *e, const char *name, size_t n)
{
    size_t i = 0;

    while (i < e->n_groups && (e->group[i].n != n || memcmp(e->group[i].p, name, n) != 0))
        i++;
    return i;
}

void experiment_tag(const struct experiment *e, bh_str id, size_t group, int64_t window,
                    char tag[TAG_LEN + 1])
{
    uint64_t h = hash(e, id, e->group[group].p, e->group[group].n, window);

    snprintf(tag, TAG_LEN + 1, "%016llx", (unsigned long long)h);
}

int experiment_time(const char *text, int64_t *ms)
{
    struct tm tm;
    char *end;
    time_t t;

    memset(&tm, 0, sizeof tm);
    end = strptime(text, "%Y-%m-%d", &tm);
    if (end != NULL && *end != '\0')
        end = strptime(end, "T%H:%M:%SZ", &tm);
    if (end == NULL || *end != '\0')
        return 0;
    t = timegm(&tm);
    if (t < 0)
        return 0;
    *ms = (int64_t)t * 1000;
    return 1;
}
