/*
 * ab_test.c - one experiment: puts each id into a group, and keeps it there.
 *
 * An instance is an experiment; several of them stand in a chain side by side. Which group an id is
 * in follows from salt, name and id alone (experiment.c), so that all workers and machines agree.
 * What was decided once is remembered in a cookie (sticky).
 *
 * Time matters where an experiment has a beginning and an end, or slices. The request's own time is
 * taken (trace_time's variables), unless it is off by more than `tolerance`: then the slice would be
 * a guess, and the id alone decides, by session_id % 1000. Such requests are counted and reported.
 */
#include "experiment.h"
#include "exposure.h"
#include "target.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define REPORT_MS 10000 /* at most one line and event about fall-backs in so much time */

struct config {
    const char *name, *salt, *id, *starts, *ends, *header;
    bh_str override_key;
    bh_map groups, target;
    int64_t tolerance, slice, cookie_age, window;
    int32_t sticky;
    bh_cidrlist testers;
};

/* A share of requests, over the last one to two windows. */
struct rate {
    uint64_t of[2], n[2]; /* this window's, and that before it */
};

struct ab_test {
    bh_inst *inst;
    const struct config *cfg;
    struct experiment ex;
    bh_str id;
    int64_t starts_ms, ends_ms;                   /* INT64_MIN, INT64_MAX: no bound */
    char var[WORD_MAX + 8], cookie[WORD_MAX + 8]; /* "ab.NAME", "ab_NAME" */
    char query[WORD_MAX + 8];                     /* "ab_NAME": a tester's choice */
    uint64_t fallbacks;                           /* since the last report */
    int64_t report_ms;
    struct rate fallback, consistent;
    int64_t turn_ms; /* when a window of theirs is over */
    struct {         /* metrics */
        uint32_t assignments, fallback_rate, consistency_rate, fallbacks, seen_again, consistent;
    } m;
};

/* What was found out about one request. */
struct judgement {
    bh_str id;
    int64_t gateway_ms, time_ms; /* time_ms: the one that counts */
    int64_t window;              /* the number of the time slice; -1: none */
    bh_str gateway_text, request_text;
    int fallback;
    size_t before; /* the group that the client was in; n_groups: none, or not known */
    size_t group;
    uint32_t bucket;
    const char *reason;
};

static int is_token(const char *s)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return *s != '\0' && s[strspn(s, chars)] == '\0';
}

/* ---- metrics ------------------------------------------------------------------------------ */

static void define_metrics(struct ab_test *self)
{
    static const char *const one[] = {"experiment", NULL};
    static const char *const three[] = {"experiment", "group", "reason", NULL};

    /* Without metrics it works as well. */
    (void)bh_metric(self->inst, BH_M_COUNTER, "ab_assignments_total",
                    "Requests that were put into a group.", three, &self->m.assignments);
    (void)bh_metric(self->inst, BH_M_COUNTER, "ab_fallbacks_total",
                    "Requests whose time was off, so that the session id decided.", one,
                    &self->m.fallbacks);
    (void)bh_metric(self->inst, BH_M_COUNTER, "ab_seen_again_total",
                    "Requests of clients that had been put into a group before.", one,
                    &self->m.seen_again);
    (void)bh_metric(self->inst, BH_M_COUNTER, "ab_consistent_total",
                    "Those of them that got the same group again.", one, &self->m.consistent);
    (void)bh_metric(self->inst, BH_M_GAUGE_AVG, "ab_fallback_rate",
                    "Share of requests that fell back to the session id, 0 to 1.", one,
                    &self->m.fallback_rate);
    (void)bh_metric(self->inst, BH_M_GAUGE_AVG, "group_assignment_consistency_rate",
                    "Share of clients seen again that got the same group again, 0 to 1.", one,
                    &self->m.consistency_rate);
}

static void rate_note(struct rate *r, int counts)
{
    r->of[0]++;
    r->n[0] += counts != 0;
}

/* -1: nothing to go by. */
static double rate_value(const struct rate *r)
{
    uint64_t of = r->of[0] + r->of[1];

    return of > 0 ? (double)(r->n[0] + r->n[1]) / (double)of : -1;
}

static void rate_turn(struct rate *r)
{
    r->of[1] = r->of[0];
    r->n[1] = r->n[0];
    r->of[0] = r->n[0] = 0;
}

static void set_rate(struct ab_test *self, uint32_t id, const struct rate *r)
{
    double v = rate_value(r);

    /* Without requests the last value stands: it is not known to be another. */
    if (v >= 0)
        bh_metric_set(self->inst, id, &self->ex.name, v);
}

/* Once a second: a gauge on every request would cost for nothing. */
static void on_tick(void *self_, void *arg)
{
    struct ab_test *self = self_;
    int64_t now_ms = bh_now_ns(BH_CLOCK_LOOP) / 1000000;

    (void)arg;
    set_rate(self, self->m.fallback_rate, &self->fallback);
    set_rate(self, self->m.consistency_rate, &self->consistent);
    if (now_ms < self->turn_ms)
        return;
    self->turn_ms = now_ms + self->cfg->window;
    rate_turn(&self->fallback);
    rate_turn(&self->consistent);
}

static bh_rc ab_test_start(void *self_)
{
    struct ab_test *self = self_;
    bh_rc rc = bh_timer(self->inst, 1000, 1000, on_tick, NULL, NULL);

    self->turn_ms = bh_now_ns(BH_CLOCK_LOOP) / 1000000 + self->cfg->window;
    return rc == BH_OK || rc == BH_ENOSYS ? BH_OK : BH_FAIL;
}

static void count(struct ab_test *self, const struct judgement *j)
{
    const bh_str values[] = {self->ex.name, self->ex.group[j->group], bh_s(j->reason)};
    int is_override = strcmp(j->reason, "override") == 0;

    bh_metric_add(self->inst, self->m.assignments, values, 1);
    if (is_override)
        return;
    rate_note(&self->fallback, j->fallback);
    if (j->fallback)
        bh_metric_add(self->inst, self->m.fallbacks, values, 1);
    if (j->before == self->ex.n_groups)
        return;
    rate_note(&self->consistent, j->group == j->before);
    bh_metric_add(self->inst, self->m.seen_again, values, 1);
    if (j->group == j->before)
        bh_metric_add(self->inst, self->m.consistent, values, 1);
}

/* ---- options ------------------------------------------------------------------------------ */

static bh_rc complain(bh_errs *errs, const char *option, const char *fault)
{
    bh_cfg_error(errs, option, fault);
    return BH_FAIL;
}

static bh_rc check_target(const bh_map *target, bh_errs *errs)
{
    bh_rc rc = BH_OK;
    char text[256];

    for (size_t i = 0; i < target->n; i++) {
        const char *fault = target_fault(target->v[i].k);

        if (fault == NULL)
            continue;
        snprintf(text, sizeof text, "\"%.80s\" %s", target->v[i].k.p, fault);
        rc = complain(errs, "target", text);
    }
    return rc;
}

static bh_rc check_times(const struct config *c, bh_errs *errs)
{
    static const char expected[] = "is not a time such as 2026-12-01T08:00:00Z, or a date";
    int64_t starts = INT64_MIN, ends = INT64_MAX;
    bh_rc rc = BH_OK;

    if (c->starts != NULL && !experiment_time(c->starts, &starts))
        rc = complain(errs, "starts", expected);
    if (c->ends != NULL && !experiment_time(c->ends, &ends))
        rc = complain(errs, "ends", expected);
    if (rc == BH_OK && ends <= starts)
        rc = complain(errs, "ends", "is not later than starts");
    if (c->slice != 0 && c->slice < 2 * c->tolerance)
        rc = complain(errs, "slice", "is less than two tolerances: the slice would be a guess");
    return rc;
}

static bh_rc ab_test_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    struct experiment ex;
    const char *fault = experiment_init(&ex, bh_s("x"), bh_s("x"), &c->groups);
    bh_rc rc = BH_OK;

    if (fault != NULL)
        rc = complain(errs, "groups", fault);
    if (!is_word(bh_s(c->name)))
        rc = complain(errs, "name", "has to be 1 to 48 letters, digits, hyphens or underscores");
    if (c->salt != NULL && (*c->salt == '\0' || strlen(c->salt) > ID_MAX))
        rc = complain(errs, "salt", "has to have 1 to 256 bytes");
    if (target_fault(bh_s(c->id)) != NULL)
        rc = complain(errs, "id", target_fault(bh_s(c->id)));
    if (*c->header != '\0' && !is_token(c->header))
        rc = complain(errs, "header", "is not a header name (a token, RFC 9110 5.1)");
    if (c->override_key.p != NULL && c->override_key.n < 8)
        rc = complain(errs, "override_key", "has fewer than 8 bytes");
    if (check_target(&c->target, errs) != BH_OK)
        rc = BH_FAIL;
    if (check_times(c, errs) != BH_OK)
        rc = BH_FAIL;
    return rc;
}

static bh_rc ab_test_open(bh_inst *inst, const void *cfg, void **selfp)
{
    const struct config *c = cfg;
    struct ab_test *self = calloc(1, sizeof *self);

    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    self->cfg = c;
    self->id = bh_s(c->id);
    self->starts_ms = INT64_MIN;
    self->ends_ms = INT64_MAX;
    if (experiment_init(&self->ex, bh_s(c->name), bh_s(c->salt ? c->salt : c->name), &c->groups) !=
            NULL ||
        (c->starts != NULL && !experiment_time(c->starts, &self->starts_ms)) ||
        (c->ends != NULL && !experiment_time(c->ends, &self->ends_ms))) {
        free(self);
        return BH_FAIL; /* validate() has refused all of these */
    }
    snprintf(self->var, sizeof self->var, "ab.%s", c->name);
    snprintf(self->cookie, sizeof self->cookie, "ab_%s", c->name);
    snprintf(self->query, sizeof self->query, "ab_%s", c->name);
    define_metrics(self);
    *selfp = self;
    return BH_OK;
}

static void ab_test_close(void *self)
{
    free(self);
}

/* ---- time --------------------------------------------------------------------------------- */

/* "1767225600.123", as trace_time writes it. */
static int parse_stamp(bh_str text, int64_t *ms)
{
    long long seconds;
    unsigned fraction;
    char end;

    if (text.p == NULL || text.n > 20 ||
        sscanf(text.p, "%lld.%3u%c", &seconds, &fraction, &end) != 2)
        return 0;
    *ms = seconds * 1000 + fraction;
    return 1;
}

static void report_fallback(struct ab_test *self, int64_t skew_ms)
{
    int64_t now_ms = bh_now_ns(BH_CLOCK_LOOP) / 1000000;
    char text[200];

    self->fallbacks++;
    if (self->report_ms != 0 && now_ms - self->report_ms < REPORT_MS)
        return;
    snprintf(text, sizeof text,
             "experiment '%s': %llu request%s split by session id: %s is off by more than %lld ms "
             "(the last by %lld ms)",
             self->cfg->name, (unsigned long long)self->fallbacks,
             self->fallbacks == 1 ? " was" : "s were",
             self->fallbacks == 1 ? "its time" : "their time", (long long)self->cfg->tolerance,
             (long long)skew_ms);
    bh_log(self->inst, BH_LOG_WARN, text);
    (void)bh_event(self->inst, "ab_fallback", text);
    self->report_ms = now_ms;
    self->fallbacks = 0;
}

static bh_str print_stamp(bh_req *req, int64_t ms)
{
    char *buf = bh_alloc(req, 24);

    if (buf == NULL)
        return bh_s("");
    snprintf(buf, 24, "%lld.%03d", (long long)(ms / 1000), (int)(ms % 1000));
    return bh_s(buf);
}

static void judge_time(const struct ab_test *self, bh_req *req, struct judgement *j)
{
    int64_t client;

    j->gateway_text = bh_var(req, "trace_time.gateway");
    if (!parse_stamp(j->gateway_text, &j->gateway_ms)) {
        j->gateway_ms = bh_now_ns(BH_CLOCK_LOOP_REAL) / 1000000;
        j->gateway_text = print_stamp(req, j->gateway_ms);
    }
    j->time_ms = j->gateway_ms;
    j->request_text = bh_var(req, "trace_time.client");
    if (parse_stamp(j->request_text, &client)) {
        j->fallback = llabs(client - j->gateway_ms) > self->cfg->tolerance;
        if (!j->fallback)
            j->time_ms = client;
    }
    j->window = self->cfg->slice > 0 ? j->time_ms / self->cfg->slice : -1;
}

/* ---- groups ------------------------------------------------------------------------------- */

/* Does not tell by its time how much was right. */
static int is_key(bh_str a, bh_str b)
{
    unsigned char differ = a.n != b.n;

    for (size_t i = 0; i < a.n; i++)
        differ |= (unsigned char)(a.p[i] ^ b.p[b.n > 0 ? i % b.n : 0]);
    return !differ;
}

static int is_in(const bh_cidrlist *list, bh_str client)
{
    uint8_t addr[16] = {[10] = 0xff, [11] = 0xff};

    if (client.p == NULL ||
        (inet_pton(AF_INET, client.p, addr + 12) != 1 && inet_pton(AF_INET6, client.p, addr) != 1))
        return 0;
    for (size_t i = 0; i < list->n; i++) {
        size_t whole = list->v[i].bits / 8, bits = list->v[i].bits % 8;

        if (memcmp(list->v[i].addr, addr, whole) == 0 &&
            (bits == 0 || (list->v[i].addr[whole] ^ addr[whole]) >> (8 - bits) == 0))
            return 1;
    }
    return 0;
}

/* The group that a tester asked for, by ?ab_NAME=GROUP or X-Experiment-Override: NAME=GROUP; n_groups:
 * none, or not allowed. */
static size_t overridden(const struct ab_test *self, bh_req *req)
{
    const struct config *c = self->cfg;
    bh_str wish = bh_query(req, self->query), key = bh_header(req, "X-Experiment-Key");
    size_t name = strlen(c->name);

    for (size_t i = 0; wish.p == NULL && i < 8; i++) {
        bh_str h = bh_header_nth(req, BH_REQ, "X-Experiment-Override", i);

        if (h.p == NULL)
            break;
        if (h.n > name && memcmp(h.p, c->name, name) == 0 && h.p[name] == '=')
            wish = bh_sn(h.p + name + 1, h.n - name - 1);
    }
    if (wish.p == NULL)
        return self->ex.n_groups;
    if (!is_in(&c->testers, bh_attr(req, "client")) &&
        (c->override_key.p == NULL || key.p == NULL || !is_key(key, c->override_key)))
        return self->ex.n_groups;
    return experiment_find(&self->ex, wish.p, wish.n);
}

/* The group in the client's cookie, GROUP.TAG, when this experiment wrote it for this id. */
static size_t remembered(const struct ab_test *self, bh_req *req, const struct judgement *j)
{
    bh_str cookie = bh_cookie(req, self->cookie);
    size_t group;
    char tag[TAG_LEN + 1];

    if (cookie.n < TAG_LEN + 2 || cookie.p[cookie.n - TAG_LEN - 1] != '.')
        return self->ex.n_groups;
    group = experiment_find(&self->ex, cookie.p, cookie.n - TAG_LEN - 1);
    if (group == self->ex.n_groups)
        return group;
    experiment_tag(&self->ex, j->id, group, j->window, tag);
    return is_key(bh_sn(cookie.p + cookie.n - TAG_LEN, TAG_LEN), bh_sn(tag, TAG_LEN))
               ? group
               : self->ex.n_groups;
}

static void judge_group(const struct ab_test *self, bh_req *req, struct judgement *j)
{
    size_t none = self->ex.n_groups, wish = overridden(self, req);

    j->bucket = j->fallback ? experiment_bucket_by_id(j->id)
                            : experiment_bucket(&self->ex, j->id, j->window);
    j->before = remembered(self, req, j);
    if (wish != none) {
        j->group = wish;
        j->reason = "override";
    } else if (self->cfg->sticky && j->before != none) {
        j->group = j->before;
        j->reason = "sticky";
    } else {
        j->group = experiment_group(&self->ex, j->bucket);
        j->reason = j->fallback ? "fallback" : "assigned";
    }
}

/* ---- telling ------------------------------------------------------------------------------ */

static bh_rc remember(const struct ab_test *self, bh_req *req, const struct judgement *j)
{
    char tag[TAG_LEN + 1], cookie[320];
    int n;

    if (self->cfg->cookie_age == 0 || j->group == j->before || strcmp(j->reason, "override") == 0)
        return BH_OK;
    experiment_tag(&self->ex, j->id, j->group, j->window, tag);
    n = snprintf(cookie, sizeof cookie, "%s=%s.%s; Path=/; Max-Age=%lld; SameSite=Lax; HttpOnly%s",
                 self->cookie, self->ex.group[j->group].p, tag,
                 (long long)(self->cfg->cookie_age / 1000),
                 bh_str_eq(bh_attr(req, "scheme"), "https") ? "; Secure" : "");
    return bh_header_add(req, BH_RESP, "Set-Cookie", bh_sn(cookie, (size_t)n));
}

/* The first experiment of a chain throws away what the client sent under that name. */
static bh_rc own_header(const struct ab_test *self, bh_req *req)
{
    bh_rc rc;

    if (*self->cfg->header == '\0' || bh_var(req, "ab_header").p != NULL)
        return BH_OK;
    rc = bh_header_del(req, BH_REQ, self->cfg->header);
    if (rc != BH_OK && rc != BH_ENOENT)
        return rc;
    return bh_var_set(req, "ab_header", bh_s(self->cfg->header));
}

static bh_rc tell(const struct ab_test *self, bh_req *req, const struct judgement *j)
{
    bh_str group = self->ex.group[j->group];
    struct exposure exposure = {.experiment = self->ex.name,
                                .group = group,
                                .id = j->id,
                                .reason = bh_s(j->reason),
                                .bucket = j->bucket,
                                .fallback = j->fallback,
                                .request_time = j->request_text,
                                .gateway_time = j->gateway_text};
    char pair[2 * WORD_MAX + 8];
    int n = snprintf(pair, sizeof pair, "%s=%s", self->cfg->name, group.p);

    if (bh_var_set(req, self->var, group) != BH_OK || exposure_add(req, &exposure) != BH_OK)
        return BH_FAIL;
    if (*self->cfg->header != '\0' &&
        (bh_header_add(req, BH_REQ, self->cfg->header, bh_sn(pair, (size_t)n)) != BH_OK ||
         bh_header_add(req, BH_RESP, self->cfg->header, bh_sn(pair, (size_t)n)) != BH_OK))
        return BH_FAIL;
    return remember(self, req, j) == BH_OK ? BH_CONTINUE : BH_FAIL;
}

static bh_rc ab_test_on_request(void *self_, bh_req *req, void *ctx)
{
    struct ab_test *self = self_;
    struct judgement j = {.id = target_value(req, self->id)};

    (void)ctx;
    if (own_header(self, req) != BH_OK)
        return BH_FAIL;
    if (j.id.n == 0 || j.id.n > ID_MAX || memchr(j.id.p, '\0', j.id.n) != NULL ||
        !target_matches(req, &self->cfg->target))
        return BH_CONTINUE;
    judge_time(self, req, &j);
    if (j.time_ms < self->starts_ms || j.time_ms >= self->ends_ms)
        return BH_CONTINUE;
    judge_group(self, req, &j);
    count(self, &j);
    if (j.fallback) {
        int64_t client = 0;

        parse_stamp(j.request_text, &client);
        report_fallback(self, client - j.gateway_ms);
    }
    return tell(self, req, &j);
}

static const bh_opt ab_test_options[] = {
    BH_STR_REQUIRED(struct config, name, "name of the experiment"),
    BH_STR(struct config, salt, NULL, "hashed with each id; the name, if it is not given"),
    BH_OPT(struct config, groups, BH_T_MAP, BH_O_REQUIRED, NULL, 0, 0, NULL,
           "name of each group and its weight, such as {control: 50, blue: 50}"),
    BH_STR(struct config, id, "cookie:sid",
           "what is split: cookie:, header:, query: or var: and a name, or client"),
    BH_MAP(struct config, target, "who takes part: conditions, all of which have to hold"),
    BH_STR(struct config, starts, NULL, "when it begins, UTC: 2026-12-01T08:00:00Z, or a date"),
    BH_STR(struct config, ends, NULL, "when it is over"),
    BH_DURATION(struct config, slice, "0s", 0, 3.1536e10,
                "groups are drawn anew for each slice of time; 0s: once and for all"),
    BH_DURATION(struct config, tolerance, "200ms", 1, 60000,
                "a request whose time is off by more is split by session_id % 1000"),
    BH_BOOL(struct config, sticky, "true", "a client stays in the group that its cookie names"),
    BH_DURATION(struct config, cookie_age, "30d", 0, 3.1536e10, "of that cookie; 0s: no cookie"),
    BH_STR(struct config, header, "X-Experiment", "header NAME=GROUP, both ways; empty: none"),
    BH_DURATION(struct config, window, "5m", 1000, 86400000,
                "ab_fallback_rate and group_assignment_consistency_rate are of so much time"),
    BH_CIDRLIST(struct config, testers, "client networks that may choose a group"),
    BH_SECRET(struct config, override_key, "who sends it in X-Experiment-Key may, too"),
    BH_OPT_END,
};

BH_PLUGIN("ab_test", "1.0.0", .summary = "puts clients into the groups of an experiment",
          .options = ab_test_options, .cfg_size = sizeof(struct config),
          .validate = ab_test_validate, .open = ab_test_open, .start = ab_test_start,
          .close = ab_test_close, .on_request = ab_test_on_request)
