/*
 * recorder.c - the master's side of the process that writes crash records and log lines.
 *
 * It begins before the workers and ends after them, with what they left.
 */
#include <string.h>

#include "base/clock.h"
#include "master/internal.h"

void recorder_start(struct master *m)
{
    int r;

    respawn_started(&m->recorder.respawn, clock_mono_ms());
    r = child_start(m, &m->recorder, -1, m->generation);
    if (r < 0)
        helper_start_later(&m->recorder, strerror(-r));
}

void recorder_tick(struct master *m, int64_t now_ms)
{
    if (helper_next_ms(&m->recorder) <= now_ms)
        recorder_start(m);
}

void recorder_ended(struct master *m, int status)
{
    if (m->phase < MASTER_FLUSHING && helper_ended(m, &m->recorder, status))
        recorder_start(m);
}

void recorder_stop(struct master *m)
{
    helper_stop(&m->recorder);
}
