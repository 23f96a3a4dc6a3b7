/*
 * exporter.c - the master's side of the process that sends traces and alerts.
 *
 * There is one only while the config has something for it to do. Two at a time would read the same rings,
 * so the next begins when the last has ended.
 */
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "master/internal.h"

bool exporter_is_wanted_by(const struct master *m)
{
    return m->roles->exporter != NULL && m->roles->wants_exporter(m->cfg);
}

void exporter_start(struct master *m)
{
    struct child *c = &m->exporter;
    int r;

    if (child_is_alive(c))
        return;
    c->state = CHILD_DOWN;
    if (!exporter_is_wanted_by(m))
        return;
    respawn_started(&c->respawn, clock_mono_ms());
    r = child_start(m, c, -1, m->generation);
    if (r < 0)
        helper_start_later(c, strerror(-r));
}

void exporter_tick(struct master *m, int64_t now_ms)
{
    if (helper_next_ms(&m->exporter) <= now_ms)
        exporter_start(m);
}

void exporter_ended(struct master *m, int status)
{
    if (m->phase < MASTER_FLUSHING && helper_ended(m, &m->exporter, status))
        exporter_start(m);
}

void exporter_commit(struct master *m)
{
    if (!child_is_alive(&m->exporter)) /* else it follows: follow.c */
        exporter_start(m);
}

void exporter_stop(struct master *m)
{
    helper_stop(&m->exporter);
}
