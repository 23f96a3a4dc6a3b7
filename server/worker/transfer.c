#include "worker/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/address.h"
#include "base/buffer.h"
#include "base/curl.h"
#include "base/destination.h"
#include "obs/log.h"

#define CONNECTIONS 64 /* that are kept for later */

static struct {
    const struct curl *curl; /* NULL: not loaded yet */
    CURLM *multi;
    struct transfer *queued, **queued_last, *running, *dropped;
    int64_t due_ms; /* of libcurl's timer; -1: not set */
    bool was_told;  /* that there is no libcurl */
    void (*watch)(int fd, uint32_t events, bool is_new);
    void (*freed)(struct transfer *t);
} out = {.queued_last = &out.queued, .due_ms = -1};

/* ---- lists ---- */

static void link_to(struct transfer **list, struct transfer *t)
{
    t->next = *list;
    t->prev = list;
    if (t->next != NULL)
        t->next->prev = &t->next;
    *list = t;
}

static void unlink_it(struct transfer *t)
{
    if (t->prev == NULL)
        return;
    if (out.queued_last == &t->next)
        out.queued_last = t->prev;
    *t->prev = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    t->prev = NULL;
}

/* ---- what libcurl calls ---- */

static size_t too_large(struct transfer *t, const char *what, size_t limit)
{
    t->error = -E2BIG;
    snprintf(t->why, sizeof t->why, "its %s has more than %zu bytes", what, limit);
    return 0;
}

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;

    (void)size; /* 1 */
    if (t->answer_n + n > t->max_body)
        return too_large(t, "body", t->max_body);
    return buffer_append_to(&t->answer, &t->answer_n, &t->answer_cap, p, n) ? n : 0;
}

/* A line, with its end. */
static size_t take_header(char *p, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t end = n, name, value;
    const char *colon;

    (void)size;
    while (end > 0 && (p[end - 1] == '\n' || p[end - 1] == '\r' || p[end - 1] == ' '))
        end--;
    colon = memchr(p, ':', end);
    if (colon == NULL) {
        if (n >= 5 && memcmp(p, "HTTP/", 5) == 0) /* of the next answer: 1xx came before */
            t->n_fields = 0, t->head_n = 0;
        return n;
    }
    name = (size_t)(colon - p);
    for (value = name + 1; value < end && (p[value] == ' ' || p[value] == '\t'); value++)
        continue;
    if (t->n_fields == TRANSFER_FIELDS || t->head_n + end > TRANSFER_HEAD_MAX)
        return too_large(t, "header", TRANSFER_HEAD_MAX);
    t->field[t->n_fields++] = (struct transfer_field){(uint32_t)t->head_n, (uint32_t)name,
                                                      (uint32_t)(t->head_n + name + 1),
                                                      (uint32_t)(end - value)};
    /* NUL-terminated, both. */
    return buffer_append_to(&t->head, &t->head_n, &t->head_cap, p, name) &&
                   buffer_append_to(&t->head, &t->head_n, &t->head_cap, "", 1) &&
                   buffer_append_to(&t->head, &t->head_n, &t->head_cap, p + value, end - value) &&
                   buffer_append_to(&t->head, &t->head_n, &t->head_cap, "", 1)
               ? n
               : 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket)
{
    uint32_t events = what == CURL_POLL_IN      ? EPOLLIN
                      : what == CURL_POLL_OUT   ? EPOLLOUT
                      : what == CURL_POLL_INOUT ? EPOLLIN | EPOLLOUT
                                                : 0;

    (void)easy, (void)arg;
    out.watch(fd, events, of_socket == NULL);
    out.curl->multi_assign(out.multi, fd, what == CURL_POLL_REMOVE ? NULL : &out);
    return 0;
}

/* ---- where it may go ---- */

static bool may_connect(struct transfer *t, const struct address *a)
{
    char text[ADDRESS_TEXT];

    if (t->may == NULL || t->socket_path != NULL ||
        destination_may_connect(t->may, t->host, t->host_n, a->port, a))
        return true;
    address_print(a, text);
    t->error = -EPERM;
    snprintf(t->why, sizeof t->why, "%.*s is %s, where this plugin may not go (http.allow)",
             t->host_n < 80 ? (int)t->host_n : 80, t->host,
             text[0] != '\0' ? text : "no IP address");
    return false;
}

/* With the very address that will be connected to: a name may have resolved to another one before. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *sa)
{
    struct address a;

    (void)purpose;
    address_from_sockaddr(&a, &sa->addr, sa->addrlen);
    if (!may_connect(arg, &a))
        return CURL_SOCKET_BAD;
    return socket(sa->family, sa->socktype | SOCK_CLOEXEC, sa->protocol);
}

/* Before a request is sent, also over a connection that another plugin had opened, which may go to other
 * places. */
static int before_request(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    struct transfer *t = arg;
    struct address a;

    (void)local_ip, (void)local_port;
    if (t->socket_path != NULL)
        return CURL_PREREQFUNC_OK;
    if (ip == NULL || !address_parse(&a, ip, strcspn(ip, "%"), false))
        a = (struct address){.family = 0};
    a.port = (uint16_t)port;
    return may_connect(t, &a) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static int64_t turn_ms; /* of the turn that runs */

static int on_timer(CURLM *multi, long ms, void *arg)
{
    (void)multi, (void)arg;
    out.due_ms = ms < 0 ? -1 : turn_ms + ms;
    return 0;
}

/* ---- beginning ---- */

static bool load(char *why, size_t size)
{
    if (out.multi != NULL)
        return true;
    if (curl_load(&out.curl, why, size) < 0)
        return false;
    out.multi = out.curl->multi_init();
    if (out.multi == NULL) {
        snprintf(why, size, "out of memory");
        return false;
    }
    out.curl->multi_setopt(out.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    out.curl->multi_setopt(out.multi, CURLMOPT_TIMERFUNCTION, on_timer);
    out.curl->multi_setopt(out.multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS);
    return true;
}

static bool set_headers(struct transfer *t)
{
    static const char *const ours[] = {"Expect:",
                                       "Content-Type:"}; /* what libcurl adds by itself */
    bool has_type = false;

    for (int i = 0; i < t->n_headers + 2; i++) {
        const char *line = i < t->n_headers ? t->header[i] : ours[i - t->n_headers];
        struct curl_slist *list;

        has_type |= i < t->n_headers && strncasecmp(line, "content-type:", 13) == 0;
        if (i == t->n_headers + 1 && has_type)
            break;
        list = out.curl->slist_append(t->list, line);
        if (list == NULL)
            return false;
        t->list = list;
    }
    return true;
}

static bool set_up(struct transfer *t)
{
    const struct curl *c = out.curl;
    CURL *e = c->easy_init();
    CURLcode r = CURLE_OK;

    t->easy = e;
    if (e == NULL || !set_headers(t))
        return false;
#define SET(OPTION, VALUE) r = r == CURLE_OK ? c->easy_setopt(e, CURLOPT_##OPTION, VALUE) : r
    SET(URL, t->url);
    SET(PROTOCOLS_STR, "http,https");
    SET(PATH_AS_IS, 1L);
    SET(PROXY, ""); /* none, whatever the environment says */
    SET(NOSIGNAL, 1L);
    SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(TIMEOUT_MS, (long)t->timeout_ms);
    SET(CONNECTTIMEOUT_MS, (long)t->timeout_ms);
    SET(HTTPHEADER, t->list);
    SET(WRITEFUNCTION, take_body);
    SET(WRITEDATA, t);
    SET(HEADERFUNCTION, take_header);
    SET(HEADERDATA, t);
    SET(PRIVATE, t);
    SET(OPENSOCKETFUNCTION, open_socket);
    SET(OPENSOCKETDATA, t);
    SET(PREREQFUNCTION, before_request);
    SET(PREREQDATA, t);
    if (t->socket_path != NULL)
        SET(UNIX_SOCKET_PATH, t->socket_path);
    if (strcmp(t->method, "HEAD") == 0) {
        SET(NOBODY, 1L);
    } else if (t->body_n > 0 || strcmp(t->method, "POST") == 0) {
        SET(POSTFIELDSIZE_LARGE, (curl_off_t)t->body_n);
        SET(POSTFIELDS, t->body != NULL ? t->body : "");
    }
    SET(CUSTOMREQUEST, t->method);
#undef SET
    return r == CURLE_OK && c->multi_add_handle(out.multi, e) == CURLM_OK;
}

static void take_out(struct transfer *t)
{
    if (t->easy != NULL) {
        out.curl->multi_remove_handle(out.multi, t->easy);
        out.curl->easy_cleanup(t->easy);
    }
    if (t->list != NULL)
        out.curl->slist_free_all(t->list);
    t->easy = NULL;
    t->list = NULL;
    unlink_it(t);
}

static void finish(struct transfer *t)
{
    take_out(t);
    t->done(t);
}

static void begin_queued(void)
{
    struct transfer *t;

    while ((t = out.queued) != NULL) {
        unlink_it(t);
        link_to(&out.running, t);
        if (!load(t->why, sizeof t->why)) {
            if (!out.was_told)
                log_error("outbound HTTP of plugins is not to be had: %s", t->why);
            out.was_told = true;
            t->error = -ENOSYS;
            finish(t);
        } else if (!set_up(t)) {
            t->error = -ECONNREFUSED;
            snprintf(t->why, sizeof t->why, "out of memory, or an address that is none");
            finish(t);
        }
    }
}

/* ---- ends ---- */

static void take_result(struct transfer *t, CURLcode result)
{
    const struct curl *c = out.curl;
    curl_off_t us = 0;
    long status = 0;

    c->easy_getinfo(t->easy, CURLINFO_TOTAL_TIME_T, &us);
    t->elapsed_ms = (uint32_t)(us / 1000);
    if (result == CURLE_OK) {
        c->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        t->status = (int)status;
    } else if (t->error == 0) { /* else it is known better */
        t->error = result == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -ECONNREFUSED;
        snprintf(t->why, sizeof t->why, "%s", c->easy_strerror(result));
    }
}

static void finish_ended(void)
{
    CURLMsg *msg;
    int n;

    while ((msg = out.curl->multi_info_read(out.multi, &n)) != NULL) {
        struct transfer *t = NULL;

        if (msg->msg != CURLMSG_DONE ||
            out.curl->easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t) != CURLE_OK || t == NULL)
            continue;
        take_result(t, msg->data.result);
        if (!t->is_dropped)
            finish(t);
        else
            take_out(t), transfer_free(t);
    }
}

static void free_dropped(void)
{
    struct transfer *t, *next;

    for (t = out.running; t != NULL; t = next) {
        next = t->next;
        if (t->is_dropped) {
            take_out(t);
            transfer_free(t);
        }
    }
    out.dropped = NULL;
}

/* ---- from outside ---- */

void transfer_begin(struct transfer *t)
{
    t->next = NULL;
    t->prev = out.queued_last;
    *out.queued_last = t;
    out.queued_last = &t->next;
}

void transfer_drop(struct transfer *t)
{
    t->is_dropped = true;
    out.dropped = t;
}

void transfer_on_free(void (*freed)(struct transfer *t))
{
    out.freed = freed;
}

void transfer_free(struct transfer *t)
{
    if (out.freed != NULL)
        out.freed(t);
    for (int i = 0; i < t->n_headers; i++)
        free(t->header[i]);
    free((void *)t->header);
    free(t->url);
    free(t->socket_path);
    free(t->method);
    free(t->body);
    free(t->head);
    free(t->answer);
    free(t);
}

void transfer_init(void (*watch)(int fd, uint32_t events, bool is_new))
{
    out.watch = watch;
}

void transfer_event(int fd, uint32_t events)
{
    int what = ((events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
               ((events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
               ((events & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0);
    int running;

    if (out.multi != NULL)
        out.curl->multi_socket_action(out.multi, fd, what, &running);
}

int transfer_timeout_ms(int64_t now_ms)
{
    if (out.queued != NULL || out.dropped != NULL)
        return 0;
    return out.due_ms < 0 ? -1 : out.due_ms <= now_ms ? 0 : (int)(out.due_ms - now_ms);
}

void transfer_turn(int64_t now_ms)
{
    int running;

    turn_ms = now_ms;
    if (out.queued != NULL)
        begin_queued();
    if (out.dropped != NULL)
        free_dropped();
    if (out.multi == NULL)
        return;
    if (out.due_ms >= 0 && out.due_ms <= now_ms) {
        out.due_ms = -1;
        out.curl->multi_socket_action(out.multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    finish_ended();
}
