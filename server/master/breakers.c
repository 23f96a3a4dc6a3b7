/*
 * breakers.c - breakers that an operator opens, or closes again.
 *
 * They lie in shared memory, where the workers look at them: what is done here holds for all, at once,
 * and over reloads.
 */
#include <errno.h>

#include "base/clock.h"
#include "ipc/control.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/log.h"

int breaker_control(struct master *m, int argument)
{
    int place = argument >> 8, action = argument & 0xff;
    const struct config_plugin *p;
    struct breaker_limits limits;
    struct quarantine *q;

    if (argument < 0 || action > CONTROL_BREAKER_OPEN)
        return -EINVAL;
    if (place < 1 || place > m->cfg->n_plugins || m->cfg->plugin[place - 1].is_removed)
        return -ENOENT;
    p = &m->cfg->plugin[place - 1];
    q = &m->shm->plugin[place - 1].quarantine;
    limits = (struct breaker_limits){.crashes = p->breaker.crashes,
                                     .window_ms = p->breaker.window_ms,
                                     .open_ms = p->breaker.open_ms,
                                     .trials = p->breaker.trials};
    if (action == CONTROL_BREAKER_RESET) {
        quarantine_reset(q);
        events_note_breaker(place - 1, false);
        events_add(&m->events, EVENT_BREAKER, p->name, "reset by an operator");
        log_warn("plugin '%s': its breaker and its blocked routes are reset by an operator",
                 p->name);
        return 0;
    }
    if (!quarantine_hold(q, &limits, clock_mono_ms()))
        return -EOPNOTSUPP;
    events_note_breaker(place - 1, true);
    events_add(&m->events, EVENT_BREAKER, p->name, "opened by an operator, until it is reset");
    log_warn(
        "plugin '%s': its breaker is opened by an operator, and stays so until it is reset; its "
        "requests are %s",
        p->name, p->on_error == CONFIG_FAIL_OPEN ? "served without it" : "answered 503");
    return 0;
}
