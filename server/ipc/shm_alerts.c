/*
 * shm_alerts.c - alerts and their receivers in shared memory: one writer, and readers who see an entry
 * as a whole or not at all.
 *
 * Each entry begins with its sequence number, odd while it is written.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/must.h"
#include "ipc/shm.h"

static bool read_whole(const _Atomic uint32_t *entry, void *out, size_t n)
{
    for (int tries = 0; tries < 100; tries++) {
        uint32_t seq = atomic_load_explicit(entry, memory_order_acquire);

        if ((seq & 1) != 0)
            continue;
        memcpy(out, (const void *)entry, n);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(entry, memory_order_relaxed) == seq)
            return true;
    }
    return false;
}

static void write_whole(_Atomic uint32_t *entry, const void *is, size_t n)
{
    uint32_t seq = atomic_load_explicit(entry, memory_order_relaxed) | 1;

    atomic_store_explicit(entry, seq, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    memcpy((char *)entry + sizeof *entry, (const char *)is + sizeof *entry, n - sizeof *entry);
    atomic_store_explicit(entry, seq + 1, memory_order_release);
}

bool shm_alert_read(const struct shm *shm, uint32_t i, struct shm_alert *out)
{
    must(i < SHM_ALERTS);
    if (!read_whole(&shm->alert[i].seq, out, sizeof *out))
        return false;
    out->rule[sizeof out->rule - 1] = out->labels[sizeof out->labels - 1] = '\0';
    return out->state > ALERT_NONE && out->state <= ALERT_RESOLVED;
}

void shm_alert_write(struct shm *shm, uint32_t i, const struct shm_alert *is)
{
    must(i < SHM_ALERTS);
    write_whole(&shm->alert[i].seq, is, sizeof *is);
}

bool shm_receiver_read(const struct shm *shm, uint32_t i, struct shm_receiver *out)
{
    must(i < SHM_RECEIVERS);
    if (!read_whole(&shm->receiver[i].seq, out, sizeof *out))
        return false;
    out->name[sizeof out->name - 1] = out->trouble[sizeof out->trouble - 1] = '\0';
    return out->name[0] != '\0';
}

void shm_receiver_write(struct shm *shm, uint32_t i, const struct shm_receiver *is)
{
    must(i < SHM_RECEIVERS);
    write_whole(&shm->receiver[i].seq, is, sizeof *is);
}
