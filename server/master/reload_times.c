/*
 * reload_times.c - how long the parts of a reload took, for those who wait for one and for the log.
 *
 * The last part, the swap, ends in the workers: each notes when it began to serve. What a newcomer
 * would get wrong: the reload itself is over by then, and the next may begin.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/log.h"

#define PATIENCE_MS 1000 /* of a worker that does not begin to serve the log says so otherwise */

static const char *const part_names[] = {
    [RELOAD_BEGUN] = "check",   [RELOAD_CHECKED] = "preflight", [RELOAD_TRIED] = "prepare",
    [RELOAD_PREPARED] = "save", [RELOAD_COMMITTED] = "swap",
};

void reload_mark(struct master *m, enum reload_mark mark)
{
    m->reload.mark_ns[mark] = clock_mono_ns();
}

/* From that mark to the next; -1: it did not come to it. */
static int64_t part_us(const struct reload *r, int mark)
{
    if (r->mark_ns[mark] == 0 || r->mark_ns[mark + 1] == 0)
        return -1;
    return (r->mark_ns[mark + 1] - r->mark_ns[mark]) / 1000;
}

/* Adds them to what is told of the reload. */
static void tell(struct reload *r)
{
    char **result = &r->result[r->id % RELOAD_RESULTS];
    json_t *json = *result != NULL ? json_loads(*result, 0, NULL) : NULL;
    json_t *times = json_object();
    char *text;

    for (int i = 0; i < RELOAD_TAKEN; i++)
        if (part_us(r, i) >= 0)
            json_object_set_new(times, part_names[i], json_integer(part_us(r, i)));
    json_object_set_new(json, "times_us", times);
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL)
        return;
    free(*result);
    *result = text;
}

static void log_it(const struct master *m, int n_changes)
{
    const struct reload *r = &m->reload;
    char parts[160] = "";
    size_t n = 0;

    for (int i = 0; i < RELOAD_TAKEN && n < sizeof parts - 32; i++)
        if (part_us(r, i) >= 100) /* below 0.1 ms it is not worth a word */
            n += (size_t)snprintf(parts + n, sizeof parts - n, "%s%s %.1f", n == 0 ? ": " : ", ",
                                  part_names[i], (double)part_us(r, i) / 1000);
    log_info(
        "%s: generation %" PRIu64
        " serves (%d change%s, %d ms%s); workers of the one before finish what they have begun",
        r->reason, m->generation->number, n_changes, n_changes == 1 ? "" : "s",
        (int)((r->mark_ns[RELOAD_COMMITTED] - r->mark_ns[RELOAD_BEGUN]) / 1000000), parts);
}

void reload_times_begin(struct master *m, int n_changes)
{
    m->reload.is_taking = true;
    m->reload.n_changes = n_changes;
}

void reload_times_end(struct master *m)
{
    if (!m->reload.is_taking)
        return;
    m->reload.is_taking = false;
    log_it(m, m->reload.n_changes);
    tell(&m->reload);
}

void reload_times_tick(struct master *m)
{
    struct reload *r = &m->reload;
    int64_t last_ns = r->mark_ns[RELOAD_COMMITTED];

    if (!r->is_taking)
        return;
    for (int i = 0; i < m->cfg->n_workers && last_ns != 0; i++) {
        int slot = m->post[i].holder;
        int64_t ns = slot >= 0 ? atomic_load(&m->shm->worker[slot].serving_ns) : 0;

        if (ns < r->mark_ns[RELOAD_COMMITTED])
            last_ns = 0;
        else if (ns > last_ns)
            last_ns = ns;
    }
    r->mark_ns[RELOAD_TAKEN] = last_ns;
    if (last_ns != 0 ||
        clock_mono_ns() - r->mark_ns[RELOAD_COMMITTED] > PATIENCE_MS * INT64_C(1000000))
        reload_times_end(m);
}
