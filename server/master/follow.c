/*
 * follow.c - when what beside the workers follows a reload: recorder, admin process, exporter, and
 * the worker that stands by.
 *
 * At once, as a rule. Where reloads of plugins follow each other closely, as with a build that
 * writes its objects one by one, they wait until that is over: each of them costs a process.
 * Meanwhile the recorder leaves alone what it does not know (recorder/crashes.c), and a worker that
 * dies is replaced without a standby.
 */
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "master/internal.h"

#define CLOSE_MS 1000 /* a reload so soon after the one before is not alone */
#define CALM_MS  250  /* without another: it is over */
#define LATE_MS  2000 /* after the first of them, in any case */
#define AGAIN_MS 500  /* a signal may come before the process is prepared for it */

static bool are_only_plugins(const struct changes *changes)
{
    for (int i = 0; i < changes->n; i++)
        if (changes->item[i].how != CHANGE_WORKERS ||
            strncmp(changes->item[i].path, "plugins.", 8) != 0)
            return false;
    return !changes->is_cut;
}

static bool is_behind(const struct master *m, const struct child *c)
{
    return child_is_alive(c) && c->gen != m->generation;
}

void follow_commit(struct master *m)
{
    struct follow *f = &m->follow;
    int64_t now = clock_mono_ms();

    f->told_ms = 0;
    if (f->commit_ms == 0 || now - f->commit_ms >= CLOSE_MS)
        f->first_ms = now;
    f->is_patient = f->first_ms != now && are_only_plugins(&m->reload.changes);
    f->commit_ms = now;
    follow_tick(m, now);
}

bool follow_is_due(const struct master *m, int64_t now_ms)
{
    const struct follow *f = &m->follow;

    return !f->is_patient || now_ms - f->first_ms >= LATE_MS ||
           (now_ms - f->commit_ms >= CALM_MS && m->reload.state == RELOAD_IDLE);
}

void follow_tick(struct master *m, int64_t now_ms)
{
    struct child *helper[] = {&m->recorder, &m->admin_child, &m->exporter};
    bool is_one_told = false;

    if (!follow_is_due(m, now_ms) ||
        (m->follow.told_ms != 0 && now_ms - m->follow.told_ms < AGAIN_MS))
        return;
    for (int i = 0; i < 3; i++)
        if (is_behind(m, helper[i])) {
            child_kill(helper[i], SIGUSR2);
            is_one_told = true;
        }
    if (is_one_told)
        m->follow.told_ms = now_ms;
    if (m->follow.is_patient)
        m->follow.first_ms = now_ms; /* the next of the series waits again */
    m->follow.is_patient = false;
}

int64_t follow_next_ms(const struct master *m)
{
    const struct follow *f = &m->follow;

    return !f->is_patient                   ? INT64_MAX
           : m->reload.state == RELOAD_IDLE ? f->commit_ms + CALM_MS
                                            : f->first_ms + LATE_MS;
}
