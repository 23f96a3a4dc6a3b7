/*
 * client.c - connections that ask, and hold each answer against what it must be, byte by byte.
 *
 * One thread polls all connections of its group. Which questions it asks follows from the seed alone;
 * when it asks them, from the server as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"
#include "soak.h"

#define DEPTH     6     /* of pipelining */
#define HEAD_MAX  16384 /* of an answer */
#define SLOW_SEND 37    /* bytes of a request at a time, */
#define SLOW_READ 3000  /* and of an answer, */
#define SLOW_MS   15    /* that often */

_Atomic bool soak_is_paused, soak_is_over, soak_may_fault, soak_may_be_violent;

enum kind { KEEPS, PIPELINES, SLOW, IDLES, FAULTY, N_KINDS };

/* Of 8 connections in a row. */
static const enum kind kinds[8] = {KEEPS, FAULTY, PIPELINES, SLOW, KEEPS, IDLES, FAULTY, PIPELINES};

enum phase { HEAD, SIZED, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, TO_THE_END, COMPLETE };

struct answer {
    enum phase phase;
    char head[HEAD_MAX], line[64], body[256];
    size_t n_head, n_line, n_body; /* n_body: of body[] */
    uint64_t left, got;            /* bytes of the body, or of a chunk; of the body, as they came */
    int status;
    bool is_close, has_date, has_retry, has_key, has_length;
    uint64_t key, length;
    uint32_t n_bytes; /* all */
    const char *wrong;
};

struct conn {
    enum kind kind;
    int fd; /* -1: none */
    uint64_t random;
    struct soak_event pending[DEPTH];
    int n_pending;
    char *out;
    size_t n_out, at_out;
    int64_t next_ms, heard_ms; /* monotonic */
    int64_t last_ms;           /* when the last question that was answered was sent; 0: none yet */
    int64_t last_end_ms;
    char last[48]; /* which one that was, for whoever looks into a failure */
    pid_t worker;
    struct answer answer;
};

struct soak_group {
    pthread_t thread;
    int port, n;
    struct conn *conn;
    struct soak_event *event;
    size_t n_event, cap_event;
    struct soak_totals totals;
    struct soak_witness witness;
    _Atomic bool is_quiet, is_faultless;
    _Atomic int n_open;
};

static int64_t clock_ms(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- what was seen ---- */

static void note(struct soak_group *g, const struct soak_event *e)
{
    if (g->n_event == g->cap_event) {
        g->cap_event = g->cap_event == 0 ? 1024 : g->cap_event * 2;
        g->event = realloc(g->event, g->cap_event * sizeof *g->event);
        if (g->event == NULL)
            abort();
    }
    g->event[g->n_event++] = *e;
}

static void take_first(struct conn *c, struct soak_event *out)
{
    *out = c->pending[0];
    memmove(&c->pending[0], &c->pending[1], (size_t)(--c->n_pending) * sizeof c->pending[0]);
}

static void close_conn(struct soak_group *g, struct conn *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        atomic_fetch_sub(&g->n_open, 1);
    }
    c->fd = -1;
    free(c->out);
    c->out = NULL;
    c->n_out = c->at_out = 0;
    c->n_pending = 0;
    c->worker = 0;
    c->last_ms = c->last_end_ms = 0;
    c->last[0] = '\0';
    memset(&c->answer, 0, sizeof c->answer);
}

/* Silence: in whose hands is the connection, and has it read what was asked? For whoever looks into it. */
static void print_owner(const struct conn *c)
{
    struct sockaddr_in addr = {0};
    socklen_t len = sizeof addr;

    char command[160];

    if (getsockname(c->fd, (struct sockaddr *)&addr, &len) < 0)
        return;
    snprintf(command, sizeof command,
             "ss -tanpie '( sport = :%d or dport = :%d )' >>build/tests/log/soak/silence.log",
             ntohs(addr.sin_port), ntohs(addr.sin_port));
    if (system(command) != 0)
        return; /* it is not installed */
}

/* The connection is over; what was asked on it will not be answered. */
static void end_conn(struct soak_group *g, struct conn *c, enum soak_result result, const char *why)
{
    int64_t now = clock_ms(CLOCK_REALTIME);
    bool is_first = true;

    if (c->n_pending == 0 && why != NULL) { /* it was idle: there is no request to be answered */
        struct soak_event e = {.result = RESULT_CUT, .worker = c->worker, .end_ms = now};

        e.sent_ms = e.before_ms = c->last_ms;
        e.before_end_ms = c->last_end_ms;
        e.ask.what = N_WHATS;
        snprintf(e.note, sizeof e.note, "idle, %s: %s", c->last, why);
        note(g, &e);
        g->totals.n_idle_closed++;
    }
    while (c->n_pending > 0) {
        struct soak_event e;

        take_first(c, &e);
        e.result = result;
        e.end_ms = now;
        e.n_bytes = is_first ? c->answer.n_bytes : 0;
        snprintf(e.note, sizeof e.note, "%s: %s", c->last,
                 why != NULL ? why : "behind an answer that closes");
        note(g, &e);
        is_first = false;
    }
    close_conn(g, c);
}

/* ---- is it right? ---- */

static void check_bytes(struct conn *c, const char *p, size_t n)
{
    const struct soak_ask *ask = &c->pending[0].ask;
    struct answer *a = &c->answer;

    if (a->status == 200 && ask->what != ASK_SUM) {
        for (size_t i = 0; i < n && a->wrong == NULL; i++)
            if (a->got + i >= ask->n || (uint8_t)p[i] != answer_byte(ask->key, a->got + i))
                a->wrong = a->got + i >= ask->n ? "more bytes than asked for" : "a wrong byte";
    } else {
        size_t room = sizeof a->body - 1 - a->n_body, some = n < room ? n : room;

        memcpy(a->body + a->n_body, p, some);
        a->n_body += some;
    }
    a->got += n;
}

static void check_sum(const struct soak_ask *ask, struct answer *a)
{
    uint64_t hash = ANSWER_HASH_START;
    char expected[96], byte;

    for (uint32_t i = 0; i < ask->n; i++) {
        byte = (char)answer_byte(ask->key, i);
        hash = answer_hash(hash, &byte, 1);
    }
    snprintf(expected, sizeof expected, "key %llu, %u bytes, hash %016llx\n",
             (unsigned long long)ask->key, ask->n, (unsigned long long)hash);
    a->body[a->n_body] = '\0';
    if (strcmp(a->body, expected) != 0)
        a->wrong = "a wrong sum";
}

static void check_end(struct conn *c)
{
    const struct soak_ask *ask = &c->pending[0].ask;
    struct answer *a = &c->answer;

    if (a->status != 200)
        return;
    if (a->wrong != NULL)
        return;
    if (ask->what == ASK_SUM)
        check_sum(ask, a);
    else if (ask->what == ASK_HEAD ? !a->has_length || a->length != ask->n : a->got != ask->n)
        a->wrong = "a wrong length";
    if (ask->what != ASK_FILE && (!a->has_key || a->key != ask->key))
        a->wrong = "somebody else's answer";
}

/* ---- reading ---- */

static void read_field(struct conn *c, const char *line)
{
    struct answer *a = &c->answer;

    if (strncasecmp(line, "Content-Length:", 15) == 0) {
        a->has_length = true;
        a->length = strtoull(line + 15, NULL, 10);
    } else if (strncasecmp(line, "Transfer-Encoding: chunked", 26) == 0) {
        a->phase = CHUNK_SIZE;
    } else if (strncasecmp(line, "Connection: close", 17) == 0) {
        a->is_close = true;
    } else if (strncasecmp(line, "Date:", 5) == 0) {
        a->has_date = true;
    } else if (strncasecmp(line, "Retry-After:", 12) == 0) {
        a->has_retry = true;
    } else if (strncasecmp(line, "X-Key:", 6) == 0) {
        a->has_key = true;
        a->key = strtoull(line + 6, NULL, 10);
    } else if (strncasecmp(line, "X-Worker:", 9) == 0) {
        c->worker = (pid_t)strtol(line + 9, NULL, 10);
    }
}

static void read_head(struct soak_group *g, struct conn *c)
{
    struct answer *a = &c->answer;
    pid_t before = c->worker;
    char *line = a->head, *end;

    a->phase = HEAD;
    if (sscanf(line, "HTTP/1.1 %d ", &a->status) != 1) {
        a->wrong = "no status line";
        a->phase = COMPLETE;
        return;
    }
    while ((end = strstr(line, "\r\n")) != NULL && end != line) {
        *end = '\0';
        read_field(c, line);
        line = end + 2;
    }
    g->totals.n_moved += before != 0 && c->worker != before;
    if (c->pending[0].ask.what == ASK_HEAD)
        a->phase = COMPLETE;
    else if (a->phase == HEAD && a->has_length)
        a->phase = a->length > 0 ? SIZED : COMPLETE;
    else if (a->phase == HEAD)
        a->phase = TO_THE_END;
    a->left = a->length;
}

/* A line of the chunked coding is complete. */
static void read_chunk_line(struct answer *a)
{
    char *end;

    a->line[a->n_line] = '\0';
    a->n_line = 0;
    switch (a->phase) {
    case CHUNK_SIZE:
        a->left = strtoull(a->line, &end, 16);
        if (end == a->line)
            a->wrong = "no size of a chunk";
        a->phase = end == a->line ? COMPLETE : a->left > 0 ? CHUNK : TRAILER;
        break;
    case CHUNK_END: a->phase = CHUNK_SIZE; break;
    default: a->phase = a->line[0] == '\0' ? COMPLETE : TRAILER; break;
    }
}

/* How many of the n bytes belong to this answer. */
static size_t feed(struct soak_group *g, struct conn *c, const char *p, size_t n)
{
    struct answer *a = &c->answer;
    size_t at = 0;

    while (at < n && a->phase != COMPLETE) {
        size_t some = n - at;

        switch (a->phase) {
        case HEAD:
            if (a->n_head + 1 >= sizeof a->head) {
                a->wrong = "no end of the head";
                a->phase = COMPLETE;
                break;
            }
            a->head[a->n_head++] = p[at++];
            a->head[a->n_head] = '\0';
            if (a->n_head >= 4 && memcmp(a->head + a->n_head - 4, "\r\n\r\n", 4) == 0)
                read_head(g, c);
            break;
        case SIZED:
        case CHUNK:
            some = some < a->left ? some : (size_t)a->left;
            check_bytes(c, p + at, some);
            at += some;
            a->left -= some;
            if (a->left == 0)
                a->phase = a->phase == SIZED ? COMPLETE : CHUNK_END;
            break;
        case TO_THE_END:
            check_bytes(c, p + at, some);
            at += some;
            break;
        default:
            if (p[at] == '\n')
                read_chunk_line(a);
            else if (p[at] != '\r' && a->n_line + 1 < sizeof a->line)
                a->line[a->n_line++] = p[at];
            at++;
            break;
        }
    }
    a->n_bytes += (uint32_t)at;
    return at;
}

static void finish(struct soak_group *g, struct conn *c)
{
    struct answer *a = &c->answer;
    /* Answered before it was all sent: what has to follow would be no request. */
    bool is_early = c->n_pending == 1 && c->at_out < c->n_out;
    bool is_close = a->is_close || c->pending[0].ask.is_last || a->phase == TO_THE_END || is_early;
    struct soak_event e;

    check_end(c);
    take_first(c, &e);
    e.end_ms = clock_ms(CLOCK_REALTIME);
    c->last_ms = e.sent_ms;
    c->last_end_ms = e.end_ms;
    if (c->kind != SLOW) /* what it reads now may have been sent long ago */
        soak_witness_heard(&g->witness, c->worker, e.end_ms);
    e.status = a->status;
    snprintf(c->last, sizeof c->last, "after /%s/%s n %u%s: %d", soak_victim_names[e.ask.victim],
             soak_what_names[e.ask.what], e.ask.n, e.ask.is_chunked ? " chunked" : "", a->status);
    e.n_bytes = a->n_bytes;
    e.has_retry = a->has_retry;
    e.is_bare = a->is_close && !a->has_date;
    e.result = a->wrong != NULL ? RESULT_WRONG : a->status == 200 ? RESULT_RIGHT : RESULT_REFUSED;
    if (a->wrong != NULL)
        snprintf(e.note, sizeof e.note, "%s", a->wrong);
    g->totals.n_right += e.result == RESULT_RIGHT;
    if (e.result != RESULT_RIGHT || e.ask.trick != NULL)
        note(g, &e);
    memset(a, 0, sizeof *a);
    if (is_close)
        end_conn(g, c, RESULT_CUT, NULL);
}

/* A worker that dies between two requests may not know that it is between them (http/wire.c): then
 * the client is told to come again without having come. */
static void note_unasked(struct soak_group *g, struct conn *c, const char *p, size_t n)
{
    static const char refusal[] = "HTTP/1.1 503 ";
    struct soak_event e = {.result = RESULT_WRONG, .worker = c->worker, .before_ms = c->last_ms};

    e.ask.what = N_WHATS;
    e.sent_ms = c->last_ms;
    e.end_ms = clock_ms(CLOCK_REALTIME);
    e.is_bare = memmem(p, n, "Date:", 5) == NULL;
    if (e.is_bare && n > sizeof refusal && memcmp(p, refusal, sizeof refusal - 1) == 0) {
        e.result = RESULT_REFUSED;
        e.status = 503;
        e.has_retry = memmem(p, n, "Retry-After:", 12) != NULL;
    }
    snprintf(e.note, sizeof e.note, "bytes that nobody asked for: %.24s", p);
    note(g, &e);
    close_conn(g, c);
}

static void receive(struct soak_group *g, struct conn *c)
{
    char buf[65536];
    size_t most = c->kind == SLOW ? SLOW_READ : sizeof buf, at = 0;
    ssize_t n = recv(c->fd, buf, most, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (n == 0 && c->n_pending > 0 && c->answer.phase == TO_THE_END)
            finish(g, c);
        else
            end_conn(g, c, RESULT_CUT, n == 0 ? "end of file" : strerror(errno));
        return;
    }
    c->heard_ms = clock_ms(CLOCK_MONOTONIC);
    while (at < (size_t)n && c->fd >= 0) {
        if (c->n_pending == 0) {
            note_unasked(g, c, buf + at, (size_t)n - at);
            return;
        }
        at += feed(g, c, buf + at, (size_t)n - at);
        if (c->answer.phase == COMPLETE)
            finish(g, c);
    }
}

/* ---- asking ---- */

static void add_ask(struct soak_group *g, struct conn *c, bool with_fault)
{
    struct soak_event *e = &c->pending[c->n_pending];
    char *text, *grown;
    size_t n;

    memset(e, 0, sizeof *e);
    soak_pick(&c->random, with_fault, atomic_load(&soak_may_be_violent), &e->ask);
    if (c->kind == PIPELINES && e->ask.what == ASK_SUM)
        e->ask.what = ASK_TEXT;
    if (c->kind == PIPELINES)
        e->ask.is_last = false;
    if (c->kind == SLOW && e->ask.n > 20000)
        e->ask.n = e->ask.what == ASK_FILE ? e->ask.n : 20000;
    text = soak_write(&e->ask, &n);
    grown = realloc(c->out, c->n_out + n);
    if (grown == NULL)
        abort();
    memcpy(grown + c->n_out, text, n);
    free(text);
    c->out = grown;
    c->n_out += n;
    e->n_before = c->n_pending++;
    e->worker = c->worker;
    e->sent_ms = clock_ms(CLOCK_REALTIME);
    e->before_ms = c->last_ms != 0 ? c->last_ms : e->sent_ms;
    e->before_end_ms = c->last_end_ms;
    g->totals.n_asked++;
}

static int pause_ms(struct conn *c)
{
    uint64_t r = soak_random(&c->random);

    switch (c->kind) {
    case IDLES: return 500 + (int)(r % 3500);
    case FAULTY: return 100 + (int)(r % 400);
    case SLOW: return 20 + (int)(r % 200);
    default: return 5 + (int)(r % 40);
    }
}

static void connect_to(struct soak_group *g, struct conn *c)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)g->port)};
    int small = 8192;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd >= 0 && c->kind == SLOW)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        /* A server that always listens refuses nobody. */
        struct soak_event e = {.result = RESULT_WRONG};

        e.ask.what = N_WHATS;
        e.sent_ms = e.end_ms = clock_ms(CLOCK_REALTIME);
        snprintf(e.note, sizeof e.note, "cannot connect: %s", strerror(errno));
        note(g, &e);
        if (c->fd >= 0)
            close(c->fd);
        c->fd = -1;
        return;
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    atomic_fetch_add(&g->n_open, 1);
    g->totals.n_connections++;
}

static void begin(struct soak_group *g, struct conn *c, int64_t now)
{
    int n = c->kind == PIPELINES ? 2 + (int)(soak_random(&c->random) % (DEPTH - 1)) : 1;

    if (c->kind == FAULTY && !atomic_load(&soak_may_fault))
        return;
    if (c->fd < 0)
        connect_to(g, c);
    if (c->fd < 0) {
        c->next_ms = now + 100;
        return;
    }
    free(c->out);
    c->out = NULL;
    c->n_out = c->at_out = 0;
    for (int i = 0; i < n; i++)
        add_ask(g, c, c->kind == FAULTY);
    c->heard_ms = now;
    c->next_ms = now;
}

static void push(struct soak_group *g, struct conn *c, int64_t now)
{
    size_t left = c->n_out - c->at_out, some = left;
    ssize_t n;

    if (c->kind == SLOW && some > SLOW_SEND)
        some = left > 2000 ? left / 50 : SLOW_SEND;
    n = send(c->fd, c->out + c->at_out, some, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        c->at_out = c->n_out; /* what it has to say about that may still be read */
        return;
    }
    if (n > 0) {
        c->at_out += (size_t)n;
        c->heard_ms = now;
    }
    if (c->kind == SLOW)
        c->next_ms = now + SLOW_MS;
    (void)g;
}

/* The client goes away in the middle of it. */
static void walk_away(struct soak_group *g, struct conn *c)
{
    const struct linger reset = {.l_onoff = 1};

    if (soak_random(&c->random) % 2 == 0)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close_conn(g, c);
}

static void step(struct soak_group *g, struct conn *c, short events, int64_t now)
{
    bool is_slow = c->kind == SLOW;

    if (c->fd >= 0 && (events & (POLLIN | POLLHUP | POLLERR)) != 0 &&
        (!is_slow || now >= c->next_ms)) {
        receive(g, c);
        if (is_slow && c->next_ms <= now)
            c->next_ms = now + SLOW_MS;
    }
    if (c->fd >= 0 && c->at_out < c->n_out && (!is_slow || now >= c->next_ms))
        push(g, c, now);
    if (c->n_pending > 0 && now - c->heard_ms > SOAK_PATIENCE_MS) {
        print_owner(c);
        end_conn(g, c, RESULT_SILENCE, "no answer");
    }
    if (c->n_pending > 0 && c->kind == KEEPS && soak_random(&c->random) % 3000 == 0)
        walk_away(g, c);
    if (c->n_pending > 0)
        return;
    if (c->n_out > 0) { /* just done */
        c->n_out = c->at_out = 0;
        c->next_ms = now + pause_ms(c);
    }
    if (now >= c->next_ms && !atomic_load(&soak_is_paused))
        begin(g, c, now);
}

static void *serve(void *arg)
{
    struct soak_group *g = arg;
    struct pollfd *p = calloc((size_t)g->n, sizeof *p);

    if (p == NULL)
        abort();
    while (!atomic_load(&soak_is_over)) {
        bool is_quiet = true, is_faultless = true;
        int64_t now;

        soak_witness_turn(&g->witness, clock_ms(CLOCK_REALTIME));
        for (int i = 0; i < g->n; i++) {
            const struct conn *c = &g->conn[i];

            p[i] = (struct pollfd){.fd = c->fd, .events = POLLIN};
            if (c->kind == SLOW && clock_ms(CLOCK_MONOTONIC) < c->next_ms)
                p[i].fd = -1;
            if (c->fd >= 0 && c->at_out < c->n_out && c->kind != SLOW)
                p[i].events |= POLLOUT;
        }
        poll(p, (nfds_t)g->n, 5);
        now = clock_ms(CLOCK_MONOTONIC);
        for (int i = 0; i < g->n; i++) {
            struct conn *c = &g->conn[i];

            step(g, c, c->fd == p[i].fd ? p[i].revents : 0, now);
            is_quiet &= c->n_pending == 0;
            is_faultless &= c->kind != FAULTY || c->n_pending == 0;
        }
        /* In this order: who sees quiet after having said pause can rely on it. */
        atomic_store(&g->is_quiet, is_quiet && atomic_load(&soak_is_paused));
        atomic_store(&g->is_faultless, is_faultless && !atomic_load(&soak_may_fault));
    }
    for (int i = 0; i < g->n; i++)
        close_conn(g, &g->conn[i]);
    free(p);
    return NULL;
}

/* ---- from the test ---- */

struct soak_group *soak_group_start(int port, uint64_t seed, int n_connections)
{
    struct soak_group *g = calloc(1, sizeof *g);

    if (g == NULL || (g->conn = calloc((size_t)n_connections, sizeof *g->conn)) == NULL)
        abort();
    g->port = port;
    g->n = n_connections;
    for (int i = 0; i < n_connections; i++) {
        g->conn[i].kind = kinds[i % 8];
        g->conn[i].fd = -1;
        g->conn[i].random = soak_random(&seed);
    }
    if (pthread_create(&g->thread, NULL, serve, g) != 0)
        abort();
    return g;
}

bool soak_group_is_quiet(const struct soak_group *g)
{
    return atomic_load(&g->is_quiet);
}

bool soak_group_is_faultless(const struct soak_group *g)
{
    return atomic_load(&g->is_faultless);
}

int soak_group_open(const struct soak_group *g)
{
    return atomic_load(&g->n_open);
}

void soak_group_join(struct soak_group *g, struct soak_totals *totals, struct soak_event **events,
                     size_t *n)
{
    pthread_join(g->thread, NULL);
    totals->n_asked += g->totals.n_asked;
    totals->n_right += g->totals.n_right;
    totals->n_moved += g->totals.n_moved;
    totals->n_connections += g->totals.n_connections;
    totals->n_idle_closed += g->totals.n_idle_closed;
    *events = realloc(*events, (*n + g->n_event + 1) * sizeof **events);
    if (*events == NULL)
        abort();
    if (g->n_event > 0)
        memcpy(*events + *n, g->event, g->n_event * sizeof **events);
    *n += g->n_event;
}

const struct soak_witness *soak_group_witness(const struct soak_group *g)
{
    return &g->witness;
}

void soak_group_free(struct soak_group **gp)
{
    if (*gp == NULL)
        return;
    free((*gp)->conn);
    free((*gp)->event);
    soak_witness_free(&(*gp)->witness);
    free(*gp);
    *gp = NULL;
}
