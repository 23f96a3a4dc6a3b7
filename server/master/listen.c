#include "master/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "base/must.h"
#include "conf/config.h"
#include "master/holder.h"
#include "master/inherit.h"

union address {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

static bool is_unix(const struct config_listener *cl)
{
    return cl->addr.sa.sa_family == AF_UNIX;
}

static int port_of(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)sa)->sin6_port);
    return ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port);
}

/* ---- What to say when it fails ---- */

static void hint_for_tcp(const struct config_listener *cl, int err, char *buf, size_t size)
{
    int port = port_of(&cl->addr.sa);
    char holder[64];

    buf[0] = '\0';
    switch (err) {
    case EADDRINUSE:
        if (holder_find(port, holder, sizeof holder) == 0)
            snprintf(buf, size, "%s listens at port %d: stop it, or choose another port", holder,
                     port);
        else
            snprintf(
                buf, size,
                "`ss -ltnp 'sport = :%d'`, as root, shows who holds it; or choose another port",
                port);
        break;
    case EACCES:
        snprintf(buf, size,
                 "ports below 1024 are for root: start as root with server.user set, or run "
                 "`setcap cap_net_bind_service=+ep` on the executable, or choose a port from 1024");
        break;
    case EADDRNOTAVAIL:
        snprintf(buf, size,
                 "no interface of this machine has that address: `ip address` shows those it has, "
                 "%s stands for all",
                 cl->addr.sa.sa_family == AF_INET6 ? "[::]" : "0.0.0.0");
        break;
    case EAFNOSUPPORT:
        snprintf(buf, size, "IPv6 is off on this machine: use an IPv4 address");
        break;
    case EMFILE: snprintf(buf, size, "raise the limit of open files (ulimit -Hn)"); break;
    default: break;
    }
}

static const char *hint_for_unix(int err)
{
    switch (err) {
    case EADDRINUSE: return "another process answers there: stop it, or choose another path";
    case EEXIST: return "the path is taken by something that is not a socket: remove it";
    case ENOENT: return "its folder does not exist: create it first";
    case EACCES:
    case EPERM:
        return "the user who starts the server needs write permission in its folder; only root may "
               "give the socket another owner, or a group that the user is not in";
    case ESRCH: return "no user or group of this machine has the name of its owner or group";
    case ENOTDIR: return "a part of the path is not a folder";
    default: return NULL;
    }
}

static void report(const struct config *cfg, const struct config_listener *cl, struct diag *diag,
                   int err)
{
    char hint[256];

    if (is_unix(cl))
        snprintf(hint, sizeof hint, "%s", hint_for_unix(err) != NULL ? hint_for_unix(err) : "");
    else
        hint_for_tcp(cl, err, hint, sizeof hint);
    diag_add(diag, cfg->path, cl->pos.line, cl->pos.column, hint[0] != '\0' ? hint : NULL,
             "listener '%s': cannot listen on %s: %s", cl->name, cl->address, strerror(err));
}

/* ---- TCP ---- */

static int bind_tcp(const union address *addr, socklen_t len, bool is_shared, bool is_dual_stack,
                    int *out)
{
    static const int on = 1;
    int v6only = !is_dual_stack;
    int fd, r;

    fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (is_shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) ||
        (addr->sa.sa_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only) < 0) ||
        bind(fd, &addr->sa, len) < 0) {
        r = -errno;
        fd_close(&fd);
        return r;
    }
    *out = fd;
    return 0;
}

/* One that systemd opened is usually alone at its address, and has to do for all workers. */
static bool can_be_joined(int fd)
{
    int on = 0;
    socklen_t len = sizeof on;

    return getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, &len) == 0 && on != 0;
}

static int open_tcp(struct listen_set *set, struct inherit *in, int listener)
{
    const struct config *cfg = set->cfg;
    const struct config_listener *cl = &cfg->listener[listener];
    union address addr;
    socklen_t len = cl->addr_len;
    int probe = -1, r;

    must(len <= sizeof addr);
    memcpy(&addr, &cl->addr, len);

    /* SO_REUSEPORT would let a second server of the same user in on our port, and half of the
     * connections go there. A socket without it finds out; it never listens, so that nothing can
     * queue there. Port 0, which tests use, gets its number here, for all workers. An old master's
     * port is ours, though: there the first of its sockets tells the number. */
    probe = in != NULL ? inherit_take(in, &addr.sa, len) : -1;
    if (probe < 0) {
        r = bind_tcp(&addr, len, false, cl->is_dual_stack, &probe);
        if (r < 0)
            return r;
    } else {
        set->fd[listener] = probe;
    }
    len = sizeof addr;
    r = getsockname(probe, &addr.sa, &len) < 0 ? -errno : 0;
    if (set->fd[listener] != probe)
        fd_close(&probe);

    for (int w = 0; w < cfg->n_workers && r == 0; w++) {
        int *fd = &set->fd[w * cfg->n_listeners + listener];

        if (*fd < 0 && in != NULL)
            *fd = inherit_take(in, &addr.sa, len);
        if (*fd >= 0)
            continue;
        if (set->fd[listener] >= 0 && !can_be_joined(set->fd[listener])) {
            *fd = fcntl(set->fd[listener], F_DUPFD_CLOEXEC, 3);
            r = *fd < 0 ? -errno : 0;
            continue;
        }
        r = bind_tcp(&addr, len, true, cl->is_dual_stack, fd);
        if (r == 0 && listen(*fd, SOMAXCONN) < 0)
            r = -errno;
    }
    return r;
}

/* ---- Unix ---- */

/* A server that was killed leaves its socket's file behind. It goes, but only if nobody answers. */
static int remove_stale(const union address *addr, socklen_t len)
{
    struct stat st;
    int fd, r;

    if (lstat(addr->un.sun_path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, &addr->sa, len) == 0 || errno == EAGAIN) /* EAGAIN: its queue is full */
        r = -EADDRINUSE;
    else if (errno == ECONNREFUSED)
        r = unlink(addr->un.sun_path) < 0 ? -errno : 0;
    else
        r = -errno;
    fd_close(&fd);
    return r;
}

static int find_number(const char *text, uint32_t *out)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || v >= UINT32_MAX)
        return -EINVAL;
    *out = (uint32_t)v;
    return 0;
}

/* -ESRCH: there is none of that name. */
static int find_owner(const struct config_listener *cl, uid_t *uid, gid_t *gid)
{
    if (cl->owner != NULL && find_number(cl->owner, uid) < 0) {
        const struct passwd *pw = getpwnam(cl->owner);

        if (pw == NULL)
            return -ESRCH;
        *uid = pw->pw_uid;
    }
    if (cl->group != NULL && find_number(cl->group, gid) < 0) {
        const struct group *gr = getgrnam(cl->group);

        if (gr == NULL)
            return -ESRCH;
        *gid = gr->gr_gid;
    }
    return 0;
}

static int bind_unix(const struct config_listener *cl, struct listen_path *path, int *out)
{
    union address addr = {.un = {.sun_family = AF_UNIX}};
    struct stat st;
    uid_t uid = (uid_t)-1;
    gid_t gid = (gid_t)-1;
    mode_t umask_before;
    int fd, r;

    must(cl->addr_len <= sizeof addr);
    memcpy(&addr, &cl->addr, cl->addr_len);
    r = find_owner(cl, &uid, &gid);
    if (r == 0)
        r = remove_stale(&addr, cl->addr_len);
    if (r < 0)
        return r;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Not chmod() afterwards: between the two anybody could connect. */
    umask_before = umask(~cl->mode & 0777);
    r = bind(fd, &addr.sa, cl->addr_len) < 0 ? -errno : 0;
    umask(umask_before);
    if (r == 0 && (uid != (uid_t)-1 || gid != (gid_t)-1) &&
        lchown(addr.un.sun_path, uid, gid) < 0) { /* nobody can connect before listen() */
        r = -errno;
        unlink(addr.un.sun_path);
    }
    if (r == 0 && lstat(addr.un.sun_path, &st) == 0)
        *path = (struct listen_path){.dev = st.st_dev, .ino = st.st_ino};
    if (r == 0 && listen(fd, SOMAXCONN) < 0)
        r = -errno;
    if (r < 0) {
        fd_close(&fd);
        return r;
    }
    *out = fd;
    return 0;
}

/* Also one that came by way of an old master: the file is systemd's, and listens on when we end. */
static bool is_of_init(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof cred; /* of whoever called listen() */

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.pid == 1 &&
           getpid() != 1; /* in a container the server may be that itself */
}

/* All workers have descriptors of one socket; so had the old master's, under many numbers. */
static int inherit_unix(const struct config_listener *cl, struct inherit *in,
                        struct listen_path *path)
{
    int fd = in != NULL ? inherit_take(in, &cl->addr.sa, cl->addr_len) : -1, more;
    struct stat st;

    if (fd >= 0 && !in->is_activated && !is_of_init(fd) && lstat(cl->addr.un.sun_path, &st) == 0)
        *path = (struct listen_path){.dev = st.st_dev, .ino = st.st_ino, .is_inherited = true};
    while (fd >= 0 && (more = inherit_take(in, &cl->addr.sa, cl->addr_len)) >= 0)
        fd_close(&more);
    return fd;
}

static int open_unix(struct listen_set *set, struct inherit *in, int listener)
{
    const struct config *cfg = set->cfg;
    int *first = &set->fd[listener];
    int r = 0;

    *first = inherit_unix(&cfg->listener[listener], in, &set->path[listener]);
    if (*first < 0)
        r = bind_unix(&cfg->listener[listener], &set->path[listener], first);
    for (int w = 1; w < cfg->n_workers && r == 0; w++) {
        int *fd = &set->fd[w * cfg->n_listeners + listener];

        *fd = fcntl(*first, F_DUPFD_CLOEXEC, 3);
        if (*fd < 0)
            r = -errno;
    }
    return r;
}

/* ---- All of them ---- */

int listen_open(struct listen_set *set, const struct config *cfg, struct inherit *inherited,
                struct diag *diag)
{
    size_t n_fds = (size_t)cfg->n_workers * (size_t)cfg->n_listeners;
    int first_error = 0;

    must(cfg->n_workers > 0 && cfg->n_listeners > 0);
    *set = (struct listen_set){.cfg = cfg};
    set->fd = calloc(n_fds, sizeof set->fd[0]);
    set->path = calloc((size_t)cfg->n_listeners, sizeof set->path[0]);
    if (set->fd == NULL || set->path == NULL) {
        listen_close(set);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n_fds; i++)
        set->fd[i] = -1;

    for (int i = 0; i < cfg->n_listeners; i++) {
        const struct config_listener *cl = &cfg->listener[i];
        int r = is_unix(cl) ? open_unix(set, inherited, i) : open_tcp(set, inherited, i);

        if (r < 0) {
            report(cfg, cl, diag, -r);
            first_error = first_error < 0 ? first_error : r;
        }
    }
    if (first_error < 0) {
        for (int i = 0; i < cfg->n_listeners; i++)
            if (set->path[i].is_inherited)
                set->path[i].ino = 0;
        listen_close(set);
    }
    return first_error;
}

const int *listen_fds(const struct listen_set *set, int worker)
{
    must(worker >= 0 && worker < set->cfg->n_workers);
    return &set->fd[worker * set->cfg->n_listeners];
}

void listen_close_others(struct listen_set *set, int worker)
{
    if (set->fd == NULL)
        return;
    for (int w = 0; w < set->cfg->n_workers; w++) {
        for (int i = 0; w != worker && i < set->cfg->n_listeners; i++)
            fd_close(&set->fd[w * set->cfg->n_listeners + i]);
    }
}

void listen_leave_paths(struct listen_set *set)
{
    for (int i = 0; set->path != NULL && i < set->cfg->n_listeners; i++)
        set->path[i].ino = 0;
}

void listen_share_paths(struct listen_set *from, const struct listen_set *to)
{
    for (int i = 0; i < from->cfg->n_listeners; i++)
        for (int k = 0; from->path != NULL && to->path != NULL && k < to->cfg->n_listeners; k++)
            if (from->path[i].ino != 0 && from->path[i].ino == to->path[k].ino &&
                from->path[i].dev == to->path[k].dev)
                from->path[i].ino = 0;
}

int listen_find(const struct listen_set *set, int conn_fd)
{
    union address local, mine;
    socklen_t len = sizeof local;

    memset(&local, 0, sizeof local);
    if (getsockname(conn_fd, &local.sa, &len) < 0)
        return -1;
    for (int i = 0; i < set->cfg->n_listeners; i++) {
        memset(&mine, 0, sizeof mine);
        len = sizeof mine;
        if (set->fd[i] >= 0 && getsockname(set->fd[i], &mine.sa, &len) == 0 &&
            inherit_is_same(&mine.sa, &local.sa, true))
            return i;
    }
    return -1;
}

static bool has_address(const struct listen_set *set, const char *address)
{
    for (int i = 0; set != NULL && i < set->cfg->n_listeners; i++)
        if (strcmp(set->cfg->listener[i].address, address) == 0)
            return true;
    return false;
}

/* The kernel goes on accepting handshakes for as long as some process has the socket open, and resets
 * those that nobody takes when the last one closes it: requests would be lost. With a filter that drops
 * every SYN the queue comes to an end, and handshakes that have begun to theirs; whoever knocks now is
 * refused when he knocks again. Connections inherit the filter, and never see a SYN. */
void listen_shut_door(const struct listen_set *set, const struct listen_set *but)
{
    enum { TCP_FLAGS_AT = 13, SYN = 2 };
    static struct sock_filter no_syn[] = {
        {.code = BPF_LD | BPF_B | BPF_ABS, .k = TCP_FLAGS_AT},
        {.code = BPF_JMP | BPF_JSET | BPF_K, .jt = 0, .jf = 1, .k = SYN},
        {.code = BPF_RET | BPF_K, .k = 0},
        {.code = BPF_RET | BPF_K, .k = UINT32_MAX},
    };
    static const struct sock_fprog filter = {.len = 4, .filter = no_syn};
    int n = set->fd != NULL ? set->cfg->n_workers * set->cfg->n_listeners : 0;

    for (int i = 0; i < n; i++)
        if (set->fd[i] >= 0 && !is_of_init(set->fd[i]) && /* who goes on with it */
            !is_unix(&set->cfg->listener[i % set->cfg->n_listeners]) &&
            !has_address(but, set->cfg->listener[i % set->cfg->n_listeners].address))
            setsockopt(set->fd[i], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

void listen_close(struct listen_set *set)
{
    listen_close_others(set, -1);
    for (int i = 0; set->path != NULL && i < set->cfg->n_listeners; i++) {
        const char *path = set->cfg->listener[i].addr.un.sun_path;
        const struct listen_path *made = &set->path[i];
        struct stat st;

        /* Another server may have put its own there by now. */
        if (made->ino != 0 && lstat(path, &st) == 0 && st.st_dev == made->dev &&
            st.st_ino == made->ino)
            unlink(path);
    }
    free(set->fd);
    free(set->path);
    set->fd = NULL;
    set->path = NULL;
}

/* ---- For people ---- */

/* is_local: with an address that reaches this machine in place of the one that stands for all. */
static void describe_tcp(const struct listen_set *set, int listener, bool is_local, char *buf,
                         size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    union address addr;
    socklen_t len = sizeof addr;
    const char *scheme = set->cfg->listener[listener].tls.is_on ? "https" : "http";

    memcpy(&addr, &set->cfg->listener[listener].addr, sizeof addr);
    if (set->fd != NULL && set->fd[listener] >= 0)
        (void)getsockname(set->fd[listener], &addr.sa, &len);
    if (addr.sa.sa_family == AF_INET6) {
        if (is_local && IN6_IS_ADDR_UNSPECIFIED(&addr.in6.sin6_addr))
            addr.in6.sin6_addr = in6addr_loopback;
        inet_ntop(AF_INET6, &addr.in6.sin6_addr, host, sizeof host);
        snprintf(buf, size, "%s://[%s]:%d", scheme, host, port_of(&addr.sa));
    } else {
        if (is_local && addr.in.sin_addr.s_addr == htonl(INADDR_ANY))
            addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        inet_ntop(AF_INET, &addr.in.sin_addr, host, sizeof host);
        snprintf(buf, size, "%s://%s:%d", scheme, host, port_of(&addr.sa));
    }
}

void listen_describe(const struct listen_set *set, int listener, char *buf, size_t size)
{
    const struct config_listener *cl = &set->cfg->listener[listener];

    if (is_unix(cl))
        snprintf(buf, size, "unix:%s", cl->addr.un.sun_path);
    else
        describe_tcp(set, listener, false, buf, size);
}

void listen_url(const struct listen_set *set, char *buf, size_t size)
{
    buf[0] = '\0';
    for (int i = 0; i < set->cfg->n_listeners && buf[0] == '\0'; i++) {
        if (!is_unix(&set->cfg->listener[i]))
            describe_tcp(set, i, true, buf, size);
    }
}
