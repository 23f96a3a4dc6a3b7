#include "master/environment.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "conf/config.h"
#include "obs/log.h"

/* The recorder reads debug information on it; threads get as much, too, and plugins run on them. */
#define STACK_BYTES (1u << 20)

/* In the master: a socket for each listener and worker, besides what is open anyway, and during a reload
 * twice what it has of each worker. */
static rlim_t descriptors_needed(const struct config *cfg)
{
    return 32 + (rlim_t)cfg->n_workers * (8 + (rlim_t)cfg->n_listeners);
}

static int check_stack(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_STACK, &limit) < 0 || limit.rlim_cur >= STACK_BYTES)
        return 0;
    fprintf(stderr,
            "bulkhead: the stack may have %llu KiB here, %u are needed: raise the limit (ulimit -s "
            "8192, or LimitSTACK=8M)\n",
            (unsigned long long)limit.rlim_cur >> 10, STACK_BYTES >> 10);
    return -ENOMEM;
}

void environment_raise_descriptors(const struct config *cfg)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < (1u << 20) ? limit.rlim_max : 1u << 20;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < descriptors_needed(cfg))
        log_warn("a process may have %llu descriptors here, the master needs up to %llu: reloads "
                 "and fresh workers may fail; raise the limit (ulimit -n, or LimitNOFILE)",
                 (unsigned long long)limit.rlim_cur, (unsigned long long)descriptors_needed(cfg));
}

int environment_prepare(void)
{
    /* A file at the limit of RLIMIT_FSIZE is a write that fails, not the end of the server. */
    signal(SIGXFSZ, SIG_IGN);
    /* What the server makes it reads again, whatever the umask: records, folders, private copies. */
    umask(umask(077) & 077);
    return check_stack();
}
