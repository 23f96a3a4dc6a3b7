/*
 * rules.h - from the answers of a round to a time, and what counts as trouble. Pure; one thread.
 *
 *     unsynced ──answer──► synced ──N failures in a row──► compensating ──answers for recover──► synced
 *         └──────────────────────────N failures in a row──────┘
 *
 * A round is one question to every server. It is a success when the servers that answered agree.
 * While compensating, time goes on by the monotonic clock from the last time that was known: steps of
 * the machine's clock, which nobody watches over any more, are not in it.
 */
#ifndef TIME_SYNC_RULES_H
#define TIME_SYNC_RULES_H

#include <stddef.h>
#include <stdint.h>

#define SERVERS_MAX 8
#define HISTORY     256 /* rounds that are remembered, at most */

enum sync_state { SYNC_UNSYNCED, SYNC_SYNCED, SYNC_COMPENSATING };

struct rules {
    /* how it is set up */
    unsigned failures;  /* in a row, until it compensates */
    int64_t recover_ns; /* without trouble, until it does no more */
    int64_t agree_ns;   /* servers farther than this from the median are wrong */
    int64_t window_ns;  /* rounds that the figures are made of: those of so much time */

    /* how it stands */
    enum sync_state state;
    int64_t offset_ns;     /* of the machine's clock; add it */
    int64_t base_ns;       /* corrected time less the monotonic clock */
    int64_t error_ns;      /* how far off it may be, as of changed_ns */
    int64_t changed_ns;    /* monotonic: when offset and base were set */
    unsigned failed;       /* rounds in a row */
    int64_t good_since_ns; /* monotonic: begin of the rounds without trouble; 0: none */
    int stratum;           /* of the servers, the smallest; 0: not known */

    struct round {
        int64_t at_ns, drift_ns; /* drift: |offset|; -1: the round failed */
    } round[HISTORY];            /* a ring */
    size_t n_rounds;
};

/* What one server said in a round. A TIME server tells seconds only: its offset lies in a range. */
struct answer {
    int64_t low_ns, high_ns; /* of the offset; the same for SNTP */
    int64_t error_ns;
    int stratum; /* 0: TIME */
};

/* The set-up is in *r already. */
void rules_begin(struct rules *r, int64_t real_ns, int64_t mono_ns);

/*
 * The end of a round: n answers, in any order (they are sorted here). real_ns, mono_ns: the machine's
 * clocks, read at the same time. NULL: a success. Else why not: static text.
 */
const char *rules_round(struct rules *r, struct answer *answers, size_t n, int64_t real_ns,
                        int64_t mono_ns);

/* The machine's clock was set: its offset is not known until the next round. */
void rules_step(struct rules *r, int64_t real_ns, int64_t mono_ns);

/* How far off the time may be at mono_ns: it grows by 50 ppm. */
int64_t rules_error(const struct rules *r, int64_t mono_ns);

/* Rounds that succeeded, 0 to 1; 1 when there were none in the window before now. */
double rules_success_ratio(const struct rules *r, int64_t mono_ns);
/* How far the machine's clock was off: the 95th percentile of |offset|, in ms; 0 without rounds. */
double rules_drift_p95_ms(const struct rules *r, int64_t mono_ns);

const char *rules_state_name(enum sync_state state);

#endif
