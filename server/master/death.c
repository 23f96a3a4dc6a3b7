/*
 * death.c - who is to blame for a dead worker.
 *
 * The worker published its call before it made it (struct shm_call), so that there is an answer
 * even to SIGKILL. All of it is the word of a process that died of an error: bounded, escaped,
 * never trusted.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/must.h"
#include "ipc/crash_id.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/log.h"

struct blame {
    uint32_t plugin; /* index + 1; 0: nobody */
    uint32_t hook;
    uint32_t route;          /* number; 0: none */
    char request[SHM_LABEL]; /* printable */
};

static struct shm_worker *slot_of(const struct master *m, int worker)
{
    must(worker >= 0 && (uint32_t)worker < m->shm->n_workers);
    return &m->shm->worker[worker];
}

static uint32_t known_plugin(const struct master *m, uint32_t plugin)
{
    return plugin <= m->shm->n_plugins && plugin <= (uint32_t)m->cfg->n_plugins ? plugin : 0;
}

/*
 * Nothing was published by the loop: whose threads were there? A plugin's own, or one of the pool that
 * works for it. 0 unless all of them are one plugin's. It is no more than a suspicion: a worker may also
 * have been killed from outside.
 */
static uint32_t find_suspect(const struct master *m, int worker, uint32_t *hook)
{
    const struct shm_worker *w = slot_of(m, worker);
    uint32_t suspect = 0;

    for (int i = 0; i < SHM_THREADS; i++) {
        const struct shm_thread *t = &w->thread[i];
        uint32_t plugin = atomic_load(&t->plugin);

        if (atomic_load(&t->tid) == 0)
            continue;
        if (plugin == 0)
            plugin = atomic_load(&t->call.plugin);
        plugin = known_plugin(m, plugin);
        if (plugin == 0 || plugin == suspect)
            continue;
        if (suspect != 0)
            return 0;
        suspect = plugin;
        *hook = atomic_load(&t->call.hook);
    }
    return suspect;
}

static void copy_printable(char *to, size_t size, const char *from)
{
    size_t n = 0;

    for (; n < size - 1 && from[n] != '\0'; n++)
        to[n] = from[n];
    to[n] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (to[i] < 0x20 || to[i] > 0x7e)
            to[i] = '?';
    }
}

static void read_call(const struct master *m, int worker, struct blame *out)
{
    const struct shm_call *call = &slot_of(m, worker)->call;

    out->plugin = known_plugin(m, atomic_load(&call->plugin));
    out->hook = out->plugin != 0 ? atomic_load(&call->hook) : 0; /* the last call's, else */
    out->route = atomic_load(&call->route);
    copy_printable(out->request, sizeof out->request, call->request);
}

/* The loop's call is not to blame when it was another thread that crashed: of the offload pool, or the
 * plugin's own. */
static void heed(const struct master *m, const struct shm_crash *last_words, struct blame *out)
{
    uint32_t plugin = known_plugin(m, last_words->plugin);

    if (plugin == 0 || (plugin == out->plugin && last_words->hook == out->hook))
        return;
    memset(out, 0, sizeof *out);
    out->plugin = plugin;
    out->hook = last_words->hook;
}

/* The record that the worker's own handler made before it gave up. The recorder may have written
 * and freed it by now; death_clear() sees to it that a free slot's pid is no stranger's. */
static const struct shm_crash *find_last_words(struct shm_worker *w, pid_t pid)
{
    for (int i = 0; i < SHM_CRASH_SLOTS; i++) {
        if (w->crash[i].pid == pid && w->crash[i].verdict == SHM_WORKER_DIED)
            return &w->crash[i];
    }
    return NULL;
}

void death_describe(int status, char *buf, size_t size)
{
    const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;

    if (name != NULL)
        snprintf(buf, size, "was killed by SIG%s", name);
    else if (WIFSIGNALED(status))
        snprintf(buf, size, "was killed by signal %d", WTERMSIG(status));
    else
        snprintf(buf, size, "ended with exit status %d", WEXITSTATUS(status));
}

static void describe_blame(const struct master *m, const struct blame *b, char *buf, size_t size)
{
    const char *hook = m->roles->hook_name != NULL ? m->roles->hook_name(b->hook) : NULL;
    const char *at = b->request[0] != '\0' ? ", at " : "";

    if (b->plugin == 0)
        snprintf(buf, size, "outside of plugins%s%s", at, b->request);
    else if (hook != NULL)
        snprintf(buf, size, "in plugin '%s', %s%s%s", m->cfg->plugin[b->plugin - 1].name, hook, at,
                 b->request);
    else
        snprintf(buf, size, "in plugin '%s', hook %u%s%s", m->cfg->plugin[b->plugin - 1].name,
                 b->hook, at, b->request);
}

void death_where(const struct master *m, int worker, char *buf, size_t size)
{
    struct blame blame;

    read_call(m, worker, &blame);
    describe_blame(m, &blame, buf, size);
}

/* The owner is dead and the successor not yet born: the master is the one writer. */
static bool write_record(const struct master *m, int worker, pid_t pid, int status, const char *how,
                         const struct blame *blame, char id[RECORD_ID_SIZE])
{
    struct shm_worker *w = slot_of(m, worker);
    struct shm_crash *slot = NULL;
    uint32_t filling = SHM_CRASH_FILLING;
    int n;

    for (int i = 0; i < SHM_CRASH_SLOTS && slot == NULL; i++) {
        if (atomic_load(&w->crash[i].state) == SHM_CRASH_FREE)
            slot = &w->crash[i];
    }
    if (slot == NULL)
        return false; /* the recorder is behind; the log line has to do */

    memset((char *)slot + offsetof(struct shm_crash, id), 0,
           offsetof(struct shm_crash, body) - offsetof(struct shm_crash, id));
    /* Only now: a slot that is being filled, of a process that is dead, would be taken as it is. */
    atomic_store(&slot->state, SHM_CRASH_FILLING);
    slot->time_ns = clock_real_ns();
    record_id_make(slot->id, worker, slot->time_ns);
    slot->plugin = blame->plugin;
    slot->hook = blame->hook;
    slot->signo = status != -1 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    slot->verdict = SHM_WORKER_DIED;
    snprintf(slot->kind, sizeof slot->kind, "worker_death");
    snprintf(slot->reason, sizeof slot->reason, "%s", how);
    n = blame->request[0] == '\0'
            ? 0
            : snprintf(slot->request, sizeof slot->request, "%s \n", blame->request);
    slot->request_len = (uint32_t)n;
    memcpy(id, slot->id, RECORD_ID_SIZE);
    slot->pid = slot->tid = pid;
    atomic_compare_exchange_strong(&slot->state, &filling, SHM_CRASH_FULL);
    return true;
}

/* What the dead one was still filling will get no fuller. */
static void release_half_filled(struct shm_worker *w)
{
    for (int i = 0; i < SHM_CRASH_SLOTS; i++) {
        uint32_t filling = SHM_CRASH_FILLING;

        atomic_compare_exchange_strong(&w->crash[i].state, &filling, SHM_CRASH_FULL);
    }
}

/* Of one that stands still: its handler said what it was. */
static void describe_last_words(const struct shm_crash *c, char *buf, size_t size)
{
    const char *name = c != NULL && c->signo != 0 ? sigabbrev_np(c->signo) : NULL;
    char kind[sizeof c->kind];

    if (name != NULL) {
        snprintf(buf, size, "crashed with SIG%s", name);
    } else if (c != NULL) {
        copy_printable(kind, sizeof kind, c->kind);
        snprintf(buf, size, "cannot go on (%s)", kind);
    } else {
        snprintf(buf, size, "cannot go on");
    }
}

/* Is the request of that worker, too, what the plugin was called for? */
static bool is_for_request(const struct master *m, unsigned hook)
{
    static const char *const names[] = {"on_request", "on_request_body", "on_response",
                                        "on_error",   "on_log",          "defer"};
    const char *name = m->roles->hook_name != NULL ? m->roles->hook_name(hook) : "";

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* As a crash that the worker survived would count: for the route, if the same one kills workers again
 * and again. */
static void charge_plugin(const struct master *m, const struct blame *b, int signo)
{
    const struct config_plugin *p = &m->cfg->plugin[b->plugin - 1];
    struct shm_plugin *shared = &m->shm->plugin[b->plugin - 1];
    struct breaker_limits limits = {.crashes = p->breaker.crashes,
                                    .window_ms = p->breaker.window_ms,
                                    .open_ms = p->breaker.open_ms,
                                    .trials = p->breaker.trials};
    bool is_known = config_route_name(m->cfg, b->route) != NULL;
    uint32_t route = is_known && is_for_request(m, b->hook) ? b->route : 0;
    uint64_t place = (uint64_t)b->hook << 8 | (uint8_t)signo;
    struct quarantine_news news[2];
    char text[512];
    int n;

    atomic_fetch_add(&shared->worker_deaths, 1);
    n = quarantine_charge(&shared->quarantine, &limits, clock_mono_ms(), route, place, news);
    for (int i = 0; i < n; i++) {
        quarantine_tell(&news[i], &limits, config_route_name(m->cfg, news[i].route),
                        p->on_error == CONFIG_FAIL_OPEN ? "served without it" : "answered 503",
                        text, sizeof text);
        log_error("plugin '%s': %s", p->name, text);
    }
}

void death_charge(const struct master *m, int worker, pid_t pid, int status, char *record_id,
                  size_t size)
{
    struct shm_worker *w = slot_of(m, worker);
    const struct shm_crash *last_words = find_last_words(w, pid);
    char how[96], where[SHM_LABEL + 128], id[RECORD_ID_SIZE] = "";
    struct blame blame;
    bool is_suspect = false;

    metrics_add(&m->shm->master.workers_lost, 1);
    read_call(m, worker, &blame);
    if (last_words != NULL)
        heed(m, last_words, &blame);
    if (blame.plugin == 0 && status != -1) {
        blame.plugin = find_suspect(m, worker, &blame.hook);
        is_suspect = blame.plugin != 0;
    }
    if (status == -1)
        describe_last_words(last_words, how, sizeof how);
    else
        death_describe(status, how, sizeof how);
    if (is_suspect)
        strncat(how, " (suspected: it had threads)", sizeof how - strlen(how) - 1);
    /* SIGKILL may as well have come from outside: nobody is judged by a suspicion then. */
    if (blame.plugin != 0 && !(is_suspect && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
        charge_plugin(m, &blame,
                      status == -1          ? (last_words != NULL ? last_words->signo : 0)
                      : WIFSIGNALED(status) ? WTERMSIG(status)
                                            : 0);
    if (last_words != NULL)
        copy_printable(id, sizeof id, last_words->id);
    else
        write_record(m, worker, pid, status, how, &blame, id);
    release_half_filled(w);
    shm_kick(m->shm);

    describe_blame(m, &blame, where, sizeof where);
    log_error("worker %d (pid %d) %s %s; crash record %s", worker, (int)pid, how, where,
              id[0] != '\0' ? id : "not written: too many at once");
    if (record_id != NULL)
        snprintf(record_id, size, "%s", id);
}

void death_clear(const struct master *m, int worker)
{
    struct shm_worker *w = slot_of(m, worker);

    atomic_store(&w->pid, 0);
    atomic_store(&w->call.plugin, 0);
    atomic_store(&w->call.hook, 0);
    atomic_store(&w->call.fd, -1);
    shm_forget_conns(m->shm, (uint32_t)worker);
    atomic_store(&w->call.route, 0);
    memset(w->call.request, 0, sizeof w->call.request);
    atomic_store(&w->connections, 0);
    metrics_end(m->shm, (uint32_t)worker);
    atomic_store(&w->give_up, 0);
    for (int i = 0; i < SHM_THREADS; i++)
        atomic_store(&w->thread[i].tid, 0);
    release_half_filled(w);
    for (int i = 0; i < SHM_CRASH_SLOTS; i++) {
        if (atomic_load(&w->crash[i].state) == SHM_CRASH_FREE)
            w->crash[i].pid = 0; /* numbers of processes come round */
    }
}
