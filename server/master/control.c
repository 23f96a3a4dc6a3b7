#include "master/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fd.h"
#include "master/followers.h"
#include "master/internal.h"
#include "master/status.h"
#include "obs/log.h"
#include "obs/metrics_text.h"

#define CLIENT_MS 2000 /* for one client, from connect to the last byte */
#define TICK_MS   500
#define PING_MS   1000 /* patience with whoever has the socket that we want */

void control_init(struct control *c)
{
    *c = (struct control){.epoll_fd = -1, .listen_fd = -1, .timer_fd = -1};
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        c->client[i].fd = -1;
    followers_init(c);
}

/* ---- opening ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* The folder of a usual place, made if it is missing. Nobody else may put sockets there. */
static int prepare_folder(const char *path)
{
    char dir[CONTROL_PATH_MAX];
    const char *slash = strrchr(path, '/');
    struct stat st;

    snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return -errno;
    if (lstat(dir, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != 0) ||
        (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return -EPERM;
    return access(dir, W_OK) < 0 ? -errno : 0;
}

/* -EADDRINUSE and who: a server that goes on is there. What is left of a dead one, or of one that is
 * stopping, may be replaced. */
static int check_free(const char *path, pid_t *pid)
{
    struct control_reply reply = {.flags = 0};
    int r = control_ask(path, CONTROL_PING, 0, NULL, PING_MS, &reply, NULL, pid);

    if (r == -ENOENT || r == -ECONNREFUSED)
        return 0;
    if (r == 0 && (reply.flags & CONTROL_IS_ENDING) != 0)
        return 0;
    if (r == -ENOTSOCK || r == -EPROTOTYPE)
        return r;
    return -EADDRINUSE;
}

/* Under another name first: rename() replaces what is there in one step, and nobody finds a socket
 * that does not listen yet. */
static int bind_socket(struct control *c, const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct stat st;
    int r;

    if (snprintf(addr.sun_path, sizeof addr.sun_path, "%s.%ld", path, (long)getpid()) >=
        (int)sizeof addr.sun_path)
        return -ENAMETOOLONG;
    c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->listen_fd < 0)
        return -errno;
    unlink(addr.sun_path);
    if (bind(c->listen_fd, (const struct sockaddr *)&addr, sizeof addr) < 0) {
        r = -errno;
    } else if (chmod(addr.sun_path, 0600) < 0 || listen(c->listen_fd, CONTROL_CLIENTS) < 0 ||
               stat(addr.sun_path, &st) < 0 || rename(addr.sun_path, path) < 0) {
        r = -errno;
        unlink(addr.sun_path);
    } else {
        snprintf(c->path, sizeof c->path, "%s", path);
        c->dev = st.st_dev;
        c->ino = st.st_ino;
        return 0;
    }
    fd_close(&c->listen_fd);
    return r;
}

static int watch(const struct control *c, int fd, uint32_t what, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = what};

    return epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_loop(struct master *m, struct control *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = MASTER_CONTROL_EVENT};
    int r;

    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (c->epoll_fd < 0 || c->timer_fd < 0)
        return -errno;
    r = watch(c, c->listen_fd, CONTROL_EVENT_LISTEN, EPOLLIN);
    if (r == 0)
        r = watch(c, c->timer_fd, CONTROL_EVENT_TIMER, EPOLLIN);
    if (r == 0 && epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, c->epoll_fd, &event) < 0)
        r = -errno;
    return r;
}

/* In the usual places nothing of this is worth not serving. After an upgrade the socket is the old
 * master's, who gives way. */
static int open_default(struct master *m, struct control *c)
{
    char path[CONTROL_PATH_MAX], last[CONTROL_PATH_MAX] = "";
    int reason = -ENOENT, r;

    for (int i = 0; (r = control_path(m->cfg->dir, base_name(m->cfg->path), i, path)) != -ENOENT;
         i++) {
        pid_t pid = 0;

        if (r < 0 || (i == 1 && geteuid() != 0)) /* /run/bulkhead is root's */
            continue;
        snprintf(last, sizeof last, "%s", path);
        r = prepare_folder(path);
        if (r == 0 && m->predecessor_fd < 0)
            r = check_free(path, &pid);
        if (r == -EADDRINUSE) {
            log_warn("no control socket: another server, pid %d, has %s, for the same config. Give "
                     "this one its own with control.socket; until then `bulkhead status` shows the "
                     "other",
                     (int)pid, path);
            return -ENOENT;
        }
        if (r == 0)
            r = bind_socket(c, path);
        if (r == 0)
            return 0;
        reason = r;
    }
    log_warn(
        "no control socket: %s: %s; `bulkhead status` will not find this server (control.socket "
        "names another place)",
        last[0] != '\0' ? last : "there is no place for it", strerror(-reason));
    return -ENOENT;
}

static int open_named(struct master *m, struct control *c)
{
    const char *path = m->cfg->control.socket;
    pid_t pid = 0;
    int r = m->predecessor_fd >= 0 ? 0 : check_free(path, &pid);

    if (r == 0)
        r = bind_socket(c, path);
    if (r == -EADDRINUSE)
        master_say(m,
                   "the control socket %s belongs to another server, pid %d: stop it, or give this "
                   "one another control.socket (in %s)",
                   path, (int)pid, m->cfg->path);
    else if (r == -ENOTSOCK || r == -EPROTOTYPE)
        master_say(m,
                   "%s is no control socket: remove it, or name another path (control.socket in "
                   "%s)",
                   path, m->cfg->path);
    else if (r < 0)
        master_say(m, "cannot make the control socket %s: %s (control.socket in %s)", path,
                   strerror(-r), m->cfg->path);
    return r;
}

int control_open(struct master *m)
{
    struct control *c = &m->control;
    int r;

    if (m->cfg->control.socket != NULL && strcmp(m->cfg->control.socket, "off") == 0)
        return 0;
    if (m->cfg->control.socket == NULL) {
        if (open_default(m, c) < 0)
            return 0;
    } else {
        r = open_named(m, c);
        if (r < 0)
            return r;
    }
    r = open_loop(m, c);
    if (r < 0) {
        log_error("no control socket: %s", strerror(-r));
        control_close(c);
    }
    return 0;
}

void control_forget(struct control *c)
{
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        fd_close(&c->client[i].fd);
    followers_forget(c);
    fd_close(&c->listen_fd);
    fd_close(&c->timer_fd);
    fd_close(&c->epoll_fd);
}

void control_close(struct control *c)
{
    struct stat st;

    if (c->listen_fd >= 0 && lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
        unlink(c->path);
    for (int i = 0; i < CONTROL_CLIENTS; i++) {
        free(c->client[i].reply);
        free(c->client[i].said);
        c->client[i].reply = c->client[i].said = NULL;
    }
    followers_close(c);
    control_forget(c);
}

/* ---- clients ---- */

/* The timer runs while there are clients, the listening socket is looked at while there is room. */
void control_adapt(struct control *c)
{
    struct itimerspec tick = {{0}};
    bool ticks = followers_is_sending(c);
    int n = 0;

    for (int i = 0; i < CONTROL_CLIENTS; i++)
        n += c->client[i].fd >= 0;
    if (c->is_full != (n == CONTROL_CLIENTS)) {
        struct epoll_event event = {.events = n == CONTROL_CLIENTS ? 0 : EPOLLIN,
                                    .data.u32 = CONTROL_EVENT_LISTEN};

        c->is_full = n == CONTROL_CLIENTS;
        epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, c->listen_fd, &event);
    }
    ticks |= n > 0;
    if (c->is_ticking != ticks) {
        c->is_ticking = ticks;
        if (ticks)
            tick.it_value.tv_nsec = tick.it_interval.tv_nsec = TICK_MS * 1000000L;
        timerfd_settime(c->timer_fd, 0, &tick, NULL);
    }
}

static void drop(struct control_client *client)
{
    free(client->reply);
    free(client->said);
    client->reply = client->said = NULL;
    fd_close(&client->fd);
}

/* Plugins run as server.user: that one is not asked in. */
static bool is_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    log_warn(
        "control socket: pid %d, user %d, is neither root nor who runs this server: turned away",
        (int)peer.pid, (int)peer.uid);
    return false;
}

static void take_clients(struct control *c)
{
    for (int i = 0; i < CONTROL_CLIENTS; i++) {
        struct control_client *client = &c->client[i];
        int fd;

        if (client->fd >= 0)
            continue;
        fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (!is_allowed(fd) || watch(c, fd, (uint32_t)i, EPOLLIN) < 0) {
            fd_close(&fd);
            continue;
        }
        *client = (struct control_client){.fd = fd, .end_ms = clock_mono_ms() + CLIENT_MS};
    }
}

/* One that fails at once has a result as well. */
static int begin_reload(struct master *m, unsigned flags, char **text)
{
    uint32_t id = 0;

    if (reload_begin(m, "bulkhead reload", flags, NULL, &id) == -EBUSY)
        return -EBUSY;
    return asprintf(text, "{\"id\":%u}", (unsigned)id) < 0 ? -ENOMEM : 0;
}

static int tell_metrics(struct master *m, int format, char **text)
{
    struct buffer out = {0};
    int r;

    if (format != METRICS_OPENMETRICS && format != METRICS_PROMETHEUS)
        return -EINVAL;
    r = metrics_text(m->shm, (enum metrics_format)format, clock_mono_ms(), &out);
    if (r < 0)
        buffer_fini(&out);
    *text = out.p;
    return r;
}

static int answer(struct master *m, const struct control_request *request, const char *said,
                  char **text)
{
    if (request->magic != CONTROL_MAGIC || request->version != CONTROL_VERSION)
        return -EPROTO;
    switch (request->command) {
    case CONTROL_PING: return 0;
    case CONTROL_STATUS: *text = status_json(m); return *text != NULL ? 0 : -ENOMEM;
    case CONTROL_RECYCLE:
        if (m->phase != MASTER_SERVING)
            return -EBUSY;
        return request->argument < -1 ? -EINVAL : master_recycle(m, request->argument);
    case CONTROL_RELOAD:
        return begin_reload(m,
                            RELOAD_ANYWAY | ((request->argument & 1) != 0 ? RELOAD_DRY : 0) |
                                ((request->argument & 2) != 0 ? RELOAD_FORCE : 0),
                            text);
    case CONTROL_RELOAD_RESULT:
        *text = reload_result(m, (uint32_t)request->argument);
        return *text != NULL ? 0 : -ENOENT;
    case CONTROL_METRICS: return tell_metrics(m, request->argument, text);
    case CONTROL_BREAKER: return breaker_control(m, request->argument);
    case CONTROL_ALERTS: *text = alerts_text(m); return *text != NULL ? 0 : -ENOMEM;
    case CONTROL_LOG_LEVEL: return log_level_control(m, request->argument, text);
    case CONTROL_ROLLOUT_START: *text = rollout_start(m, said); return *text != NULL ? 0 : -ENOMEM;
    case CONTROL_ROLLOUT_STATUS: *text = rollout_status(m); return *text != NULL ? 0 : -ENOMEM;
    case CONTROL_ROLLOUT_DO:
        *text = rollout_do(m, request->argument, said);
        return *text != NULL ? 0 : -ENOMEM;
    case CONTROL_EVENTS:
        *text = events_json(&m->events, request->argument < 0 ? 0 : (uint32_t)request->argument);
        return *text != NULL ? 0 : -ENOMEM;
    case CONTROL_FOLLOW: return -EUSERS; /* or it would not have come here */
    default: return -ENOSYS;
    }
}

char *control_frame(const struct master *m, int result, const char *text, size_t *len)
{
    struct control_reply reply = {.magic = CONTROL_MAGIC, .version = CONTROL_VERSION};
    size_t n = text != NULL ? strlen(text) : 0;
    char *frame;

    if (n > CONTROL_TEXT_MAX) {
        result = -EMSGSIZE;
        n = 0;
    }
    reply.result = result;
    reply.flags = m->phase >= MASTER_DRAINING ? CONTROL_IS_ENDING : 0;
    reply.text_len = (uint32_t)n;
    frame = malloc(sizeof reply + n);
    if (frame == NULL)
        return NULL;
    memcpy(frame, &reply, sizeof reply);
    if (n > 0)
        memcpy(frame + sizeof reply, text, reply.text_len);
    *len = sizeof reply + n;
    return frame;
}

void control_make_reply(struct master *m, struct control_client *client)
{
    char *text = NULL;
    int result = answer(m, &client->request, client->said != NULL ? client->said : "", &text);

    client->reply = control_frame(m, result, text, &client->reply_len);
    free(text);
}

static void send_reply(const struct control *c, struct control_client *client, int i)
{
    while (client->n_sent < client->reply_len) {
        ssize_t n = send(client->fd, client->reply + client->n_sent,
                         client->reply_len - client->n_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)i};

            if (epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, client->fd, &event) == 0)
                return;
        }
        if (n <= 0)
            break;
        client->n_sent += (size_t)n;
    }
    drop(client);
}

int control_read_request(struct control_client *client)
{
    for (;;) {
        bool has_head = client->n_read >= sizeof client->request;
        size_t at = has_head ? client->n_read - sizeof client->request : client->n_read;
        size_t end = has_head ? client->request.text_len : sizeof client->request;
        char *to = has_head ? client->said : (char *)&client->request;
        ssize_t n;

        if (has_head && at == end)
            return 1;
        if (has_head && to == NULL) {
            if (client->request.magic != CONTROL_MAGIC || end > CONTROL_ASK_MAX)
                return -1;
            to = client->said = calloc(1, end + 1);
            if (to == NULL)
                return -1;
        }
        n = recv(client->fd, to + at, end - at, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0)
            return -1;
        client->n_read += (size_t)n;
    }
}

static void serve_client(struct master *m, struct control *c, int i)
{
    struct control_client *client = &c->client[i];

    if (client->fd < 0)
        return;
    if (client->reply == NULL) {
        int r = control_read_request(client);

        if (r == 0)
            return;
        if (r < 0) {
            drop(client);
            return;
        }
        if (followers_begin(m, client))
            return;
        control_make_reply(m, client);
        if (client->reply == NULL) {
            drop(client);
            return;
        }
    }
    send_reply(c, client, i);
}

static void drop_late(struct control *c)
{
    int64_t now_ms = clock_mono_ms();
    uint64_t ticks;

    if (read(c->timer_fd, &ticks, sizeof ticks) < 0)
        return;
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        if (c->client[i].fd >= 0 && c->client[i].end_ms <= now_ms)
            drop(&c->client[i]);
    followers_drop_late(c, now_ms);
}

void control_run(struct master *m)
{
    struct epoll_event event[CONTROL_CLIENTS + 2 + CONTROL_FOLLOWERS];
    struct control *c = &m->control;
    int n = epoll_wait(c->epoll_fd, event, CONTROL_CLIENTS + 2 + CONTROL_FOLLOWERS, 0);

    for (int i = 0; i < n; i++) {
        uint32_t what = event[i].data.u32;

        if (what == CONTROL_EVENT_LISTEN)
            take_clients(c);
        else if (what == CONTROL_EVENT_TIMER)
            drop_late(c);
        else if (what < CONTROL_CLIENTS)
            serve_client(m, c, (int)what);
        else
            followers_run(m, (int)(what - CONTROL_EVENT_FOLLOWER), event[i].events);
    }
    if (n > 0)
        control_adapt(c);
}
