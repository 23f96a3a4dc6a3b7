/*
 * start.c - what happens before the first process is made, and what is said about it.
 *
 * Its messages go to stderr as well as to the log: the person who starts a server looks there.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "ipc/shm.h"
#include "master/environment.h"
#include "master/internal.h"
#include "obs/log.h"
#include "store/memory.h"

#ifndef BULKHEAD_VERSION
#define BULKHEAD_VERSION "0"
#endif

void master_say(const struct master *m, const char *fmt, ...)
{
    char line[2048];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fprintf(stderr, "%sbulkhead: %s\n", log_priority(LOG_ERROR), line);
    if (strcmp(m->cfg->log.path, "-") != 0)
        log_error("%s", line);
}

static void say_diag(const struct master *m, const struct diag *diag)
{
    char line[1024];

    diag_print(diag, stderr);
    for (int i = 0; i < diag->n && strcmp(m->cfg->log.path, "-") != 0; i++) {
        diag_format(diag, i, line, sizeof line);
        log_error("%s", line);
    }
}

void master_announce(const struct master *m)
{
    char all[512] = "", one[160], url[160];
    size_t n = 0;

    for (int i = 0; i < m->cfg->n_listeners && n < sizeof all; i++) {
        listen_describe(&m->listeners, i, one, sizeof one);
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i > 0 ? ", " : "", one);
    }
    listen_url(&m->listeners, url, sizeof url);
    fprintf(stderr, "%sbulkhead %s serving on %s (%d worker%s)%s%s%s\n", log_priority(LOG_INFO),
            BULKHEAD_VERSION, all, m->cfg->n_workers, m->cfg->n_workers == 1 ? "" : "s",
            url[0] != '\0' ? "; open " : "", url, url[0] != '\0' ? "/" : "");
    admin_describe(m, url, sizeof url);
    if (url[0] != '\0' && m->cfg->admin.token_file != NULL)
        fprintf(stderr, "%sadmin interface on %s; its token is in %s\n", log_priority(LOG_INFO),
                url, m->cfg->admin.token_file);
    else if (url[0] != '\0')
        fprintf(stderr, "%sadmin interface on %s\n", log_priority(LOG_INFO), url);
    if (strcmp(m->cfg->log.path, "-") != 0)
        log_info("bulkhead %s serving on %s (%d workers)", BULKHEAD_VERSION, all,
                 m->cfg->n_workers);
}

static int make_crash_dir(struct master *m)
{
    const char *dir = m->cfg->crash.dir;
    struct stat st;
    bool is_new = stat(dir, &st) < 0;
    int r = fd_make_dirs(dir, 0750);

    /* A folder that was there belongs to somebody: it might be /tmp. */
    if (r == 0 && is_new && m->user.is_set && chown(dir, m->user.uid, m->user.gid) < 0)
        r = -errno;
    if (r < 0)
        master_say(m, "cannot make the folder for crash records, %s: %s (crash.dir in %s)", dir,
                   strerror(-r), m->cfg->path);
    else if (!is_new && m->user.is_set && st.st_uid != m->user.uid && (st.st_mode & S_IWOTH) == 0)
        log_warn("%s may not be writable for '%s': crash records would be lost; try: chown %s %s",
                 dir, m->cfg->user, m->cfg->user, dir);
    return r;
}

/* The old master's, or a new one. */
static int open_store(struct master *m)
{
    const char *text = getenv(INHERIT_STORE_ENV);
    long fd = text != NULL ? strtol(text, NULL, 10) : -1;
    int r = -ENOENT;

    unsetenv(INHERIT_STORE_ENV);
    if (m->predecessor_fd >= 0 && fd > 2 && fd < 1 << 20) {
        int old = (int)fd;

        r = store_memory_attach(old, m->cfg->store.size, &m->store);
        fd_close(&old);
        if (r < 0)
            log_warn("what plugins had in the store is lost: the old server's has another size "
                     "(store.size) or layout");
    }
    if (r < 0)
        r = store_memory_create(m->cfg->store.size, &m->store);
    if (r < 0)
        master_say(m, "no shared memory for the store: %s (store.size in %s)", strerror(-r),
                   m->cfg->path);
    return r;
}

/* What is kept there is what another server runs. That it cannot be written to is told when it matters. */
static int claim_state(struct master *m)
{
    pid_t other = 0;

    if (m->kept == NULL || kept_claim(m, &other) != -EBUSY)
        return 0;
    master_say(m,
               "another server, pid %d, runs with this config and has its state in %s: stop it, or "
               "give this one another state.dir (in %s)",
               (int)other, m->cfg->state.dir, m->cfg->path);
    return -EBUSY;
}

int master_prepare(struct master *m)
{
    const struct config *cfg = m->cfg;
    struct diag diag;
    int r;

    environment_raise_descriptors(cfg);
    diag_init(&diag);
    r = upgrade_inherit(m);
    if (r == 0)
        r = listen_open(&m->listeners, cfg, &m->inherited, &diag);
    if (r == 0)
        r = admin_open(m, &m->inherited, &diag);
    inherit_close(&m->inherited);
    if (r == 0)
        r = user_find(cfg, &diag, &m->user);
    say_diag(m, &diag);
    if (r < 0 && diag.n_errors == 0)
        master_say(m, "cannot start: %s", strerror(-r));
    diag_fini(&diag);
    if (r < 0)
        return r;
    r = make_crash_dir(m);
    if (r == 0)
        r = claim_state(m);
    if (r < 0)
        return r;
    r = shm_create((uint32_t)m->n_slots, CONFIG_MAX_PLACES, &m->shm);
    if (r < 0) {
        master_say(m, "no shared memory for %d workers: %s", cfg->n_workers, strerror(-r));
        return r;
    }
    log_follow(&m->shm->log_level);
    log_count_in(&m->shm->log);
    publish_generation(m);
    return open_store(m);
}
