/*
 * reap.c - children that have ended, or did not begin in time: what it was, and what follows.
 *
 * What a newcomer would get wrong: children that ended are looked for by pid, each; waitpid(-1)
 * would steal from whoever else has children in this process.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/log.h"

static void worker_not_ready(struct master *m, struct child *c, const char *why)
{
    if (m->phase == MASTER_STARTING) {
        master_say(m, "worker %d is not ready: %s; nothing was started", c->index, why);
        phase_fail_start(m);
    } else {
        log_error("worker %d is not ready: %s", c->index, why);
    }
}

/* An end that nobody asked for. Says in *reason, for the log, what it was. */
static void account_for(struct master *m, struct child *c, pid_t pid, int status, char *reason,
                        size_t size)
{
    bool is_in_plugin = atomic_load(&m->shm->worker[c->index].call.plugin) != 0;
    bool is_exit = WIFEXITED(status) && !is_in_plugin;

    death_describe(status, reason, size);
    if (is_exit && WEXITSTATUS(status) == WORKER_NOT_READY && c->message_len > 0)
        snprintf(reason, size, "%s", c->message);
    else if (is_exit && WEXITSTATUS(status) == WORKER_REPLACE)
        log_warn("worker %d (pid %d) asked to be replaced", c->index, (int)pid);
    else if (is_exit && WEXITSTATUS(status) == WORKER_STOPPED)
        log_warn("worker %d (pid %d) ended by itself", c->index, (int)pid);
    else
        death_charge(m, c->index, pid, status, NULL, 0);
}

static void worker_ended(struct master *m, struct child *c, pid_t pid, int status, bool was_serving)
{
    char reason[CHILD_MESSAGE] = "crashed";
    enum child_duty was = c->duty;
    int post = c->post;
    bool has_stopped = WIFEXITED(status) && WEXITSTATUS(status) == WORKER_STOPPED;
    /* A SIGTERM that comes before the worker is prepared for it kills; it was asked to end. */
    bool is_fine = c->was_told_to_end || (was == DUTY_LEAVING && has_stopped) ||
                   (m->phase >= MASTER_DRAINING &&
                    (has_stopped || (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)));

    escrow_take_back(m, c);
    posts_read_last(m, c);
    escrow_taken(m, c);
    log_debug("worker %d (pid %d): %s -> %s", c->index, (int)pid, duty_name(was),
              duty_name(DUTY_NONE));
    c->duty = DUTY_NONE;
    c->post = -1;
    if (!is_fine)
        account_for(m, c, pid, status, reason, sizeof reason);
    if (!is_fine || was == DUTY_PARKED)
        events_add(&m->events, EVENT_WORKER_ENDED, NULL, "worker %d (pid %d) %s", c->index,
                   (int)pid, reason);
    history_add(m, c, pid, is_fine && was != DUTY_PARKED ? "ended as it was told to" : reason);
    death_clear(m, c->index);
    if (m->phase >= MASTER_DRAINING)
        return;
    if (was == DUTY_CANDIDATE) {
        if (!is_fine || m->reload.state >= RELOAD_PREPARING)
            reload_candidate_ended(m, reason);
        return;
    }
    if (!was_serving && (!is_fine || was == DUTY_PARKED))
        worker_not_ready(m, c, reason);
    if (m->phase == MASTER_STARTING && was_serving) {
        master_say(m, "worker %d %s while the others were starting; nothing was started", c->index,
                   reason);
        phase_fail_start(m);
    }
    if (m->phase == MASTER_SERVING)
        posts_ended(m, c, was, post, was_serving, "it was not ready");
}

static bool is_ours(const struct master *m, pid_t pid)
{
    for (int i = 0; i < m->n_slots; i++)
        if (m->worker[i].pid == pid)
            return true;
    return m->recorder.pid == pid || m->admin_child.pid == pid || m->exporter.pid == pid ||
           m->upgrade.pid == pid ||
           (m->reload.preflight != NULL && preflight_pid(m->reload.preflight) == pid);
}

/*
 * The first process of a container gets whatever there loses its parent: what plugins start, mostly. Nobody
 * else would ever collect it. One of our own that has ended hides those behind it until whoever it belongs to
 * has collected it; they go with the next.
 */
static void reap_orphans(const struct master *m)
{
    int is_subreaper = 0;

    if (getpid() != 1 && (prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper) < 0 || !is_subreaper))
        return;
    for (;;) {
        siginfo_t si = {.si_pid = 0};

        if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0 ||
            is_ours(m, si.si_pid) || waitpid(si.si_pid, NULL, WNOHANG) <= 0)
            return;
    }
}

void reap_children(struct master *m)
{
    bool was_serving;
    int status;

    upgrade_reap(m);
    for (int i = 0; i < m->n_slots; i++) {
        pid_t pid = m->worker[i].pid;

        if (child_reap(&m->worker[i], &status, &was_serving))
            worker_ended(m, &m->worker[i], pid, status, was_serving);
    }
    if (child_reap(&m->recorder, &status, &was_serving))
        recorder_ended(m, status);
    if (child_reap(&m->admin_child, &status, &was_serving))
        admin_ended(m, status);
    if (child_reap(&m->exporter, &status, &was_serving))
        exporter_ended(m, status);
    reap_orphans(m);
}

void reap_late_worker(struct master *m, struct child *c)
{
    char where[512];
    char why[640];

    death_where(m, c->index, where, sizeof where);
    snprintf(why, sizeof why, "it said nothing for %d ms (%s)", MASTER_READY_MS, where);
    if (c->duty == DUTY_CANDIDATE)
        reload_candidate_ended(m, why);
    else
        worker_not_ready(m, c, why);
    child_kill(c, SIGKILL); /* the rest when it is reaped */
    c->due_ms = INT64_MAX;
}
