/*
 * death.c - what a worker's death costs the others: until when nobody serves, and how many idle
 * connections are lost.
 *
 * death PORT ROUNDS IDLE opens IDLE connections, each with one request behind it. In each round it
 * asks for /die, which ends the only worker (bench/config/bulkhead-death.yaml), and 100 us later for
 * / on a new connection and on one of the idle ones: until the first is answered nobody serves, until
 * the second is its owner waits. Then it asks for / on all the others. A connection on which no 200
 * comes is lost; another is opened in its place.
 *
 * Prints, tab-separated: median and largest time to an answer on a new connection, in ms; the same
 * for an idle one; connections lost; connections that were idle, in all rounds together. Exit code 1
 * when something did not work, so that there is nothing to print.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_MAX = 1000, IDLE_MAX = 15000, ANSWER_MS = 5000, SETTLE_MS = 250 };

static const char get[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
static const char die[] = "GET /die HTTP/1.1\r\nHost: bench\r\n\r\n";
static struct sockaddr_in server;

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool ask(int fd, const char *request)
{
    size_t n = strlen(request);

    return send(fd, request, n, MSG_NOSIGNAL) == (ssize_t)n;
}

/* Reads the one answer that is due. True: it is a 200. Small ones come in one piece. */
static bool is_answered(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char buf[4096];

    return poll(&p, 1, ANSWER_MS) == 1 && recv(fd, buf, sizeof buf, 0) > 12 &&
           memcmp(buf, "HTTP/1.1 200", 12) == 0;
}

static bool open_one(int *fd)
{
    *fd = dial();
    return *fd >= 0 && ask(*fd, get) && is_answered(*fd);
}

/* How many of them are lost. False: not even new ones can be opened. */
static bool check_all(int *fd, int n, int *lost)
{
    for (int i = 0; i < n; i++)
        (void)ask(fd[i], get); /* a broken one is not answered either */
    for (int i = 0; i < n; i++) {
        if (is_answered(fd[i]))
            continue;
        ++*lost;
        close(fd[i]);
        if (!open_one(&fd[i]))
            return false;
    }
    return true;
}

struct gap {         /* from the request that ends the worker, ms */
    double fresh_ms; /* until a new connection is served */
    double idle_ms;  /* until one is that was idle */
};

static void spin_us(double us)
{
    double until = now_ms() + us / 1000;

    while (now_ms() < until)
        ;
}

/* False: it did not work. */
static bool one_death(int idle, struct gap *gap)
{
    struct pollfd p[2] = {{.fd = -1, .events = POLLIN}, {.fd = idle, .events = POLLIN}};
    double start, *took[2] = {&gap->fresh_ms, &gap->idle_ms};
    int victim;

    if (!open_one(&victim))
        return false;
    start = now_ms();
    if (!ask(victim, die))
        return false;
    spin_us(100);
    p[0].fd = dial();
    if (p[0].fd < 0 || !ask(p[0].fd, get) || !ask(idle, get))
        return false;
    for (int left = 2; left > 0;) {
        if (poll(p, 2, ANSWER_MS) < 1)
            return false;
        for (int i = 0; i < 2; i++) {
            if (p[i].revents == 0)
                continue;
            *took[i] = now_ms() - start;
            if (!is_answered(p[i].fd))
                return false;
            if (i == 0)
                close(p[i].fd);
            p[i].fd = -1;
            left--;
        }
    }
    close(victim);
    return true;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static int fd[IDLE_MAX];
    static double fresh[ROUNDS_MAX], moved[ROUNDS_MAX];
    int rounds, idle, lost = 0;
    struct gap gap;
    struct rlimit files;

    if (argc != 4 || (rounds = atoi(argv[2])) < 1 || rounds > ROUNDS_MAX ||
        (idle = atoi(argv[3])) < 1 || idle > IDLE_MAX) {
        fputs("usage: death PORT ROUNDS IDLE\n", stderr);
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    server = (struct sockaddr_in){.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < idle; i++)
        if (!open_one(&fd[i])) {
            fprintf(stderr, "death: connection %d: no answer\n", i + 1);
            return 1;
        }
    for (int r = 0; r < rounds; r++) {
        struct timespec settle = {0,
                                  SETTLE_MS * 1000000L}; /* the next standby is loaded meanwhile */

        nanosleep(&settle, NULL);
        if (!one_death(fd[0], &gap) || !check_all(fd, idle, &lost)) {
            fprintf(stderr, "death: round %d: nobody serves\n", r + 1);
            return 1;
        }
        fresh[r] = gap.fresh_ms;
        moved[r] = gap.idle_ms;
    }
    qsort(fresh, (size_t)rounds, sizeof fresh[0], ascending);
    qsort(moved, (size_t)rounds, sizeof moved[0], ascending);
    printf("%.2f\t%.2f\t%.2f\t%.2f\t%d\t%d\n", fresh[rounds / 2], fresh[rounds - 1],
           moved[rounds / 2], moved[rounds - 1], lost, rounds * idle);
    return 0;
}
