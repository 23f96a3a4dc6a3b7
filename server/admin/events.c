/*
 * events.c - what changes, as it changes: server-sent events for pages and programs.
 *
 *     event: status     the whole status, once a second and right after connecting
 *
 * The master is asked once for all who listen, and not at all while nobody does. What a newcomer would
 * get wrong: a listener who does not read costs memory; beyond EVENTS_WAITING he is cut off, and
 * comes again.
 */
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "admin/internal.h"
#include "base/clock.h"

#define LISTENERS      16
#define EVENTS_WAITING (512u << 10) /* bytes of one listener */
#define EVERY_MS       1000
#define LONGEST_MS     (15 * 60 * 1000) /* then a listener has to show his right to it again */

struct listener {
    struct list node;
    struct admin *admin;
    struct MHD_Connection *mhd;
    int fd;
    char *text; /* malloc'd */
    size_t n, at, room;
    int64_t end_ms;
    bool is_suspended, is_over;
};

static struct list listeners;
static int n_listeners;
static int64_t next_ms;
static bool is_asked;

/* ---- one listener ---- */

static ssize_t read_events(void *arg, uint64_t pos, char *buf, size_t max)
{
    struct listener *l = arg;
    size_t n = l->n - l->at;

    (void)pos;
    if (n == 0 && l->is_over)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        l->is_suspended = true;
        MHD_suspend_connection(l->mhd);
        return 0;
    }
    if (n > max)
        n = max;
    memcpy(buf, l->text + l->at, n);
    l->at += n;
    if (l->at == l->n)
        l->at = l->n = 0;
    return (ssize_t)n;
}

static void forget(void *arg)
{
    struct listener *l = arg;

    list_remove(&l->node);
    n_listeners--;
    free(l->text);
    free(l);
}

static void wake(struct listener *l)
{
    if (!l->is_suspended)
        return;
    l->is_suspended = false;
    MHD_resume_connection(l->mhd);
}

static void append(struct listener *l, const char *p, size_t n)
{
    if (l->is_over)
        return;
    if (l->n + n > l->room) {
        size_t room = (l->n + n) * 2;
        char *text = room <= 2 * (size_t)EVENTS_WAITING ? realloc(l->text, room) : NULL;

        if (text == NULL) {
            l->is_over = true;
            shutdown(l->fd, SHUT_RDWR);
            wake(l);
            return;
        }
        l->text = text;
        l->room = room;
    }
    memcpy(l->text + l->n, p, n);
    l->n += n;
}

static void tell(struct listener *l, const char *name, const char *json)
{
    append(l, "event: ", 7);
    append(l, name, strlen(name));
    append(l, "\ndata: ", 7);
    append(l, json, strlen(json)); /* has no line breaks: it is compact */
    append(l, "\n\n", 2);
    wake(l);
}

/* ---- all ---- */

static void tell_all(const char *name, const char *json)
{
    for (struct list *at = listeners.next, *next; at != &listeners; at = next) {
        next = at->next;
        tell(list_entry(at, struct listener, node), name, json);
    }
}

static void take_status(void *arg, int result, const char *text)
{
    (void)arg;
    is_asked = false;
    if (result == 0)
        tell_all("status", text);
    else
        tell_all("trouble", "{\"detail\":\"the master does not answer\"}");
}

static void end_some(int64_t now_ms, bool is_ending)
{
    for (struct list *at = listeners.next, *next; at != &listeners; at = next) {
        struct listener *l = list_entry(at, struct listener, node);

        next = at->next;
        if (is_ending || l->end_ms <= now_ms) {
            l->is_over = true;
            wake(l);
        }
    }
}

void events_init(void)
{
    list_init(&listeners);
}

void events_tick(struct admin *a, int64_t now_ms)
{
    if (n_listeners == 0)
        return;
    end_some(now_ms, a->is_ending);
    if (a->is_ending || is_asked || now_ms < next_ms)
        return;
    next_ms = now_ms + EVERY_MS;
    is_asked = true;
    status_ask(a, take_status, a);
}

void get_events(struct request *req)
{
    struct MHD_Response *response;
    struct listener *l;

    if (n_listeners >= LISTENERS) {
        reply_problem(req, 503, "Service Unavailable", "%d listen already", LISTENERS);
        reply_header(req, "Retry-After", "5");
        return;
    }
    l = calloc(1, sizeof *l);
    if (l == NULL || req->visitor == NULL) {
        free(l);
        return;
    }
    *l = (struct listener){.admin = req->admin,
                           .mhd = req->mhd,
                           .fd = req->visitor->fd,
                           .end_ms = clock_mono_ms() + LONGEST_MS};
    list_init(&l->node);
    n_listeners++;
    response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_events, l, forget);
    if (response == NULL) {
        forget(l);
        return;
    }
    reply_response(req, 200, response, "text/event-stream");
    reply_header(req, "X-Accel-Buffering", "no");
    req->visitor->state = VISITOR_STREAM;
    list_append(&listeners, &l->node);
    append(l, "retry: 1000\n\n", 13);
    next_ms = 0; /* the first one at once */
}
