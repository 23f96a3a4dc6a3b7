/*
 * child.c - forking, and the first things in the child.
 *
 * Fork without exec: the child has the checked config and the sockets, as they are. So it must
 * give back what is the master's: descriptors, blocked signals, buffered output.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/must.h"
#include "base/urgency.h"
#include "ipc/beat.h"
#include "ipc/channel.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/log.h"
#include "store/memory.h"

static bool is_recorder(const struct child *c)
{
    return c->index == CHILD_RECORDER;
}

static bool is_admin(const struct child *c)
{
    return c->index == CHILD_ADMIN;
}

static bool is_exporter(const struct child *c)
{
    return c->index == CHILD_EXPORTER;
}

static bool is_worker(const struct child *c)
{
    return c->index >= 0;
}

void child_init(struct child *c, int index, const struct config *cfg)
{
    c->index = index;
    c->state = CHILD_DOWN;
    c->duty = DUTY_NONE;
    c->post = -1;
    c->pid = 0;
    c->ready_fd = -1;
    c->channel_fd = -1;
    c->far_fd = -1;
    c->was_told_to_end = false;
    c->message[0] = '\0';
    c->message_len = 0;
    respawn_init(&c->respawn, cfg->respawn.restarts, cfg->respawn.window_ms);
}

bool child_is_alive(const struct child *c)
{
    return c->pid > 0;
}

void child_name(const struct child *c, char *buf, size_t size)
{
    if (is_recorder(c))
        snprintf(buf, size, "recorder");
    else if (is_admin(c))
        snprintf(buf, size, "admin");
    else if (is_exporter(c))
        snprintf(buf, size, "exporter");
    else
        snprintf(buf, size, "worker %d", c->index);
}

void child_kill(struct child *c, int signo)
{
    if (!child_is_alive(c))
        return;
    c->was_told_to_end = c->was_told_to_end || signo == SIGQUIT || signo == SIGKILL;
    kill(c->pid, signo);
}

bool child_look_stopped(struct child *c)
{
    char path[64], line[256] = "", name[32];
    const char *state;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)c->pid);
    f = fopen(path, "re");
    if (f == NULL)
        return false;
    if (fgets(line, sizeof line, f) == NULL)
        line[0] = '\0';
    fclose(f);
    state = strrchr(line, ')');
    if (state == NULL || state[1] != ' ' || (state[2] != 'T' && state[2] != 't'))
        return false;
    if (!c->is_stopped) {
        child_name(c, name, sizeof name);
        log_warn(
            "%s (pid %d) is stopped, by a signal or a debugger: it is left alone; kill -CONT %d",
            name, (int)c->pid, (int)c->pid);
    }
    c->is_stopped = true;
    return true;
}

/* ---- In the child ---- */

static void set_signals(bool ignore_quit)
{
    static const int of_master[] = {SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2, SIGXFSZ};
    struct sigaction sa = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int signo = 1; signo < NSIG; signo++)
        sigaction(signo, &sa, NULL); /* refused for SIGKILL, SIGSTOP and libc's own */
    sa.sa_handler = SIG_IGN;
    for (size_t i = 0; i < sizeof of_master / sizeof of_master[0]; i++)
        sigaction(of_master[i], &sa, NULL);
    if (ignore_quit)
        sigaction(SIGQUIT, &sa, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

void child_become(const struct user *user, pid_t parent, bool ignore_quit, const char *role)
{
    char name[16];
    int r;

    log_set_role(role);
    snprintf(name, sizeof name, "bh-%s", role);
    prctl(PR_SET_NAME, name);
    r = user_become(user);
    if (r < 0) {
        log_error("cannot become server.user: %s", strerror(-r));
        _exit(MASTER_FAILED);
    }
    /* After the change of user, which clears it; and the master may be gone already. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(MASTER_STOPPED);
    set_signals(ignore_quit);
}

/* A worker keeps those of its post, or, while it has none, all of its config. */
static struct listen_set *close_listeners(struct master *m, const struct child *self, int post)
{
    bool is_next = self->gen != m->generation;
    struct listen_set *own = is_next ? &m->reload.listeners : &m->listeners;
    struct listen_set *other = is_next ? &m->listeners : &m->reload.listeners;

    listen_close_others(other, -1);
    if (!is_worker(self) || post >= 0)
        listen_close_others(own, !is_worker(self) ? -1 : post);
    return own;
}

void child_close_masters(struct master *m)
{
    fd_close(&m->epoll_fd);
    fd_close(&m->signal_fd);
    fd_close(&m->upgrade.channel_fd);
    fd_close(&m->predecessor_fd);
    fd_close(&m->watch.fd);
    for (int i = 0; i < m->n_slots; i++) {
        fd_close(&m->worker[i].ready_fd);
        fd_close(&m->worker[i].channel_fd);
        fd_close(&m->worker[i].far_fd);
    }
    escrow_close(m);
    for (int i = 0; i < m->cfg->n_workers; i++)
        fd_close(&m->post[i].state_fd);
    control_forget(&m->control);
    admin_forget(&m->admin);
}

/* What the recorder and the admin process know: the config that is served, and those before it. */
static struct recorder_view look_back(const struct generation *from)
{
    struct recorder_view view = {.n = 0};

    for (const struct generation *g = from; g != NULL && view.n < RECORDER_VIEWS; g = g->older) {
        view.cfg[view.n] = g->cfg;
        view.setup[view.n++] = g->setup;
    }
    return view;
}

static _Noreturn void run_role(struct master *m, struct child *c, int post, pid_t parent,
                               int ready_fd, int channel_fd)
{
    const struct listen_set *listeners = close_listeners(m, c, post);
    bool stands_by = is_worker(c) && (post < 0 || c->gen != m->generation);
    struct worker_seat seat = {.slot = c->index,
                               .post = post,
                               .stands_by = stands_by,
                               .n_posts = c->gen->cfg->n_workers,
                               .listen_fds = listeners->fd,
                               .ready_fd = ready_fd,
                               .channel_fd = channel_fd,
                               .keys_fd = c->gen->keys.fd,
                               .store = m->store};
    struct admin_seat admin = {.listen_fd = -1};
    char role[32];
    int status;

    if (is_worker(c) && !stands_by) {
        urgency_be_usual();
    } else {
        urgency_allow_return();
        if (!stands_by)
            urgency_be_modest(); /* until it has begun, and whatever we are */
    }
    child_name(c, role, sizeof role);
    if (is_admin(c)) {
        admin = admin_take_seat(&m->admin, channel_fd);
        store_memory_destroy(
            &m->store); /* our view of it: what plugins keep is none of its business */
    }
    child_close_masters(m);
    keys_close(m, is_worker(c) ? seat.keys_fd : -1);
    if (c->gen->cfg != m->cfg) /* with the log of its own config; it has been opened by us before */
        (void)log_open(c->gen->cfg->log.path, c->gen->cfg->log.level,
                       (enum log_format)c->gen->cfg->log.format);
    log_limit_repeats(c->gen->cfg->log.repeats);
    /* Not "worker" for a moment: who counts workers would count it. */
    child_become(&m->user, parent, !is_worker(c), stands_by ? "standby" : role);
    if (stands_by)
        urgency_yield();
    log_set_role(role);
    if (!is_worker(c) && m->beats != NULL)
        beat_is(&m->beats[is_recorder(c) ? BEAT_RECORDER
                          : is_admin(c)  ? BEAT_ADMIN
                                         : BEAT_EXPORTER]);
    if (is_recorder(c)) {
        struct recorder_view view = look_back(c->gen);

        status = m->roles->recorder(&view, m->shm);
    } else if (is_exporter(c)) {
        status = m->roles->exporter(c->gen->cfg, m->shm);
    } else if (is_admin(c)) {
        status = m->roles->admin(c->gen->cfg, c->gen->setup, m->shm, &admin);
    } else {
        /* The master says so as well, but later than we can die. */
        atomic_store(&m->shm->worker[c->index].pid, getpid());
        status = m->roles->worker(c->gen->cfg, c->gen->setup, m->shm, &seat);
    }
    /* Not exit(): what the master registered with atexit() is not ours to run. */
    fflush(NULL);
    _exit(status);
}

/* ---- In the master ---- */

static void watch(const struct master *m, int fd, uint32_t what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = what};

    /* Fails when out of memory only; then the worker is late, killed, and tried again. */
    epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* -errno, or 0 and a process. The worker's end of the pipe is the only one. */
static int fork_child(struct master *m, struct child *c, int post)
{
    int ready[2] = {-1, -1}, channel[2] = {-1, -1};
    pid_t parent = getpid(), pid = -1;
    int r = 0;

    if (is_worker(c))
        r = pipe2(ready, O_CLOEXEC) < 0 ? -errno : channel_open(channel);
    else if (is_admin(c) && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0)
        r = -errno;
    if (r == 0) {
        fflush(NULL); /* or the child writes it again */
        pid = fork();
        r = pid < 0 ? -errno : 0;
    }
    if (pid == 0) {
        fd_close(&ready[0]);
        fd_close(&channel[0]);
        run_role(m, c, post, parent, ready[1], channel[1]);
    }
    fd_close(&ready[1]);
    if (r < 0) {
        fd_close(&ready[0]);
        fd_close(&channel[0]);
        fd_close(&channel[1]);
        return r;
    }
    c->pid = pid;
    c->ready_fd = ready[0];
    c->channel_fd = channel[0];
    c->far_fd = channel[1];
    if (is_admin(c)) {
        fd_close(&c->far_fd);
        watch(m, c->channel_fd, MASTER_ADMIN_EVENT);
    }
    if (is_worker(c)) {
        fcntl(c->ready_fd, F_SETFL, O_NONBLOCK);
        watch(m, c->ready_fd, (uint32_t)c->index);
        watch(m, c->channel_fd, (uint32_t)c->index | MASTER_CHANNEL_EVENT);
        atomic_store(&m->shm->worker[c->index].pid, pid);
    }
    metrics_add(
        is_recorder(c) ? &m->shm->master.recorders_started : &m->shm->master.workers_started, 1);
    return 0;
}

int child_start(struct master *m, struct child *c, int post, const struct generation *gen)
{
    int64_t now = clock_mono_ms();
    int r;

    must(!child_is_alive(c) && c->ready_fd == -1 && c->channel_fd == -1);
    c->was_told_to_end = c->is_stopped = false;
    c->message_len = 0;
    c->gen = gen;
    r = fork_child(m, c, post);
    if (r < 0)
        return r;
    c->post = post;
    c->keys_edition = gen->keys.edition;
    c->beat_ms = 0;
    c->started_ms = now;
    c->hurry_ms = now + MASTER_YIELD_MS;
    /* The others say nothing: nobody waits for them. */
    c->state = is_worker(c) ? CHILD_STARTING : CHILD_RUNNING;
    c->due_ms = is_worker(c) ? now + MASTER_READY_MS : INT64_MAX;
    return 0;
}

/* A plugin's words may be in it, and it goes to standard error as it is. */
static void clean(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
            p[i] = ' ';
}

void child_read_ready(struct child *c)
{
    for (;;) {
        size_t room = sizeof c->message - 1 - c->message_len;
        char rest[256];
        ssize_t n;

        if (c->ready_fd < 0)
            return;
        n = room > 0 ? read(c->ready_fd, c->message + c->message_len, room)
                     : read(c->ready_fd, rest, sizeof rest);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n == 1 && c->message_len == 0) {
            c->state = CHILD_RUNNING;
            fd_close(&c->ready_fd);
        } else if (n <= 0) {
            fd_close(&c->ready_fd);
        } else if (room > 0) {
            clean(c->message + c->message_len, (size_t)n);
            c->message_len += (size_t)n;
        }
        c->message[c->message_len] = '\0';
    }
}

bool child_reap(struct child *c, int *status, bool *was_serving)
{
    pid_t pid;

    if (!child_is_alive(c))
        return false;
    do {
        pid = waitpid(c->pid, status, WNOHANG);
    } while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return false;
    if (pid < 0)
        *status = 0;     /* ECHILD: somebody else has collected it. It is gone all the same. */
    child_read_ready(c); /* its last word may still be in the pipe */
    *was_serving = c->state == CHILD_RUNNING;
    fd_close(&c->ready_fd);
    c->state = CHILD_DOWN;
    c->pid = 0;
    return true;
}
