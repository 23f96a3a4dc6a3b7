/*
 * rules.c - median, failures, compensation.
 */
#include "rules.h"

#include <stdlib.h>
#include <string.h>

/* A quartz that nobody disciplines, at its worst (RFC 5905 allows for 15). */
#define DRIFT_PPM 50

const char *rules_state_name(enum sync_state state)
{
    static const char *const names[] = {"unsynced", "synced", "compensating"};

    return names[state];
}

void rules_begin(struct rules *r, int64_t real_ns, int64_t mono_ns)
{
    r->base_ns = real_ns - mono_ns;
    r->changed_ns = mono_ns;
}

static int64_t middle(const struct answer *a)
{
    return a->low_ns + (a->high_ns - a->low_ns) / 2;
}

static int by_offset(const void *a, const void *b)
{
    int64_t x = middle(a), y = middle(b);

    return (x > y) - (x < y);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Outside of what the answer allows, for the offset o, by how much. */
static int64_t distance(const struct answer *a, int64_t o)
{
    return o < a->low_ns ? a->low_ns - o : o > a->high_ns ? o - a->high_ns : 0;
}

/* SNTP servers know better than TIME servers: when there are any, only they count. */
static size_t drop_coarse(struct answer *a, size_t n)
{
    size_t fine = 0;

    for (size_t i = 0; i < n; i++)
        if (a[i].stratum > 0)
            a[fine++] = a[i];
    return fine > 0 ? fine : n;
}

/* The offset that most agree on. before: the one we have, which a coarse answer leaves as it is if it
 * may be right. */
static const char *choose(struct answer *a, size_t n, int64_t before, int64_t agree_ns,
                          struct answer *out)
{
    const struct answer *m;
    size_t agreeing = 0;

    if (n == 0)
        return "no server answered";
    n = drop_coarse(a, n);
    qsort(a, n, sizeof *a, by_offset);
    m = &a[(n - 1) / 2];
    *out = *m;
    out->low_ns = before < m->low_ns ? m->low_ns : before > m->high_ns ? m->high_ns : before;
    if (n % 2 == 0 && m->low_ns == m->high_ns && middle(m + 1) - middle(m) <= agree_ns)
        out->low_ns = middle(m) + (middle(m + 1) - middle(m)) / 2;
    for (size_t i = 0; i < n; i++) {
        agreeing += distance(&a[i], out->low_ns) <= agree_ns;
        if (a[i].stratum > 0 && a[i].stratum < out->stratum)
            out->stratum = a[i].stratum;
    }
    return agreeing * 2 > n ? NULL : "the servers disagree";
}

static void note(struct rules *r, int64_t mono_ns, int64_t drift_ns)
{
    r->round[r->n_rounds++ % HISTORY] = (struct round){mono_ns, drift_ns};
}

static void fail(struct rules *r, int64_t mono_ns)
{
    r->failed++;
    r->good_since_ns = 0;
    note(r, mono_ns, -1);
    if (r->failed >= r->failures)
        r->state = SYNC_COMPENSATING;
}

const char *rules_round(struct rules *r, struct answer *answers, size_t n, int64_t real_ns,
                        int64_t mono_ns)
{
    struct answer best;
    const char *why = choose(answers, n, r->offset_ns, r->agree_ns, &best);

    if (why != NULL) {
        fail(r, mono_ns);
        return why;
    }
    r->failed = 0;
    note(r, mono_ns, llabs(best.low_ns));
    if (r->good_since_ns == 0)
        r->good_since_ns = mono_ns;
    if (r->state == SYNC_COMPENSATING && mono_ns - r->good_since_ns < r->recover_ns)
        return NULL;
    r->state = SYNC_SYNCED;
    r->offset_ns = best.low_ns;
    r->base_ns = real_ns + best.low_ns - mono_ns;
    r->error_ns = best.error_ns;
    r->changed_ns = mono_ns;
    r->stratum = best.stratum;
    return NULL;
}

void rules_step(struct rules *r, int64_t real_ns, int64_t mono_ns)
{
    r->offset_ns = r->base_ns + mono_ns - real_ns;
}

int64_t rules_error(const struct rules *r, int64_t mono_ns)
{
    return r->error_ns + (mono_ns - r->changed_ns) / (1000000 / DRIFT_PPM);
}

/* The drifts of the window's rounds, failed ones (-1) first: sorted. How many there are. */
static size_t in_window(const struct rules *r, int64_t mono_ns, int64_t sorted[HISTORY])
{
    size_t kept = r->n_rounds < HISTORY ? r->n_rounds : HISTORY, n = 0;

    for (size_t i = 0; i < kept; i++)
        if (mono_ns - r->round[i].at_ns < r->window_ns)
            sorted[n++] = r->round[i].drift_ns;
    qsort(sorted, n, sizeof sorted[0], by_value);
    return n;
}

static size_t failed_among(const int64_t *sorted, size_t n)
{
    size_t failed = 0;

    while (failed < n && sorted[failed] < 0)
        failed++;
    return failed;
}

double rules_success_ratio(const struct rules *r, int64_t mono_ns)
{
    int64_t sorted[HISTORY] = {0};
    size_t n = in_window(r, mono_ns, sorted);

    return n > 0 ? (double)(n - failed_among(sorted, n)) / (double)n : 1;
}

double rules_drift_p95_ms(const struct rules *r, int64_t mono_ns)
{
    int64_t sorted[HISTORY] = {0};
    size_t n = in_window(r, mono_ns, sorted), failed = failed_among(sorted, n), good = n - failed;
    size_t rank = (good * 95 + 99) / 100; /* the nearest rank, from 1 */

    return good > 0 ? (double)sorted[failed + rank - 1] / 1e6 : 0;
}
