#include "ipc/quarantine.h"

#include <stdio.h>

#define PLACE_BITS 48

/* The key's upper 16 bits are the route, so that one store says both. */
static uint64_t make_key(uint32_t route, uint64_t place)
{
    return (uint64_t)route << PLACE_BITS | (place & ((UINT64_C(1) << PLACE_BITS) - 1));
}

uint32_t quarantine_route_of(const struct quarantine_block *block)
{
    return (uint32_t)(atomic_load(&block->key) >> PLACE_BITS);
}

/* After a breaker was closed. The second look is for one that opens at the same time: it sets the
 * guard after it has opened. */
static void settle_guard(struct quarantine *q)
{
    bool is_closed;

    atomic_store(&q->guard, 0);
    is_closed = breaker_is_closed(&q->breaker);
    for (int i = 0; i < QUARANTINE_BLOCKS; i++)
        is_closed = is_closed && breaker_is_closed(&q->block[i].breaker);
    if (!is_closed)
        atomic_store(&q->guard, 1);
}

static struct quarantine_news make_news(const struct breaker *b,
                                        const struct breaker_limits *limits, int64_t now_ms,
                                        enum breaker_change change, uint32_t route)
{
    struct quarantine_news news = {.change = change, .route = route};
    struct breaker_view view;

    if (change == BREAKER_OPENED || change == BREAKER_REOPENED) {
        breaker_look(b, limits, now_ms, &view);
        news.wait_ms = view.left_ms;
    }
    return news;
}

/* ---- crashes ---- */

static int count_blocked_routes(const struct quarantine *q)
{
    uint32_t seen[QUARANTINE_BLOCKS] = {0};
    int n = 0;

    for (int i = 0; i < QUARANTINE_BLOCKS; i++) {
        uint32_t route = quarantine_route_of(&q->block[i]);
        int k = 0;

        if (route == 0 || breaker_is_closed(&q->block[i].breaker))
            continue;
        while (k < n && seen[k] != route)
            k++;
        if (k == n)
            seen[n++] = route;
    }
    return n;
}

/* Somebody's whose last crash is longest ago, but not if that is within the window. */
static struct quarantine_block *find_disused(struct quarantine *q,
                                             const struct breaker_limits *limits, int64_t now_ms)
{
    for (int i = 0; i < QUARANTINE_BLOCKS; i++) {
        struct breaker_view view;

        breaker_look(&q->block[i].breaker, limits, now_ms, &view);
        if (view.state == BREAKER_CLOSED && view.n_crashes == 0)
            return &q->block[i];
    }
    return NULL;
}

/* The block that counts crashes of this kind; NULL: more kinds than there are blocks. */
static struct quarantine_block *find_block(struct quarantine *q,
                                           const struct breaker_limits *limits, int64_t now_ms,
                                           uint32_t route, uint64_t place)
{
    uint64_t key = make_key(route, place), have;
    struct quarantine_block *b;

    /* A route that is blocked is blocked as a whole: whatever crashes there counts for that. */
    for (int i = 0; i < QUARANTINE_BLOCKS; i++) {
        b = &q->block[i];
        if (quarantine_route_of(b) == route && !breaker_is_closed(&b->breaker))
            return b;
    }
    for (int i = 0; i < QUARANTINE_BLOCKS; i++)
        if (atomic_load(&q->block[i].key) == key)
            return &q->block[i];
    b = find_disused(q, limits, now_ms);
    if (b == NULL)
        return NULL;
    have = atomic_load(&b->key);
    if (!atomic_compare_exchange_strong(&b->key, &have, key))
        return NULL; /* another worker took it just now: this crash counts for the plugin alone */
    breaker_forget(&b->breaker, 0);
    return b;
}

int quarantine_charge(struct quarantine *q, const struct breaker_limits *limits, int64_t now_ms,
                      uint32_t route, uint64_t place, struct quarantine_news news[2])
{
    struct quarantine_block *b = NULL;
    enum breaker_change change;
    unsigned tag = 0;
    int n = 0;

    if (limits->crashes == 0)
        return 0;
    if (route > 0 && route <= UINT16_MAX)
        b = find_block(q, limits, now_ms, route, place);
    if (b != NULL) {
        tag = (unsigned)(b - q->block) + 1;
        change = breaker_crash(&b->breaker, limits, now_ms, 0);
        if (change == BREAKER_OPENED)
            breaker_forget(&q->breaker, tag); /* the block has settled those */
        if (change != BREAKER_SAME)
            news[n++] = make_news(&b->breaker, limits, now_ms, change, route);
    }
    if (b == NULL || breaker_is_closed(&b->breaker)) {
        change = breaker_crash(&q->breaker, limits, now_ms, tag);
        if (change != BREAKER_SAME)
            news[n++] = make_news(&q->breaker, limits, now_ms, change, 0);
    } else if (n > 0 && news[0].change == BREAKER_OPENED &&
               count_blocked_routes(q) >= QUARANTINE_ROUTES) {
        change = breaker_trip(&q->breaker, limits, now_ms);
        if (change != BREAKER_SAME) {
            news[n] = make_news(&q->breaker, limits, now_ms, change, 0);
            news[n++].is_by_routes = true;
        }
    }
    /* Not only when something opened just now: another worker may have died right after it opened a
     * breaker. */
    if (!breaker_is_closed(&q->breaker) || (b != NULL && !breaker_is_closed(&b->breaker)))
        atomic_store(&q->guard, 1);
    return n;
}

/* ---- requests ---- */

static bool ask_one(struct breaker *b, const struct breaker_limits *limits, int64_t now_ms,
                    uint32_t route, struct quarantine_answer *out)
{
    struct breaker_answer answer;

    if (!breaker_ask(b, limits, now_ms, &answer)) {
        out->retry_ms = answer.retry_ms;
        return false;
    }
    if (answer.change != BREAKER_SAME)
        out->news[out->n_news++] = make_news(b, limits, now_ms, answer.change, route);
    if (answer.token != 0)
        out->trial[out->n_trials++] = (struct quarantine_trial){
            .breaker = b, .route = route, .token = answer.token};
    return true;
}

bool quarantine_ask(struct quarantine *q, const struct breaker_limits *limits, int64_t now_ms,
                    uint32_t route, struct quarantine_answer *out)
{
    bool is_let_in, is_closed = breaker_is_closed(&q->breaker);

    out->n_trials = out->n_news = 0;
    out->retry_ms = 0;
    is_let_in = ask_one(&q->breaker, limits, now_ms, 0, out);
    for (int i = 0; is_let_in && i < QUARANTINE_BLOCKS; i++) {
        struct quarantine_block *b = &q->block[i];

        if (breaker_is_closed(&b->breaker))
            continue;
        is_closed = false;
        /* A route has one block, as a rule; two workers at once may have made one more. */
        if (quarantine_route_of(b) == route && out->n_trials < QUARANTINE_TRIALS)
            is_let_in = ask_one(&b->breaker, limits, now_ms, route, out);
    }
    if (!is_let_in) {
        for (int i = 0; i < out->n_trials; i++)
            breaker_trial_ended(out->trial[i].breaker, limits, out->trial[i].token, false);
        out->n_trials = 0;
    } else if (is_closed) {
        settle_guard(q); /* whoever closed the last one died before it got to that */
    }
    return is_let_in;
}

struct quarantine_news quarantine_trial_ended(struct quarantine *q,
                                              const struct breaker_limits *limits,
                                              const struct quarantine_trial *trial, bool passed)
{
    struct quarantine_news news = {.route = trial->route};

    news.change = breaker_trial_ended(trial->breaker, limits, trial->token, passed);
    if (news.change == BREAKER_RECOVERED)
        settle_guard(q);
    return news;
}

/* ---- operators ---- */

bool quarantine_hold(struct quarantine *q, const struct breaker_limits *limits, int64_t now_ms)
{
    if (!breaker_hold(&q->breaker, limits, now_ms))
        return false;
    atomic_store(&q->guard, 1);
    return true;
}

void quarantine_reset(struct quarantine *q)
{
    breaker_reset(&q->breaker);
    for (int i = 0; i < QUARANTINE_BLOCKS; i++)
        breaker_reset(&q->block[i].breaker);
    settle_guard(q);
}

/* ---- for people ---- */

static void print_ms(uint32_t ms, char *buf, size_t size)
{
    if (ms % 1000 == 0)
        snprintf(buf, size, "%u s", ms / 1000);
    else
        snprintf(buf, size, "%u ms", ms);
}

void quarantine_tell(const struct quarantine_news *news, const struct breaker_limits *limits,
                     const char *route, const char *what, char *buf, size_t size)
{
    char who[160], window[32], wait[32], why[128];

    snprintf(who, sizeof who, "%s%s%s", route != NULL ? "route '" : "the breaker",
             route != NULL ? route : "", route != NULL ? "'" : "");
    print_ms(limits->window_ms, window, sizeof window);
    print_ms(news->wait_ms, wait, sizeof wait);
    switch (news->change) {
    case BREAKER_OPENED:
        if (news->is_by_routes)
            snprintf(why, sizeof why, "%d of its routes are blocked", QUARANTINE_ROUTES);
        else
            snprintf(why, sizeof why, "%u %scrashes within %s", limits->crashes,
                     route != NULL ? "equal " : "", window);
        snprintf(buf, size, "%s %s: %s; its requests are %s for %s, then %u %s let in on trial%s",
                 who, route != NULL ? "is blocked" : "opens", why, what, wait, limits->trials,
                 limits->trials == 1 ? "is" : "are", route != NULL ? "; other routes go on" : "");
        break;
    case BREAKER_REOPENED:
        snprintf(buf, size, "%s %s: a trial crashed; the next ones in %s", who,
                 route != NULL ? "stays blocked" : "opens again", wait);
        break;
    case BREAKER_TRYING:
        snprintf(buf, size, "%s is half-open: %u request%s let in on trial", who, limits->trials,
                 limits->trials == 1 ? " is" : "s are");
        break;
    case BREAKER_RECOVERED:
        snprintf(buf, size, "%s %s: %u trial%s ended well", who,
                 route != NULL ? "is free again" : "closes", limits->trials,
                 limits->trials == 1 ? "" : "s");
        break;
    case BREAKER_SAME: snprintf(buf, size, "%s does not change", who); break;
    }
}
