/*
 * rate.c - requests at a constant rate, below what the server can do.
 *
 * rate [-s] PORT CONNECTIONS PER_SECOND SECONDS [PID SIGNALS] asks for / on kept-alive connections. Request
 * number i is due at start + i / PER_SECOND, whatever became of those before, and its time counts from
 * then: one that had to wait for a free connection, because the server held up the others, waited. (A
 * generator that sends the next request when the last was answered leaves out just those that a pause
 * would have hit. wrk and `hey -q` do so; `h2load --rps` sends on time, but counts from the sending
 * and prints no percentiles.) It never sleeps, so it should have a CPU of its own; with -s it does,
 * until the next request is due, for machines where it shares one: then it should have a priority that
 * wakes it at once (chrt -f 1), or its own delays are counted, too.
 *
 * With PID it sends that process SIGHUP so many times, evenly over the time, and from in here, since a
 * shell that starts a `sleep` for each would load the machine with more than what is measured.
 *
 * Prints, tab-separated: requests answered with 200; requests lost (another answer, or none);
 * connections that the server closed between two requests; median, p99, p99.9 and longest time in us;
 * requests that took longer than 1 ms, in per mille. Exit code 1 when it could not measure.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, PATIENCE_MS = 5000 };

static const char get[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
static struct sockaddr_in server;

static struct conn {
    int fd;
    bool is_busy;
    int64_t due_ns;
    char answer[4096];
    size_t n;
} conn[CONNECTIONS_MAX];

static int idle[CONNECTIONS_MAX], n_conns, n_idle, first_idle; /* a ring: each has its turn */
static int epoll_fd;
static uint32_t *took_ns;
static size_t n_took, n_lost, n_closed;
static bool may_sleep;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void rest(int i)
{
    conn[i].is_busy = false;
    idle[(first_idle + n_idle++) % n_conns] = i;
}

static bool dial(int i)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = (uint32_t)i};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
        fprintf(stderr, "rate: cannot connect: %s\n", strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    conn[i].fd = fd;
    conn[i].n = 0;
    return true;
}

/* The server has closed it, or it is of no more use. It is in the ring, if it was idle. */
static bool replace(int i)
{
    n_lost += conn[i].is_busy;
    n_closed += !conn[i].is_busy;
    close(conn[i].fd);
    if (!dial(i))
        return false;
    if (conn[i].is_busy)
        rest(i);
    return true;
}

/* 0: not all of it is there yet; 1: 200; -1: another, or none that we understand. */
static int judge(struct conn *c)
{
    const char *end, *length;

    c->answer[c->n] = '\0';
    end = strstr(c->answer, "\r\n\r\n");
    if (end == NULL)
        return c->n < sizeof c->answer - 1 ? 0 : -1;
    length = strcasestr(c->answer, "\r\nContent-Length: ");
    if (strncmp(c->answer, "HTTP/1.1 200 ", 13) != 0 || length == NULL || length > end)
        return -1;
    return c->n >= (size_t)(end + 4 - c->answer) + strtoul(length + 18, NULL, 10);
}

static bool receive(int i)
{
    struct conn *c = &conn[i];
    ssize_t n = recv(c->fd, c->answer + c->n, sizeof c->answer - 1 - c->n, MSG_DONTWAIT);
    int r;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0 || !c->is_busy)
        return replace(i);
    c->n += (size_t)n;
    r = judge(c);
    if (r < 0)
        return replace(i);
    if (r > 0) {
        int64_t ns = now_ns() - c->due_ns;

        took_ns[n_took++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
        c->n = 0;
        rest(i);
    }
    return true;
}

static bool send_one(int64_t due_ns)
{
    int i = idle[first_idle];
    struct conn *c = &conn[i];

    first_idle = (first_idle + 1) % n_conns;
    n_idle--;
    c->is_busy = true;
    c->due_ns = due_ns;
    if (send(c->fd, get, sizeof get - 1, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof get - 1)
        return replace(i); /* it was closed just then */
    return true;
}

/* Takes what has come; may_sleep: waits for that till then. */
static bool turn(int64_t until_ns)
{
    int64_t left_ns = may_sleep ? until_ns - now_ns() : 0;
    struct timespec left = {left_ns / 1000000000, left_ns % 1000000000};
    struct epoll_event ev[64];
    int n = left_ns > 0 ? epoll_pwait2(epoll_fd, ev, 64, &left, NULL)
                        : epoll_wait(epoll_fd, ev, 64, 0);

    for (int i = 0; i < n; i++)
        if (!receive((int)ev[i].data.u32))
            return false;
    return true;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool run(double per_second, double seconds, pid_t pid, int n_signals)
{
    size_t n = (size_t)(per_second * seconds), sent = 0;
    int64_t start = now_ns(), end = start + (int64_t)(seconds * 1e9), now;
    int64_t last = end + PATIENCE_MS * INT64_C(1000000);
    int n_sent_signals = 0;

    while (sent < n || n_idle < n_conns) {
        int64_t due = last, signal_due = last;

        now = now_ns();
        if (now > last)
            break;
        while (sent < n && n_idle > 0) {
            due = start + (int64_t)((double)sent * 1e9 / per_second);
            if (due > now)
                break;
            if (!send_one(due))
                return false;
            sent++;
            due = last;
        }
        if (n_sent_signals < n_signals)
            signal_due = start + (int64_t)((n_sent_signals + 0.5) * seconds / n_signals * 1e9);
        if (now >= signal_due && n_sent_signals < n_signals) {
            if (kill(pid, SIGHUP) < 0) {
                fprintf(stderr, "rate: cannot signal %d: %s\n", (int)pid, strerror(errno));
                return false;
            }
            n_sent_signals++;
            continue;
        }
        if (!turn(sooner(due, signal_due)))
            return false;
    }
    n_lost += (size_t)(n_conns - n_idle) + (n - sent); /* never answered, never sent */
    return true;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double at_us(double share)
{
    return took_ns[(size_t)((double)(n_took - 1) * share)] / 1e3;
}

static void print(void)
{
    size_t n_slow = 0;

    qsort(took_ns, n_took, sizeof *took_ns, ascending);
    for (size_t i = 0; i < n_took; i++)
        n_slow += took_ns[i] > 1000000;
    printf("%zu\t%zu\t%zu\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\n", n_took, n_lost, n_closed, at_us(0.5),
           at_us(0.99), at_us(0.999), at_us(1), (double)n_slow * 1e3 / (double)n_took);
}

int main(int argc, char **argv)
{
    double per_second, seconds;

    if (argc > 1 && strcmp(argv[1], "-s") == 0) {
        may_sleep = true;
        prctl(PR_SET_TIMERSLACK, 1);
        argv++;
        argc--;
    }
    if (argc != 5 && argc != 7) {
        fprintf(stderr, "usage: rate [-s] PORT CONNECTIONS PER_SECOND SECONDS [PID SIGNALS]\n");
        return 2;
    }
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    n_conns = atoi(argv[2]);
    per_second = atof(argv[3]);
    seconds = atof(argv[4]);
    if (n_conns < 1 || n_conns > CONNECTIONS_MAX || per_second < 1 || seconds <= 0 ||
        per_second * seconds > 1e8) {
        fprintf(stderr, "rate: 1 to %d connections, at most 100 million requests\n",
                CONNECTIONS_MAX);
        return 2;
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    took_ns = malloc(((size_t)(per_second * seconds) + 1) * sizeof *took_ns);
    if (epoll_fd < 0 || took_ns == NULL)
        return 1;
    memset(took_ns, 0,
           ((size_t)(per_second * seconds) + 1) * sizeof *took_ns); /* no faults later */
    for (int i = 0; i < n_conns; i++) {
        if (!dial(i))
            return 1;
        rest(i);
    }
    if (!run(per_second, seconds, argc == 7 ? (pid_t)atoi(argv[5]) : 0,
             argc == 7 ? atoi(argv[6]) : 0))
        return 1;
    if (n_took == 0) {
        fprintf(stderr, "rate: no request was answered with 200\n");
        return 1;
    }
    print();
    return 0;
}
