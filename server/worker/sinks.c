#include "worker/sinks.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "conf/config.h"
#include "ipc/shm.h"
#include "plugin/instance.h"
#include "plugin/recover.h"

#define LINE_MAX_BYTES 8000

static struct {
    struct shm *shm;
    struct shm_worker *shared;
} sinks;

static bh_rc host_sink_open(bh_inst *inst, const char *path, uint32_t *sink)
{
    char full[PATH_MAX];
    uint32_t number;
    int r;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || path == NULL || path[0] == '\0')
        return BH_EINVAL;
    if (strcmp(path, "-") == 0 || path[0] == '/')
        r = snprintf(full, sizeof full, "%s", path);
    else
        r = snprintf(full, sizeof full, "%s/%s", inst->config->dir, path);
    if (r < 0 || (size_t)r >= sizeof full)
        return BH_EINVAL;
    r = shm_sink_open(sinks.shm, full, &number);
    if (r < 0)
        return r == -ENOSPC ? BH_ELIMIT : BH_EINVAL;
    *sink = number;
    return BH_OK;
}

/* Room for every byte escaped as \xNN. */
static size_t escape(const char *p, size_t n, char *out, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        if ((c >= 0x20 && c != 0x7f) || c == '\t') {
            if (k + 1 > size)
                break;
            out[k++] = (char)c;
        } else {
            if (k + 4 > size)
                break;
            out[k++] = '\\';
            out[k++] = 'x';
            out[k++] = digits[c >> 4];
            out[k++] = digits[c & 15];
        }
    }
    return k;
}

static bh_rc host_sink_write(bh_inst *inst, uint32_t sink, const char *line, size_t n)
{
    char text[LINE_MAX_BYTES];
    int r;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || line == NULL || sink >= SHM_SINKS)
        return BH_EINVAL;
    n = escape(line, n, text, sizeof text);
    recover_critical_enter(); /* the ring's indices */
    r = shm_ring_write(sinks.shm, sinks.shared, sink, text, n);
    recover_critical_leave();
    return r == 0 ? BH_OK : BH_EAGAIN;
}

void sinks_init(bh_host *h, struct shm *shm, struct shm_worker *shared)
{
    sinks.shm = shm;
    sinks.shared = shared;
    h->sink_open = host_sink_open;
    h->sink_write = host_sink_write;
}
