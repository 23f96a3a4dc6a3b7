#include "worker/store.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/diag.h"
#include "conf/config.h"
#include "obs/log.h"
#include "plugin/host.h"
#include "plugin/host_store.h"
#include "plugin/hostfd.h"
#include "store/lmdb.h"
#include "store/memory.h"
#include "store/redis_store.h"
#include "store/store.h"
#include "worker/internal.h"

static struct {
    struct redis *redis; /* NULL: there is none */
    struct redis_options options;
    const char *prefix;
    bool is_awake;   /* the connection has something to do */
    uint64_t serial; /* of the socket in the loop's set; 0: none */
    short events;
} remote;

/* ---- redis ---- */

static int ask(const struct store_op *op, store_answered *done, void *arg)
{
    return redis_store_ask(remote.redis, remote.prefix, op, done, arg, host_loop_mono_ns);
}

static void tell(bool is_up, const char *why)
{
    const struct config *cfg = worker.cfg;

    if (is_up)
        log_info("the store is there again: Redis answers");
    else
        log_warn("the store cannot be had: Redis at %s%s%s: %s; %s",
                 cfg->store.redis.path != NULL ? "unix:" : cfg->store.redis.host,
                 cfg->store.redis.path != NULL ? "" : ":",
                 cfg->store.redis.path != NULL ? cfg->store.redis.path : cfg->store.redis.port, why,
                 cfg->store.redis.when_down == CONFIG_DOWN_LOCAL
                     ? "this machine's own answers meanwhile"
                     : "plugins are told so");
}

static int open_redis(const struct config *cfg, struct diag *diag)
{
    char why[256] = "";
    int r;

    remote.prefix = cfg->store.redis.prefix;
    remote.options = (struct redis_options){
        .link = {.host = cfg->store.redis.path == NULL ? cfg->store.redis.host : NULL,
                 .port = cfg->store.redis.port,
                 .path = cfg->store.redis.path,
                 .tls = cfg->store.redis.tls,
                 .ca = cfg->store.redis.ca,
                 .name = cfg->store.redis.name},
        .user = cfg->store.redis.user,
        .password = cfg->store.redis.password,
        .database = cfg->store.redis.database,
        .timeout_ms = cfg->store.redis.timeout_ms};
    memcpy(remote.options.script, redis_store_scripts, sizeof remote.options.script);
    r = link_check(&remote.options.link, why, sizeof why);
    if (r == 0)
        r = redis_open(&remote.options, why, sizeof why, &remote.redis);
    if (r < 0) {
        diag_add(diag, cfg->path, 0, 0, NULL, "store.redis: %s",
                 why[0] != '\0' ? why : strerror(-r));
        return r;
    }
    redis_on_change(remote.redis, tell);
    return 0;
}

static void watch(void)
{
    int fd = redis_fd(remote.redis);
    short events = fd >= 0 ? redis_events(remote.redis) : 0;
    struct epoll_event ev = {.events = (uint32_t)events, .data.u64 = SOURCE_STORE};
    uint64_t serial = fd >= 0 ? redis_serial(remote.redis) : 0;
    bool is_new = serial != remote.serial;

    if (!is_new && events == remote.events)
        return;
    if (fd >= 0) {
        if (is_new)
            hostfd_add(fd);
        if (epoll_ctl(worker.epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) < 0)
            log_warn("the connection to Redis cannot be watched: %s", strerror(errno));
    }
    remote.serial = serial;
    remote.events = events;
}

/* ---- from outside ---- */

int store_open(bh_host *h, const struct config *cfg, struct store_memory *memory, struct diag *diag)
{
    static struct store_remote ops = {.ask = ask};
    bool is_trial = memory == NULL;
    struct store *store = NULL;
    int r = 0;

    if (is_trial)
        r = store_memory_create(STORE_MEMORY_MIN, &memory); /* kept until the process ends */
    if (r == 0)
        r = store_memory_open(memory, &store);
    if (r < 0) {
        diag_add(diag, cfg->path, 0, 0, NULL, "the store cannot be opened: %s", strerror(-r));
        return r;
    }
    if (cfg->store.backend == CONFIG_STORE_LMDB) {
        char why[256] = "";

        /* In a trial what is missing is told, but the file left alone. */
        if (is_trial && (r = lmdb_check(why, sizeof why)) < 0) {
            diag_add(diag, cfg->path, 0, 0, NULL, "store.backend: %s", why);
            return r;
        }
        if (!is_trial) {
            store_close(&store);
            r = lmdb_open(cfg->store.path, cfg->store.size, cfg->store.sync_ms, why, sizeof why,
                          &store);
        }
        if (r < 0) {
            diag_add(diag, cfg->path, 0, 0,
                     "store.path: a file in a folder that the workers may write to",
                     "the store cannot be opened: %s", why);
            return r;
        }
    }
    /* Also in a trial. */
    if (cfg->store.backend == CONFIG_STORE_REDIS) {
        r = open_redis(cfg, diag);
        if (r < 0)
            return r;
        if (is_trial)
            redis_close(&remote.redis);
    }
    ops.is_local_when_down = cfg->store.redis.when_down == CONFIG_DOWN_LOCAL;
    host_store_init(h, store, remote.redis != NULL ? &ops : NULL);
    return 0;
}

void store_wake(void)
{
    remote.is_awake = true;
}

int store_timeout_ms(void)
{
    if (host_store_has_answers())
        return 0;
    return remote.redis != NULL ? redis_timeout_ms(remote.redis, host_loop_mono_ns) : -1;
}

void store_read(void)
{
    if (host_store_has_answers())
        host_store_run();
    if (remote.redis == NULL || !remote.is_awake)
        return;
    remote.is_awake = false;
    redis_run(remote.redis, host_loop_mono_ns);
}

void store_turn(void)
{
    if (remote.redis == NULL)
        return;
    /* Each turn sends what its hooks have asked, in one piece. */
    if ((redis_events(remote.redis) & EPOLLOUT) != 0 ||
        redis_timeout_ms(remote.redis, host_loop_mono_ns) == 0)
        redis_run(remote.redis, host_loop_mono_ns);
    watch();
}
