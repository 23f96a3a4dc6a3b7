/*
 * hoard.c - allocates, leaks, crashes and opens descriptors, as the request wants.
 *
 * ?leak=BYTES keeps that much (written to), ?text=1 what strdup() and asprintf() made, &crash=1 then
 * crashes; ?static=1 leaves a pointer to it in a static variable, ?use=1 reads through that one.
 * ?fds=N opens N descriptors of all kinds and keeps them, ?close=N closes as many again. ?job=1 does the
 * leaking in an offloaded job, ?bend=1 ruins libc's allocator. Answers 200, or 507 when it was refused.
 */
#define _GNU_SOURCE
#include <bulkhead.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct hoard {
    int fd[4096];
    int n;
};

struct job {
    size_t bytes;
    int crash;
};

static char *kept;
static int *volatile nowhere;
static volatile char sink;

static bh_rc open_instance(bh_inst *inst, const void *cfg, void **self)
{
    (void)inst, (void)cfg;
    *self = calloc(1, sizeof(struct hoard));
    return *self != NULL ? BH_OK : BH_ENOMEM;
}

static void close_instance(void *self)
{
    struct hoard *h = self;

    while (h->n > 0)
        close(h->fd[--h->n]);
    free(h);
}

static size_t number(bh_req *req, const char *name)
{
    bh_str v = bh_query(req, name);

    return v.p != NULL ? (size_t)strtoull(v.p, NULL, 10) : 0;
}

/* One of each kind in turn; -1: refused. */
static int open_one(int i)
{
    int two[2];

    switch (i % 8) {
    case 0: return open("/dev/null", O_RDONLY | O_CLOEXEC);
    case 1: return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    case 2: return dup(2);
    case 3: return eventfd(0, EFD_CLOEXEC);
    case 4: return epoll_create1(EPOLL_CLOEXEC);
    case 5: return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    case 6: return memfd_create("hoard", MFD_CLOEXEC);
    default:
        if (pipe2(two, O_CLOEXEC) < 0)
            return -1;
        close(two[0]);
        return two[1];
    }
}

static int open_some(struct hoard *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int fd = open_one((int)i);

        if (fd < 0 || h->n == 4096)
            return -1;
        h->fd[h->n++] = fd;
    }
    return 0;
}

static int leak(size_t n)
{
    char *p = malloc(n);

    if (p == NULL)
        return -1;
    memset(p, 1, n);
    sink = p[n / 2];
    return 0;
}

static int32_t leak_in_job(void *arg)
{
    const struct job *job = arg;

    leak(job->bytes);
    if (job->crash)
        *nowhere = 1;
    return BH_CONTINUE;
}

static void bend_libcs(void)
{
    uintptr_t *volatile a = malloc(72);
    uintptr_t *volatile b = malloc(72);

    free(a);
    free(b);
    *(volatile uintptr_t *)b = ((uintptr_t)b >> 12) ^ 0x10; /* NOLINT */
    for (int i = 0; i < 3; i++)
        sink = *(volatile char *)malloc(72);
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    struct hoard *h = self;
    size_t n = number(req, "leak"), fds = number(req, "fds"), i;
    int r = 0;
    char *p;

    (void)ctx;
    if (number(req, "use"))
        sink = kept != NULL ? *kept : 0;
    if (number(req, "bend"))
        bend_libcs();
    if (number(req, "job")) {
        struct job *job = malloc(sizeof *job);

        *job = (struct job){n, (int)number(req, "crash")};
        return bh_offload(req, leak_in_job, job);
    }
    if (n > 0)
        r = leak(n);
    if (number(req, "text") && (strdup("some text") == NULL || asprintf(&p, "%d", 42) < 0))
        r = -1;
    if (number(req, "static"))
        kept = malloc(100);
    if (fds > 0)
        r = open_some(h, fds);
    for (i = number(req, "close"); i > 0 && h->n > 0; i--)
        close(h->fd[--h->n]);
    if (number(req, "crash"))
        *nowhere = 1;
    return bh_reply(req, r == 0 ? 200 : 507, "text/plain", r == 0 ? "ok\n" : strerror(errno));
}

BH_PLUGIN("hoard", "1.0.0", .summary = "Leaks what the request says", .open = open_instance,
          .close = close_instance, .on_request = on_request)
