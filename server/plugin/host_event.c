/*
 * host_event.c - bh_event(): a plugin tells operators that something has happened.
 *
 * Events are for people, and there is room for some hundred: so each instance has ten at a time, and then
 * one every six seconds. What is left out is counted, and the next one tells.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "plugin/host.h"
#include "plugin/instance.h"

#define AT_ONCE  10
#define EVERY_MS 6000

static bool is_name(const char *s, size_t n)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

    return n > 0 && n < NOTICE_NAME && strspn(s, chars) == n;
}

/* Is it this one's turn? */
static bool draw(struct event_ration *r, int64_t now_ms)
{
    int64_t gained = r->at_ms != 0 ? (now_ms - r->at_ms) / EVERY_MS : AT_ONCE;

    if (gained > 0) {
        r->left = gained + r->left < AT_ONCE ? r->left + (uint32_t)gained : AT_ONCE;
        r->at_ms = r->left == AT_ONCE ? now_ms : r->at_ms + gained * EVERY_MS;
    }
    if (r->left == 0) {
        r->left_out++;
        return false;
    }
    r->left--;
    return true;
}

static bh_rc host_event(bh_inst *inst, const char *name, const char *text, size_t n)
{
    char own_name[NOTICE_NAME] = "", own[NOTICE_TEXT];
    size_t name_n;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || name == NULL || (text == NULL && n > 0))
        return BH_EINVAL;
    name_n = strnlen(name, sizeof own_name);
    if (name_n == sizeof own_name)
        return BH_EINVAL;
    memcpy(own_name, name, name_n); /* what they point to faults here, if it must */
    if (n > sizeof own - 1)
        n = sizeof own - 1;
    if (n > 0)
        memcpy(own, text, n);
    own[n] = '\0';
    if (!is_name(own_name, name_n))
        return BH_EINVAL;
    if (!host_is_loop())
        return BH_EPHASE;
    if (inst->shm == NULL || inst->worker < 0 || (uint32_t)inst->worker >= inst->shm->n_workers)
        return BH_OK; /* a trial, or a check: nobody looks */
    if (!draw(&inst->events, clock_mono_ms()))
        return BH_EAGAIN;
    if (inst->events.left_out > 0) {
        char more[48];
        int more_n = snprintf(more, sizeof more, " (%u before it were left out)",
                              inst->events.left_out);

        if (n > sizeof own - 1 - (size_t)more_n)
            n = sizeof own - 1 - (size_t)more_n;
        memcpy(own + n, more, (size_t)more_n + 1);
        n += (size_t)more_n;
        inst->events.left_out = 0;
    }
    notice_write(&inst->shm->worker[inst->worker].notices, inst->id, clock_real_ns(), own_name, own,
                 n);
    return BH_OK;
}

void host_fill_events(bh_host *h)
{
    h->event = host_event;
}
