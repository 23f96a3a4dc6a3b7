#include "http/front.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "conf/config.h"
#include "http/internal.h"
#include "http/peer.h"
#include "http/tls.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/chain.h"
#include "plugin/host.h"
#include "plugin/hostfd.h"
#include "tls/set.h"

#define SPARE_MAX 1024

extern bh_str (*host_tls)(bh_req *req, const char *key); /* host_request.c asks through it */

/* ---- exchanges ---- */

struct exchange *front_take_exchange(struct front *f)
{
    struct exchange *x = f->spare;

    if (x != NULL) {
        f->spare = x->next_spare;
        f->n_spare--;
    } else {
        x = calloc(1, sizeof *x);
        if (x == NULL)
            return NULL;
        arena_init(&x->req.arena, REQUEST_ARENA_MAX);
    }
    request_init(&x->req);
    memset((char *)x + sizeof x->req, 0, sizeof *x - sizeof x->req);
    x->req.up = x;
    return x;
}

void front_give_exchange(struct front *f, struct exchange *x)
{
    request_reset(&x->req);
    if (f->n_spare == SPARE_MAX) {
        arena_fini(&x->req.arena);
        free(x);
        return;
    }
    x->next_spare = f->spare;
    f->spare = x;
    f->n_spare++;
}

/* ---- connections ---- */

static void begin_connection(struct listener *l, struct MHD_Connection *mhd, void **context)
{
    struct front *f = l->front;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct conn *c = f->adopted != NULL ? f->adopted : calloc(1, sizeof *c);
    bool was_idle = f->adopted != NULL && !f->adopted->is_replay;

    if (info != NULL)
        hostfd_add(info->connect_fd); /* closing it takes it out again */
    if (c == NULL || info == NULL || !wire_has_room(info->connect_fd)) {
        /* Without this it would have no limits: better none of it. */
        if (info != NULL)
            shutdown(info->connect_fd, SHUT_RDWR);
        if (c != f->adopted)
            free(c);
        return;
    }
    f->adopted = NULL;
    c->listener = l;
    c->mhd = mhd;
    c->fd = info->connect_fd;
    list_append(&f->conns, &c->node);
    list_init(&c->unsure);
    list_init(&c->due.node);
    *context = c;
    wire_open(c);
    if (l->is_tls && !tls_begin(c))
        shutdown(c->fd, SHUT_RDWR);
    deadline_set(c, was_idle ? DEADLINE_IDLE : l->is_tls ? DEADLINE_HANDSHAKE : DEADLINE_HEAD);
    l->n_conns++;
    f->n_conns++;
    metrics_add(&l->meter->open, 1);
    atomic_fetch_add_explicit(&f->shared->connections, 1, memory_order_relaxed);
}

/* A socket that is closed while it has unread input is reset, and what is still on its way out is lost:
 * who sends more than the request that it wanted to be its last would get half of the answer. */
static bool ends_slowly(const struct conn *c)
{
    int unread = 0;

    if (c->is_given)
        return false;
    return c->lingers ||
           (c->is_whole && !c->is_ended && ioctl(c->fd, FIONREAD, &unread) == 0 && unread > 0);
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct listener *l = arg;
    struct conn *c = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        begin_connection(l, mhd, context);
    } else if (c != NULL) {
        bool was_ended = c->is_ended;

        list_remove(&c->node);
        if (ends_slowly(c)) {
            tls_bye(c);
            farewell_linger(l->front, c->fd);
        }
        wire_close(c);
        free(c);
        *context = NULL;
        l->n_conns--;
        metrics_add(&l->meter->open, UINT64_MAX);
        l->front->n_conns--;
        l->front->n_ended -= was_ended;
        atomic_fetch_sub_explicit(&l->front->shared->connections, 1, memory_order_relaxed);
    }
}

/* ---- daemons ---- */

static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s); /* the host decodes, once: http/target.c */
}

static void on_mhd_log(void *cls, const char *fmt, va_list ap)
{
    char text[512];
    size_t n;

    (void)cls;
    if (!log_is_on(LOG_DEBUG))
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    n = strlen(text);
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    log_debug("libmicrohttpd: %s", text);
}

static int start_daemon(struct listener *l, int fd, const struct config *cfg)
{
    size_t pool = front_pool_size(cfg->limits.head);
    const union MHD_DaemonInfo *info;

    l->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        exchange_on_data, l, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET,
        fd, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_CONNECTION_LIMIT,
        l->front->most_conns + 1024,
        /* admission.c has the limit */ MHD_OPTION_CONNECTION_MEMORY_LIMIT, pool,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, /* deadline.c */
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, l, MHD_OPTION_NOTIFY_COMPLETED,
        exchange_on_completed, l, MHD_OPTION_URI_LOG_CALLBACK, exchange_on_uri, l,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_END);
    if (l->daemon == NULL)
        return -ENOMEM;
    info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL)
        return -EIO;
    l->poll_fd = info->epoll_fd;
    hostfd_add(l->poll_fd);
    admission_open(l, fd);
    return 0;
}

static void on_panic(void *cls, const char *file, unsigned line, const char *reason)
{
    (void)cls;
    log_error("libmicrohttpd gave up at %s:%u: %.*s (a descriptor closed behind its back?)", file,
              line, (int)strcspn(reason != NULL ? reason : "", "\n"), reason != NULL ? reason : "");
    chain_blame_last();
    abort();
}

static void make_listener(struct front *f, int i)
{
    const struct config_listener *cl = &f->cfg->listener[i];
    struct listener *l = &f->listener[i];

    *l = (struct listener){.front = f, .name = cl->name, .listen_fd = -1, .is_tls = cl->tls.is_on};
    l->meter = &f->shared->metrics.listener[metrics_listener_place(f->shm, cl->name)];
    if (cl->tls.hsts.max_age_ms > 0) /* RFC 6797 6.1 */
        snprintf(l->hsts, sizeof l->hsts, "max-age=%llu%s%s",
                 (unsigned long long)(cl->tls.hsts.max_age_ms / 1000),
                 cl->tls.hsts.subdomains ? "; includeSubDomains" : "",
                 cl->tls.hsts.preload ? "; preload" : "");
}

/* Each route's instances, in order. */
static int make_chains(struct front *f)
{
    const struct config *cfg = f->cfg;

    f->chain = calloc((size_t)cfg->n_routes + 1, sizeof *f->chain);
    f->route_meter = calloc((size_t)cfg->n_routes + 1, sizeof *f->route_meter);
    if (f->chain == NULL || f->route_meter == NULL)
        return -ENOMEM;
    for (int i = 0; i < cfg->n_routes; i++) {
        const struct config_route *r = &cfg->route[i];
        bh_inst **chain = calloc((size_t)r->n_chain + 1, sizeof *chain);

        if (chain == NULL)
            return -ENOMEM;
        for (int k = 0; k < r->n_chain; k++)
            chain[k] = f->ops->instance[r->chain[k]];
        f->chain[i] = chain;
        f->route_meter[i] = &f->shared->metrics.route[metrics_route_place(f->shm, r->name)];
    }
    return 0;
}

static struct guard_limits guard_limits_of(const struct config *cfg)
{
    uint64_t body = cfg->limits.body;

    for (int i = 0; i < cfg->n_routes; i++) /* which one it is, and its own limit: head.c */
        if (cfg->route[i].body > body)
            body = cfg->route[i].body;
    return (struct guard_limits){.uri = cfg->limits.uri,
                                 .head = cfg->limits.head,
                                 .fields = cfg->limits.headers,
                                 .memory = (uint32_t)front_pool_size(cfg->limits.head) - 512,
                                 .body = body};
}

size_t front_conn_memory(const struct config *cfg)
{
    return front_pool_size(cfg->limits.head) + 1024;
}

int front_create(const struct config *cfg, const struct front_ops *ops, const int *listen_fds,
                 struct shm *shm, uint32_t slot, struct front **out)
{
    struct shm_worker *shared = &shm->worker[slot];
    struct front *f = calloc(1, sizeof *f + (size_t)cfg->n_listeners * sizeof f->listener[0]);
    int r;

    if (f == NULL)
        return -ENOMEM;
    f->cfg = cfg;
    f->ops = ops;
    f->shm = shm;
    f->slot = slot;
    f->shared = shared;
    atomic_store(&shared->connections, 0); /* a predecessor may have died with some open */
    atomic_store(&shared->call.fd, -1);
    deadline_init(&f->deadlines, cfg);
    admission_init(f);
    list_init(&f->conns);
    list_init(&f->unsure);
    list_init(&f->tls_ended);
    list_init(&f->tls_blocked);
    f->guard_limits = guard_limits_of(cfg);
    host_peer = peer_text;
    host_tls = tls_text;
    MHD_set_panic_func(on_panic, NULL);
    r = wire_init();
    if (r == 0)
        r = make_chains(f);
    for (int i = 0; r == 0 && i < cfg->n_listeners; i++) {
        make_listener(f, i);
        r = start_daemon(&f->listener[i], listen_fds[i], cfg);
        if (r < 0)
            log_error("listener '%s': libmicrohttpd does not start: %s", cfg->listener[i].name,
                      strerror(-r));
        f->n_listeners = i + 1;
    }
    if (r < 0) {
        front_destroy(&f);
        return r;
    }
    *out = f;
    return 0;
}

void front_destroy(struct front **fp)
{
    struct front *f = *fp;

    *fp = NULL;
    if (f == NULL)
        return;
    for (int i = 0; i < f->n_listeners; i++) {
        admission_close(&f->listener[i]);
        if (f->listener[i].daemon == NULL)
            continue;
        if (f->has_given) /* MHD_stop_daemon() would shut down what another process has */
            MHD_run(f->listener[i].daemon);
        MHD_stop_daemon(f->listener[i].daemon);
    }
    farewell_destroy(f);
    tls_set_put(&f->tls);
    while (f->spare != NULL) {
        struct exchange *x = f->spare;

        f->spare = x->next_spare;
        arena_fini(&x->req.arena);
        free(x);
    }
    if (f->chain != NULL)
        for (int i = 0; i < f->cfg->n_routes; i++)
            free((void *)f->chain[i]);
    free(f->chain);
    free(f->route_meter);
    free(f);
}

int front_count(const struct front *f)
{
    return f->n_listeners;
}

int front_poll_fd(const struct front *f, int i)
{
    return f->listener[i].poll_fd;
}

int front_timeout_ms(struct front *f)
{
    int least = farewell_timeout_ms(f), due = deadline_timeout_ms(f), tls = tls_timeout_ms(f);

    if (due >= 0 && (least < 0 || due < least))
        least = due;
    if (tls >= 0 && (least < 0 || tls < least))
        least = tls;
    for (int i = 0; i < f->n_listeners; i++) {
        MHD_UNSIGNED_LONG_LONG ms;

        if (f->listener[i].needs_run)
            return 0;
        if (MHD_get_timeout(f->listener[i].daemon, &ms) != MHD_YES)
            continue;
        if (ms == 0)
            f->listener[i].needs_run = true;
        if (least < 0 || ms < (MHD_UNSIGNED_LONG_LONG)least)
            least = ms > 60000 ? 60000 : (int)ms;
    }
    return least;
}

void front_run(struct front *f, unsigned mask)
{
    deadline_tick(&f->deadlines);
    for (int i = 0; i < f->n_listeners; i++) {
        struct listener *l = &f->listener[i];

        if (!l->needs_run && (mask & 1u << i) == 0)
            continue;
        l->needs_run = false;
        MHD_run(l->daemon);
    }
    wire_settle(f);
    tls_run(f);
    drain_run(f);
    deadline_run(f);
    farewell_run(f);
}
