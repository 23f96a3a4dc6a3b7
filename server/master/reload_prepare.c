/*
 * reload_prepare.c - PREPARE: listeners, keys and workers for a config that has been tried.
 *
 * All of it stands beside what serves, which it leaves as it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "ipc/shm.h"
#include "master/internal.h"

/* Sockets of addresses that both have are the same ones. */
static int open_listeners(struct master *m, char *text, size_t size)
{
    struct reload *r = &m->reload;
    size_t n = (size_t)m->cfg->n_workers * (size_t)m->cfg->n_listeners;
    struct inherit in = {.channel_fd = -1};
    struct diag diag;
    int result;

    in.fd = calloc(n + 1, sizeof in.fd[0]);
    if (in.fd == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        in.fd[in.n] = fcntl(m->listeners.fd[i], F_DUPFD_CLOEXEC, 3);
        if (in.fd[in.n] >= 0)
            in.n++;
    }
    diag_init(&diag);
    result = listen_open(&r->listeners, r->next->cfg, &in, &diag);
    if (result == 0) {
        result = admin_prepare(m, r->next->cfg, &diag);
        if (result < 0)
            listen_share_paths(&r->listeners, &m->listeners);
    }
    diag_format_all(&diag, text, size);
    diag_fini(&diag);
    inherit_close(&in);
    return result;
}

static int load_keys(struct master *m, char *text, size_t size)
{
    struct diag diag;
    int result;

    diag_init(&diag);
    result = keys_load(m, m->reload.next, &diag);
    diag_format_all(&diag, text, size);
    diag_fini(&diag);
    return result;
}

/* Counters of plugins that take the place of others begin at 0. Nobody works for those any more. */
static void clear_places(struct master *m)
{
    for (int i = 0; i < m->reload.next->cfg->n_plugins; i++)
        if (m->reload.is_fresh[i]) {
            metrics_forget_plugin(m->shm, (uint32_t)i);
            memset((void *)&m->shm->plugin[i], 0, sizeof m->shm->plugin[i]);
        }
}

static void dismiss_candidates(struct master *m)
{
    for (int i = 0; i < m->n_slots; i++)
        if (m->worker[i].duty == DUTY_CANDIDATE)
            child_kill(&m->worker[i], SIGQUIT);
}

void reload_fail_prepare(struct master *m, const char *why)
{
    if (m->reload.listeners.fd != NULL)
        listen_share_paths(&m->reload.listeners, &m->listeners);
    reload_finish(m, "failed", "prepare", why);
    dismiss_candidates(m);
}

void reload_prepare(struct master *m)
{
    struct reload *r = &m->reload;
    char text[4096] = "";
    int result;

    result = open_listeners(m, text, sizeof text);
    if (result < 0) {
        reload_finish(m, "failed", "listeners", text[0] != '\0' ? text : strerror(-result));
        return;
    }
    result = load_keys(m, text, sizeof text);
    if (result < 0) {
        listen_share_paths(&r->listeners, &m->listeners);
        reload_finish(m, "failed", "certificates", text[0] != '\0' ? text : strerror(-result));
        return;
    }
    r->state = RELOAD_PREPARING;
    clear_places(m);
    for (int i = 0; i < r->next->cfg->n_workers; i++) {
        struct child *c = posts_find_free_slot(m);

        if (c == NULL) {
            snprintf(
                text, sizeof text,
                "workers of earlier reloads still finish their requests, and there is no place "
                "for more: try again in a moment (limits.timeouts.drain is %u ms)",
                m->cfg->limits.drain_ms);
            reload_fail_prepare(m, text);
            return;
        }
        result = child_start(m, c, i, r->next);
        if (result < 0) {
            snprintf(text, sizeof text, "cannot fork: %s", strerror(-result));
            reload_fail_prepare(m, text);
            return;
        }
        posts_set_duty(c, DUTY_CANDIDATE);
    }
}

void reload_candidate_ended(struct master *m, const char *reason)
{
    if (m->reload.state >= RELOAD_PREPARING)
        reload_fail_prepare(m, reason);
}

bool reload_is_prepared(const struct master *m)
{
    int n = 0;

    for (int i = 0; i < m->n_slots; i++)
        n += m->worker[i].duty == DUTY_CANDIDATE && m->worker[i].state == CHILD_RUNNING &&
             m->worker[i].gen == m->reload.next;
    return n >= m->reload.next->cfg->n_workers;
}
