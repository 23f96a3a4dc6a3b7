/*
 * phase.c - where the server is in its life: starting, serving, draining, gone.
 *
 * It only ever goes forward. What has to happen when a phase begins stands in phase_enter(), nowhere else.
 */
#include <signal.h>

#include "base/clock.h"
#include "base/must.h"
#include "master/internal.h"
#include "master/notify.h"
#include "obs/log.h"

#define FORCE_MS       1000 /* from SIGQUIT to SIGKILL */
#define DRAIN_EXTRA_MS 2000 /* beyond limits.drain_ms, which is the workers' own */
#define FLUSH_MS       5000 /* for what exporter and admin process have begun */
/* For the recorder's last lines and records, whose symbols take long where others have the processor. Together
 * with a drain of 30 s this is still less than the 45 s after which the packaged service is killed. */
#define RECORDER_FLUSH_MS 12000

static const char *const phase_names[] = {
    [MASTER_STARTING] = "starting", [MASTER_SERVING] = "serving",   [MASTER_DRAINING] = "draining",
    [MASTER_FORCING] = "forcing",   [MASTER_FLUSHING] = "flushing", [MASTER_ENDED] = "ended",
};

const char *phase_name(enum master_phase phase)
{
    return phase_names[phase];
}

static void signal_workers(struct master *m, int signo)
{
    for (int i = 0; i < m->n_slots; i++)
        /* One that stands by has nothing to finish. */
        child_kill(&m->worker[i], m->worker[i].duty == DUTY_STANDBY ? SIGQUIT : signo);
}

int phase_count_workers(const struct master *m)
{
    int n = 0;

    for (int i = 0; i < m->n_slots; i++)
        n += child_is_alive(&m->worker[i]);
    return n;
}

void phase_enter(struct master *m, enum master_phase phase)
{
    int64_t now = clock_mono_ms();

    must(phase > m->phase);
    log_debug("master: %s -> %s", phase_names[m->phase], phase_names[phase]);
    m->phase = phase;
    switch (phase) {
    case MASTER_STARTING: break;
    case MASTER_SERVING:
        if (m->predecessor_fd >= 0) /* not sooner: until now it was the old master's */
            control_open(m);
        watch_update(m);
        watchdog_saw_turn(m, now);
        admin_start(m);
        exporter_start(m);
        events_add(&m->events, EVENT_STARTED, NULL, "the server serves");
        if (m->roles->interrupted != NULL && m->roles->interrupted[0] != '\0') {
            log_warn("plugin '%s' was being rolled out when the server ended: it is the version "
                     "before that serves",
                     m->roles->interrupted);
            events_add(&m->events, EVENT_ROLLOUT_ABORTED, m->roles->interrupted,
                       "it was being rolled out when the server ended: the version before serves");
        }
        kept_save(m, &m->overlay, NULL);
        master_announce(m);
        if (m->predecessor_fd >= 0)
            upgrade_announce(m); /* the old one tells systemd */
        else
            notify_systemd("READY=1");
        break;
    case MASTER_DRAINING:
    case MASTER_FORCING:
        reload_abandon(m, "the server stops");
        if (m->is_succeeded) {
            listen_leave_paths(&m->listeners);
            admin_stop(m);
        } else
            notify_systemd("STOPPING=1");
        if (!m->is_succeeded)
            listen_shut_door(&m->listeners, NULL);
        listen_close(&m->listeners);
        if (m->is_succeeded && phase == MASTER_DRAINING)
            posts_dismiss_all(m);
        else
            signal_workers(m, phase == MASTER_DRAINING ? SIGTERM : SIGQUIT);
        m->phase_end_ms = now + (phase == MASTER_DRAINING
                                     ? (int64_t)m->cfg->limits.drain_ms + DRAIN_EXTRA_MS
                                     : FORCE_MS);
        break;
    case MASTER_FLUSHING:
        /* Not sooner: it writes out what the workers left. */
        recorder_stop(m);
        admin_stop(m);
        exporter_stop(m);
        m->phase_end_ms = now + FLUSH_MS;
        m->flush_end_ms = now + RECORDER_FLUSH_MS;
        break;
    case MASTER_ENDED:
        log_tell_repeats(true);
        log_info("stopped");
        break;
    }
}

void master_give_way(struct master *m)
{
    if (m->phase == MASTER_SERVING)
        phase_enter(m, MASTER_DRAINING);
}

void phase_fail_start(struct master *m)
{
    m->exit_status = MASTER_FAILED;
    phase_enter(m, MASTER_FORCING);
}

void phase_out_of_patience(struct master *m)
{
    if (m->phase == MASTER_FLUSHING) {
        bool is_recorders = !child_is_alive(&m->exporter) && !child_is_alive(&m->admin_child);

        if (!is_recorders)
            log_warn("the exporter or the admin process did not finish within %d ms: killed",
                     FLUSH_MS);
        child_kill(&m->exporter, SIGKILL);
        child_kill(&m->admin_child, SIGKILL);
        if (child_is_alive(&m->recorder) && clock_mono_ms() < m->flush_end_ms) {
            m->phase_end_ms = m->flush_end_ms;
            return;
        }
        if (is_recorders)
            log_warn("the recorder did not finish within %d ms: killed", RECORDER_FLUSH_MS);
        child_kill(&m->recorder, SIGKILL);
    }
    for (int i = 0; i < m->n_slots; i++) {
        char where[512];

        if (!child_is_alive(&m->worker[i]))
            continue;
        death_where(m, i, where, sizeof where);
        log_warn("worker %d did not finish in time (%s): killed", i, where);
        child_kill(&m->worker[i], SIGKILL);
    }
    m->phase_end_ms = INT64_MAX; /* nothing survives SIGKILL */
}
