/*
 * fuzz_guard.c - any bytes through the wire guard, in any pieces, and what it lets pass through
 * libmicrohttpd.
 *
 * libFuzzer. The first byte says how the rest is cut. Four things must hold: pieces make no difference;
 * what came out, with what completes a refused request, is what the guard itself would let pass; and the
 * library makes the same requests of it as a plain reading does, the same bodies, and no answer of its
 * own. Seeds: tests/fuzz/corpus/guard.
 */
#include <microhttpd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/guard.h"

#define INPUT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct guard_limits limits = {
    .uri = 600, .head = 1024, .fields = 20, .memory = 2048, .body = 2000};

/* What a reader makes of a stream: a line for each request, then its body. */
struct story {
    bool may_close; /* after one of them the library may close, and not hear the rest */
    char text[65536];
    size_t n;
};

static void tell(struct story *s, const void *p, size_t n)
{
    if (n > sizeof s->text - s->n)
        abort();
    if (n > 0)
        memcpy(s->text + s->n, p, n);
    s->n += n;
}

/* ---- through the guard ---- */

struct outcome {
    char out[INPUT_MAX * 2 + 65536];
    size_t n; /* of out; without what completes */
    size_t n_all, n_more;
    uint32_t n_requests;
    enum http_refusal refusal;
    bool is_idle, is_refused_in_head;
};

static void restore(struct outcome *o)
{
    size_t k = 0;

    for (size_t i = 0; i < o->n; i++)
        if (o->out[i] == '\x01' || o->out[i] == '\x02')
            o->out[k++] = o->out[i] == '\x01' ? 'e' : 'E';
        else if (o->out[i] != '\x03')
            o->out[k++] = o->out[i];
    o->n = k;
}

static void pass(const uint8_t *data, size_t n, size_t first, size_t step, struct outcome *o)
{
    struct guard g;

    guard_init(&g);
    o->n = 0;
    for (size_t at = 0; at < n && g.refusal == REFUSAL_NONE;) {
        size_t k = at == 0 ? first : step, room = guard_room(&g);
        char *buf;

        k = k < n - at ? k : n - at;
        buf = malloc(room + k); /* of that size: sanitizers see what is written beyond */
        if (buf == NULL)
            abort();
        memcpy(buf + room, data + at, k);
        at += k;
        k = guard_pass(&g, &limits, buf, buf + room, k);
        memcpy(o->out + o->n, buf, k);
        o->n += k;
        free(buf);
    }
    o->refusal = (enum http_refusal)g.refusal;
    o->is_refused_in_head = guard_is_in_head(&g);
    o->is_idle = guard_is_idle(&g);
    o->n_all = o->n;
    while (g.refusal != REFUSAL_NONE && !guard_is_complete(&g)) {
        size_t k = guard_complete(&g, o->out + o->n_all, 1 + step % 50);

        memset(o->out + o->n_all, 'f', g.left > 0 ? k : 0);
        o->n_all += k;
    }
    o->n_more = o->n_all - o->n;
    o->n_requests = g.n_requests;
}

/* ---- a plain reading of what came out ---- */

static const char *line_end(const char *p, const char *end)
{
    for (; p + 1 < end; p++)
        if (p[0] == '\r' && p[1] == '\n')
            return p;
    return NULL;
}

static uint64_t field_number(const char *p, const char *end)
{
    uint64_t n = 0;

    for (; p < end; p++)
        if (*p >= '0' && *p <= '9')
            n = n * 10 + (uint64_t)(*p - '0');
    return n;
}

/* The bytes of one request, or NULL: it is not whole. */
static const char *read_one(struct story *s, const char *p, const char *end)
{
    const char *eol = line_end(p, end), *line = p;
    uint64_t length = 0;
    bool is_chunked = false;

    if (eol == NULL)
        return NULL;
    tell(s, "> ", 2);
    tell(s, line, (size_t)(eol - line));
    tell(s, "\n", 1);
    if (eol[-1] == '0')
        s->may_close = true;
    for (p = eol + 2; (eol = line_end(p, end)) != p; p = eol + 2) {
        if (eol == NULL)
            return NULL;
        if (strncasecmp(p, "connection:", 11) == 0)
            s->may_close = true;
        if (strncasecmp(p, "content-length:", 15) == 0)
            length = field_number(p + 15, eol);
        if (strncasecmp(p, "transfer-encoding:", 18) == 0)
            is_chunked = true;
    }
    p += 2;
    while (is_chunked) {
        uint64_t size = strtoull(p, NULL, 16);

        eol = line_end(p, end);
        if (eol == NULL)
            return NULL;
        p = eol + 2;
        if (size == 0) {
            if (end - p < 2 || memcmp(p, "\r\n", 2) != 0)
                return NULL;
            p += 2;
            break;
        }
        tell(s, p, size < (uint64_t)(end - p) ? size : (size_t)(end - p));
        if (size + 2 > (uint64_t)(end - p))
            return NULL;
        p += size + 2;
    }
    tell(s, p, length < (uint64_t)(end - p) ? length : (size_t)(end - p));
    if (length > (uint64_t)(end - p))
        return NULL;
    tell(s, "\n", 1);
    return p + length;
}

/* ---- through the library ---- */

static struct story heard;
static unsigned n_heard, n_begun, n_answered;
static uint32_t refuse_last; /* this request is answered in its first call; 0: none */

static void *on_uri(void *arg, const char *uri, struct MHD_Connection *mhd)
{
    (void)arg;
    (void)mhd;
    n_begun++;
    return strdup(uri);
}

static enum MHD_Result answer(struct MHD_Connection *mhd)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(0, (void *)(uintptr_t) "",
                                                             MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result;

    if (n_begun == refuse_last)
        MHD_add_response_header(r, "Connection", "close");
    result = MHD_queue_response(mhd, 299, r);
    MHD_destroy_response(r);
    n_answered++;
    return result;
}

/* As exchange.c does. */
static void expect_nothing_without_body(struct MHD_Connection *mhd)
{
    const char *expect = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Expect");
    const char *length = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Content-Length");

    if (expect != NULL && *expect != '\0' &&
        (length == NULL || strspn(length, "0") == strlen(length)) &&
        MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Transfer-Encoding") == NULL)
        *(char *)(uintptr_t)expect = '-';
}

static enum MHD_Result on_data(void *arg, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *size, void **con)
{
    static unsigned last;

    (void)arg;
    (void)url;
    if (last != n_begun || n_heard != n_begun) {
        last = n_heard = n_begun;
        tell(&heard, "> ", 2);
        tell(&heard, method, strlen(method));
        tell(&heard, " ", 1);
        tell(&heard, *con, strlen(*con));
        tell(&heard, " ", 1);
        tell(&heard, version, strlen(version));
        tell(&heard, "\n", 1);
        expect_nothing_without_body(mhd);
        return n_begun == refuse_last ? answer(mhd) : MHD_YES;
    }
    if (*size > 0) {
        tell(&heard, data, *size);
        *size = 0;
        return MHD_YES;
    }
    tell(&heard, "\n", 1);
    return answer(mhd);
}

static void on_completed(void *arg, struct MHD_Connection *mhd, void **con,
                         enum MHD_RequestTerminationCode code)
{
    (void)arg;
    (void)mhd;
    (void)code;
    free(*con);
    *con = NULL;
}

static size_t keep_escapes(void *arg, struct MHD_Connection *mhd, char *s)
{
    (void)arg;
    (void)mhd;
    return strlen(s);
}

/* Everything that it answers has to be 299: others are its own. */
static void look_at_answers(int fd)
{
    static char text[1 << 20];
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    unsigned n_answers = 0;

    text[n > 0 ? n : 0] = '\0';
    for (const char *p = text; (p = strstr(p, "HTTP/1.")) != NULL; p++) {
        if (strncmp(p + 8, " 100", 4) == 0)
            continue;
        n_answers++;
        if (strncmp(p + 8, " 299", 4) != 0) {
            fprintf(stderr, "the library answers by itself: %.60s\n", p);
            abort();
        }
    }
    if (n_answers != n_answered) {
        fprintf(stderr, "%u answers, %u were given\n", n_answers, n_answered);
        abort();
    }
}

static void through_library(const char *p, size_t n, size_t step, unsigned n_expected)
{
    static struct MHD_Daemon *daemon;
    int fd[2];

    if (daemon == NULL)
        daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_TURBO, 0, NULL,
                                  NULL, on_data, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                  (size_t)limits.head * 2 + 512, MHD_OPTION_URI_LOG_CALLBACK,
                                  on_uri, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
                                  MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_END);
    if (daemon == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0)
        abort();
    heard.n = n_begun = n_heard = n_answered = 0;
    if (MHD_add_connection(daemon, fd[1], NULL, 0) != MHD_YES)
        abort();
    for (size_t at = 0; at < n; at += step) {
        if (send(fd[0], p + at, step < n - at ? step : n - at, MSG_NOSIGNAL) < 0)
            break; /* it has closed: after the refused request */
        MHD_run(daemon);
    }
    for (unsigned i = 0, idle = 0; i < 20 + 8 * n_expected && idle < 8; i++) {
        MHD_run(daemon); /* some turns for each request, and some for the last answer */
        idle = n_answered >= n_expected ? idle + 1 : 0;
    }
    look_at_answers(fd[0]);
    close(fd[0]);
    for (int i = 0; i < 4; i++)
        MHD_run(daemon);
}

/* ---- all of it ---- */

static void compare_pieces(const struct outcome *a, const struct outcome *b)
{
    if (a->refusal != b->refusal || a->n_requests != b->n_requests || a->is_idle != b->is_idle ||
        a->n_more != b->n_more || a->n != b->n || memcmp(a->out, b->out, a->n) != 0) {
        fprintf(stderr, "%s, %u requests, %zu+%zu bytes; in pieces %s, %u, %zu+%zu\n",
                refusal_name(a->refusal), a->n_requests, a->n, a->n_more, refusal_name(b->refusal),
                b->n_requests, b->n, b->n_more);
        abort();
    }
}

static bool has_own_target(const struct outcome *o)
{
    /* The library's own parser of arguments is not used by the server: exchange_on_uri(). */
    return memchr(o->out, '?', o->n) == NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct outcome whole, pieces;
    static struct story told;
    size_t step, n_plain = 0;
    const char *p, *next;

    if (n < 2 || n > INPUT_MAX)
        return 0;
    step = 1 + data[0] % 61;
    pass(data + 1, n - 1, n - 1, n - 1, &whole);
    pass(data + 1, n - 1, 1 + data[0] / 7, step, &pieces);
    told.n = 0;
    told.may_close = false;
    for (p = whole.out; (next = read_one(&told, p, whole.out + whole.n_all)) != NULL; p = next)
        n_plain++;

    if (has_own_target(&whole)) {
        refuse_last = whole.refusal != REFUSAL_NONE && whole.is_refused_in_head ? whole.n_requests
                                                                                : 0;
        through_library(whole.out, whole.n_all, 1 + data[0] * 5u, whole.n_requests);
        /* Of one that is refused in its head, or not whole yet, only the line counts. */
        if ((!told.may_close && (n_begun < n_plain ||
                                 (whole.refusal != REFUSAL_NONE && n_begun != whole.n_requests))) ||
            (refuse_last == 0 &&
             (heard.n > told.n || memcmp(heard.text, told.text, heard.n) != 0))) {
            fprintf(stderr, "heard %u (%u, %s):\n%.*s\ntold %zu:\n%.*s\n", n_begun,
                    whole.n_requests, refusal_name(whole.refusal), (int)heard.n, heard.text,
                    n_plain, (int)told.n, told.text);
            abort();
        }
    }
    restore(&whole);
    restore(&pieces);
    compare_pieces(&whole, &pieces);
    return 0;
}
