#include "recorder/sinks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/shm.h"
#include "obs/log.h"

#define BATCH_SIZE  (SHM_LINE_MAX + 1 + (64u << 10))
#define PATIENCE_MS 1000 /* with a pipe whose reader does not read */

struct sink {
    int fd; /* 0: not open; standard input is never a sink */
    bool is_failing;
    bool is_torn; /* the last write stopped within a line */
    bool is_file;
    uint64_t lost; /* lines, since it began to fail */
    char path[PATH_MAX];
    size_t n;
    char batch[BATCH_SIZE]; /* whole lines */
};

static struct sink sinks[SHM_SINKS]; /* pages that are not used are not there */
static uint32_t n_sinks; /* up to the last one that is used: the others are not even looked at */

static void fail(struct sink *s, int error)
{
    for (size_t i = 0; i < s->n; i++)
        s->lost += s->batch[i] == '\n';
    if (!s->is_failing)
        log_error("access log %s: %s; its lines are lost until this ends", s->path,
                  strerror(error));
    s->is_failing = true;
}

static bool open_sink(struct sink *s)
{
    struct stat st;

    if (s->fd > 0)
        return true;
    if (strcmp(s->path, "-") == 0)
        s->fd = STDOUT_FILENO;
    else
        s->fd = open(s->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                     0640);
    if (s->fd < 0) {
        s->fd = 0;
        return false;
    }
    s->is_file = fstat(s->fd, &st) == 0 && S_ISREG(st.st_mode);
    return true;
}

static void close_sink(struct sink *s)
{
    if (s->fd > 0 && s->fd != STDOUT_FILENO)
        close(s->fd);
    s->fd = 0;
}

static bool has_room(const struct sink *s, int patience_ms)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};

    return s->is_file || poll(&p, 1, patience_ms) != 0;
}

/* 0 or -errno; never waits for long. */
static int write_batch(struct sink *s)
{
    size_t done = 0;

    if (s->is_torn && has_room(s, 0) && write(s->fd, "\n", 1) == 1)
        s->is_torn = false;
    while (done < s->n) {
        size_t n = s->n - done;
        ssize_t w;

        if (!s->is_file) /* what poll() promises of a pipe is room for PIPE_BUF bytes */
            n = n < PIPE_BUF ? n : PIPE_BUF;
        if (!has_room(s, s->is_failing ? 0 : PATIENCE_MS)) {
            s->is_torn = s->is_torn || (done > 0 && s->batch[done - 1] != '\n');
            return -ETIMEDOUT;
        }
        w = write(s->fd, s->batch + done, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0) {
            s->is_torn = done > 0 && s->batch[done - 1] != '\n';
            return -errno;
        }
        done += (size_t)w;
    }
    return 0;
}

static void flush(struct sink *s)
{
    int r;

    if (s->n == 0)
        return;
    r = open_sink(s) ? write_batch(s) : -errno;
    if (r < 0) {
        fail(s, -r);
    } else if (s->is_failing) {
        log_warn("access log %s: is written again; about %" PRIu64 " lines were lost", s->path,
                 s->lost);
        s->is_failing = false;
        s->lost = 0;
    }
    s->n = 0;
}

/* The path is read once: what a worker writes there later does not move the log. */
static bool is_registered(const struct shm *shm, uint32_t sink)
{
    struct sink *s = &sinks[sink];

    if (s->path[0] != '\0')
        return true;
    if (atomic_load(&shm->sink[sink].state) != SHM_SINK_READY)
        return false;
    memcpy(s->path, shm->sink[sink].path, sizeof s->path - 1);
    return s->path[0] != '\0';
}

void sinks_put(const struct shm *shm, uint32_t sink, const char *line, size_t n)
{
    struct sink *s;

    if (sink >= SHM_SINKS || !is_registered(shm, sink))
        return;
    s = &sinks[sink];
    if (sink >= n_sinks)
        n_sinks = sink + 1;
    if (n + 1 > sizeof s->batch - s->n)
        flush(s);
    memcpy(s->batch + s->n, line, n);
    s->batch[s->n + n] = '\n';
    s->n += n + 1;
}

void sinks_flush(void)
{
    for (uint32_t i = 0; i < n_sinks; i++)
        flush(&sinks[i]);
}

void sinks_reopen(void)
{
    for (uint32_t i = 0; i < n_sinks; i++) {
        flush(&sinks[i]);
        close_sink(&sinks[i]);
    }
}
