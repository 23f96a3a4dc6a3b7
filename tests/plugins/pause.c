/*
 * pause.c - pauses requests in all the ways that ?do= names, and logs what the host answered.
 */
#include <bulkhead.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct instance {
    bh_inst *inst;
    _Atomic int posted;
};

struct job {
    struct instance *self;
    bh_ticket *ticket, *other;
    bh_req *req;
    char what[32];
    char until[512]; /* a file: waits until it is there; "": does not */
    uint32_t delay_ms;
};

static void sleep_ms(uint32_t ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static void told(const struct job *job, const char *what, bh_rc rc)
{
    bh_logf(job->self->inst, BH_LOG_WARN, "%s: %s answered %d", job->what, what, rc);
}

static bool is(const struct job *job, const char *what)
{
    return strcmp(job->what, what) == 0;
}

static int *volatile nowhere;

/* ---- on a thread of its own ---- */

static void *work_thread(void *arg)
{
    struct job *job = arg;

    sleep_ms(job->delay_ms);
    while (job->until[0] != '\0' && access(job->until, F_OK) < 0)
        sleep_ms(10);
    if (is(job, "reply") || is(job, "unused_reply"))
        told(job, "resume_reply",
             bh_resume_reply(job->ticket, 201, "text/x-thread", "from a thread", 13));
    else if (is(job, "big_reply")) {
        char *big = malloc(3000000);

        memset(big, 'b', 3000000);
        told(job, "resume_reply", bh_resume_reply(job->ticket, 200, NULL, big, 3000000));
        free(big);
    } else if (is(job, "bad_reply")) {
        told(job, "status 99", bh_resume_reply(job->ticket, 99, NULL, "x", 1));
        told(job, "CRLF", bh_resume_reply(job->ticket, 200, "a\r\nb", "x", 1));
        told(job, "NULL", bh_resume_reply(job->ticket, 200, NULL, NULL, 1));
        bh_resume(job->ticket, BH_CONTINUE);
    } else if (is(job, "done") || is(job, "done_without_reply"))
        bh_resume(job->ticket, BH_DONE);
    else if (is(job, "fail"))
        bh_resume(job->ticket, BH_FAIL);
    else if (is(job, "decline"))
        bh_resume(job->ticket, BH_DECLINE);
    else if (is(job, "nonsense"))
        bh_resume(job->ticket, 1000);
    else if (is(job, "pause")) {
        told(job, "resume", bh_resume(job->ticket, BH_PAUSE));
        bh_resume(job->ticket, BH_CONTINUE);
    } else if (is(job, "twice")) {
        told(job, "first", bh_resume(job->ticket, BH_CONTINUE));
        told(job, "second", bh_resume(job->ticket, BH_CONTINUE));
        told(job, "cancelled", bh_cancelled(job->ticket));
        sleep_ms(100);
        told(job, "third", bh_resume(job->ticket, BH_CONTINUE));
    } else if (is(job, "late")) {
        told(job, "resume", bh_resume(job->ticket, BH_CONTINUE));
    } else if (is(job, "cancelled")) {
        for (int i = 0; i < 2000 && !bh_cancelled(job->ticket); i++)
            sleep_ms(5);
        told(job, "cancelled", bh_cancelled(job->ticket));
        told(job, "resume", bh_resume(job->ticket, BH_CONTINUE));
    } else if (is(job, "two_tickets")) {
        told(job, "the first", bh_resume(job->other, BH_CONTINUE));
        told(job, "the second", bh_resume(job->ticket, BH_CONTINUE));
    } else if (!is(job, "never"))
        bh_resume(job->ticket, BH_CONTINUE);
    free(job);
    return NULL;
}

/* ---- on the offload pool ---- */

static int32_t work_ok(void *arg)
{
    (void)arg;
    sleep_ms(20);
    return BH_DONE;
}

static int32_t work_crash(void *arg)
{
    (void)arg;
    *nowhere = 1;
    return BH_DONE;
}

static int32_t work_abort(void *arg)
{
    (void)arg;
    abort();
}

static int32_t work_exit(void *arg)
{
    (void)arg;
    exit(5);
}

static int32_t work_nonsense(void *arg)
{
    (void)arg;
    return 1000;
}

static int32_t work_pause(void *arg)
{
    (void)arg;
    return BH_PAUSE;
}

static int32_t work_long(void *arg)
{
    (void)arg;
    sleep_ms(600);
    return BH_DONE;
}

static int32_t work_long_crash(void *arg)
{
    (void)arg;
    sleep_ms(300);
    *nowhere = 1;
    return BH_DONE;
}

static bh_rc offload(bh_req *req, const char *what)
{
    static const struct {
        const char *name;
        int32_t (*work)(void *);
    } works[] = {{"offload_ok", work_ok},
                 {"offload_crash", work_crash},
                 {"offload_abort", work_abort},
                 {"offload_exit", work_exit},
                 {"offload_nonsense", work_nonsense},
                 {"offload_pause", work_pause},
                 {"offload_long", work_long},
                 {"offload_long_crash", work_long_crash}};

    bh_reply(req, 200, "text/plain", "offloaded");
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++)
        if (strcmp(works[i].name, what) == 0)
            return bh_offload(req, works[i].work, NULL);
    return BH_FAIL;
}

/* ---- posted ---- */

static void posted(void *self_, void *arg)
{
    (void)arg;
    ((struct instance *)self_)->posted++;
}

static void posted_crash(void *self_, void *arg)
{
    (void)self_, (void)arg;
    *nowhere = 1;
}

static void posted_resume(void *self_, void *arg)
{
    struct job *job = arg;

    (void)self_;
    told(job, "resume", bh_resume(job->ticket, BH_CONTINUE));
    free(job);
}

static void posted_end(void *self_, void *arg)
{
    struct job *job = arg;

    (void)self_;
    told(job, "stream_write", bh_stream_write(job->req, "end", 3, 1));
    free(job);
}

static void *post_later(void *arg)
{
    struct job *job = arg;

    sleep_ms(400);
    bh_post(job->self->inst, posted_end, job);
    return NULL;
}

static bh_rc flood(struct instance *self, bh_req *req)
{
    char text[64];
    int taken = 0, again = 0;

    for (int i = 0; i < 5000; i++) {
        bh_rc rc = bh_post(self->inst, posted, NULL);

        taken += rc == BH_OK;
        again += rc == BH_EAGAIN;
    }
    snprintf(text, sizeof text, "%d taken, %d not", taken, again);
    return bh_reply(req, 200, "text/plain", text);
}

/* ---- hooks ---- */

static bool start_thread(void *(*fn)(void *), struct job *job)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, fn, job) != 0)
        return false;
    pthread_detach(thread);
    return true;
}

/* A ticket that is taken and not used: nobody pauses. */
static bh_rc leave_ticket(bh_req *req, struct job *job)
{
    if (bh_stream_begin(req, 200, -1) != BH_OK || bh_stream_write(req, "begin ", 6, 0) != BH_OK)
        return BH_FAIL;
    if (is(job, "unused_reply")) {
        struct job *second = malloc(sizeof *second);

        *second = *job;
        start_thread(work_thread, second);
    }
    return start_thread(post_later, job) ? BH_DONE : BH_FAIL;
}

static bh_rc begin(struct instance *self, bh_req *req, struct job *job)
{
    bh_str ms = bh_query(req, "timeout");

    if (is(job, "two_tickets"))
        job->other = bh_ticket_take(req, 0);
    job->ticket = bh_ticket_take(req, ms.p != NULL ? (uint32_t)atoi(ms.p) : 0);
    if (job->ticket == NULL)
        return BH_FAIL;
    if (is(job, "unused") || is(job, "unused_reply"))
        return leave_ticket(req, job);
    if (is(job, "unused_continue"))
        return BH_CONTINUE;
    if (is(job, "crash")) {
        *nowhere = 1;
        return BH_FAIL;
    }
    if (is(job, "early")) {
        told(job, "resume", bh_resume(job->ticket, BH_CONTINUE));
        return BH_PAUSE;
    }
    if (is(job, "expired_post")) {
        /* Its time will be over before the posted call resumes it. */
        bh_post(self->inst, posted_resume, job);
        sleep_ms(100);
        return BH_PAUSE;
    }
    if (is(job, "done"))
        bh_reply(req, 200, "text/plain", "set before the pause");
    return start_thread(work_thread, job) ? BH_PAUSE : BH_FAIL;
}

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    bh_str what = bh_query(req, "do"), delay = bh_query(req, "delay");
    bh_str until = bh_query(req, "until");
    struct job *job;
    char text[64];

    (void)ctx;
    if (what.p == NULL || what.n == 0)
        return BH_CONTINUE;
    if (strncmp(what.p, "offload", 7) == 0)
        return offload(req, what.p);
    if (strcmp(what.p, "pause_only") == 0)
        return BH_PAUSE;
    if (strcmp(what.p, "post") == 0)
        return bh_post(self->inst, posted, NULL) == BH_OK ? BH_CONTINUE : BH_FAIL;
    if (strcmp(what.p, "post_crash") == 0)
        return bh_post(self->inst, posted_crash, NULL) == BH_OK ? BH_CONTINUE : BH_FAIL;
    if (strcmp(what.p, "flood") == 0)
        return flood(self, req);
    if (strcmp(what.p, "posted") == 0) {
        snprintf(text, sizeof text, "%d", self->posted);
        return bh_reply(req, 200, "text/plain", text);
    }
    job = calloc(1, sizeof *job);
    if (job == NULL)
        return BH_FAIL;
    job->self = self;
    job->req = req;
    snprintf(job->what, sizeof job->what, "%s", what.p);
    snprintf(job->until, sizeof job->until, "%s", until.p != NULL ? until.p : "");
    job->delay_ms = delay.p != NULL ? (uint32_t)atoi(delay.p) : 20;
    return begin(self, req, job);
}

static bh_rc on_response(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)ctx;
    if (bh_ticket_take(req, 0) != NULL)
        bh_resp_header(req, "X-Ticket", "in on_response");
    return BH_CONTINUE;
}

static void on_log(void *self_, bh_req *req, void *ctx)
{
    (void)ctx;
    bh_logf(((struct instance *)self_)->inst, BH_LOG_WARN, "over: %s with %d",
            bh_attr(req, "raw_path").p, bh_status(req));
}

static bh_rc open_(bh_inst *inst, const void *cfg, void **out)
{
    struct instance *self = calloc(1, sizeof *self);

    (void)cfg;
    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    *out = self;
    return BH_OK;
}

/* self is not freed: threads may still log through it. */
BH_PLUGIN("pause", "1.0.0", .summary = "Pauses requests", .flags = BH_F_PINNED, .open = open_,
          .on_request = on_request, .on_response = on_response, .on_log = on_log)
