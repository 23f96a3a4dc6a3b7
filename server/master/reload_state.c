/*
 * reload_state.c - what plugins have in memory, on its way from each worker to its successor.
 *
 * Workers write it down while they serve. One that dies, or takes too long, loses its plugins' state; the
 * reload goes on without.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "ipc/channel.h"
#include "ipc/state.h"
#include "master/internal.h"
#include "obs/log.h"

#define SAVE_MS 2000 /* for a worker to write down what its plugins have in memory */

void reload_drop_saved(struct master *m)
{
    for (int i = 0; i < m->cfg->n_workers; i++)
        fd_close(&m->post[i].state_fd);
}

/* What one worker's plugins have in memory, so that restore() is tried with something real. */
bool reload_ask_for_state(struct master *m)
{
    struct channel_message msg = {.kind = CHANNEL_SAVE, .n = 1};
    struct post *p = &m->post[0];
    struct child *c = p->holder >= 0 ? &m->worker[p->holder] : NULL;

    if (m->roles->moves_state == NULL || m->roles->rehearse == NULL ||
        !m->roles->moves_state(m->setup, m->reload.next->setup) || c == NULL ||
        c->state != CHILD_RUNNING || c->channel_fd < 0)
        return false;
    p->state_fd = state_create();
    p->is_saving = p->state_fd >= 0 && channel_send(c->channel_fd, &msg, &p->state_fd, NULL) == 0;
    if (!p->is_saving)
        fd_close(&p->state_fd);
    m->reload.save_until_ms = clock_mono_ms() + SAVE_MS;
    return p->is_saving;
}

bool reload_is_answered(struct master *m, int64_t now_ms, int *state_fd)
{
    struct post *p = &m->post[0];

    if (p->is_saving && now_ms < m->reload.save_until_ms && p->holder >= 0 &&
        child_is_alive(&m->worker[p->holder]))
        return false;
    if (p->is_saving)
        fd_close(&p->state_fd);
    p->is_saving = false;
    *state_fd = p->state_fd;
    p->state_fd = -1;
    return true;
}

/* What plugins have in memory goes from each worker to its successor. Requests go on meanwhile. */
void reload_begin_saving(struct master *m, int64_t now_ms)
{
    struct channel_message msg = {.kind = CHANNEL_SAVE, .n = 1};

    m->reload.state = RELOAD_SAVING;
    m->reload.save_until_ms = now_ms + SAVE_MS;
    for (int i = 0; i < m->cfg->n_workers; i++) {
        struct post *p = &m->post[i];
        struct child *c = p->holder >= 0 ? &m->worker[p->holder] : NULL;

        p->is_saving = false;
        if (c == NULL || c->state != CHILD_RUNNING || c->channel_fd < 0)
            continue;
        p->state_fd = state_create();
        p->is_saving = p->state_fd >= 0 &&
                       channel_send(c->channel_fd, &msg, &p->state_fd, NULL) == 0;
        if (!p->is_saving)
            fd_close(&p->state_fd);
    }
}

/* Of who died, or is late, there is no state. */
bool reload_is_saved(struct master *m, int64_t now_ms)
{
    for (int i = 0; i < m->cfg->n_workers; i++) {
        struct post *p = &m->post[i];

        if (!p->is_saving)
            continue;
        if (now_ms < m->reload.save_until_ms && p->holder >= 0 &&
            child_is_alive(&m->worker[p->holder]))
            return false;
        log_warn("worker %d has not saved the state of its plugins within %d ms: it is lost",
                 p->holder, SAVE_MS);
        p->is_saving = false;
        fd_close(&p->state_fd);
    }
    return true;
}
