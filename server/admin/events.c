/*
 * events.c - what changes, as it changes: server-sent events for pages and programs.
 *
 *     event: status     the whole status, once a second and right after connecting
 *     event: numbers    what the last second was like: rates, quantiles, by plugin
 *     event: event      a reload, a step of a rollout, ... as they happen; its id is the event's number
 *
 * The master is asked once for all who listen, and not at all while nobody does; for events, when it has
 * told that there are some. What a newcomer would
 * get wrong: a listener who does not read costs memory; beyond EVENTS_WAITING he is cut off, and
 * comes again.
 */
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/internal.h"
#include "base/clock.h"

#define LISTENERS      16
#define FOR_OPERATORS  4            /* of these */
#define EVENTS_WAITING (512u << 10) /* bytes of one listener */
#define EVERY_MS       1000
#define LONGEST_MS     (15 * 60 * 1000) /* then a listener has to show his right to it again */

struct listener {
    struct list node;
    struct admin *admin;
    struct MHD_Connection *mhd;
    struct visitor *visitor;
    char *text; /* malloc'd */
    size_t n, at, room;
    int64_t end_ms;
    uint32_t seen; /* the last event that it knows; UINT32_MAX: those of before are none of its */
    bool is_suspended, is_over, is_by_cookie;
};

static struct list listeners;
static int n_listeners;
static int64_t next_ms;
static bool is_asked, is_asked_events;
static bool has_newcomer;  /* who may have missed some */
static bool is_up_to_date; /* with the master, as far as it has told; it will tell */
static uint32_t last_event;

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
            visitor_cut(l->visitor);
            wake(l);
            return;
        }
        l->text = text;
        l->room = room;
    }
    memcpy(l->text + l->n, p, n);
    l->n += n;
}

static void tell(struct listener *l, const char *name, uint32_t id, const char *json)
{
    char text[32];
    int n = snprintf(text, sizeof text, "id: %u\n", id);

    if (id != 0)
        append(l, text, (size_t)n);
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
        tell(list_entry(at, struct listener, node), name, 0, json);
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

static void tell_event(const json_t *event)
{
    uint32_t number = (uint32_t)json_integer_value(json_object_get(event, "number"));
    char *line = json_dumps(event, JSON_COMPACT);

    for (struct list *at = listeners.next, *next; line != NULL && at != &listeners; at = next) {
        struct listener *l = list_entry(at, struct listener, node);

        next = at->next;
        if (number > l->seen) {
            l->seen = number;
            tell(l, "event", number, line);
        }
    }
    free(line);
}

/* Who comes with a Last-Event-ID gets what it has missed. */
static void take_events(void *arg, int result, const char *text)
{
    json_t *json = result == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    const json_t *list = json_object_get(json, "events"), *event;
    size_t i;

    (void)arg;
    is_asked_events = false;
    if (json == NULL)
        return;
    json_array_foreach(list, i, event)
    {
        tell_event(event);
    }
    last_event = (uint32_t)json_integer_value(json_object_get(json, "last"));
    is_up_to_date = !has_newcomer;
    for (struct list *at = listeners.next; at != &listeners; at = at->next) {
        struct listener *l = list_entry(at, struct listener, node);

        if (l->seen >
            last_event) /* new here; or it knows those of a server that was before this one */
            l->seen = last_event;
    }
    json_decref(json);
}

/* From the last that somebody here does not know. */
static uint32_t least_seen(void)
{
    uint32_t least = last_event;

    for (struct list *at = listeners.next; at != &listeners; at = at->next) {
        const struct listener *l = list_entry(at, struct listener, node);

        if (l->seen < least)
            least = l->seen;
    }
    return least;
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

static void tell_numbers(struct admin *a, int64_t now_ms)
{
    char *text = numbers_text(a, now_ms);

    if (text != NULL)
        tell_all("numbers", text);
    free(text);
}

void events_end_sessions(void)
{
    for (struct list *at = listeners.next; at != &listeners; at = at->next) {
        struct listener *l = list_entry(at, struct listener, node);

        l->is_over = l->is_over || l->is_by_cookie;
        if (l->is_over)
            wake(l);
    }
}

void events_init(void)
{
    list_init(&listeners);
}

/* When there is news, or somebody is new here; an answer that did not come is asked for again. */
static void ask_for_events(struct admin *a, int64_t now_ms)
{
    static int64_t again_ms;

    if (is_asked_events || (is_up_to_date && !a->asker.has_news) ||
        (now_ms < again_ms && !a->asker.has_news && !has_newcomer))
        return;
    again_ms = now_ms + EVERY_MS;
    if (ask(&a->asker, CONTROL_EVENTS, (int)least_seen(), NULL, take_events, NULL) < 0)
        return;
    is_asked_events = true;
    is_up_to_date = a->asker.has_news = has_newcomer = false;
}

void events_tick(struct admin *a, int64_t now_ms)
{
    if (n_listeners == 0)
        return;
    end_some(now_ms, a->is_ending);
    if (a->is_ending)
        return;
    ask_for_events(a, now_ms);
    if (is_asked || now_ms < next_ms)
        return;
    next_ms = now_ms + EVERY_MS;
    tell_numbers(a, now_ms);
    is_asked = true;
    status_ask(a, take_status, a);
}

void get_events(struct request *req)
{
    const char *seen = request_header(req, "Last-Event-ID");
    struct MHD_Response *response;
    struct listener *l;

    if (n_listeners >= LISTENERS - (req->role == ADMIN_OPERATOR ? 0 : FOR_OPERATORS)) {
        reply_problem(req, 503, "Service Unavailable", "%d listen already", n_listeners);
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
                           .visitor = req->visitor,
                           .is_by_cookie = req->is_by_cookie,
                           .seen = seen != NULL ? (uint32_t)strtoul(seen, NULL, 10) : UINT32_MAX,
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
    has_newcomer = true;
    is_up_to_date = false;
}

/* ---- what there was ---- */

static void send_history(void *arg, int result, const char *text)
{
    struct request *req = arg;

    if (result < 0 || text == NULL)
        reply_master_failed(req, result < 0 ? result : -EPROTO);
    else
        reply_text(req, 200, "application/json", strdup(text), strlen(text));
    request_resume(req);
}

void get_history(struct request *req)
{
    const char *text = request_query(req, "after");
    long after = text != NULL ? strtol(text, NULL, 10) : 0;

    if (after < 0 || after > INT32_MAX)
        reply_problem(req, 400, "Bad Request", "after: the number of an event");
    else
        request_ask(req, CONTROL_EVENTS, (int)after, send_history);
}
