/*
 * witness.c - what a thread of clients can say of time: when it heard of each worker last, and when it had
 * no CPU itself, as probably nobody else had then.
 */
#include <stdlib.h>

#include "soak.h"

#define LULL_LEAST_MS 60 /* between two turns, which are 5 ms apart when there is nothing to do */

void soak_witness_turn(struct soak_witness *w, int64_t now_ms)
{
    if (w->turn_ms != 0 && now_ms - w->turn_ms >= LULL_LEAST_MS) {
        w->lull = realloc(w->lull, (w->n_lull + 1) * sizeof *w->lull);
        if (w->lull == NULL)
            abort();
        w->lull[w->n_lull++] = (struct soak_lull){w->turn_ms, now_ms};
    }
    w->turn_ms = now_ms;
}

void soak_witness_heard(struct soak_witness *w, pid_t worker, int64_t now_ms)
{
    if (worker == 0)
        return;
    for (size_t i = w->n_heard; i > 0; i--)
        if (w->heard[i - 1].worker == worker) {
            w->heard[i - 1].at_ms = now_ms;
            return;
        }
    w->heard = realloc(w->heard, (w->n_heard + 1) * sizeof *w->heard);
    if (w->heard == NULL)
        abort();
    w->heard[w->n_heard++] = (struct soak_heard){worker, now_ms};
}

int64_t soak_witness_lull(const struct soak_witness *w, int64_t from_ms, int64_t to_ms)
{
    int64_t ms = 0;

    for (size_t i = 0; i < w->n_lull; i++) {
        const struct soak_lull *l = &w->lull[i];
        int64_t from = l->from_ms > from_ms ? l->from_ms : from_ms;
        int64_t to = l->to_ms < to_ms ? l->to_ms : to_ms;

        ms += to > from ? to - from : 0;
    }
    return ms;
}

int64_t soak_witness_last(const struct soak_witness *w, pid_t worker)
{
    for (size_t i = 0; i < w->n_heard; i++)
        if (w->heard[i].worker == worker)
            return w->heard[i].at_ms;
    return 0;
}

void soak_witness_free(struct soak_witness *w)
{
    free(w->heard);
    free(w->lull);
    *w = (struct soak_witness){0};
}
