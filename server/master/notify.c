#include "master/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "master/internal.h"
#include "obs/log.h"

#define LEAST_PATIENCE_MS 3000 /* loops are seen to turn once a second */

void notify_systemd(const char *state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path != NULL ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = '\0'; /* the abstract name space, where the length counts */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
        log_warn("systemd was not told %s: %s", state, strerror(errno));
    fd_close(&fd);
}

void notify_reloading(void)
{
    char text[64];

    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_ns() / 1000);
    notify_systemd(text);
}

/* ---- the watchdog ---- */

void watchdog_init(struct master *m)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    long long us = usec != NULL ? strtoll(usec, NULL, 10) : 0;

    m->watchdog.next_ms = INT64_MAX;
    if (us < 2000 || (pid != NULL && strtoll(pid, NULL, 10) != getpid()))
        return;
    m->watchdog.every_ms = us / 2000; /* twice as often as must be */
    m->watchdog.patience_ms = m->watchdog.every_ms > LEAST_PATIENCE_MS ? m->watchdog.every_ms
                                                                       : LEAST_PATIENCE_MS;
    m->watchdog.turned_ms = clock_mono_ms();
    m->watchdog.next_ms = m->watchdog.turned_ms + m->watchdog.every_ms;
}

void watchdog_saw_turn(struct master *m, int64_t now_ms)
{
    m->watchdog.turned_ms = now_ms;
}

void watchdog_tick(struct master *m, int64_t now_ms)
{
    bool is_well = m->phase != MASTER_SERVING ||
                   now_ms - m->watchdog.turned_ms <= m->watchdog.patience_ms;

    if (now_ms < m->watchdog.next_ms)
        return;
    if (m->is_succeeded) { /* it is the new master's turn */
        m->watchdog.next_ms = INT64_MAX;
        return;
    }
    m->watchdog.next_ms = now_ms + m->watchdog.every_ms;
    if (is_well)
        notify_systemd("WATCHDOG=1");
    else if (!m->watchdog.is_withheld)
        log_error("no worker's loop has turned for %" PRId64 " ms: systemd's watchdog is not told "
                  "that all is well",
                  now_ms - m->watchdog.turned_ms);
    m->watchdog.is_withheld = !is_well;
}

int64_t watchdog_next_ms(const struct master *m)
{
    return m->watchdog.next_ms;
}

void watchdog_inherit(void)
{
    char text[24];

    if (getenv("WATCHDOG_PID") == NULL)
        return;
    snprintf(text, sizeof text, "%ld", (long)getpid());
    setenv("WATCHDOG_PID", text, 1);
}
