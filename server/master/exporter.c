/*
 * exporter.c - the master's side of the process that sends traces and alerts.
 *
 * There is one only while the config has something for it to do. Two at a time would read the same rings,
 * so the next begins when the last has ended.
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "master/internal.h"
#include "obs/log.h"

bool exporter_is_wanted_by(const struct master *m)
{
    return m->roles->exporter != NULL && m->roles->wants_exporter(m->cfg);
}

static void start_later(struct master *m, const char *reason)
{
    struct child *c = &m->exporter;
    int64_t now = clock_mono_ms();
    uint32_t delay_ms = respawn_ended(&c->respawn, now, reason == NULL);

    c->state = CHILD_WAITING;
    c->due_ms = now + delay_ms;
    if (delay_ms == 0)
        log_info("the exporter is started again");
    else
        log_error("the exporter is started again in %u ms: %s", delay_ms,
                  reason != NULL ? reason : "it ended too often");
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
        start_later(m, strerror(-r));
}

void exporter_tick(struct master *m, int64_t now_ms)
{
    if (m->exporter.state == CHILD_WAITING && m->exporter.due_ms <= now_ms)
        exporter_start(m);
}

int64_t exporter_next_ms(const struct master *m)
{
    return m->exporter.state == CHILD_WAITING ? m->exporter.due_ms : INT64_MAX;
}

void exporter_ended(struct master *m, int status)
{
    char how[64];

    if (m->phase >= MASTER_FLUSHING)
        return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && m->exporter.gen != m->generation) {
        exporter_start(m); /* it was told to make room */
        return;
    }
    death_describe(status, how, sizeof how);
    log_error("the exporter %s", how);
    start_later(m, NULL);
}

void exporter_commit(struct master *m)
{
    if (child_is_alive(&m->exporter))
        child_kill(&m->exporter, SIGUSR2);
    else
        exporter_start(m);
}

void exporter_stop(struct master *m)
{
    if (m->exporter.state == CHILD_WAITING)
        m->exporter.state = CHILD_DOWN;
    child_kill(&m->exporter, SIGTERM);
}
