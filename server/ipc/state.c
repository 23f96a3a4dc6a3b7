#include "ipc/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define MAGIC 0x74736862u /* "bhst" */

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

int state_create(void)
{
    int fd = memfd_create("bulkhead-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    return fd < 0 ? -errno : fd;
}

int state_put(int fd, const char *name, uint32_t version, const void *p, size_t n)
{
    struct state_record record = {.magic = MAGIC, .version = version, .len = (uint32_t)n};
    static const char zeros[8];
    struct stat st;
    int r;

    if (strlen(name) >= sizeof record.name)
        return -ENAMETOOLONG;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (n > STATE_MAX || (size_t)st.st_size + sizeof record + padded(n) > STATE_MAX)
        return -ENOSPC;
    memcpy(record.name, name, strlen(name) + 1);
    r = fd_write_all(fd, &record, sizeof record);
    if (r == 0)
        r = fd_write_all(fd, p, n);
    if (r == 0)
        r = fd_write_all(fd, zeros, padded(n) - n);
    return r;
}

int state_map(int fd, const char **out, size_t *size)
{
    struct stat st;
    void *p;

    /* The writer still has it: nothing may change under the reader's hands any more. Fails when it has
     * it mapped to write. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size == 0 || st.st_size > (off_t)STATE_MAX)
        return st.st_size == 0 ? -ENODATA : -EFBIG;
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *out = p;
    *size = (size_t)st.st_size;
    return 0;
}

const struct state_record *state_find(const char *map, size_t size, const char *name,
                                      const void **bytes)
{
    size_t at = 0;

    while (size - at >= sizeof(struct state_record)) {
        const struct state_record *r = (const void *)(map + at);

        if (r->magic != MAGIC || memchr(r->name, '\0', sizeof r->name) == NULL ||
            padded(r->len) > size - at - sizeof *r)
            return NULL;
        if (strcmp(r->name, name) == 0) {
            *bytes = map + at + sizeof *r;
            return r;
        }
        at += sizeof *r + padded(r->len);
    }
    return NULL;
}
