#include "cluster.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WAYS      8
#define NS_PER_MS 1000000

struct lease {
    struct cluster *c;
    uint64_t hash;    /* 0: free */
    double tokens;    /* to give, until until_ns */
    double left;      /* in the common bucket, when it was last asked */
    int64_t until_ns; /* 0: there was no answer yet */
    int64_t none_ns;  /* there are none, until then; 0: that is not known */
    int64_t used_ns;  /* who was not asked for the longest time makes room */
    struct waiter *first;
    unsigned n_waiting;
    int is_asking;
};

struct cluster {
    bh_inst *inst;
    double rate, burst, lease;
    void (*decided)(struct waiter *w);
    void (*failed)(struct waiter *w);
    size_t mask; /* number of sets, minus 1 */
    struct lease set[][WAYS];
};

struct cluster *cluster_create(bh_inst *inst, size_t max_keys, double rate, double burst,
                               double lease, void (*decided)(struct waiter *w),
                               void (*failed)(struct waiter *w))
{
    struct cluster *c;
    size_t sets = 1;

    while (sets * WAYS < max_keys)
        sets *= 2;
    c = calloc(1, sizeof *c + sets * sizeof c->set[0]);
    if (c == NULL)
        return NULL;
    c->inst = inst;
    c->rate = rate;
    c->burst = burst;
    c->lease = lease;
    c->decided = decided;
    c->failed = failed;
    c->mask = sets - 1;
    return c;
}

void cluster_destroy(struct cluster *c)
{
    free(c);
}

/* ---- leases ---- */

static struct lease *find(struct cluster *c, uint64_t hash)
{
    struct lease *set = c->set[hash & c->mask];

    for (int i = 0; i < WAYS; i++)
        if (set[i].hash == hash)
            return &set[i];
    return NULL;
}

/* A place for a key that has none; NULL: all are waiting for an answer. */
static struct lease *make(struct cluster *c, uint64_t hash)
{
    struct lease *set = c->set[hash & c->mask], *oldest = NULL;

    for (int i = 0; i < WAYS; i++)
        if (!set[i].is_asking && (oldest == NULL || set[i].used_ns < oldest->used_ns))
            oldest = &set[i];
    if (oldest != NULL) {
        memset(oldest, 0, sizeof *oldest);
        oldest->c = c;
        oldest->hash = hash;
    }
    return oldest;
}

int cluster_take(struct cluster *c, uint64_t hash, int64_t now_ns, double *left)
{
    struct lease *l = find(c, hash);

    if (l == NULL)
        return 0;
    l->used_ns = now_ns;
    if (l->tokens >= 1 && now_ns < l->until_ns) {
        l->tokens -= 1;
        *left = l->left + l->tokens;
        return 1;
    }
    l->tokens = 0;
    if (now_ns >= l->none_ns)
        return 0;
    *left = -(double)(l->none_ns - now_ns) / 1e9 * c->rate;
    return 1;
}

/* ---- questions ---- */

void cluster_leave(struct waiter *w)
{
    if (w->prev == NULL)
        return;
    *w->prev = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    w->prev = NULL;
    w->lease->n_waiting--;
}

static void answered(void *self, const bh_kv_result *r, void *arg);

/* For those who wait, and some to spare. */
static bh_rc ask(struct lease *l, bh_str key)
{
    const struct cluster *c = l->c;
    bh_kv_op op = {.struct_size = sizeof op,
                   .op = BH_KV_TAKE,
                   .key = key,
                   .per_s = c->rate,
                   .burst = c->burst,
                   .cost = 1,
                   .most = fmin(c->burst, fmax(c->lease, l->n_waiting))};
    bh_rc rc = bh_kv_async(c->inst, &op, answered, l, NULL);

    l->is_asking = rc == BH_OK;
    return rc;
}

/* The queue is in one piece whenever the functions run: they may end requests. */
static void tell_all(struct lease *l, double left, int has_failed)
{
    struct waiter *w;

    while ((w = l->first) != NULL) {
        cluster_leave(w);
        w->left = left;
        w->is_decided = !has_failed;
        if (has_failed)
            l->c->failed(w);
        else
            l->c->decided(w);
    }
}

static void hand_out(struct lease *l, int64_t now_ns)
{
    struct waiter *w;

    while ((w = l->first) != NULL && cluster_take(l->c, l->hash, now_ns, &w->left)) {
        cluster_leave(w);
        w->is_decided = 1;
        l->c->decided(w);
    }
}

static void answered(void *self, const bh_kv_result *r, void *arg)
{
    int64_t now_ns = bh_now_ns(BH_CLOCK_LOOP);
    struct lease *l = arg;

    (void)self;
    l->is_asking = 0;
    if (r->rc != BH_OK) {
        tell_all(l, 0, 1);
    } else if (r->taken > 0) {
        l->tokens = r->taken;
        l->left = r->number > 0 ? (double)r->number : 0;
        l->until_ns = now_ns + (int64_t)LEASE_LIFE_MS * NS_PER_MS;
        l->none_ns = 0;
        hand_out(l, now_ns);
        if (l->first != NULL && ask(l, l->first->key) != BH_OK)
            tell_all(l, 0, 1);
    } else {
        l->none_ns = now_ns - r->number * NS_PER_MS;
        tell_all(l, (double)r->number / 1000 * l->c->rate, 0);
    }
}

bh_rc cluster_wait(struct cluster *c, uint64_t hash, int64_t now_ns, struct waiter *w)
{
    struct lease *l = find(c, hash);
    bh_rc rc;

    if (l == NULL)
        l = make(c, hash);
    if (l == NULL)
        return BH_ELIMIT;
    l->used_ns = now_ns;
    l->n_waiting++;
    if (!l->is_asking && (rc = ask(l, w->key)) != BH_OK) {
        l->n_waiting--;
        return rc;
    }
    w->lease = l;
    w->next = NULL;
    for (w->prev = &l->first; *w->prev != NULL; w->prev = &(*w->prev)->next)
        continue;
    *w->prev = w;
    return BH_OK;
}
