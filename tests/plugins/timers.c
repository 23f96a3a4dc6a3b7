/*
 * timers.c - sets timers of every kind, and counts.
 *
 *     GET /set?first=MS&every=MS&do=WHAT    a timer whose function does WHAT; answers its id
 *     GET /del?id=ID                        answers what bh_timer_del() did
 *     GET /count                            "N calls"
 *     GET /full                             sets timers until that is refused: "N, then RC"
 *     GET /crash?...                        as /set, and then crashes: the timer is undone
 *     GET /early                            what open() has set: "N calls", and "N since start()"
 */
#include <bulkhead.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

static int *volatile nowhere;

struct instance {
    bh_inst *inst;
    int calls, opened, started, rc;
    uint64_t own;
};

static void count(void *self, void *arg)
{
    (void)arg;
    ((struct instance *)self)->calls++;
}

static void count_open(void *self, void *arg)
{
    (void)arg;
    ((struct instance *)self)->opened++;
}

static void count_start(void *self, void *arg)
{
    (void)arg;
    ((struct instance *)self)->started++;
}

static void crash(void *self, void *arg)
{
    (void)self, (void)arg;
    *nowhere = 1;
}

static void hang(void *self, void *arg)
{
    (void)self, (void)arg;
    for (;;)
        __asm__ volatile("");
}

/* Ends itself in its third call. */
static void del_self(void *self_, void *arg)
{
    struct instance *self = self_;

    bh_rc rc;

    (void)arg;
    if (++self->calls < 3)
        return;
    rc = bh_timer_del(self->inst, self->own);
    bh_logf(self->inst, BH_LOG_WARN, "deleted itself: %d, again: %d", rc,
            bh_timer_del(self->inst, self->own));
}

/* Sets itself again, at once, for as long as it runs. */
static void again(void *self_, void *arg)
{
    struct instance *self = self_;

    self->calls++;
    bh_timer(self->inst, 0, 0, again, arg, NULL);
}

static void *set_in_thread(void *self_)
{
    struct instance *self = self_;

    self->rc = bh_timer(self->inst, 1, 0, count, NULL, NULL);
    return NULL;
}

static void (*find(bh_str what))(void *, void *)
{
    static const struct {
        const char *name;
        void (*fn)(void *, void *);
    } fns[] = {{"crash", crash}, {"hang", hang}, {"del_self", del_self}, {"again", again}};

    for (size_t i = 0; i < sizeof fns / sizeof fns[0]; i++)
        if (bh_str_eq(what, fns[i].name))
            return fns[i].fn;
    return count;
}

static uint32_t number(bh_req *req, const char *name)
{
    bh_str s = bh_query(req, name);

    return s.p != NULL ? (uint32_t)strtoul(s.p, NULL, 10) : 0;
}

static bh_rc set(struct instance *self, bh_req *req, bool must_crash)
{
    char text[64];
    uint64_t id;
    bh_rc rc = bh_timer(self->inst, number(req, "first"), number(req, "every"),
                        find(bh_query(req, "do")), NULL, &id);

    self->own = id;
    if (must_crash)
        crash(self, NULL);
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    return rc == BH_OK ? bh_reply(req, 200, "text/plain", text) : BH_FAIL;
}

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    bh_str path = bh_attr(req, "path");
    pthread_t thread;
    char text[64] = "";
    int n = 0;
    bh_rc rc;

    (void)ctx;
    if (bh_str_eq(path, "/set") || bh_str_eq(path, "/crash"))
        return set(self, req, bh_str_eq(path, "/crash"));
    if (bh_str_eq(path, "/count"))
        snprintf(text, sizeof text, "%d calls", self->calls);
    if (bh_str_eq(path, "/early"))
        snprintf(text, sizeof text, "open %d, start %d", self->opened > 0, self->started > 0);
    if (bh_str_eq(path, "/del"))
        snprintf(text, sizeof text, "%d",
                 bh_timer_del(self->inst, strtoull(bh_query(req, "id").p, NULL, 10)));
    if (bh_str_eq(path, "/thread")) {
        if (pthread_create(&thread, NULL, set_in_thread, self) != 0)
            return BH_FAIL;
        pthread_join(thread, NULL);
        snprintf(text, sizeof text, "%d", self->rc);
    }
    if (bh_str_eq(path, "/full")) {
        while ((rc = bh_timer(self->inst, 3600000, 0, count, NULL, NULL)) == BH_OK)
            n++;
        snprintf(text, sizeof text, "%d, then %d", n, rc);
    }
    return bh_reply(req, 200, "text/plain", text);
}

static bh_rc open_(bh_inst *inst, const void *cfg, void **out)
{
    struct instance *self = calloc(1, sizeof *self);

    (void)cfg;
    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    *out = self;
    return bh_timer(inst, 1, 1, count_open, NULL, NULL);
}

static bh_rc start(void *self_)
{
    struct instance *self = self_;

    return bh_timer(self->inst, 1, 0, count_start, NULL, NULL);
}

/* Where its timers still ran they would find freed memory. */
static void close_(void *self_)
{
    struct instance *self = self_;

    bh_logf(self->inst, BH_LOG_WARN, "closed; a timer in close(): %d",
            bh_timer(self->inst, 1, 0, count, NULL, NULL));
    memset(self, 0x5a, sizeof *self);
    free(self);
}

BH_PLUGIN("timers", "1.0.0", .summary = "Timers", .caps = "timer", .open = open_, .start = start,
          .close = close_, .on_request = on_request)
