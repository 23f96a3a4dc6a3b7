#include "recorder/crashes.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "conf/config.h"
#include "ipc/beat.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "obs/record.h"
#include "obs/record_dir.h"
#include "plugin/hook.h"
#include "recorder/symbolise.h"

#define SYMBOLISE_MAX_S  20 /* then the recorder dies, and the next one leaves the backtrace out */
#define FOLD_INTERVAL_MS 1000                /* between two updates of a record's count */
#define DEATH_WAIT_NS    80000000            /* before the record of a worker's end is worked on */
#define SUCCESSOR_NS     INT64_C(5000000000) /* more than it may take to come */
#define ORPHAN_MS        2000                /* a slot whose process is alive, but not the worker */

static struct {
    const struct config *cfg;
    struct shm *shm;
    const struct recorder_plugin *plugin; /* as they are now, and after them the older ones */
    int n_plugins, n_older;
    struct recorder_plugin *met; /* n_plugins: as that worker had them */
    bool is_dir_bad;             /* said so already */
    struct shm_crash copy;       /* of the record being worked on: it may still change in there */
    struct record_trace trace;
    int64_t *orphan_ms; /* per slot: since when it looks like one; 0: does not */
} crashes;

void crashes_init(const struct config *cfg, struct shm *shm, const struct recorder_plugin *plugin,
                  int n_plugins, int n_older)
{
    int r = record_dir_open(cfg->crash.dir);

    crashes.cfg = cfg;
    crashes.shm = shm;
    crashes.plugin = plugin;
    crashes.n_plugins = n_plugins;
    crashes.n_older = n_older;
    crashes.met = calloc((size_t)n_plugins + 1, sizeof *crashes.met);
    crashes.orphan_ms = calloc((size_t)shm->n_workers * SHM_CRASH_SLOTS, sizeof(int64_t));
    if (r < 0)
        log_error("crash.dir %s: %s; no crash can be recorded", cfg->crash.dir, strerror(-r));
    crashes.is_dir_bad = r < 0;
}

/* ---- folded repeats ---- */

static const struct shm_fold *find_fold(const struct shm_worker *w, const char *id)
{
    for (int i = 0; i < SHM_FOLDS; i++) {
        if (atomic_load(&w->fold[i].fp) != 0 &&
            strncmp(w->fold[i].id, id, sizeof w->fold[i].id) == 0)
            return &w->fold[i];
    }
    return NULL;
}

static bool write_folds(struct shm_worker *w, bool is_last)
{
    int64_t now = clock_mono_ms();
    bool is_busy = false;

    for (int i = 0; i < SHM_FOLDS; i++) {
        struct shm_fold *f = &w->fold[i];
        uint64_t count = atomic_load(&f->count);
        char id[RECORD_ID_SIZE];

        if (atomic_load(&f->fp) == 0 || count == f->written || count == 0)
            continue;
        is_busy = true;
        if (!is_last && now - f->written_ms < FOLD_INTERVAL_MS)
            continue;
        memcpy(id, f->id, sizeof id);
        /* No such file: the record is not complete, and will be written with its count; or it was
         * removed to make room. */
        record_dir_set_repeats(crashes.cfg->crash.dir, id, count, atomic_load(&f->last_ns));
        f->written = count;
        f->written_ms = now;
    }
    return is_busy;
}

/* ---- records ---- */

static int write_files(const struct record_source *src)
{
    const char *dir = crashes.cfg->crash.dir;
    const struct shm_crash *crash = src->crash;
    json_t *record;
    int r = 0;

    if (crash->body_len > 0)
        r = record_dir_write_body(dir, crash->id, crash->body, crash->body_len);
    if (r == -ENOENT)
        return r;
    if (r < 0)
        crashes.copy.body_len = 0; /* the record is worth more, and says that there is none */
    record = record_to_json(src);
    r = record != NULL ? record_dir_write(dir, crash->id, record) : -ENOMEM;
    json_decref(record);
    return r;
}

static void store(const struct record_source *src)
{
    const char *dir = crashes.cfg->crash.dir;
    int r = write_files(src);

    if (r == -ENOENT) { /* somebody has removed the folder */
        record_dir_open(dir);
        r = write_files(src);
    }
    if (r == 0)
        record_dir_prune(dir, crashes.cfg->crash.keep);
    if (r < 0 && !crashes.is_dir_bad)
        log_error("crash.dir %s: %s; crash records are lost until this ends", dir, strerror(-r));
    crashes.is_dir_bad = r < 0;
}

static void tell(const struct record_source *src)
{
    const struct record_frame *f = record_where(src->trace);

    if (f == NULL)
        return;
    if (f->file[0] != '\0')
        log_info("crash record %s: %s at %s:%u", src->crash->id, f->function, f->file, f->line);
    else
        log_info("crash record %s: %s in %s", src->crash->id,
                 f->function[0] != '\0' ? f->function : "?", f->module);
}

/* What the worker that crashed had loaded, which may be what an earlier config named. */
static const struct recorder_plugin *find_met(const struct shm_crash *crash)
{
    const struct recorder_plugin *older = crashes.plugin + crashes.n_plugins;

    if (crashes.n_older == 0 || crashes.met == NULL)
        return crashes.plugin;
    memcpy(crashes.met, crashes.plugin, (size_t)crashes.n_plugins * sizeof *crashes.met);
    for (uint32_t i = 0; i < crash->n_modules; i++) {
        const struct shm_module *m = &crash->module[i];

        for (int k = crashes.n_older - 1; k >= 0 && m->plugin != 0; k--)
            if (older[k].place <= (uint32_t)crashes.n_plugins && older[k].copy != NULL &&
                strcmp(older[k].copy, m->path) == 0)
                crashes.met[older[k].place - 1] = older[k];
    }
    return crashes.met;
}

/* A worker may belong to an earlier config, which wanted more. */
static void limit_body(struct shm_crash *crash)
{
    if (crash->body_len > crashes.cfg->crash.record_body)
        crash->body_len = (uint32_t)crashes.cfg->crash.record_body;
}

static void write_slot(uint32_t worker, uint32_t slot, bool is_last)
{
    struct shm_worker *w = &crashes.shm->worker[worker];
    struct shm_crash *crash = &w->crash[slot];
    struct record_source src = {
        .crash = &crashes.copy, .n_plugins = crashes.n_plugins, .worker = worker};
    uint32_t n_tries = crash->n_tries++, body_len;
    const struct shm_fold *fold;

    memcpy(&crashes.copy, crash, offsetof(struct shm_crash, body));
    record_clean(&crashes.copy, worker, slot);
    body_len = crashes.copy.body_len;
    limit_body(&crashes.copy);
    memcpy(crashes.copy.body, crash->body, crashes.copy.body_len);
    src.plugin = find_met(&crashes.copy);
    src.hook = hook_name(crashes.copy.hook);
    fold = find_fold(w, crashes.copy.id);
    if (fold != NULL) {
        src.repeats = atomic_load(&fold->count);
        src.repeat_ns = atomic_load(&fold->last_ns);
    }
    if (crashes.copy.n_modules == 0) {
        src.trace_missing = "the worker was killed and left no registers";
    } else if (n_tries == 0) {
        if (is_last) { /* nobody comes after us, should this one be killed over it */
            src.trace_missing = "the server ended before there was one";
            store(&src);
            src.trace_missing = NULL;
        }
        alarm(SYMBOLISE_MAX_S);
        symbolise(&crashes.copy, src.plugin, crashes.n_plugins, &crashes.trace);
        alarm(0);
        beat();
        src.trace = &crashes.trace;
    } else {
        src.trace_missing = "the recorder died over it";
    }
    if (n_tries <= 1)
        store(&src);
    else
        log_error("crash record %s cannot be written: the recorder dies over it", crashes.copy.id);
    tell(&src);

    /* The client's, and of no more use here. */
    memset(crash->body, 0, body_len);
    crash->n_tries = 0; /* pid and verdict stay: the master looks at them when a worker has died */
    atomic_store(&crash->state, SHM_CRASH_FREE);
}

/*
 * Has whoever was filling this slot gone? Its process is not the worker any more and is dead. The
 * delay is for a worker that crashed before the master has noted its number, and for one that was
 * replaced and goes on living for a while; a number that was reused costs no more than that.
 */
static bool is_orphan(uint32_t worker, uint32_t slot)
{
    const struct shm_worker *w = &crashes.shm->worker[worker];
    int64_t *since = &crashes.orphan_ms[worker * SHM_CRASH_SLOTS + slot], now = clock_mono_ms();
    int32_t pid = w->crash[slot].pid;

    if (pid > 0 && pid == atomic_load(&w->pid)) {
        *since = 0;
        return false;
    }
    if (pid > 0 && kill(pid, 0) < 0 && errno == ESRCH)
        return true;
    if (*since == 0)
        *since = now;
    return now - *since >= ORPHAN_MS;
}

/* Its successor takes over just now, maybe on the only CPU: symbols have time. The age is that of a
 * clock that may be set, and the word of a dead worker; so no more than this moment is granted. */
static bool is_fresh_death(const struct shm_crash *crash)
{
    int64_t age_ns = clock_real_ns() - crash->time_ns;

    return crash->verdict == SHM_WORKER_DIED && age_ns >= 0 && age_ns < DEATH_WAIT_NS;
}

static bool is_known(const char *path)
{
    for (int i = 0; i < crashes.n_plugins + crashes.n_older; i++) {
        const struct recorder_plugin *p = &crashes.plugin[i];

        if ((p->copy != NULL && strcmp(p->copy, path) == 0) ||
            (p->object != NULL && strcmp(p->object, path) == 0))
            return true;
    }
    return false;
}

/* A plugin that came with a config after ours: our successor knows it, and is on its way. Its age is
 * as in is_fresh_death(). */
static bool is_of_successor(const struct shm_crash *crash)
{
    int64_t age_ns = clock_real_ns() - crash->time_ns;

    if (age_ns < 0 || age_ns >= SUCCESSOR_NS)
        return false;
    for (uint32_t i = 0; i < crash->n_modules && i < SHM_MODULES; i++) {
        char path[sizeof crash->module[i].path];

        memcpy(path, crash->module[i].path, sizeof path);
        path[sizeof path - 1] = '\0';
        if (crash->module[i].plugin != 0 && !is_known(path))
            return true;
    }
    return false;
}

bool crashes_write(uint32_t worker, bool is_last)
{
    struct shm_worker *w = &crashes.shm->worker[worker];
    bool is_busy = false;

    for (uint32_t slot = 0; slot < SHM_CRASH_SLOTS; slot++) {
        uint32_t state = atomic_load(&w->crash[slot].state);

        if (state == SHM_CRASH_FREE)
            continue;
        is_busy = true;
        if (state == SHM_CRASH_FULL && !is_last &&
            (is_fresh_death(&w->crash[slot]) || is_of_successor(&w->crash[slot])))
            continue; /* a later pass takes it */
        if (state != SHM_CRASH_FILLING || is_last || is_orphan(worker, slot)) {
            write_slot(worker, slot, is_last);
            crashes.orphan_ms[worker * SHM_CRASH_SLOTS + slot] = 0;
        }
    }
    return write_folds(w, is_last) || is_busy;
}
