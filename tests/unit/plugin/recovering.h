/*
 * recovering.h - the recovery boundary inside a cmocka test.
 *
 * cmocka takes the fault signals for itself before each test, so every test that lets something
 * crash begins with recovering_begin().
 */
#ifndef TESTS_UNIT_PLUGIN_RECOVERING_H
#define TESTS_UNIT_PLUGIN_RECOVERING_H

#include <signal.h>
#include <stdint.h>

#include "ipc/shm.h"
#include "plugin/recover.h"

/* Before a function that faults on purpose: the sanitizers are to leave it to the boundary. */
#define FAULTY __attribute__((no_sanitize("address", "undefined"), noinline))

static const int recovering_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
#define RECOVERING_N (sizeof recovering_signals / sizeof recovering_signals[0])

static struct sigaction recovering_action[RECOVERING_N];

/* Once, as a group's set-up. */
static int recovering_set_up(struct shm **out, uint32_t n_plugins)
{
    int r = shm_create(1, n_plugins, out);

    if (r == 0)
        r = recover_init(*out, 0);
    for (size_t i = 0; i < RECOVERING_N; i++)
        sigaction(recovering_signals[i], NULL, &recovering_action[i]);
    return r;
}

/* All crash slots are free again, as if the recorder had taken what was in them, and no call runs. */
__attribute__((unused)) static void recovering_begin(struct shm *shm)
{
    for (size_t i = 0; i < RECOVERING_N; i++)
        sigaction(recovering_signals[i], &recovering_action[i], NULL);
    for (int i = 0; i < SHM_CRASH_SLOTS; i++)
        atomic_store(&shm->worker[0].crash[i].state, SHM_CRASH_FREE);
    for (int i = 0; i < SHM_FOLDS; i++)
        atomic_store(&shm->worker[0].fold[i].fp, 0);
    atomic_store(&shm->worker[0].call.plugin, 0); /* a child that died in a call has left it */
}

/* The only record there is; one in state SHM_CRASH_FREE when there is none, or more. */
__attribute__((unused)) static struct shm_crash *recovering_record(struct shm *shm)
{
    static struct shm_crash none = {.plugin = UINT32_MAX, .hook = UINT32_MAX};
    struct shm_crash *found = &none;

    for (int i = 0; i < SHM_CRASH_SLOTS; i++) {
        struct shm_crash *c = &shm->worker[0].crash[i];

        if (atomic_load(&c->state) == SHM_CRASH_FREE)
            continue;
        if (found != &none)
            return &none;
        found = c;
    }
    return found;
}

#endif
