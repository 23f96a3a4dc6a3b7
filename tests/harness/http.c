/*
 * http.c - a deliberately plain HTTP/1.1 client: bytes out, one response in.
 *
 * It parses what the server sends strictly where a test would want to know (chunk sizes, the status
 * line), and fails the running test when a deadline passes or what arrives is no HTTP.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"

struct conn {
    int fd;
    char *buf; /* received and not yet handed out; a NUL follows */
    size_t len;
    size_t size;
    bool eof;
    int64_t deadline_ms; /* of the operation going on */
};

/* ---- Connections ----------------------------------------------------------------------------- */

int harness_connect_inet(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static struct conn *conn_create(int fd)
{
    struct conn *conn = harness_alloc(sizeof *conn);

    conn->fd = fd;
    conn->size = 4096;
    conn->buf = harness_alloc(conn->size);
    return conn;
}

struct conn *conn_open(int port)
{
    int fd = harness_connect_inet(port);

    if (fd < 0)
        FAIL("connect to port %d: %s", port, strerror(errno));
    return conn_create(fd);
}

struct conn *conn_open_unix(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof addr.sun_path)
        FAIL("the path of a socket is too long: %s", path);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        FAIL("connect to %s: %s", path, strerror(errno));
    return conn_create(fd);
}

void conn_close(struct conn **connp)
{
    struct conn *conn = *connp;

    if (conn == NULL)
        return;
    close(conn->fd);
    free(conn->buf);
    free(conn);
    *connp = NULL;
}

int conn_fd(const struct conn *conn)
{
    return conn->fd;
}

static void wait_for(struct conn *conn, short events)
{
    struct pollfd pfd = {.fd = conn->fd, .events = events};
    int64_t left;
    int r;

    do {
        left = conn->deadline_ms - harness_now_ms();
        if (left <= 0)
            FAIL("the server let a deadline pass; received and not understood so far: \"%.2000s\"",
                 conn->buf);
        r = poll(&pfd, 1, (int)left);
    } while (r == 0 || (r < 0 && errno == EINTR));
    if (r < 0)
        FAIL("poll: %s", strerror(errno));
}

void conn_send(struct conn *conn, const void *bytes, size_t n)
{
    const char *at = bytes;

    conn->deadline_ms = harness_deadline_ms(HARNESS_WAIT_MS);
    while (n > 0) {
        ssize_t sent = send(conn->fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent > 0) {
            at += sent;
            n -= (size_t)sent;
        } else if (errno == EAGAIN) {
            wait_for(conn, POLLOUT);
        } else if (errno != EINTR) {
            return; /* closed by the peer: reading tells the rest */
        }
    }
}

void conn_sendf(struct conn *conn, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    text = harness_vprintf(format, args);
    va_end(args);
    conn_send(conn, text, strlen(text));
    free(text);
}

void conn_shutdown(struct conn *conn)
{
    shutdown(conn->fd, SHUT_WR);
}

/* Receives some more bytes; false at the end. A reset counts as the end. */
static bool receive(struct conn *conn)
{
    ssize_t n;

    if (conn->eof)
        return false;
    if (conn->size - conn->len < 2048) {
        char *grown = realloc(conn->buf, conn->size * 2);

        if (grown == NULL)
            FAIL("out of memory");
        conn->buf = grown;
        conn->size *= 2;
    }
    for (;;) {
        n = recv(conn->fd, conn->buf + conn->len, conn->size - conn->len - 1, MSG_DONTWAIT);
        if (n >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
        wait_for(conn, POLLIN);
    }
    if (n <= 0) {
        conn->eof = true;
        return false;
    }
    conn->len += (size_t)n;
    conn->buf[conn->len] = '\0';
    return true;
}

static void consume(struct conn *conn, size_t n)
{
    conn->len -= n;
    memmove(conn->buf, conn->buf + n, conn->len + 1);
}

char *conn_read_all(struct conn *conn, size_t *n)
{
    char *bytes;

    conn->deadline_ms = harness_deadline_ms(HARNESS_WAIT_MS);
    while (receive(conn))
        ;
    bytes = harness_alloc(conn->len + 1);
    memcpy(bytes, conn->buf, conn->len);
    if (n != NULL)
        *n = conn->len;
    consume(conn, conn->len);
    return bytes;
}

bool conn_is_idle(struct conn *conn)
{
    char byte;

    if (conn->eof || conn->len > 0)
        return false;
    return recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* ---- Responses ------------------------------------------------------------------------------- */

void response_free(struct response **resp)
{
    struct response *res = *resp;

    if (res == NULL)
        return;
    for (size_t i = 0; i < res->n_headers; i++) {
        free(res->headers[i].name);
        free(res->headers[i].value);
    }
    free(res->headers);
    free(res->head);
    free(res->body);
    free(res);
    *resp = NULL;
}

const char *response_header(const struct response *res, const char *name)
{
    for (size_t i = 0; i < res->n_headers; i++) {
        if (strcasecmp(res->headers[i].name, name) == 0)
            return res->headers[i].value;
    }
    return NULL;
}

/* What is allocated for a body of n bytes and its NUL: doubled, or a long one takes the square of its length
 * (seconds of it under AddressSanitizer, and the server's patience ends). */
static size_t body_room(size_t n)
{
    size_t room = 1;

    while (room < n + 1)
        room *= 2;
    return room;
}

/* Appends n bytes of the buffer to the body. */
static void take_body(struct conn *conn, struct response *res, size_t n)
{
    size_t room = body_room(res->body_len + n);

    if (room > body_room(res->body_len)) {
        char *grown = realloc(res->body, room);

        if (grown == NULL)
            FAIL("out of memory");
        res->body = grown;
    }
    memcpy(res->body + res->body_len, conn->buf, n);
    res->body_len += n;
    res->body[res->body_len] = '\0';
    consume(conn, n);
}

/* A body of known length, or part of one; false when the connection ends before it does. */
static bool read_exactly(struct conn *conn, struct response *res, size_t n)
{
    while (conn->len < n && receive(conn))
        ;
    if (conn->len < n) {
        take_body(conn, res, conn->len);
        return false;
    }
    take_body(conn, res, n);
    return true;
}

/* A line without its CRLF, freed by the caller; NULL when the connection ends first. */
static char *read_line(struct conn *conn)
{
    const char *end;
    char *line;

    while ((end = strstr(conn->buf, "\r\n")) == NULL) {
        if (!receive(conn))
            return NULL;
    }
    line = harness_printf("%.*s", (int)(end - conn->buf), conn->buf);
    consume(conn, strlen(line) + 2);
    return line;
}

static bool skip_trailers(struct conn *conn)
{
    for (;;) {
        char *line = read_line(conn);
        bool last = line != NULL && *line == '\0';

        if (line == NULL)
            return false;
        free(line);
        if (last)
            return true;
    }
}

static bool read_chunks(struct conn *conn, struct response *res)
{
    for (;;) {
        char *line = read_line(conn);
        char *end;
        unsigned long size;

        if (line == NULL)
            return false;
        size = strtoul(line, &end, 16);
        if (end == line || (*end != '\0' && *end != ';'))
            FAIL("this is no chunk size: \"%s\"", line);
        free(line);
        if (size == 0)
            return skip_trailers(conn);
        if (!read_exactly(conn, res, size))
            return false;
        line = read_line(conn);
        if (line == NULL)
            return false;
        if (*line != '\0')
            FAIL("a chunk is longer than it said, by: \"%s\"", line);
        free(line);
    }
}

static void add_header(struct response *res, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    const char *value, *end = line + n;
    struct header *grown;

    if (colon == NULL)
        FAIL("this is no header: \"%.*s\"", (int)n, line);
    for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
        ;
    grown = realloc(res->headers, (res->n_headers + 1) * sizeof *grown);
    if (grown == NULL)
        FAIL("out of memory");
    res->headers = grown;
    res->headers[res->n_headers].name = harness_printf("%.*s", (int)(colon - line), line);
    res->headers[res->n_headers].value = harness_printf("%.*s", (int)(end - value), value);
    res->n_headers++;
}

static void parse_head(struct response *res)
{
    const char *line = strstr(res->head, "\r\n") + 2;
    const char *end;

    if (sscanf(res->head, "HTTP/1.%*1[01] %3d", &res->status) != 1)
        FAIL("this is no status line: \"%.200s\"", res->head);
    for (; (end = strstr(line, "\r\n")) != NULL && end != line; line = end + 2)
        add_header(res, line, (size_t)(end - line));
}

/* False when the connection ended before the head did. */
static bool read_head(struct conn *conn, struct response *res)
{
    const char *end;
    size_t n;

    while ((end = strstr(conn->buf, "\r\n\r\n")) == NULL) {
        if (!receive(conn)) {
            res->truncated = conn->len > 0;
            res->closed = true;
            return false;
        }
    }
    n = (size_t)(end - conn->buf) + 4;
    res->head = harness_printf("%.*s", (int)n, conn->buf);
    consume(conn, n);
    parse_head(res);
    return true;
}

static void read_body(struct conn *conn, const char *method, struct response *res)
{
    const char *length = response_header(res, "Content-Length");
    const char *coding = response_header(res, "Transfer-Encoding");

    if (strcmp(method, "HEAD") == 0 || res->status < 200 || res->status == 204 ||
        res->status == 304)
        return;
    if (coding != NULL && strcasecmp(coding, "chunked") == 0) {
        res->truncated = !read_chunks(conn, res);
    } else if (length != NULL) {
        res->truncated = !read_exactly(conn, res, strtoul(length, NULL, 10));
    } else {
        while (receive(conn))
            ;
        take_body(conn, res, conn->len);
    }
}

struct response *conn_response(struct conn *conn, const char *method)
{
    const char *connection;
    struct response *res;

    conn->deadline_ms = harness_deadline_ms(HARNESS_WAIT_MS);
    for (;;) {
        res = harness_alloc(sizeof *res);
        res->body = harness_alloc(1);
        if (!read_head(conn, res)) {
            res->head = harness_printf("%s", conn->buf);
            consume(conn, conn->len);
            return res;
        }
        if (res->status / 100 != 1 || res->status == 101)
            break;
        response_free(&res);
    }
    read_body(conn, method, res);
    connection = response_header(res, "Connection");
    res->closed = conn->eof || (connection != NULL && strcasecmp(connection, "close") == 0);
    return res;
}

/* ---- Requests -------------------------------------------------------------------------------- */

struct response *conn_request(struct conn *conn, const char *method, const char *target,
                              const char *extra_headers, const void *body, size_t body_len)
{
    char length[64] = "";

    if (body != NULL)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", body_len);
    conn_sendf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n", method, target, length,
               extra_headers != NULL ? extra_headers : "");
    if (body != NULL)
        conn_send(conn, body, body_len);
    return conn_response(conn, method);
}

struct response *server_request(struct server *srv, const char *method, const char *target,
                                const char *extra_headers, const void *body, size_t body_len)
{
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res = conn_request(conn, method, target, extra_headers, body, body_len);

    conn_close(&conn);
    return res;
}

struct response *server_get(struct server *srv, const char *target)
{
    return server_request(srv, "GET", target, NULL, NULL, 0);
}
