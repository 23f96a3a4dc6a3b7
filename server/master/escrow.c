/*
 * escrow.c - connections on their way from one worker to another.
 *
 * A worker that cannot go on stands still in its fault handler (plugin/park.h). Its descriptors are
 * as they were, and its table in shared memory says what each connection was about. The master
 * copies the descriptors with pidfd_getfd(2), or, where that is denied, asks the worker to send them;
 * then it ends the worker, and hands the connections to one that serves, which answers what has to be
 * answered. What a newcomer would get wrong: nothing is
 * read from these sockets here, and nothing that a peer sent is looked at; the text of a request that
 * shall be run again is copied as bytes.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/channel.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/log.h"

#define HOLD_MS      15000 /* longer than the longest delay of a restart */
#define SURRENDER_MS 5000  /* for a parked worker to hand over what it has */

struct held {
    int fd;
    int post; /* whose worker should have it; any other will do */
    int64_t until_ms;
    struct channel_entry entry;
    char *text; /* ADOPT_REPLAY: the request; ADOPT_FAILED: the record's id; malloc'd */
    uint32_t text_len;
};

/* ---- holding ---- */

static void drop(struct held *h)
{
    fd_close(&h->fd);
    free(h->text);
    h->text = NULL;
}

/* Takes fd over. */
static void hold(struct master *m, int fd, int post, struct channel_entry entry, const char *text,
                 uint32_t text_len)
{
    struct escrow *e = &m->escrow;
    struct held h = {.fd = fd, .post = post, .until_ms = clock_mono_ms() + HOLD_MS, .entry = entry};

    if (e->n == e->cap) {
        int cap = e->cap == 0 ? 256 : e->cap * 2;
        struct held *item = realloc(e->item, (size_t)cap * sizeof *item);

        if (item == NULL) {
            drop(&h);
            return;
        }
        e->item = item;
        e->cap = cap;
    }
    if (text_len > 0) {
        h.text = malloc(text_len);
        if (h.text != NULL) {
            memcpy(h.text, text, text_len);
            h.text_len = text_len;
        } else if (entry.what == ADOPT_REPLAY) {
            h.entry.what = ADOPT_REFUSE;
        }
    }
    e->item[e->n++] = h;
}

bool escrow_is_waiting(const struct master *m)
{
    return m->escrow.n > 0;
}

void escrow_close(struct master *m)
{
    struct escrow *e = &m->escrow;

    for (int i = 0; i < e->n; i++)
        drop(&e->item[i]);
    free(e->item);
    *e = (struct escrow){.cannot_take = e->cannot_take};
}

/* ---- taking ---- */

/* What is to become of a connection. is_culprit: its request was being worked on. */
static enum channel_adopt judge(uint32_t flags, bool is_culprit, uint32_t replay_len)
{
    if ((flags & SHM_CONN_TLS) != 0)
        return ADOPT_END; /* its session died with the worker */
    if ((flags & SHM_CONN_LAST) != 0)
        return ADOPT_END;
    if (!is_culprit && (flags & (SHM_CONN_BUSY | SHM_CONN_READING)) == 0)
        return ADOPT_IDLE;
    if ((flags & SHM_CONN_SENT) != 0)
        return ADOPT_CUT;
    if (is_culprit)
        return ADOPT_FAILED;
    if ((flags & SHM_CONN_AGAIN) != 0 && replay_len > 0 && replay_len <= CHANNEL_TEXT)
        return ADOPT_REPLAY;
    return ADOPT_REFUSE;
}

/* -1: a reload has closed it. */
static void set_listener(struct channel_entry *entry, int listener)
{
    entry->listener = (uint16_t)(listener >= 0 ? listener : 0);
    if (listener < 0 && entry->what == ADOPT_IDLE)
        entry->what = ADOPT_CUT;
    if (listener < 0 && entry->what == ADOPT_REPLAY)
        entry->what = ADOPT_REFUSE;
}

void escrow_change_config(struct master *m, const struct config *before)
{
    struct escrow *e = &m->escrow;

    for (int i = 0; i < e->n; i++)
        set_listener(&e->item[i].entry,
                     generation_map_listener(before, m->cfg, e->item[i].entry.listener));
}

static void count(struct haul *haul, enum channel_adopt what)
{
    haul->n_idle += what == ADOPT_IDLE;
    haul->n_replayed += what == ADOPT_REPLAY;
    haul->n_refused += what == ADOPT_REFUSE || what == ADOPT_FAILED;
    haul->n_cut += what == ADOPT_CUT || what == ADOPT_END;
}

/* Takes `taken` over: a copy of the worker's descriptor `fd`. */
static void take_one(struct master *m, struct child *c, int fd, int taken,
                     const struct shm_conn *conn)
{
    bool is_culprit = fd == atomic_load(&m->shm->worker[c->index].call.fd);
    uint32_t flags = atomic_load_explicit(&conn->flags, memory_order_relaxed);
    uint32_t at = conn->replay_at, len = conn->replay_len; /* once: the other side is not trusted */
    struct channel_entry entry = {.is_last = (flags & SHM_CONN_EXTRA) != 0, .client = conn->client};
    int listener = reload_map_listener(m, c, (int)(flags >> SHM_CONN_LISTENER_SHIFT & 0xff));

    if (at > SHM_REPLAY_SIZE || len > SHM_REPLAY_SIZE - at)
        len = 0;
    entry.what = judge(flags, is_culprit, len);
    set_listener(&entry, listener);
    count(&c->haul, entry.what);
    if (entry.what == ADOPT_REPLAY)
        hold(m, taken, c->post, entry, shm_replay(m->shm, (uint32_t)c->index) + at, len);
    else if (entry.what == ADOPT_FAILED)
        hold(m, taken, c->post, entry, c->record_id, (uint32_t)strlen(c->record_id));
    else
        hold(m, taken, c->post, entry, NULL, 0);
}

/* What its table says of that descriptor; NULL: it is no connection. */
static const struct shm_conn *find_open(const struct master *m, const struct child *c, int fd)
{
    const struct shm_conn *conn = shm_conn(m->shm, (uint32_t)c->index, fd);

    if (conn == NULL ||
        (atomic_load_explicit(&conn->flags, memory_order_relaxed) & SHM_CONN_OPEN) == 0)
        return NULL;
    return conn;
}

static void say_cannot_take(struct master *m, const struct child *c, int err)
{
    if (m->escrow.cannot_take)
        return;
    m->escrow.cannot_take = true;
    log_warn("the master may not take over the connections of worker %d (pidfd_getfd: %s): crashed "
             "workers hand them over by themselves, unless they are too broken for it. %s",
             c->index, strerror(err),
             err == EPERM ? "CAP_SYS_PTRACE allows it (in a container: --cap-add SYS_PTRACE)"
                          : "Linux 5.6 or later has it");
}

/* False: the system does not let us. */
static bool take_connections(struct master *m, struct child *c)
{
    int pidfd = pidfd_open(c->pid, 0);
    bool is_allowed = pidfd >= 0;

    if (!is_allowed)
        say_cannot_take(m, c, errno);
    for (int fd = 0; fd < (int)m->shm->n_fds && is_allowed; fd++) {
        const struct shm_conn *conn = find_open(m, c, fd);
        int taken;

        if (conn == NULL)
            continue;
        taken = pidfd_getfd(pidfd, fd, 0);
        if (taken >= 0) {
            take_one(m, c, fd, taken, conn);
        } else if (errno == EPERM || errno == ENOSYS) {
            say_cannot_take(m, c, errno);
            is_allowed = false;
        } else if (errno != EBADF) {
            log_error("connections of worker %d are lost: pidfd_getfd: %s", c->index,
                      strerror(errno));
            break;
        }
    }
    fd_close(&pidfd);
    return is_allowed;
}

/* It stands still in park(), or its watchdog makes it. */
static void ask_to_surrender(struct master *m, struct child *c)
{
    struct shm_worker *w = &m->shm->worker[c->index];

    c->is_surrendering = true;
    c->due_ms = clock_mono_ms() + SURRENDER_MS;
    atomic_store(&w->give_up, 1);
    syscall(SYS_futex, &w->give_up, FUTEX_WAKE, 1, NULL, NULL, 0);
    kill(c->pid, SIGCONT);
}

void escrow_surrendered(struct master *m, struct child *c, const struct channel_message *msg,
                        const int *fds)
{
    for (uint32_t i = 0; i < msg->n; i++) {
        const struct shm_conn *conn = find_open(m, c, msg->entry[i].fd);
        int taken = fds[i];

        if (c->is_surrendering && conn != NULL)
            take_one(m, c, msg->entry[i].fd, taken, conn);
        else
            fd_close(&taken);
    }
    if (msg->n == 0)
        escrow_taken(m, c);
}

void escrow_taken(struct master *m, struct child *c)
{
    const struct haul *haul = &c->haul;

    if (c->duty != DUTY_PARKED || c->due_ms == INT64_MAX)
        return;
    c->is_surrendering = false;
    c->due_ms = INT64_MAX;
    if (c->pid > 0)
        child_kill(c, SIGKILL);
    publish_haul(m, haul);
    log_info(
        "worker %d: %d idle connections move, %d requests are run again, %d are refused, %d cut",
        c->index, haul->n_idle, haul->n_replayed, haul->n_refused, haul->n_cut);
    escrow_deliver(m, clock_mono_ms());
}

void escrow_take(struct master *m, struct child *c)
{
    bool was_serving = c->state == CHILD_RUNNING;

    c->haul = (struct haul){0};
    c->record_id[0] = '\0';
    c->due_ms = 0;
    death_charge(m, c->index, c->pid, -1, c->record_id, sizeof c->record_id);
    if (m->phase == MASTER_SERVING) /* first of all: the successor starts while we are at it */
        posts_ended(m, c, DUTY_SERVING, c->post, was_serving, "it crashed before it was ready");
    escrow_take_back(m, c);
    if (take_connections(m, c))
        escrow_taken(m, c);
    else
        ask_to_surrender(m, c);
}

void escrow_put(struct master *m, int post, int listener, const struct channel_entry *entry, int fd,
                const char *text, uint32_t text_len)
{
    struct channel_entry e = *entry;

    set_listener(&e, listener);
    if (e.what != ADOPT_REPLAY && e.what != ADOPT_FAILED)
        text_len = 0;
    hold(m, fd, post, e, text, text_len);
}

void escrow_take_back(struct master *m, struct child *c)
{
    static char text[CHANNEL_TEXT + 1];
    struct channel_message msg;
    int fds[CHANNEL_FDS], r = 0;

    /* Finite: only we send to it. */
    while (c->far_fd >= 0 && (r = channel_receive(c->far_fd, &msg, fds, text)) != 0) {
        if (r == -EBADMSG)
            continue;
        if (r < 0)
            break;
        for (uint32_t i = 0; i < msg.n; i++) {
            if (msg.kind == CHANNEL_ADOPT)
                escrow_put(m, c->post, reload_map_listener(m, c, msg.entry[i].listener),
                           &msg.entry[i], fds[i], text, msg.text_len);
            else
                fd_close(&fds[i]);
        }
    }
}

/* ---- handing out ---- */

/* A channel to whoever serves; NULL: nobody does, just now. */
static int *find_taker(struct master *m, int post)
{
    int *any = NULL;

    if (m->is_succeeded)
        return m->upgrade.channel_fd >= 0 ? &m->upgrade.channel_fd : NULL;
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];

        if (c->duty != DUTY_SERVING || c->state != CHILD_RUNNING || c->channel_fd < 0 ||
            c->is_stopped)
            continue;
        if (c->post == post)
            return &c->channel_fd;
        any = &c->channel_fd;
    }
    return any;
}

/* Those at the end of the list that go to the same worker in one message; their number, or -errno. */
static int send_batch(struct master *m, int **taker)
{
    struct escrow *e = &m->escrow;
    struct held *last = &e->item[e->n - 1];
    struct channel_message msg = {.kind = CHANNEL_ADOPT};
    int fds[CHANNEL_FDS], r;

    *taker = find_taker(m, last->post);
    if (*taker == NULL)
        return -EAGAIN;
    if (last->text != NULL) { /* alone */
        fds[0] = last->fd;
        msg.entry[0] = last->entry;
        msg.n = 1;
        msg.text_len = last->text_len;
    } else {
        for (int i = e->n - 1; i >= 0 && msg.n < CHANNEL_FDS; i--) {
            if (e->item[i].text != NULL || e->item[i].post != last->post)
                break;
            fds[msg.n] = e->item[i].fd;
            msg.entry[msg.n++] = e->item[i].entry;
        }
    }
    r = channel_send(**taker, &msg, fds, last->text);
    return r < 0 ? r : (int)msg.n;
}

void escrow_deliver(struct master *m, int64_t now_ms)
{
    struct escrow *e = &m->escrow;
    int n_late = 0;

    while (e->n > 0) {
        int *taker;
        int n = send_batch(m, &taker);

        if (n == -EAGAIN)
            break;
        if (n < 0) {
            log_error("somebody does not take connections any more: %s", strerror(-n));
            fd_close(taker);
            continue;
        }
        for (int i = 0; i < n; i++)
            drop(&e->item[--e->n]);
    }
    for (int i = 0; i < e->n;) {
        if (e->item[i].until_ms > now_ms && (m->phase < MASTER_DRAINING || m->is_succeeded)) {
            i++;
            continue;
        }
        drop(&e->item[i]);
        e->item[i] = e->item[--e->n];
        n_late++;
    }
    if (n_late > 0 && (m->phase < MASTER_DRAINING || m->is_succeeded))
        log_error("%d connections were closed: no worker took them within %d ms", n_late, HOLD_MS);
}
