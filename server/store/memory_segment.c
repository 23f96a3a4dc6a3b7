/*
 * memory_segment.c - making, mapping and handing on the memory store's segment.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/must.h"
#include "store/memory.h"
#include "store/memory_internal.h"

#define PAGE 4096u

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint64_t table_size(uint32_t n_cells)
{
    return round_up(sizeof(struct shard), 64) + round_up(n_cells / 2 * sizeof(uint32_t), 64) +
           n_cells;
}

struct view shard_view(struct segment *seg, uint32_t i)
{
    char *at = (char *)seg + round_up(sizeof *seg, PAGE) + i * seg->shard_size;
    struct view v = {
        .seg = seg, .shard = (void *)at, .n_cells = seg->n_cells, .n_chains = seg->n_chains};

    v.chain = (void *)(at + round_up(sizeof(struct shard), 64));
    v.state = (uint8_t *)v.chain + round_up(v.n_chains * sizeof(uint32_t), 64);
    v.cells = at + seg->shard_size - (uint64_t)seg->n_cells * CELL;
    return v;
}

/* Cells of one shard, in whole blocks of the largest kind. */
static uint32_t count_cells(uint64_t size)
{
    return (uint32_t)(size / MEMORY_SHARDS / BLOCK_MAX * (BLOCK_MAX / CELL));
}

static int make_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;
    int r = pthread_mutexattr_init(&attr);

    if (r == 0)
        r = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    if (r == 0)
        r = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    if (r == 0)
        r = pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return -r;
}

static int fill(struct segment *seg, uint64_t asked, uint64_t size, uint64_t shard_size,
                uint32_t n_cells)
{
    int r;

    seg->layout = MEMORY_LAYOUT;
    seg->n_cells = n_cells;
    seg->n_chains = n_cells / 2;
    seg->size = size;
    seg->asked = asked;
    seg->shard_size = shard_size;
    if (getrandom(seg->key, sizeof seg->key, GRND_NONBLOCK) != (ssize_t)sizeof seg->key)
        seg->key[0] = (uint64_t)clock_mono_ns();
    r = make_lock(&seg->ns_lock);
    for (uint32_t i = 0; r == 0 && i < MEMORY_SHARDS; i++) /* all else of a shard begins as zeros */
        r = make_lock(&shard_view(seg, i).shard->lock);
    seg->magic = MEMORY_MAGIC;
    return r;
}

static int map(int fd, uint64_t size, struct store_memory **out)
{
    struct store_memory *m = malloc(sizeof *m);

    if (m == NULL)
        return -ENOMEM;
    m->fd = fd;
    m->seg = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (m->seg == MAP_FAILED) {
        int r = -errno;

        free(m);
        return r;
    }
    *out = m;
    return 0;
}

int store_memory_create(uint64_t size, struct store_memory **out)
{
    uint32_t n_cells = count_cells(size);
    uint64_t shard_size = round_up(table_size(n_cells), PAGE) + (uint64_t)n_cells * CELL;
    uint64_t all = round_up(sizeof(struct segment), PAGE) + MEMORY_SHARDS * shard_size;
    struct store_memory *m = NULL;
    int fd, r;

    if (size < STORE_MEMORY_MIN || size > STORE_MEMORY_MAX)
        return -EINVAL;
    fd = memfd_create("bulkhead-store", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = ftruncate(fd, (off_t)all) < 0 ? -errno : map(fd, all, &m);
    if (r < 0) {
        close(fd);
        return r;
    }
    must(m != NULL);
    r = fill(m->seg, size, all, shard_size, n_cells);
    if (r < 0) {
        store_memory_destroy(&m);
        return r;
    }
    *out = m;
    return 0;
}

int store_memory_attach(int fd, uint64_t size, struct store_memory **out)
{
    uint32_t n_cells = count_cells(size);
    struct store_memory *m = NULL;
    struct stat st;
    int own, r;

    if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < sizeof(struct segment))
        return -EINVAL;
    own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
        return -errno;
    r = map(own, (uint64_t)st.st_size, &m);
    if (r < 0) {
        close(own);
        return r;
    }
    must(m != NULL);
    if (m->seg->magic != MEMORY_MAGIC || m->seg->layout != MEMORY_LAYOUT || m->seg->asked != size ||
        m->seg->size != (uint64_t)st.st_size || m->seg->n_cells != n_cells) {
        munmap(m->seg, (size_t)st.st_size);
        close(own);
        free(m);
        return -EINVAL;
    }
    *out = m;
    return 0;
}

int store_memory_fd(const struct store_memory *m)
{
    return m->fd;
}

void store_memory_destroy(struct store_memory **mp)
{
    struct store_memory *m = *mp;

    *mp = NULL;
    if (m == NULL)
        return;
    munmap(m->seg, m->seg->size);
    fd_close(&m->fd);
    free(m);
}

void store_memory_stat(struct store_memory *m, struct store_memory_stat *out)
{
    *out = (struct store_memory_stat){
        .size = (uint64_t)m->seg->n_cells * CELL * MEMORY_SHARDS,
        .expired = atomic_load(&m->seg->expired),
        .refused = atomic_load(&m->seg->refused),
        .repaired = atomic_load(&m->seg->repaired),
    };
    for (uint32_t i = 0; i < MEMORY_SHARDS; i++) {
        const struct shard *s = shard_view(m->seg, i).shard;

        out->used += s->used_all; /* plain words: what is read is a moment old, not torn */
        out->entries += s->n_entries;
    }
}
