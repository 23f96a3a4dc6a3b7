/*
 * keep.c - corrected time less the monotonic clock: the same for all processes of a machine, until it
 * is booted. A store may be shared by machines, so the key has the boot's id in it.
 */
#include "keep.h"

#include <fcntl.h>
#include <unistd.h>

#define VERSION 1
#define TTL_MS  (24u * 3600 * 1000)

struct kept {
    int32_t version, state;
    int64_t base_ns, error_ns, changed_ns;
    int32_t stratum, unused;
};

/* "clock/BOOT ID"; absent when there is none. */
static bh_str key(char buf[64])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    char id[64] = "";
    ssize_t n = fd >= 0 ? read(fd, id, sizeof id - 1) : -1;

    if (fd >= 0)
        close(fd);
    snprintf(buf, 64, "clock/%.36s", id);
    return n >= 36 ? bh_s(buf) : bh_sn(NULL, 0);
}

void keep_save(bh_inst *inst, const struct rules *r)
{
    const struct kept kept = {.version = VERSION,
                              .state = r->state,
                              .base_ns = r->base_ns,
                              .error_ns = r->error_ns,
                              .changed_ns = r->changed_ns,
                              .stratum = r->stratum};
    char buf[64];
    bh_str k = key(buf);

    if (k.p != NULL)
        (void)bh_kv_set(inst, k, &kept, sizeof kept, TTL_MS); /* it is of use, not needed */
}

void keep_load(bh_inst *inst, struct rules *r, int64_t real_ns, int64_t mono_ns)
{
    struct kept kept;
    size_t n = sizeof kept;
    char buf[64];
    bh_str k = key(buf);

    if (k.p == NULL || bh_kv_get(inst, k, &kept, &n, NULL) != BH_OK || n != sizeof kept ||
        kept.version != VERSION || kept.changed_ns > mono_ns ||
        (kept.state != SYNC_SYNCED && kept.state != SYNC_COMPENSATING))
        return;
    r->state = (enum sync_state)kept.state;
    r->base_ns = kept.base_ns;
    r->error_ns = kept.error_ns;
    r->changed_ns = kept.changed_ns;
    r->stratum = kept.stratum;
    r->offset_ns = kept.base_ns + mono_ns - real_ns;
}
