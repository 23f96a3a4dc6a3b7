#include "worker/succession.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "conf/config.h"
#include "http/front.h"
#include "ipc/channel.h"
#include "ipc/seat.h"
#include "ipc/state.h"
#include "obs/log.h"
#include "plugin/instance.h"
#include "worker/health.h"
#include "worker/internal.h"

/* Who asks on a connection that is on its way waits until all of its batch have been taken in, and so
 * does, on one CPU, everybody else. So they go in turns of the loop, which answers in between. */
#define GIVE_LEAST 8
#define GIVE_TURNS 32

/* ---- taking over ---- */

/* state_fd: what the predecessor's plugins had in memory; -1: nothing. */
static void serve(int post, int state_fd)
{
    const char *map;
    size_t size;
    int r;

    if (worker.front != NULL || post < 0 || post >= worker.cfg->n_workers ||
        (worker.seat->post >= 0 && post != worker.seat->post))
        return;
    if (state_fd >= 0 && state_map(state_fd, &map, &size) == 0) {
        for (int i = 0; i < worker.plugins.n; i++)
            if (worker.plugins.inst[i] != NULL)
                instance_restore(worker.plugins.inst[i], map, size);
        munmap((void *)(uintptr_t)map, size);
    }
    r = worker_serve(post);
    if (r < 0) {
        log_error("cannot take the place of another worker: %s", strerror(-r));
        worker.must_stop = true; /* the master starts another */
    }
}

/* Takes fd over, as front_refuse() does in any case, and front_adopt() when it can. */
static void adopt(const struct channel_entry *entry, int fd, const char *text, uint32_t len)
{
    int r = 0;

    switch (entry->what) {
    case ADOPT_IDLE:
        r = front_adopt(worker.front, entry->listener, fd, &entry->client, NULL, 0, false);
        if (r < 0)
            close(fd);
        break;
    case ADOPT_REPLAY:
        r = front_adopt(worker.front, entry->listener, fd, &entry->client, text, len,
                        entry->is_last != 0);
        if (r < 0)
            front_refuse(worker.front, fd, 503, NULL);
        break;
    case ADOPT_REFUSE: r = front_refuse(worker.front, fd, 503, NULL); break;
    case ADOPT_FAILED: r = front_refuse(worker.front, fd, 500, text); break;
    case ADOPT_END: r = front_refuse(worker.front, fd, -1, NULL); break;
    default: r = front_refuse(worker.front, fd, 0, NULL); break;
    }
    if (r < 0)
        log_debug("a connection of another worker cannot be served: %s", strerror(-r));
}

static void save(int fd)
{
    struct channel_message msg = {.kind = CHANNEL_SAVED};

    for (int i = 0; i < worker.plugins.n; i++)
        if (worker.plugins.inst[i] != NULL)
            instance_save(worker.plugins.inst[i], fd);
    channel_send(worker.channel_fd, &msg, NULL, NULL);
}

/* The master has looked at them before. */
static void use_keys(int fd)
{
    struct diag diag;
    char why[512];
    int r;

    diag_init(&diag);
    r = worker_load_keys(fd, &diag);
    if (r < 0) {
        snprintf(why, sizeof why, "%s", strerror(-r));
        if (diag.n > 0)
            diag_format(&diag, 0, why, sizeof why);
        log_error("new certificates cannot be used: %s", why);
    }
    diag_fini(&diag);
}

void succession_read(void)
{
    static char text[CHANNEL_TEXT + 1];
    struct channel_message msg;
    int fds[CHANNEL_FDS], r;

    while (worker.channel_fd >= 0 &&
           (r = channel_receive(worker.channel_fd, &msg, fds, text)) != 0) {
        if (r == -EBADMSG)
            continue;
        if (r < 0) { /* the master is gone; SIGTERM follows, or has come */
            health_forget(worker.channel_fd);
            fd_close(&worker.channel_fd);
            return;
        }
        if (msg.kind == CHANNEL_SERVE)
            serve(msg.number, msg.n > 0 ? fds[0] : -1);
        if (msg.kind == CHANNEL_SAVE && msg.n > 0)
            save(fds[0]);
        if (msg.kind == CHANNEL_HAND_OVER && worker.front != NULL && !worker.is_leaving) {
            worker.is_leaving = true;
            worker_prepare_to_leave();
            front_stop_accepting(worker.front, (unsigned)msg.number);
        }
        if (msg.kind == CHANNEL_KEYS && msg.n > 0)
            use_keys(fds[0]);
        for (uint32_t i = 0; i < msg.n; i++) {
            if (worker.front != NULL && msg.kind == CHANNEL_ADOPT)
                adopt(&msg.entry[i], fds[i], text, msg.text_len);
            else
                close(fds[i]);
        }
    }
}

/* ---- being replaced ---- */

void succession_ask(uint32_t plugin, const char *why)
{
    struct channel_message msg = {.kind = CHANNEL_REPLACE, .number = (int32_t)plugin};
    char text[160];
    int r = -EPIPE;

    snprintf(text, sizeof text, "%s%s%s%s", plugin > 0 ? "plugin '" : "",
             plugin > 0 ? worker.cfg->plugin[plugin - 1].name : "", plugin > 0 ? "': " : "", why);
    msg.text_len = (uint32_t)strlen(text);
    if (worker.channel_fd >= 0)
        r = channel_send(worker.channel_fd, &msg, NULL, text);
    if (r == 0)
        return;
    worker.wants_successor = true;
    worker_begin_drain();
}

static bool give(void *arg, int listener, int fd, const struct address *client)
{
    struct channel_message msg = {.kind = CHANNEL_GIVE, .n = 1};

    (void)arg;
    msg.entry[0] = (struct channel_entry){
        .listener = (uint16_t)listener, .what = ADOPT_IDLE, .client = *client};
    return worker.channel_fd >= 0 && channel_send(worker.channel_fd, &msg, &fd, NULL) == 0;
}

void succession_give(void)
{
    int n_open = (int)atomic_load_explicit(&worker.shared->connections, memory_order_relaxed);
    int most = GIVE_LEAST + n_open / GIVE_TURNS;

    worker.gives_on = front_give_idle(worker.front, most, give, NULL) == most;
}
