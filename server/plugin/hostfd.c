#include "plugin/hostfd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/recover.h"
#include "plugin/text.h"

#define MAX_FD (1 << 20) /* 128 KiB of which only what is used becomes memory */
#define BITS   64

static struct {
    const struct config *cfg;
    struct shm *shm;
    pid_t pid;
    _Atomic uint64_t bits[MAX_FD / BITS];
    _Atomic int n_words; /* those from there on are 0, and most of their pages never touched */
    _Atomic uint32_t last_seq; /* of the call that was charged last */
    _Atomic int64_t told_ms;
} table;

static bool is_in_table(int fd)
{
    return fd >= 0 && fd < MAX_FD;
}

void hostfd_add(int fd)
{
    int n = atomic_load_explicit(&table.n_words, memory_order_relaxed);

    if (!is_in_table(fd))
        return;
    while (n <= fd / BITS && !atomic_compare_exchange_weak(&table.n_words, &n, fd / BITS + 1))
        continue;
    atomic_fetch_or(&table.bits[fd / BITS], UINT64_C(1) << fd % BITS);
}

void hostfd_remove(int fd)
{
    if (is_in_table(fd))
        atomic_fetch_and(&table.bits[fd / BITS], ~(UINT64_C(1) << fd % BITS));
}

bool hostfd_has(int fd)
{
    return is_in_table(fd) && (atomic_load_explicit(&table.bits[fd / BITS], memory_order_relaxed) &
                               UINT64_C(1) << fd % BITS) != 0;
}

int hostfd_next(int from)
{
    int end = atomic_load(&table.n_words) * BITS;

    for (int fd = from < 0 ? 0 : from; fd < end; fd++) {
        if (fd % BITS == 0 && atomic_load(&table.bits[fd / BITS]) == 0)
            fd += BITS - 1;
        else if (hostfd_has(fd))
            return fd;
    }
    return -1;
}

/* Without /proc the low numbers have to do: the host has opened few so far. */
static void add_low_ones(void)
{
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            hostfd_add(fd);
}

void hostfd_init(const struct config *cfg, struct shm *shm)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *e;

    table.cfg = cfg;
    table.shm = shm;
    table.pid = getpid();
    for (int i = 0; i < atomic_load(&table.n_words); i++) /* of the process that forked this one */
        if (atomic_load(&table.bits[i]) != 0)
            atomic_store(&table.bits[i], 0);
    if (dir == NULL) {
        add_low_ones();
        return;
    }
    while ((e = readdir(dir)) != NULL)
        if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(dir))
            hostfd_add(atoi(e->d_name));
    closedir(dir);
}

bool hostfd_is_guarded(const void *caller)
{
    const struct recover_thread *t = &recover_self;

    /* A child may close what it likes before it calls exec(); vfork() shares our memory. */
    if (t->is_child_of_fork)
        return false;
    /* Published without being armed: constructors of an object. */
    return (recover_is_armed() || (t->call != NULL && atomic_load(&t->call->plugin) != 0) ||
            text_owner((uintptr_t)caller) != 0) &&
           getpid() == table.pid;
}

void hostfd_note(const char *function, int fd, const void *caller)
{
    const struct shm_call *call = recover_self.call;
    uint32_t plugin = call != NULL ? atomic_load(&call->plugin) : 0;
    uint32_t seq = plugin != 0 ? atomic_load(&call->seq) : 0;
    int64_t now = clock_mono_ms(), told = atomic_load(&table.told_ms);
    char path[40], what[128];
    ssize_t n;

    if (plugin == 0)
        plugin = text_owner((uintptr_t)caller);
    if (seq != 0 && atomic_exchange(&table.last_seq, seq) == seq)
        return; /* another one of the same call: a loop over all numbers, say */
    if (plugin == 0 || plugin > table.shm->n_plugins)
        return;
    atomic_fetch_add(&table.shm->plugin[plugin - 1].failures, 1);
    if ((told != 0 && now - told < 1000) ||
        !atomic_compare_exchange_strong(&table.told_ms, &told, now))
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    n = readlink(path, what, sizeof what - 1);
    what[n > 0 ? n : 0] = '\0';
    log_error(
        "plugin '%s' calls %s on descriptor %d%s%s%s, which is the server's: refused (EBADF), as are "
        "all others of the server's",
        table.cfg->plugin[plugin - 1].name, function, fd, n > 0 ? " (" : "", what,
        n > 0 ? ")" : "");
}
