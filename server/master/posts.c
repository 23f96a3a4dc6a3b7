/*
 * posts.c - which worker serves where.
 *
 * A post is a set of listening sockets. It has a holder; when that dies, parks or shall retire, the
 * worker that stands by takes over at once, else one is forked. What a newcomer would get wrong: the
 * holder of a post is the one that will serve it; its predecessor may live on for a while in its own
 * slot (RETIRING, LEAVING), finishing what it has begun.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/must.h"
#include "base/text.h"
#include "base/urgency.h"
#include "ipc/channel.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "master/notify.h"
#include "obs/log.h"

#define LEAVE_EXTRA_MS  2000 /* beyond limits.drain_ms, which is the worker's own */
#define STANDBY_WAIT_MS 20   /* let the one that takes over begin, before the next is loaded */
#define LOOK_MS         1000 /* between two looks at the workers' beats */

int posts_stuck_ms = 15000;

static const char *const duty_names[] = {
    [DUTY_NONE] = "none",       [DUTY_STANDBY] = "standby",   [DUTY_CANDIDATE] = "candidate",
    [DUTY_SERVING] = "serving", [DUTY_RETIRING] = "retiring", [DUTY_LEAVING] = "leaving",
    [DUTY_PARKED] = "parked",
};

const char *duty_name(enum child_duty duty)
{
    return duty_names[duty];
}

void posts_set_duty(struct child *c, enum child_duty duty)
{
    log_debug("worker %d (pid %d): %s -> %s", c->index, (int)c->pid, duty_names[c->duty],
              duty_names[duty]);
    c->duty = duty;
}

void posts_init(struct master *m)
{
    for (int i = 0; i < m->cfg->n_workers; i++) {
        m->post[i].holder = -1;
        m->post[i].due_ms = 0;
        m->post[i].is_to_recycle = false;
        m->post[i].state_fd = -1;
        respawn_init(&m->post[i].respawn, m->cfg->respawn.restarts, m->cfg->respawn.window_ms);
    }
    m->standby.due_ms = 0;
    respawn_init(&m->standby.respawn, m->cfg->respawn.restarts, m->cfg->respawn.window_ms);
}

/* ---- finding ---- */

struct child *posts_find_free_slot(struct master *m)
{
    for (int i = 0; i < m->n_slots; i++)
        if (m->worker[i].state == CHILD_DOWN)
            return &m->worker[i];
    return NULL;
}

int posts_count_free(const struct master *m)
{
    int n = 0;

    for (int i = 0; i < m->n_slots; i++)
        n += m->worker[i].state == CHILD_DOWN;
    return n;
}

struct child *posts_find_standby(struct master *m)
{
    for (int i = 0; i < m->n_slots; i++)
        if (m->worker[i].duty == DUTY_STANDBY && m->worker[i].state != CHILD_DOWN &&
            m->worker[i].gen == m->generation)
            return &m->worker[i];
    return NULL;
}

int posts_count_ready(const struct master *m)
{
    int n = 0;

    for (int i = 0; i < m->cfg->n_workers; i++) {
        int slot = m->post[i].holder;

        n += slot >= 0 && m->worker[slot].state == CHILD_RUNNING;
    }
    return n;
}

/* ---- taking over ---- */

static void dismiss(struct master *m, struct child *c)
{
    struct channel_message msg = {.kind = CHANNEL_HAND_OVER};

    for (int i = 0; i < c->gen->cfg->n_listeners && i < 31; i++)
        if (reload_map_listener(m, c, i) < 0)
            msg.number |= 1 << i; /* nobody else takes in what waits there */
    posts_set_duty(c, DUTY_LEAVING);
    c->due_ms = clock_mono_ms() + (int64_t)m->cfg->limits.drain_ms + LEAVE_EXTRA_MS;
    if (c->channel_fd < 0 || channel_send(c->channel_fd, &msg, NULL, NULL) < 0)
        child_kill(c, SIGTERM); /* the old way: it closes idle connections */
}

/* The post has a worker that serves: those before it may go. */
static void dismiss_predecessors(struct master *m, int post)
{
    for (int i = 0; i < m->n_slots; i++)
        if (m->worker[i].duty == DUTY_RETIRING && m->worker[i].post == post)
            dismiss(m, &m->worker[i]);
}

void posts_dismiss_all(struct master *m)
{
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];

        if (c->duty == DUTY_STANDBY || c->duty == DUTY_CANDIDATE || c->state == CHILD_STARTING)
            child_kill(c, SIGQUIT);
        else if (c->duty == DUTY_SERVING || c->duty == DUTY_RETIRING)
            dismiss(m, c);
    }
}

/* False: it does not listen any more. */
static bool appoint_standby(struct master *m, struct child *c, int post)
{
    struct channel_message msg = {.kind = CHANNEL_SERVE, .number = post};
    int *state_fd = &m->post[post].state_fd, r;

    msg.n = *state_fd >= 0;
    r = channel_send(c->channel_fd, &msg, state_fd, NULL);
    fd_close(state_fd);
    if (r < 0) {
        child_kill(c, SIGKILL);
        return false;
    }
    if (c->duty == DUTY_STANDBY) {
        log_info("worker %d (pid %d), which stood by, takes over", c->index, (int)c->pid);
        m->standby.due_ms = clock_mono_ms() + STANDBY_WAIT_MS;
    }
    c->post = post;
    c->started_ms = clock_mono_ms();
    posts_set_duty(c, DUTY_SERVING);
    m->post[post].holder = c->index;
    dismiss_predecessors(m, post);
    return true;
}

static void put_off(struct post *p, int64_t now, bool was_serving, int slot, const char *reason)
{
    uint32_t delay_ms = respawn_ended(&p->respawn, now, was_serving);

    p->due_ms = now + delay_ms;
    if (delay_ms == 0)
        return;
    if (reason != NULL)
        log_error("worker %d is started again in %u ms: %s", slot, delay_ms, reason);
    else
        log_error("worker %d is started again in %u ms: it ended more than %u times within %u ms",
                  slot, delay_ms, p->respawn.restarts, p->respawn.window_ms);
}

/* 0: there is somebody, or it is tried again soon; or why nobody could be started. */
static int fill(struct master *m, int post, int64_t now)
{
    struct post *p = &m->post[post];
    struct child *c = posts_find_standby(m);
    int r;

    respawn_started(&p->respawn, now);
    /* A stopped one would take over the clients as well, and leave them waiting. */
    if (c != NULL && c->state == CHILD_RUNNING && !child_look_stopped(c) &&
        appoint_standby(m, c, post))
        return 0;
    c = posts_find_free_slot(m);
    if (c == NULL) { /* those that leave have a deadline */
        p->due_ms = now + 50;
        return 0;
    }
    r = child_start(m, c, post, m->generation);
    if (r < 0) {
        put_off(p, now, false, c->index, strerror(-r));
        return r;
    }
    p->holder = c->index;
    posts_set_duty(c, DUTY_SERVING);
    if (m->phase == MASTER_SERVING)
        log_info("worker %d is started", c->index);
    return 0;
}

bool posts_start(struct master *m)
{
    for (int i = 0; i < m->cfg->n_workers; i++) {
        int r = fill(m, i, clock_mono_ms());

        if (m->post[i].holder < 0) {
            master_say(m, "cannot start worker %d: %s; nothing was started%s", i, strerror(-r),
                       r == -EMFILE ? "; raise the limit of descriptors (ulimit -n, LimitNOFILE)"
                                    : "");
            return false;
        }
    }
    return true;
}

void posts_ready(struct master *m, struct child *c)
{
    if (c->duty == DUTY_SERVING)
        dismiss_predecessors(m, c->post);
}

void posts_change_generation(struct master *m)
{
    int64_t now = clock_mono_ms();

    if (m->standby.due_ms < now + STANDBY_WAIT_MS)
        m->standby.due_ms = now + STANDBY_WAIT_MS;
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];

        if (c->gen == m->generation || !child_is_alive(c))
            continue;
        if (c->state == CHILD_STARTING && (c->duty == DUTY_STANDBY || c->duty == DUTY_SERVING))
            child_kill(c, SIGQUIT);
        else if (c->duty == DUTY_SERVING)
            posts_set_duty(c, DUTY_RETIRING);
    }
    for (int post = 0; post < m->cfg->n_workers; post++) {
        struct child *c = NULL;

        m->post[post].holder = -1;
        m->post[post].is_to_recycle = false;
        for (int i = 0; i < m->n_slots && c == NULL; i++)
            if (m->worker[i].duty == DUTY_CANDIDATE && m->worker[i].state == CHILD_RUNNING &&
                m->worker[i].post == post)
                c = &m->worker[i];
        if (c == NULL || !appoint_standby(m, c, post))
            fill(m, post, now);
    }
}

/* ---- going ---- */

void posts_retire(struct master *m, struct child *c, const char *why)
{
    int64_t now = clock_mono_ms();

    if (c->duty != DUTY_SERVING || m->phase != MASTER_SERVING)
        return; /* it goes already */
    log_info("worker %d (pid %d) is to be replaced: %s", c->index, (int)c->pid, why);
    posts_set_duty(c, DUTY_RETIRING);
    m->post[c->post].holder = -1;
    m->post[c->post].due_ms = now;
    fill(m, c->post, now);
}

/* It asked for it: that counts as an end, or a plugin that asks always would replace workers without
 * end. */
static void retire_on_request(struct master *m, struct child *c, const char *why)
{
    struct post *p = c->post >= 0 ? &m->post[c->post] : NULL;
    int64_t now = clock_mono_ms();

    if (c->duty != DUTY_SERVING || p == NULL || m->phase != MASTER_SERVING)
        return;
    log_warn("worker %d (pid %d) asks to be replaced: %s", c->index, (int)c->pid, why);
    posts_set_duty(c, DUTY_RETIRING);
    p->holder = -1;
    put_off(p, now, true, c->index, NULL);
    if (p->due_ms <= now)
        fill(m, c->post, now);
}

void posts_ended(struct master *m, struct child *c, enum child_duty was, int post, bool was_serving,
                 const char *reason)
{
    int64_t now = clock_mono_ms();

    if (was == DUTY_STANDBY && c->gen == m->generation) { /* else a reload has ended it */
        uint32_t delay_ms = respawn_ended(&m->standby.respawn, now, was_serving);

        m->standby.due_ms = now + delay_ms;
        if (delay_ms > 0)
            log_error("a worker to stand by is started again in %u ms: %s", delay_ms,
                      was_serving ? "it ended too often" : reason);
    }
    if (post < 0 || m->post[post].holder != c->index)
        return; /* its successor has the post */
    m->post[post].holder = -1;
    put_off(&m->post[post], now, was_serving, c->index, was_serving ? NULL : reason);
    if (m->post[post].due_ms <= now)
        fill(m, post, now);
}

/* ---- what is due ---- */

/* Those of generations before: not sooner than the next is due, for ending takes time of the CPU, too. */
static void end_old_standbys(struct master *m)
{
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];

        if (c->duty != DUTY_STANDBY || c->gen == m->generation || c->was_told_to_end)
            continue;
        /* One that is stopped would keep its slot, and its generation. */
        child_kill(c, c->state == CHILD_RUNNING && child_look_stopped(c) ? SIGKILL : SIGQUIT);
    }
}

static void tick_standby(struct master *m, int64_t now)
{
    struct child *c;
    int r;

    if (m->standby.due_ms > now || !follow_is_due(m, now))
        return;
    end_old_standbys(m);
    if (m->cfg->escrow.standby == 0 || posts_find_standby(m) != NULL)
        return;
    c = posts_find_free_slot(m);
    if (c == NULL || posts_count_ready(m) < m->cfg->n_workers)
        return; /* those that serve first */
    respawn_started(&m->standby.respawn, now);
    r = child_start(m, c, -1, m->generation);
    if (r < 0) {
        m->standby.due_ms = now + respawn_ended(&m->standby.respawn, now, false);
        log_error("cannot start a worker to stand by: %s", strerror(-r));
        return;
    }
    posts_set_duty(c, DUTY_STANDBY);
}

/* One after the other, each by the worker that stands by then, so that the machine keeps its
 * capacity. */
static void tick_recycling(struct master *m)
{
    const struct child *standby = posts_find_standby(m);

    if (m->cfg->escrow.standby > 0 && (standby == NULL || standby->state != CHILD_RUNNING))
        return;
    for (int i = 0; i < m->n_slots; i++)
        if (m->worker[i].duty == DUTY_RETIRING)
            return;
    for (int i = 0; i < m->cfg->n_workers; i++) {
        struct post *p = &m->post[i];

        if (!p->is_to_recycle || p->holder < 0 || m->worker[p->holder].state != CHILD_RUNNING)
            continue;
        p->is_to_recycle = false;
        posts_retire(m, &m->worker[p->holder], "it is recycled");
        return;
    }
}

/* A loop that does not turn, outside of plugins (those have deadlines): a descriptor it waits for is
 * gone, or the host itself is at fault. It is stopped where it is, and treated as one that parked. */
static void look_at_beat(struct master *m, struct child *c, int64_t now)
{
    const struct shm_worker *w = &m->shm->worker[c->index];
    uint32_t beat = atomic_load(&w->beat);

    if (beat != c->beat && c->beat_ms != 0 && c->duty != DUTY_STANDBY) /* which serves nobody */
        watchdog_saw_turn(m, now);
    if (beat != c->beat || atomic_load(&w->call.plugin) != 0 || c->beat_ms == 0) {
        c->beat = beat;
        c->beat_ms = now;
        c->is_stopped = false;
        return;
    }
    if (now - c->beat_ms < posts_stuck_ms)
        return;
    c->beat_ms = now;
    if (child_look_stopped(c))
        return;
    if (c->duty == DUTY_STANDBY) {
        log_error("worker %d (pid %d), which stands by, has not moved for %d ms: killed", c->index,
                  (int)c->pid, posts_stuck_ms);
        child_kill(c, SIGKILL);
        return;
    }
    log_error("worker %d (pid %d) has not moved for %d ms, outside of plugins; it is replaced",
              c->index, (int)c->pid, posts_stuck_ms);
    kill(c->pid, SIGSTOP);
    posts_set_duty(c, DUTY_PARKED);
    escrow_take(m, c);
}

/* Where requests take all of the CPU it would never be ready; and locks that it holds, in the store say,
 * would be held for as long. */
static bool may_yield(const struct child *c)
{
    return c->state == CHILD_STARTING && (c->duty == DUTY_STANDBY || c->duty == DUTY_CANDIDATE);
}

void posts_tick(struct master *m, int64_t now)
{
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];

        if (may_yield(c) && now >= c->hurry_ms) {
            /* Again and again: on a busy machine it may not have come to yield yet, and then would do so
             * for good. */
            c->hurry_ms = now + MASTER_YIELD_MS;
            urgency_restore(c->pid, CHILD_OWN_THREADS);
        }
        if (c->duty == DUTY_PARKED && c->is_surrendering && c->due_ms <= now) {
            log_error("worker %d did not hand over all its connections in time: killed", i);
            escrow_taken(m, c);
        }
        if (c->duty == DUTY_LEAVING && c->due_ms <= now) {
            char where[512];

            death_where(m, i, where, sizeof where);
            log_warn("worker %d did not finish in time (%s): killed", i, where);
            child_kill(c, SIGKILL);
            c->due_ms = INT64_MAX;
        }
    }
    if (m->phase != MASTER_SERVING)
        return;
    for (int i = 0; i < m->n_slots; i++)
        if ((m->worker[i].duty == DUTY_SERVING || m->worker[i].duty == DUTY_STANDBY) &&
            m->worker[i].state == CHILD_RUNNING)
            look_at_beat(m, &m->worker[i], now);
    for (int i = 0; i < m->cfg->n_workers; i++)
        if (m->post[i].holder < 0 && m->post[i].due_ms <= now)
            fill(m, i, now);
    tick_standby(m, now);
    tick_recycling(m);
}

int64_t posts_next_ms(const struct master *m)
{
    int64_t at = INT64_MAX;

    for (int i = 0; i < m->n_slots; i++) {
        const struct child *c = &m->worker[i];

        if ((c->state == CHILD_STARTING || c->duty == DUTY_LEAVING || c->duty == DUTY_PARKED) &&
            c->due_ms < at)
            at = c->due_ms;
        if (may_yield(c) && c->hurry_ms < at)
            at = c->hurry_ms;
    }
    if (m->phase != MASTER_SERVING)
        return at;
    if (at > clock_mono_ms() + LOOK_MS)
        at = clock_mono_ms() + LOOK_MS;
    for (int i = 0; i < m->cfg->n_workers; i++)
        if (m->post[i].holder < 0 && m->post[i].due_ms < at)
            at = m->post[i].due_ms;
    if (m->standby.due_ms > clock_mono_ms() && m->standby.due_ms < at)
        at = m->standby.due_ms;
    return at;
}

int master_recycle(struct master *m, int slot)
{
    int r = -ENOENT;

    for (int i = 0; i < m->cfg->n_workers; i++) {
        if (m->post[i].holder < 0 || (slot >= 0 && m->post[i].holder != slot))
            continue;
        m->post[i].is_to_recycle = true;
        r = 0;
    }
    return r;
}

/* ---- what workers say ---- */

static void handle(struct master *m, struct child *c, const struct channel_message *msg,
                   const int *fds, const char *text)
{
    char why[160];

    switch (msg->kind) {
    case CHANNEL_GIVE:
        for (uint32_t i = 0; i < msg->n; i++) {
            struct channel_entry idle = {.what = ADOPT_IDLE, .client = msg->entry[i].client};
            int listener = reload_map_listener(m, c, msg->entry[i].listener), fd = fds[i];

            if (listener >= 0)
                escrow_put(m, c->post, listener, &idle, fd, NULL, 0);
            else
                fd_close(&fd);
        }
        return;
    case CHANNEL_REPLACE:
        text_printable(why, sizeof why, text);
        retire_on_request(m, c, why);
        break;
    case CHANNEL_PARKED:
        if (c->pid == 0)
            break; /* it was killed by somebody else meanwhile */
        if (c->duty == DUTY_PARKED)
            break; /* by our own wish */
        posts_set_duty(c, DUTY_PARKED);
        escrow_take(m, c);
        break;
    case CHANNEL_SAVED:
        if (c->post >= 0)
            m->post[c->post].is_saving = false;
        break;
    case CHANNEL_SURRENDER: escrow_surrendered(m, c, msg, fds); return;
    default:
        log_error("worker %d sent what a worker does not send (%u)", c->index, msg->kind);
        break;
    }
    for (uint32_t i = 0; i < msg->n; i++) {
        int fd = fds[i];

        fd_close(&fd);
    }
}

void posts_read_channel(struct master *m, struct child *c)
{
    static char text[CHANNEL_TEXT + 1];
    struct channel_message msg;
    int fds[CHANNEL_FDS];

    /* Bounded: one worker that talks without end must not keep the master from the others. */
    for (int i = 0; i < 64 && c->channel_fd >= 0; i++) {
        int r = channel_receive(c->channel_fd, &msg, fds, text);

        if (r == 0)
            break;
        if (r == -EBADMSG)
            log_error("worker %d sent a message that makes no sense", c->index);
        else if (r < 0)
            fd_close(&c->channel_fd);
        else
            handle(m, c, &msg, fds, text);
    }
    /* Now, and not when the loop comes to it: it may have to fork before, and clients wait. */
    if (escrow_is_waiting(m) && m->phase <= MASTER_SERVING)
        escrow_deliver(m, clock_mono_ms());
}

void posts_read_last(struct master *m, struct child *c)
{
    /* Its end is reported sooner than its last messages, which hold connections. It is finite: nobody
     * can write any more, unless a child of a plugin's has the other end. */
    fd_close(&c->far_fd);
    for (int i = 0; i < 1000 && c->channel_fd >= 0; i++)
        posts_read_channel(m, c);
    fd_close(&c->channel_fd);
}
