/*
 * upgrade.c - SIGUSR2: another executable, or another config, takes over without losing anything.
 *
 * The old master executes its own path anew. The new one inherits the listening sockets, starts its
 * workers beside the old ones, and says when it serves. Then the old workers accept no more, their
 * idle connections go over the channel between the two masters, and what is busy ends where it is.
 * What a newcomer would get wrong: until the new master has said so nothing changes, and if it never
 * does, nothing has happened but a line in the log.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/channel.h"
#include "master/internal.h"
#include "master/notify.h"
#include "obs/log.h"
#include "store/memory.h"

#define PATIENCE_MS    60000 /* from the signal to "serving" */
#define CLAIM_RETRY_MS 20
#define CLAIM_MS       5000 /* for the end of a process that has closed its descriptors */

/* ---- the old master ---- */

static void keep(int fd, char *list, size_t size)
{
    size_t n = strlen(list);

    fcntl(fd, F_SETFD, 0);
    snprintf(list + n, size - n, "%s%d", n > 0 ? "," : "", fd);
}

/* What plugins have in the store goes along; the new master looks whether it can do with it. */
static void keep_store(const struct master *m)
{
    char fd[16] = "";

    keep(store_memory_fd(m->store), fd, sizeof fd);
    setenv(INHERIT_STORE_ENV, fd, 1);
}

static _Noreturn void execute(struct master *m, int channel_fd)
{
    size_t n_fds = (size_t)m->cfg->n_workers * (size_t)m->cfg->n_listeners;
    size_t size = (n_fds + 2) * 12;
    char *list = calloc(1, size);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (list != NULL) {
        keep(channel_fd, list, size);
        for (size_t i = 0; i < n_fds; i++)
            keep(m->listeners.fd[i], list, size);
        if (m->admin.door.is_open)
            keep(m->admin.door.set.fd[0], list, size);
        setenv(INHERIT_ENV, list, 1);
        keep_store(m);
        watchdog_inherit();
        execv(m->roles->argv[0], m->roles->argv);
    }
    fprintf(stderr, "bulkhead: cannot execute %s: %s\n", m->roles->argv[0], strerror(errno));
    _exit(127);
}

void upgrade_begin(struct master *m)
{
    int channel[2], r;
    pid_t pid;

    if (m->roles->argv == NULL || m->phase != MASTER_SERVING || m->upgrade.pid != 0) {
        log_warn("SIGUSR2: %s; ignored", m->upgrade.pid != 0 ? "an upgrade is under way already"
                                                             : "not while starting or stopping");
        return;
    }
    r = channel_open(channel);
    if (r < 0) {
        log_error("SIGUSR2: no upgrade: %s", strerror(-r));
        return;
    }
    log_info("SIGUSR2: upgrading; executing %s", m->roles->argv[0]);
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        execute(m, channel[1]);
    fd_close(&channel[1]);
    if (pid < 0) {
        log_error("SIGUSR2: no upgrade: fork: %s", strerror(errno));
        fd_close(&channel[0]);
        return;
    }
    m->upgrade.pid = pid;
    m->upgrade.channel_fd = channel[0];
    m->upgrade.due_ms = clock_mono_ms() + PATIENCE_MS;
    epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, channel[0],
              &(struct epoll_event){.events = EPOLLIN, .data.u32 = MASTER_UPGRADE_EVENT});
}

static void fail(struct master *m, const char *why)
{
    log_error(
        "the upgrade failed: the new master %s. This one goes on serving; what is wrong stands "
        "above",
        why);
    fd_close(&m->upgrade.channel_fd);
    m->upgrade.pid = 0;
}

bool upgrade_reap(struct master *m)
{
    char how[64];
    int status;

    if (m->upgrade.pid == 0 || m->is_succeeded || waitpid(m->upgrade.pid, &status, WNOHANG) <= 0)
        return false;
    death_describe(status, how, sizeof how);
    fail(m, how);
    return true;
}

/* What the old one has kept is ours now. Its lock ends with it, a moment after its end of the channel. */
static void claim(struct master *m, int64_t now_ms)
{
    pid_t other = 0;

    if (m->upgrade.claim_ms == 0 || now_ms < m->upgrade.claim_ms)
        return;
    m->upgrade.claim_ms = 0;
    if (m->kept == NULL || kept_claim(m, &other) != -EBUSY)
        return; /* nothing is kept: the first who keeps something claims it */
    if (now_ms < m->upgrade.claim_until_ms)
        m->upgrade.claim_ms = now_ms + CLAIM_RETRY_MS;
    else
        log_error("another server, pid %d, has taken the state of this one in %s: stop it",
                  (int)other, m->cfg->state.dir);
}

static void predecessor_is_gone(struct master *m)
{
    fd_close(&m->predecessor_fd);
    m->upgrade.claim_ms = clock_mono_ms();
    m->upgrade.claim_until_ms = m->upgrade.claim_ms + CLAIM_MS;
}

int64_t upgrade_next_ms(const struct master *m)
{
    return m->upgrade.claim_ms != 0 ? m->upgrade.claim_ms : INT64_MAX;
}

void upgrade_tick(struct master *m, int64_t now_ms)
{
    claim(m, now_ms);
    if (m->upgrade.pid == 0 || m->is_succeeded || now_ms < m->upgrade.due_ms)
        return;
    kill(m->upgrade.pid, SIGQUIT);
    m->upgrade.due_ms = INT64_MAX; /* fail() when it is reaped */
}

/* ---- the new one ---- */

int upgrade_inherit(struct master *m)
{
    int r = inherit_read(&m->inherited);

    if (r == 0 && m->inherited.channel_fd >= 0) {
        m->predecessor_fd = m->inherited.channel_fd;
        log_info("an old master hands over %d listening sockets", m->inherited.n);
    }
    return r;
}

void upgrade_announce(struct master *m)
{
    struct channel_message msg = {.kind = CHANNEL_READY, .number = getpid()};

    epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, m->predecessor_fd,
              &(struct epoll_event){.events = EPOLLIN, .data.u32 = MASTER_UPGRADE_EVENT});
    if (channel_send(m->predecessor_fd, &msg, NULL, NULL) < 0) {
        log_warn("the old master is gone already");
        predecessor_is_gone(m);
    }
}

/* ---- both ---- */

static void read_from_successor(struct master *m)
{
    static char text[CHANNEL_TEXT + 1];
    struct channel_message msg;
    int fds[CHANNEL_FDS], r;
    char main_pid[32];

    while ((r = channel_receive(m->upgrade.channel_fd, &msg, fds, text)) > 0) {
        for (uint32_t i = 0; i < msg.n; i++)
            fd_close(&fds[i]);
        if (msg.kind == CHANNEL_READY && !m->is_succeeded) {
            log_info("the new master (pid %d) serves; this one lets its workers finish",
                     (int)m->upgrade.pid);
            m->is_succeeded = true;
            /* NotifyAccess=main: systemd believes nobody but the one that it knows. */
            snprintf(main_pid, sizeof main_pid, "MAINPID=%d", (int)m->upgrade.pid);
            notify_systemd(main_pid);
            master_give_way(m);
        }
    }
    if (r < 0 && r != -EBADMSG)
        /* Before it serves its end is reaped; after that what is left here is closed with us. */
        fd_close(&m->upgrade.channel_fd);
}

static void read_from_predecessor(struct master *m)
{
    static char text[CHANNEL_TEXT + 1];
    struct channel_message msg;
    int fds[CHANNEL_FDS], r;

    while ((r = channel_receive(m->predecessor_fd, &msg, fds, text)) > 0) {
        /* Its listeners are numbered by another config. */
        for (uint32_t i = 0; i < msg.n; i++) {
            int listener = listen_find(&m->listeners, fds[i]);

            if (msg.kind != CHANNEL_ADOPT || listener < 0)
                fd_close(&fds[i]);
            else
                escrow_put(m, -1, listener, &msg.entry[i], fds[i], text, msg.text_len);
        }
    }
    if (r < 0 && r != -EBADMSG) {
        log_info("the old master is gone");
        predecessor_is_gone(m);
    }
}

void upgrade_read(struct master *m)
{
    if (m->upgrade.channel_fd >= 0)
        read_from_successor(m);
    if (m->predecessor_fd >= 0)
        read_from_predecessor(m);
}
