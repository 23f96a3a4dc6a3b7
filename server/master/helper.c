/*
 * helper.c - what the processes beside the workers have in common: recorder, exporter, admin process.
 *
 * There is one of each, and a server without it goes on: one that ended is started again, later each
 * time it ends soon.
 */
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "master/internal.h"
#include "obs/log.h"

static const char *name_of(const struct child *c)
{
    return c->index == CHILD_ADMIN      ? "admin process"
           : c->index == CHILD_EXPORTER ? "exporter"
                                        : "recorder";
}

void helper_start_later(struct child *c, const char *reason)
{
    int64_t now = clock_mono_ms();
    uint32_t delay_ms = respawn_ended(&c->respawn, now, reason == NULL);

    c->state = CHILD_WAITING;
    c->due_ms = now + delay_ms;
    if (delay_ms == 0)
        log_info("the %s is started again", name_of(c));
    else
        log_error("the %s is started again in %u ms: %s", name_of(c), delay_ms,
                  reason != NULL ? reason : "it ended too often");
}

bool helper_ended(const struct master *m, struct child *c, int status)
{
    bool is_in_order = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    char how[64];

    if (is_in_order && c->gen != m->generation)
        return true; /* it was told to make room */
    if (is_in_order && m->phase >= MASTER_DRAINING) {
        /* Whoever stops the server may signal all of its processes. It has its use until the last worker
         * has ended. */
        log_debug("the %s was told to stop as well", name_of(c));
        helper_start_later(c, NULL);
        return false;
    }
    death_describe(status, how, sizeof how);
    log_error("the %s %s", name_of(c), how);
    helper_start_later(c, NULL);
    return false;
}

int64_t helper_next_ms(const struct child *c)
{
    return c->state == CHILD_WAITING ? c->due_ms : INT64_MAX;
}

void helper_stop(struct child *c)
{
    if (c->state == CHILD_WAITING)
        c->state = CHILD_DOWN;
    child_kill(c, SIGTERM);
}
