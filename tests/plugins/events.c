/*
 * events.c - server-sent events: one stream per client, one timer for all of them.
 *
 *     GET /events[?n=N]   a stream; ends after N events; without n it goes on for ever
 *     GET /stats          "clients=N ticks=N missed=N writes=N"
 *     GET /crash          the next tick crashes
 *
 * What to copy from it: the clients are in a list that a deferred function takes them out of, whatever
 * ends the request; a client that reads too slowly misses events, which it is told once there is room,
 * instead of making the server hoard them; a comment now and then keeps proxies from closing the
 * connection, and finds out who has gone.
 */
#include <bulkhead.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>

static int *volatile nowhere;

struct config {
    uint32_t every, heartbeat;
    uint32_t size;
};

struct client { /* in the request's memory */
    struct client *next, **prev;
    bh_req *req;
    uint64_t left;   /* events to come; 0: no end */
    uint64_t missed; /* since the last one that was taken */
    bool is_waiting; /* for room */
};

struct instance {
    bh_inst *inst;
    const struct config *cfg;
    struct client *clients;
    uint64_t ticks, missed, writes;
    unsigned n_clients;
    bool must_crash;
    char padding[65536];
};

static const bh_opt options[] = {
    BH_DURATION(struct config, every, "1s", 1, 3600000, "Time between two events"),
    BH_DURATION(struct config, heartbeat, "15s", 1, 3600000, "Time between two comments"),
    BH_SIZE(struct config, size, "20", 1, 65536, "Bytes of data in an event"), BH_OPT_END};

static bh_rc on_writable(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    struct client *c = *(struct client **)ctx;
    char text[96];
    int n = snprintf(text, sizeof text, "event: missed\ndata: %" PRIu64 "\n\n", c->missed);

    c->is_waiting = false;
    c->missed = 0;
    self->writes++;
    return bh_stream_write(req, text, (size_t)n, 0) == BH_OK ? BH_CONTINUE : BH_FAIL;
}

static void send_event(struct instance *self, struct client *c)
{
    static char text[65536 + 64];
    int n = snprintf(text, sizeof text, "id: %" PRIu64 "\ndata: %.*s\n\n", self->ticks,
                     (int)self->cfg->size, self->padding);
    bool is_last = c->left == 1;
    bh_rc rc = c->is_waiting ? BH_EAGAIN : bh_stream_write(c->req, text, (size_t)n, is_last);

    if (rc == BH_OK) {
        self->writes++;
        c->left -= c->left > 0;
        return;
    }
    if (rc != BH_EAGAIN)
        return; /* it is going: the deferred function follows */
    c->missed++;
    self->missed++;
    if (!c->is_waiting)
        c->is_waiting = bh_stream_on_writable(c->req, on_writable) == BH_OK;
}

static void tick(void *self_, void *arg)
{
    struct instance *self = self_;
    struct client *next;

    (void)arg;
    self->ticks++;
    if (self->must_crash)
        *nowhere = 1;
    for (struct client *c = self->clients; c != NULL; c = next) {
        next = c->next;
        send_event(self, c);
    }
}

static void heartbeat(void *self_, void *arg)
{
    struct instance *self = self_;

    (void)arg;
    for (struct client *c = self->clients; c != NULL; c = c->next)
        if (!c->is_waiting)
            bh_stream_write(c->req, ":\n\n", 3, 0);
}

struct leaving {
    struct instance *self;
    struct client *client;
};

static void leave(void *arg)
{
    const struct leaving *l = arg;
    struct client *c = l->client;

    *c->prev = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    l->self->n_clients--;
}

static bh_rc join(struct instance *self, bh_req *req, struct client **ctx)
{
    struct client *c = bh_alloc(req, sizeof *c);
    struct leaving *l = bh_alloc(req, sizeof *l);
    bh_str n = bh_query(req, "n");

    if (c == NULL || l == NULL || bh_stream_begin(req, 200, -1) != BH_OK)
        return BH_FAIL;
    bh_resp_header(req, "Content-Type", "text/event-stream");
    bh_resp_header(req, "Cache-Control", "no-store");
    c->req = req;
    c->left = n.p != NULL ? strtoull(n.p, NULL, 10) : 0;
    *l = (struct leaving){self, c};
    if (bh_defer(req, leave, l) != BH_OK)
        return BH_FAIL;
    *ctx = c;
    c->next = self->clients;
    c->prev = &self->clients;
    if (c->next != NULL)
        c->next->prev = &c->next;
    self->clients = c;
    self->n_clients++;
    return BH_DONE;
}

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    bh_str path = bh_attr(req, "path");
    char text[128];

    if (bh_str_eq(path, "/events"))
        return join(self, req, ctx);
    if (bh_str_eq(path, "/crash"))
        self->must_crash = true;
    else if (!bh_str_eq(path, "/stats"))
        return BH_CONTINUE;
    snprintf(text, sizeof text,
             "clients=%u ticks=%" PRIu64 " missed=%" PRIu64 " writes=%" PRIu64 "\n",
             self->n_clients, self->ticks, self->missed, self->writes);
    return bh_reply(req, 200, "text/plain", text);
}

static void on_log(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;

    if (*(struct client **)ctx != NULL)
        bh_logf(self->inst, BH_LOG_INFO, "a client left after %s bytes", bh_attr(req, "bytes").p);
}

static bh_rc open_(bh_inst *inst, const void *cfg, void **out)
{
    struct instance *self = calloc(1, sizeof *self);

    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    self->cfg = cfg;
    memset(self->padding, 'x', sizeof self->padding);
    *out = self;
    return BH_OK;
}

/* Not in open(): a worker that stands by has no clients. */
static bh_rc start(void *self_)
{
    struct instance *self = self_;

    if (bh_timer(self->inst, self->cfg->every, self->cfg->every, tick, NULL, NULL) != BH_OK)
        return BH_FAIL;
    return bh_timer(self->inst, self->cfg->heartbeat, self->cfg->heartbeat, heartbeat, NULL, NULL);
}

/* The server stops, or this worker is replaced: a stream without an end would hold it up. Browsers come
 * again by themselves. */
static bh_rc drain(void *self_)
{
    struct instance *self = self_;

    for (struct client *c = self->clients; c != NULL; c = c->next)
        bh_stream_write(c->req, "retry: 100\n\n", 12, 1);
    return BH_OK;
}

BH_PLUGIN("events", "1.0.0", .summary = "Server-sent events", .caps = "timer", .options = options,
          .cfg_size = sizeof(struct config), .ctx_size = sizeof(struct client *), .open = open_,
          .start = start, .drain = drain, .close = free, .on_request = on_request, .on_log = on_log)
