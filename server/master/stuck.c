/*
 * stuck.c - the recorder, the admin process and the exporter: does one of them stand still?
 *
 * Nobody waits for them, so nobody would notice: log lines and crash records would be lost, the dashboard
 * silent, alerts not told; and a reload would wait without end for the old one to make room. One whose loop
 * does not turn is killed, and started again as any that has died. What a newcomer would get wrong: one that
 * was stopped by a signal is left alone, and named, since somebody may be debugging it; unless it has to
 * make room.
 */
#include <signal.h>

#include "base/clock.h"
#include "ipc/beat.h"
#include "master/internal.h"
#include "obs/log.h"

#define ROOM_MS 10000 /* to finish, when another config serves */

int stuck_helper_ms = 30000; /* the recorder may take 20 s for one record */

static void look(struct master *m, struct child *c, int which, int64_t now)
{
    uint32_t beat = m->beats != NULL ? atomic_load(&m->beats[which]) : 0;
    char name[32];

    if (!child_is_alive(c) || m->beats == NULL)
        return;
    child_name(c, name, sizeof name);
    if (c->gen == m->generation) {
        c->due_ms = INT64_MAX;
    } else if (c->due_ms == INT64_MAX) {
        c->due_ms = now + ROOM_MS;
    } else if (c->due_ms <= now) {
        c->due_ms = now + ROOM_MS;
        log_error("the %s (pid %d) does not make room for the next one: killed", name, (int)c->pid);
        child_kill(c, SIGKILL);
        return;
    }
    if (beat != c->beat || c->beat_ms == 0) {
        c->beat = beat;
        c->beat_ms = now;
        c->is_stopped = false;
    } else if (now - c->beat_ms >= stuck_helper_ms && child_look_stopped(c)) {
        c->beat_ms = now;
    } else if (now - c->beat_ms >= stuck_helper_ms) {
        c->beat_ms = now;
        log_error("the %s (pid %d) has not moved for %d ms: killed", name, (int)c->pid,
                  stuck_helper_ms);
        child_kill(c, SIGKILL);
    }
}

void stuck_tick(struct master *m, int64_t now)
{
    if (m->phase != MASTER_SERVING)
        return;
    look(m, &m->recorder, BEAT_RECORDER, now);
    look(m, &m->admin_child, BEAT_ADMIN, now);
    look(m, &m->exporter, BEAT_EXPORTER, now);
}
