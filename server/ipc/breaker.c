#include "ipc/breaker.h"

#define LEAST_TRIAL_MS 1000 /* a trial is given as long as the first open time, but not less */

/*
 * The word, from bit 0: state 2 bits, failed periods of trials 4, trials given 7, trials passed 7,
 * and 44 bits of milliseconds: OPEN: when trials begin; HALF_OPEN: when those that have not ended
 * are given up. That time also tells one period of trials from another, and is a trial's token.
 */
struct word {
    enum breaker_state state;
    unsigned level, given, passed;
    int64_t until_ms;
};

#define STATE_BITS 2
#define LEVEL_AT   2
#define GIVEN_AT   6
#define PASSED_AT  13
#define UNTIL_AT   20

_Static_assert(BREAKER_TRIALS_MAX < 128, "trials are counted in 7 bits");

static uint64_t pack(const struct word *w)
{
    return (uint64_t)w->state | (uint64_t)w->level << LEVEL_AT | (uint64_t)w->given << GIVEN_AT |
           (uint64_t)w->passed << PASSED_AT | (uint64_t)w->until_ms << UNTIL_AT;
}

static uint32_t open_ms(const struct breaker_limits *limits, unsigned level)
{
    unsigned factor = level < 4 ? 1u << level : BREAKER_BACKOFF;

    if (factor > BREAKER_BACKOFF)
        factor = BREAKER_BACKOFF;
    return limits->open_ms > UINT32_MAX / factor ? UINT32_MAX : limits->open_ms * factor;
}

static uint32_t trial_ms(const struct breaker_limits *limits)
{
    return limits->open_ms > LEAST_TRIAL_MS ? limits->open_ms : LEAST_TRIAL_MS;
}

/* A stray write of a plugin's may have made anything of it: whatever it says, it ends in time. */
static struct word unpack(uint64_t bits, const struct breaker_limits *limits, int64_t now_ms)
{
    struct word w = {.state = bits & ((1u << STATE_BITS) - 1),
                     .level = bits >> LEVEL_AT & 15,
                     .given = bits >> GIVEN_AT & 127,
                     .passed = bits >> PASSED_AT & 127,
                     .until_ms = (int64_t)(bits >> UNTIL_AT)};
    uint32_t longest = open_ms(limits, 15);

    if (longest < trial_ms(limits))
        longest = trial_ms(limits);
    if (w.state > BREAKER_HALF_OPEN)
        w.state = BREAKER_OPEN;
    if (w.until_ms > now_ms + longest)
        w.until_ms = now_ms;
    if (w.given > limits->trials)
        w.given = limits->trials;
    if (w.passed >= limits->trials || w.passed > w.given)
        w.passed = 0;
    return w;
}

static bool change_word(struct breaker *b, uint64_t *from, const struct word *to)
{
    return atomic_compare_exchange_strong(&b->word, from, pack(to));
}

/* ---- crashes ---- */

static bool is_recent(uint64_t crash, const struct breaker_limits *limits, int64_t now_ms)
{
    int64_t age_ms = now_ms - (int64_t)(crash >> 8);

    /* Another worker may have read its clock later than we have. */
    return crash != 0 && age_ms > -1000 && age_ms < (int64_t)limits->window_ms;
}

static uint32_t count_recent(const struct breaker *b, const struct breaker_limits *limits,
                             int64_t now_ms)
{
    uint32_t n = 0;

    for (int i = 0; i < BREAKER_CRASHES_MAX; i++)
        n += is_recent(atomic_load(&b->crash[i]), limits, now_ms);
    return n;
}

void breaker_forget(struct breaker *b, unsigned tag)
{
    for (int i = 0; i < BREAKER_CRASHES_MAX; i++) {
        uint64_t crash = atomic_load(&b->crash[i]);

        if (crash != 0 && (tag == 0 || (crash & 0xff) == tag))
            atomic_compare_exchange_strong(&b->crash[i], &crash, 0);
    }
}

static enum breaker_change open_it(struct breaker *b, uint64_t from,
                                   const struct breaker_limits *limits, int64_t now_ms,
                                   unsigned level)
{
    struct word to = {.state = BREAKER_OPEN,
                      .level = level,
                      .until_ms = now_ms + (int64_t)open_ms(limits, level)};

    if (!change_word(b, &from, &to))
        return BREAKER_SAME; /* another worker was faster, with whatever */
    atomic_fetch_add(&b->n_opened, 1);
    return level == 0 ? BREAKER_OPENED : BREAKER_REOPENED;
}

enum breaker_change breaker_crash(struct breaker *b, const struct breaker_limits *limits,
                                  int64_t now_ms, unsigned tag)
{
    uint64_t bits = atomic_load(&b->word);
    struct word w = unpack(bits, limits, now_ms);
    uint32_t at;

    if (limits->crashes == 0)
        return BREAKER_SAME;
    if (w.state == BREAKER_OPEN)
        return BREAKER_SAME; /* of a call that was made before */
    if (w.state == BREAKER_HALF_OPEN)
        return open_it(b, bits, limits, now_ms, w.level < 15 ? w.level + 1 : 15);
    at = atomic_fetch_add(&b->next, 1) % BREAKER_CRASHES_MAX;
    atomic_store(&b->crash[at], (uint64_t)now_ms << 8 | (tag & 0xff));
    if (count_recent(b, limits, now_ms) < limits->crashes)
        return BREAKER_SAME;
    return open_it(b, bits, limits, now_ms, 0);
}

enum breaker_change breaker_trip(struct breaker *b, const struct breaker_limits *limits,
                                 int64_t now_ms)
{
    uint64_t bits = atomic_load(&b->word);

    if (limits->crashes == 0 || !breaker_is_closed(b))
        return BREAKER_SAME;
    return open_it(b, bits, limits, now_ms, 0);
}

/* ---- operators ---- */

static bool is_held(const struct breaker *b)
{
    return atomic_load(&b->held) == BREAKER_HELD;
}

bool breaker_hold(struct breaker *b, const struct breaker_limits *limits, int64_t now_ms)
{
    struct word to = {.state = BREAKER_OPEN, .until_ms = now_ms + (int64_t)open_ms(limits, 0)};
    uint64_t bits = atomic_load(&b->word);

    if (limits->crashes == 0)
        return false;
    atomic_store(&b->held, BREAKER_HELD); /* first: no trial gets in between */
    if (unpack(bits, limits, now_ms).state != BREAKER_OPEN)
        atomic_fetch_add(&b->n_opened, 1);
    while (!change_word(b, &bits, &to))
        continue; /* a worker opens or closes it just now; this comes last */
    return true;
}

void breaker_reset(struct breaker *b)
{
    atomic_store(&b->held, 0);
    breaker_forget(b, 0);
    atomic_store(&b->word, 0);
}

/* ---- calls ---- */

/* What w becomes when one more trial is let through; false: no more just now. */
static bool give_trial(struct word *w, const struct breaker_limits *limits, int64_t now_ms)
{
    if (w->state == BREAKER_OPEN) {
        w->state = BREAKER_HALF_OPEN;
        w->given = w->passed = 0;
        w->until_ms = now_ms + trial_ms(limits);
    } else if (now_ms >= w->until_ms) {
        w->given = w->passed; /* the others have died, or take too long */
        w->until_ms = now_ms + trial_ms(limits);
    }
    if (w->given >= limits->trials || w->given >= BREAKER_TRIALS_MAX)
        return false;
    w->given++;
    return true;
}

bool breaker_ask(struct breaker *b, const struct breaker_limits *limits, int64_t now_ms,
                 struct breaker_answer *out)
{
    uint64_t bits = atomic_load(&b->word);

    *out = (struct breaker_answer){.change = BREAKER_SAME};
    for (;;) {
        struct word w = unpack(bits, limits, now_ms);
        bool is_first = w.state == BREAKER_OPEN;

        if (w.state == BREAKER_CLOSED || limits->crashes == 0)
            return true;
        if (is_held(b)) {
            out->retry_ms = limits->open_ms;
            atomic_fetch_add_explicit(&b->n_refused, 1, memory_order_relaxed);
            return false;
        }
        if ((is_first && now_ms < w.until_ms) || !give_trial(&w, limits, now_ms)) {
            int64_t left_ms = w.until_ms - now_ms;

            /* In the half-open state trials may end any moment. */
            out->retry_ms = (uint32_t)(is_first || left_ms < 1000 ? left_ms : 1000);
            atomic_fetch_add_explicit(&b->n_refused, 1, memory_order_relaxed);
            return false;
        }
        if (change_word(b, &bits, &w)) {
            out->token = w.until_ms;
            out->change = is_first ? BREAKER_TRYING : BREAKER_SAME;
            return true;
        }
    }
}

enum breaker_change breaker_trial_ended(struct breaker *b, const struct breaker_limits *limits,
                                        int64_t token, bool passed)
{
    static const struct word closed = {.state = BREAKER_CLOSED};
    uint64_t bits = atomic_load(&b->word);

    for (;;) {
        struct word w = unpack(bits, limits, token);

        if (w.state != BREAKER_HALF_OPEN || w.until_ms != token)
            return BREAKER_SAME; /* given up, or a crash has ended that period */
        if (passed && w.passed < w.given)
            w.passed++;
        else if (!passed && w.given > w.passed)
            w.given--;
        if (w.passed >= limits->trials || w.passed >= BREAKER_TRIALS_MAX) {
            if (!change_word(b, &bits, &closed))
                continue;
            breaker_forget(b, 0); /* what led here is settled */
            return BREAKER_RECOVERED;
        }
        if (change_word(b, &bits, &w))
            return BREAKER_SAME;
    }
}

/* ---- for people ---- */

void breaker_look(const struct breaker *b, const struct breaker_limits *limits, int64_t now_ms,
                  struct breaker_view *out)
{
    struct word w = unpack(atomic_load(&b->word), limits, now_ms);

    *out = (struct breaker_view){.state = w.state,
                                 .n_crashes = count_recent(b, limits, now_ms),
                                 .n_given = w.given,
                                 .n_passed = w.passed};
    out->is_held = w.state != BREAKER_CLOSED && is_held(b);
    if (w.state != BREAKER_CLOSED && w.until_ms > now_ms && !out->is_held)
        out->left_ms = (uint32_t)(w.until_ms - now_ms);
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "open", "half-open"};

    return state <= BREAKER_HALF_OPEN ? names[state] : "?";
}
