#include "master/watch.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "master/internal.h"
#include "obs/log.h"

#define QUIET_MS 200  /* without another event: writers are through */
#define LATE_MS  2000 /* after the first, whatever still comes */
#define EVENTS   (IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF)

void watch_init(struct watch *w)
{
    *w = (struct watch){.fd = -1};
}

void watch_close(struct watch *w)
{
    fd_close(&w->fd);
    watch_init(w);
}

static const char *object_of(const struct master *m, int i)
{
    return m->cfg->plugin[i].is_removed || m->roles->object == NULL ? NULL
                                                                    : m->roles->object(m->setup, i);
}

/* The same folder twice gets the same number. */
static void add_folder_of(struct watch *w, const char *path)
{
    char copy[PATH_MAX];
    const char *folder;
    int wd;

    snprintf(copy, sizeof copy, "%s", path);
    folder = dirname(copy);
    wd = inotify_add_watch(w->fd, folder, EVENTS | IN_ONLYDIR);
    for (int i = 0; i < w->n; i++)
        if (w->folder[i] == wd)
            return;
    if (wd >= 0 && w->n < WATCH_FOLDERS)
        w->folder[w->n++] = wd;
    else
        log_warn("%s cannot be watched: %s; what changes there is seen at the next reload", folder,
                 wd < 0 ? strerror(errno) : "too many folders");
}

/* Where the link is, and where the file is. */
static void add_file(struct watch *w, const char *path)
{
    char real[PATH_MAX];

    add_folder_of(w, path);
    if (realpath(path, real) != NULL && strcmp(real, path) != 0)
        add_folder_of(w, real);
}

static int open_watch(const struct master *m, struct watch *w)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = MASTER_WATCH_EVENT};

    w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->fd >= 0 && epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, w->fd, &event) == 0)
        return 0;
    log_error("reload.watch: %s; a reload takes SIGHUP or `bulkhead reload`", strerror(errno));
    fd_close(&w->fd);
    return -1;
}

/* Folders that stay are watched without a gap: the next change may come at once. */
void watch_update(struct master *m)
{
    struct watch *w = &m->watch, before = *w;
    char path[PATH_MAX];

    if (w->made_for == m->generation)
        return;
    w->made_for = m->generation;
    if (!m->cfg->reload.watch) {
        watch_close(w);
        w->made_for = m->generation;
        return;
    }
    if (w->fd < 0 && open_watch(m, w) < 0)
        return;
    w->n = 0;
    config_file_path(m->cfg, path, sizeof path);
    add_file(w, path);
    for (int i = 0; i < m->cfg->n_plugins; i++)
        if (object_of(m, i) != NULL)
            add_file(w, object_of(m, i));
    for (int i = 0; i < before.n; i++) {
        bool stays = false;

        for (int k = 0; k < w->n; k++)
            stays |= w->folder[k] == before.folder[i];
        if (!stays)
            inotify_rm_watch(w->fd, before.folder[i]);
    }
}

static bool is_name_of(const char *name, const char *path)
{
    const char *slash = strrchr(path, '/');

    return strcmp(name, slash != NULL ? slash + 1 : path) == 0;
}

/* Logs and crash records may be written in the same folders: those don't matter. */
static bool matters(const struct master *m, const struct inotify_event *e)
{
    if ((e->mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF)) != 0)
        return true;
    if (e->len == 0)
        return false;
    if (strncmp(e->name, "..", 2) == 0) /* a ConfigMap's ..data */
        return true;
    if (is_name_of(e->name, m->cfg->path))
        return true;
    for (int i = 0; i < m->cfg->n_plugins; i++)
        if (object_of(m, i) != NULL && is_name_of(e->name, object_of(m, i)))
            return true;
    return false;
}

void watch_read(struct master *m)
{
    struct watch *w = &m->watch;
    _Alignas(struct inotify_event) char buf[4096];
    int64_t now = clock_mono_ms();
    ssize_t n;

    while (w->fd >= 0 && (n = read(w->fd, buf, sizeof buf)) > 0) {
        for (char *p = buf; p < buf + n;) {
            const struct inotify_event *e = (const void *)p;

            p += sizeof *e + e->len;
            if (!matters(m, e))
                continue;
            if (w->first_ms == 0)
                w->first_ms = now;
            w->due_ms = now + QUIET_MS;
        }
    }
    if (w->first_ms != 0 && w->due_ms > w->first_ms + LATE_MS)
        w->due_ms = w->first_ms + LATE_MS;
}

int64_t watch_next_ms(const struct master *m)
{
    return m->watch.first_ms != 0 ? m->watch.due_ms : INT64_MAX;
}

void watch_tick(struct master *m, int64_t now_ms)
{
    struct watch *w = &m->watch;

    if (m->phase != MASTER_SERVING)
        return;
    watch_update(m);
    if (w->first_ms == 0 || w->due_ms > now_ms)
        return;
    w->first_ms = 0;
    w->made_for = NULL; /* folders may have been replaced as well */
    watch_update(m);
    reload_begin(m, "reload.watch", 0, NULL, NULL);
}
