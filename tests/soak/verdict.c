/*
 * verdict.c - every failure needs an outcome of the crash matrix that explains it.
 *
 *   503 by the server itself, Retry-After   a worker was parked (X) while the request was under way
 *   503 by the chain, Retry-After           that plugin was ejected (Q), or its breaker was open
 *   500, 504, a cut stream                  the request's own fault
 *   cut without a byte of an answer         a worker was killed: nothing of it could be saved
 *   cut in the middle of an answer          a worker was parked or killed
 *   an idle connection closed               a worker was killed, or parked while it sent the answer before
 *   anything else                           never
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "soak.h"

/* The log is written after the event: by the master, which first has to get the CPU. */
#define EARLY_MS 100
#define LATE_MS  1000
#define TURN_MS  1000 /* of a worker's loop in which plugins run into their deadlines */
#define NEAR_MS  300  /* of a death: what was charged may not have been */

#define LULL_MS 5000 /* the machine may have stood still so long, before or after */

static int64_t lull(const struct soak_story *s, int64_t from_ms, int64_t to_ms)
{
    int64_t most = 0;

    for (int i = 0; i < s->n_groups; i++) {
        int64_t ms = soak_witness_lull(soak_group_witness(s->groups[i]), from_ms, to_ms);

        most = ms > most ? ms : most;
    }
    return most;
}

/* Can it have happened between these two, give or take? Time in which nobody got on does not count. */
static bool is_between(const struct soak_story *s, const struct soak_death *d, int64_t from_ms,
                       int64_t early_ms, int64_t to_ms, int64_t late_ms)
{
    if (d->told_ms < from_ms - early_ms - LULL_MS || d->from_ms > to_ms + late_ms + LULL_MS)
        return false; /* as most: to look for lulls takes time */
    return d->told_ms >= from_ms - early_ms - lull(s, from_ms - LULL_MS, from_ms) &&
           d->from_ms <= to_ms + late_ms + lull(s, to_ms, to_ms + LULL_MS);
}

static bool is_known_dead(const struct soak_story *s, pid_t pid, int64_t by_ms)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].pid == pid && is_between(s, &s->v[i], INT64_MIN / 2, 0, by_ms, LATE_MS))
            return true;
    return false;
}

/* Did such a thing happen to a worker that may have had that request, while it was under way? */
static bool has_died(const struct soak_story *s, const struct soak_event *e, unsigned kinds)
{
    /* A connection may have been cut, or refused (note_unasked(), client.c), before it was used again;
     * and a worker that dies has often put the whole of an answer into the socket, from where a slow
     * client gets it, and only then what came of its death. */
    int64_t from_ms = e->result == RESULT_CUT || e->is_bare ? e->before_ms : e->sent_ms;

    for (size_t i = 0; i < s->n; i++) {
        const struct soak_death *d = &s->v[i];

        if ((kinds & 1u << d->kind) == 0 ||
            !is_between(s, d, from_ms, EARLY_MS, e->end_ms, LATE_MS))
            continue;
        if (e->worker == 0 || e->worker == d->pid || is_known_dead(s, e->worker, e->end_ms))
            return true;
    }
    return false;
}

/* The last answer was on its way when its worker was parked: that the client has all of it by now, and
 * the connection is idle, the worker did not come to know. The library notes the end of an answer to a request
 * that was paused in the next turn of the loop. test_handover has a thousand connections at rest. */
static bool ended_with_its_answer(const struct soak_story *s, const struct soak_event *e)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].kind == STORY_PARKED && /* which worker an error page does not tell */
            is_between(s, &s->v[i], e->before_ms, EARLY_MS, e->before_end_ms, TURN_MS))
            return true;
    return false;
}

static bool was_out(const struct soak_story *s, const struct soak_event *e)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct soak_death *d = &s->v[i];

        if ((d->kind == STORY_EJECTED || d->kind == STORY_BREAKER) && d->victim == e->ask.victim &&
            is_between(s, d, INT64_MIN / 2, 0, e->end_ms, EARLY_MS) &&
            (d->to_ms == INT64_MAX || d->to_ms >= e->sent_ms - EARLY_MS))
            return true;
    }
    return false;
}

/* A worker says that a plugin is out when its loop comes round, and refuses requests from the fault on.
 * One that is parked in between never comes to say it. */
static bool was_parked_at_once(const struct soak_story *s, const struct soak_event *e)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].kind == STORY_PARKED && s->v[i].pid == e->worker &&
            is_between(s, &s->v[i], e->end_ms, EARLY_MS, e->end_ms, EARLY_MS))
            return true;
    return false;
}

static bool is_near_death(const struct soak_story *s, const struct soak_event *e)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct soak_death *d = &s->v[i];

        if ((d->kind == STORY_PARKED || d->kind == STORY_KILLED) &&
            is_between(s, d, e->sent_ms, NEAR_MS, e->end_ms, LATE_MS))
            return true;
        if (d->kind == STORY_UPGRADE && d->from_ms <= e->end_ms + NEAR_MS &&
            (d->to_ms == INT64_MAX || d->to_ms >= e->sent_ms - NEAR_MS))
            return true;
    }
    return false;
}

/* Is it what that fault must come to? */
static bool is_as_planned(const struct soak_event *e)
{
    const struct soak_trick *t = e->ask.trick;
    bool is_right = e->result == RESULT_RIGHT, is_refused = e->result == RESULT_REFUSED;

    switch (t->outcome) {
    case OUTCOME_R:
        if (t->victim == VICTIM_OPEN)
            return is_right;
        /* Using up a stack can take longer than the deadline. */
        return is_refused && (e->status == 500 || e->status == 504) && !e->is_bare;
    case OUTCOME_TIME:
    case OUTCOME_LOCK: return is_refused && e->status == 504;
    case OUTCOME_LATE:
    case OUTCOME_NOTHING: return is_right;
    case OUTCOME_T: return e->result == RESULT_CUT && e->n_bytes > 0;
    case OUTCOME_X: return is_refused && e->status == 500 && e->is_bare;
    case OUTCOME_KILLED: return e->result == RESULT_CUT && e->n_bytes == 0;
    default: return false;
    }
}

static void charge(const struct soak_story *s, const struct soak_event *e, struct soak_bill *bill)
{
    const struct soak_trick *t = e->ask.trick;

    if (t->outcome == OUTCOME_NOTHING || t->outcome == OUTCOME_KILLED)
        return;
    if (is_near_death(s, e))
        bill->maybe += 2; /* it may have been run again, too */
    else if (t->is_unsure)
        bill->maybe++;
    else
        bill->sure++;
}

static bool is_explained(const struct soak_story *s, const struct soak_event *e)
{
    const unsigned parked = 1u << STORY_PARKED, killed = 1u << STORY_KILLED;

    switch (e->result) {
    case RESULT_RIGHT: return e->ask.trick == NULL;
    case RESULT_REFUSED:
        if (e->status != 503 || !e->has_retry)
            return false;
        return e->is_bare ? has_died(s, e, parked) : was_out(s, e) || was_parked_at_once(s, e);
    case RESULT_CUT:
        if (e->n_bytes > 0 || e->n_before > 0)
            return has_died(s, e, parked | killed);
        return has_died(s, e, killed) || ended_with_its_answer(s, e);
    default: return false;
    }
}

static void print(const struct soak_event *e)
{
    static const char *const results[] = {"right", "refused", "cut", "WRONG", "SILENCE"};
    const struct soak_trick *t = e->ask.trick;

    printf("  unexplained: %s%s%s %s /%s/%s key %" PRIu64
           " n %u%s%s%s%s: status %d%s, %u bytes, %d before "
           "it, worker %d, last asked %" PRId64 " ms before, %" PRId64 " to %" PRId64 " ms%s%s\n",
           results[e->result], e->is_bare ? " (bare)" : "", e->has_retry ? " (retry)" : "",
           t != NULL ? soak_outcome_names[t->outcome] : "innocent",
           soak_victim_names[e->ask.victim],
           e->ask.what < N_WHATS ? soak_what_names[e->ask.what] : "-", e->ask.key, e->ask.n,
           t != NULL ? ", fault " : "", t != NULL ? t->fault : "", t != NULL ? " in " : "",
           t != NULL ? t->at : "", e->status, e->ask.is_chunked ? ", chunked" : "", e->n_bytes,
           e->n_before, (int)e->worker, e->sent_ms - e->before_ms, e->sent_ms, e->end_ms,
           e->note[0] != '\0' ? ": " : "", e->note);
}

int soak_judge(const struct soak_event *events, size_t n, const struct soak_story *story,
               struct soak_bill bill[N_VICTIMS])
{
    int planned[N_OUTCOMES] = {0}, n_refused = 0, n_out = 0, n_cut = 0, n_idle = 0, n_wrong = 0;

    memset(bill, 0, N_VICTIMS * sizeof *bill);
    for (size_t i = 0; i < n; i++) {
        const struct soak_event *e = &events[i];

        if (e->ask.trick != NULL && is_as_planned(e)) {
            planned[e->ask.trick->outcome]++;
            charge(story, e, &bill[e->ask.trick->victim]);
            continue;
        }
        if (!is_explained(story, e)) {
            if (n_wrong++ < 40)
                print(e);
            continue;
        }
        if (e->ask.trick != NULL && (e->result == RESULT_CUT || e->is_bare))
            bill[e->ask.trick->victim].maybe += 2; /* nobody knows how far it came */
        n_refused += e->result == RESULT_REFUSED && e->is_bare;
        n_out += e->result == RESULT_REFUSED && !e->is_bare;
        n_cut += e->result == RESULT_CUT && e->ask.what != N_WHATS;
        n_idle += e->result == RESULT_CUT && e->ask.what == N_WHATS;
    }
    printf("faults that came to what the matrix says:");
    for (int i = 0; i < N_OUTCOMES; i++)
        printf("%s %d %s", i > 0 ? "," : "", planned[i], soak_outcome_names[i]);
    printf(
        "\nfailures that an outcome explains: %d refused as their worker died, %d as a plugin was "
        "out, %d cut, %d idle connections closed\n",
        n_refused, n_out, n_cut, n_idle);
    printf("failures that nothing explains: %d\n", n_wrong);
    return n_wrong;
}
