#include "ipc/shm.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/must.h"

#define RING_HEADER 4 /* uint16_t len, uint16_t sink */
#define TABLES_MAX  (512u << 20)

_Static_assert((SHM_RING_SIZE & (SHM_RING_SIZE - 1)) == 0, "positions are taken modulo the size");
_Static_assert(SHM_LINE_MAX <= UINT16_MAX, "a record's length is 16 bits");

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

/* As many connections as a worker can have descriptors, but for all workers together less than would
 * trouble the preflight's limit of memory. */
static uint32_t count_fds(uint32_t n_workers)
{
    uint32_t most = TABLES_MAX / sizeof(struct shm_conn) / (n_workers > 0 ? n_workers : 1);
    struct rlimit limit;

    if (most > SHM_FDS)
        most = SHM_FDS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < most)
        most = (uint32_t)limit.rlim_cur;
    return most;
}

int shm_create(uint32_t n_workers, uint32_t n_plugins, struct shm **out)
{
    size_t at_plugins = round_up(sizeof(struct shm), 64), at_workers, at_handover, at_admin, size;
    uint32_t n_fds = count_fds(n_workers);
    size_t handover_size = round_up(n_fds * sizeof(struct shm_conn), SHM_PAGE) + SHM_REPLAY_SIZE;
    struct shm *shm;
    int fd;

    if (n_workers > 4096 || n_plugins > 65536)
        return -EINVAL;
    at_workers = round_up(at_plugins + n_plugins * sizeof(struct shm_plugin), SHM_PAGE);
    at_handover = round_up(at_workers + n_workers * sizeof(struct shm_worker), SHM_PAGE);
    at_admin = round_up(at_handover + n_workers * handover_size, SHM_PAGE);
    size = at_admin + round_up(sizeof(struct shm_admin), SHM_PAGE);

    fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    /* Zero pages until touched: most of it, the crash slots and replay areas, usually never is. */
    shm = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1,
               0);
    if (shm == MAP_FAILED) {
        int r = -errno;

        close(fd);
        return r;
    }
    shm->size = size;
    shm->n_workers = n_workers;
    shm->n_plugins = n_plugins;
    shm->wake_fd = fd;
    shm->plugin = (void *)((char *)shm + at_plugins);
    shm->worker = (void *)((char *)shm + at_workers);
    shm->n_fds = n_fds;
    shm->handover_size = handover_size;
    shm->handover = (char *)shm + at_handover;
    shm->admin = (void *)((char *)shm + at_admin);
    if (getrandom(shm->tally_key, sizeof shm->tally_key, GRND_NONBLOCK) !=
        (ssize_t)sizeof shm->tally_key)
        shm->tally_key[0] = (uint64_t)clock_mono_ns() ^ (uint64_t)(uintptr_t)shm;
    for (uint32_t i = 0; i < n_workers; i++)
        atomic_store(&shm->worker[i].call.fd, -1);
    if (mprotect(shm, offsetof(struct shm, asleep), PROT_READ) < 0) {
        int r = -errno;

        shm_destroy(&shm);
        return r;
    }
    *out = shm;
    return 0;
}

void shm_destroy(struct shm **shmp)
{
    struct shm *shm = *shmp;

    if (shm == NULL)
        return;
    *shmp = NULL;
    close(shm->wake_fd);
    munmap(shm, shm->size);
}

/*
 * Only the recorder clears `asleep`. Were it exchanged for 0 here, a worker killed between that and
 * the write would leave a recorder that sleeps and that nobody wakes. The price: until it has got
 * up, each line costs one write.
 */
static void wake(const struct shm *shm)
{
    static const uint64_t one = 1;
    int saved = errno;
    ssize_t n = write(shm->wake_fd, &one, sizeof one);

    (void)n; /* EAGAIN: it was woken 2^64 times; anything else cannot be helped */
    errno = saved;
}

void shm_kick(struct shm *shm)
{
    if (atomic_load(&shm->asleep) == SHM_ASLEEP)
        wake(shm);
}

void shm_forget_conns(struct shm *shm, uint32_t slot)
{
    char *area = shm->handover + slot * shm->handover_size;
    uint32_t end;

    must(slot < shm->n_workers);
    end = atomic_exchange(&shm->worker[slot].fds_end, 0);
    for (uint32_t fd = 0; fd < end && fd < shm->n_fds; fd++)
        tally_drop(&shm->tally, atomic_exchange(&shm_conn(shm, slot, (int)fd)->seat, 0));
    if (madvise(area, shm->handover_size, MADV_REMOVE) < 0)
        memset(area, 0, shm->handover_size);
}

const char *shm_limit_name(enum shm_limit limit)
{
    static const char *const names[SHM_LIMITS] = {
        [SHM_LIMIT_SILENT] = "no_request",
        [SHM_LIMIT_HEAD] = "head_timeout",
        [SHM_LIMIT_BODY] = "body_too_slow",
        [SHM_LIMIT_SEND] = "reader_too_slow",
        [SHM_LIMIT_IDLE] = "idle",
        [SHM_LIMIT_HANDSHAKE] = "tls_handshake_timeout",
        [SHM_LIMIT_EVICTED] = "closed_when_full",
        [SHM_LIMIT_FULL] = "connections",
        [SHM_LIMIT_PER_IP] = "per_ip",
        [SHM_LIMIT_PROXY] = "bad_proxy_header",
        [SHM_LIMIT_UNTRUSTED] = "untrusted_proxy",
    };

    must(limit < SHM_LIMITS);
    return names[limit];
}

/* ---- sinks ---- */

/* A worker that claims a sink is a memcpy away from having it ready, unless it died there. */
static uint32_t settled_state(struct shm_sink *sink)
{
    uint32_t state;

    for (int i = 0; (state = atomic_load(&sink->state)) == SHM_SINK_CLAIMED && i < 1000; i++)
        sched_yield();
    return state;
}

int shm_sink_open(struct shm *shm, const char *path, uint32_t *out)
{
    size_t n = strlen(path);

    if (n >= sizeof shm->sink[0].path)
        return -ENAMETOOLONG;
    for (uint32_t i = 0; i < SHM_SINKS; i++) {
        struct shm_sink *sink = &shm->sink[i];
        uint32_t state = SHM_SINK_FREE;

        if (atomic_compare_exchange_strong(&sink->state, &state, SHM_SINK_CLAIMED)) {
            memcpy(sink->path, path, n + 1);
            atomic_store(&sink->state, SHM_SINK_READY);
        } else if (settled_state(sink) != SHM_SINK_READY ||
                   strncmp(sink->path, path, sizeof sink->path) != 0) {
            continue;
        }
        *out = i;
        return 0;
    }
    return -ENOSPC;
}

/* ---- rings ---- */

static void ring_put(struct shm_ring *ring, uint64_t at, const void *p, size_t n)
{
    size_t pos = at & (SHM_RING_SIZE - 1);
    size_t first = n < SHM_RING_SIZE - pos ? n : SHM_RING_SIZE - pos;

    memcpy(ring->data + pos, p, first);
    memcpy(ring->data, (const char *)p + first, n - first);
}

static void ring_get(const struct shm_ring *ring, uint64_t at, void *p, size_t n)
{
    size_t pos = at & (SHM_RING_SIZE - 1);
    size_t first = n < SHM_RING_SIZE - pos ? n : SHM_RING_SIZE - pos;

    memcpy(p, ring->data + pos, first);
    memcpy((char *)p + first, ring->data, n - first);
}

int shm_ring_append(struct shm_ring *ring, uint32_t tag, const char *p, size_t n)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t used = head - atomic_load_explicit(&ring->tail, memory_order_acquire);
    uint16_t header[2];

    must(n <= SHM_LINE_MAX);
    /* The first test is for a tail that somebody scribbled on; the reader sets it right. */
    if (used > SHM_RING_SIZE || SHM_RING_SIZE - used < RING_HEADER + n) {
        atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
        return -EAGAIN;
    }
    header[0] = (uint16_t)n;
    header[1] = (uint16_t)tag;
    ring_put(ring, head, header, RING_HEADER);
    ring_put(ring, head + RING_HEADER, p, n);
    /* Whoever dies before this line has written nothing. Sequentially consistent because of the
     * recorder, which says that it is asleep and then looks at head once more. */
    atomic_store(&ring->head, head + RING_HEADER + n);
    return used > SHM_RING_SIZE / 2;
}

int shm_ring_write(struct shm *shm, struct shm_worker *w, uint32_t sink, const char *p, size_t n)
{
    uint32_t asleep;
    int r;

    must(sink < SHM_SINKS);
    r = shm_ring_append(&w->ring, sink, p, n < SHM_LINE_MAX ? n : SHM_LINE_MAX);
    asleep = atomic_load(&shm->asleep);
    if (asleep == SHM_ASLEEP || (asleep == SHM_NAPPING && r != 0))
        wake(shm);
    return r < 0 ? r : 0;
}

ssize_t shm_ring_read(struct shm_ring *ring, uint32_t *sink, char *buf)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load(&ring->head);
    uint64_t used = head - tail;
    uint16_t header[2];

    if (used == 0)
        return -EAGAIN;
    if (used < RING_HEADER || used > SHM_RING_SIZE)
        goto bad;
    ring_get(ring, tail, header, RING_HEADER);
    if (header[0] > used - RING_HEADER)
        goto bad;
    ring_get(ring, tail + RING_HEADER, buf, header[0]);
    atomic_store_explicit(&ring->tail, tail + RING_HEADER + header[0], memory_order_release);
    *sink = header[1];
    return header[0];

bad:
    atomic_store_explicit(&ring->tail, head, memory_order_release);
    return -EBADMSG;
}
