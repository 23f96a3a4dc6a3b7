/*
 * access_log.c - one line for every request, in the combined format or as JSON.
 *
 * It belongs at the front of a chain: it logs the requests that reach it, and its duration is that
 * of what comes after it. Lines go to a sink of the host, through shared memory, so those of a
 * worker that died right after are not lost.
 */
#include "line.h"

#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

/* Bytes of output per field. With the fixed text, all of them fit a line: line.c. */
enum { URL_MAX = 3600, REFERER_MAX = 1400, AGENT_MAX = 1200, WORD_MAX = 150 };
/* Variables take their room from the URL. */
enum { VARS_MAX = 6, VAR_NAME_MAX = 40, VAR_MAX = 100, URL_MAX_WITH_VARS = 2700 };

enum { FORMAT_COMBINED, FORMAT_JSON };

struct config {
    uint8_t format, duration;
    const char *path;
    bh_strlist redact, vars;
};

static const bh_opt options[] = {
    BH_ENUM(struct config, format, "combined", "combined|json", "Format of a line"),
    BH_STR(struct config, path, "-", "File to append to; -: standard output"),
    BH_STRLIST(struct config, redact, "token,key,password,secret,api_key,access_token",
               "Query arguments whose values are not logged"),
    BH_BOOL(struct config, duration, "false",
            "combined: add the seconds a request took; JSON always has them"),
    BH_STRLIST(struct config, vars, NULL, "Variables of other plugins to add, such as ab.NAME"),
    BH_OPT_END,
};

struct instance {
    bh_inst *inst;
    const struct config *cfg;
    uint32_t sink;
    int64_t second; /* that time and time_json are of */
    char time[32];  /* 23/Nov/2026:21:12:00 +0000 */
    char time_json[32];
};

struct request {
    int64_t begun_ns; /* 0: not asked for */
};

static bh_rc validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;

    if (c->vars.n > VARS_MAX) {
        bh_cfg_error(errs, "vars", "has more than 6 names");
        return BH_FAIL;
    }
    for (size_t i = 0; i < c->vars.n; i++) {
        bh_str name = c->vars.v[i];

        if (name.n == 0 || name.n > VAR_NAME_MAX ||
            strspn(name.p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") !=
                name.n) {
            bh_cfg_error(errs, "vars",
                         "a name has 1 to 40 letters, digits, points, hyphens or underscores");
            return BH_FAIL;
        }
    }
    return BH_OK;
}

static bh_rc open_instance(bh_inst *inst, const void *cfg, void **selfp)
{
    struct instance *self = calloc(1, sizeof *self);

    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    self->cfg = cfg;
    self->second = -1;
    if (bh_sink_open(inst, self->cfg->path, &self->sink) != BH_OK) {
        bh_logf(inst, BH_LOG_ERROR, "cannot open the log file %s", self->cfg->path);
        free(self);
        return BH_FAIL;
    }
    *selfp = self;
    return BH_OK;
}

static void close_instance(void *self)
{
    free(self);
}

static bool wants_duration(const struct instance *self)
{
    return self->cfg->format == FORMAT_JSON || self->cfg->duration;
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    struct request *r = ctx;

    (void)req;
    if (wants_duration(self))
        r->begun_ns = bh_now_ns(BH_CLOCK_MONO);
    return BH_CONTINUE;
}

/* ---- lines -------------------------------------------------------------------------------- */

/* Formatted once a second. Month names are not left to the locale. */
static void update_time(struct instance *self)
{
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    int64_t second = bh_now_ns(BH_CLOCK_LOOP_REAL) / 1000000000;
    time_t t = (time_t)second;
    struct tm tm;

    if (second == self->second || gmtime_r(&t, &tm) == NULL)
        return;
    self->second = second;
    snprintf(self->time, sizeof self->time, "%02d/%s/%04d:%02d:%02d:%02d +0000", tm.tm_mday % 100,
             months[tm.tm_mon % 12], (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100,
             tm.tm_sec % 100);
    strftime(self->time_json, sizeof self->time_json, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static size_t url_max(const struct instance *self)
{
    return self->cfg->vars.n > 0 ? URL_MAX_WITH_VARS : URL_MAX;
}

static bh_str or_dash(bh_str s)
{
    return s.n > 0 ? s : bh_s("-");
}

/* client - - [time] "METHOD target PROTOCOL" status bytes "referer" "user agent" */
static void write_combined(const struct instance *self, bh_req *req, int64_t took_ns,
                           struct line *l)
{
    const bh_strlist *redact = &self->cfg->redact;
    bh_str status = bh_attr(req, "status");
    char seconds[32];

    line_add_escaped(l, LINE_WORD, bh_attr(req, "client"), WORD_MAX);
    line_add(l, " - - [");
    line_add(l, self->time);
    line_add(l, "] \"");
    line_add_escaped(l, LINE_WORD, bh_attr(req, "method"), WORD_MAX);
    line_add(l, " ");
    line_add_url(l, LINE_WORD, bh_attr(req, "raw_path"), redact, url_max(self));
    line_add(l, " ");
    line_add_escaped(l, LINE_WORD, bh_attr(req, "protocol"), WORD_MAX);
    line_add(l, "\" ");
    /* 499: the client left before there was an answer, as in nginx. */
    line_add_escaped(l, LINE_WORD, status.n > 0 ? status : bh_s("499"), WORD_MAX);
    line_add(l, " ");
    line_add_escaped(l, LINE_WORD, bh_attr(req, "bytes"), WORD_MAX);
    line_add(l, " \"");
    line_add_url(l, LINE_TEXT, or_dash(bh_header(req, "Referer")), redact, REFERER_MAX);
    line_add(l, "\" \"");
    line_add_escaped(l, LINE_TEXT, or_dash(bh_header(req, "User-Agent")), AGENT_MAX);
    line_add(l, "\"");
    if (wants_duration(self)) {
        snprintf(seconds, sizeof seconds, " %lld.%06lld", (long long)(took_ns / 1000000000),
                 (long long)(took_ns / 1000 % 1000000));
        line_add(l, seconds);
    }
    for (size_t i = 0; i < self->cfg->vars.n; i++) {
        line_add(l, " \"");
        line_add_escaped(l, LINE_TEXT, or_dash(bh_var(req, self->cfg->vars.v[i].p)), VAR_MAX);
        line_add(l, "\"");
    }
}

static void add_member(struct line *l, const char *name, bh_str value, size_t max)
{
    if (value.p == NULL)
        return;
    line_add(l, ",\"");
    line_add(l, name);
    line_add(l, "\":\"");
    line_add_escaped(l, LINE_JSON, value, max);
    line_add(l, "\"");
}

static void add_url_member(struct line *l, const char *name, bh_str url, const bh_strlist *redact,
                           size_t max)
{
    if (url.p == NULL)
        return;
    line_add(l, ",\"");
    line_add(l, name);
    line_add(l, "\":\"");
    line_add_url(l, LINE_JSON, url, redact, max);
    line_add(l, "\"");
}

static void write_json(const struct instance *self, bh_req *req, int64_t took_ns, struct line *l)
{
    const bh_strlist *redact = &self->cfg->redact;
    bh_str status = bh_attr(req, "status"), bytes = bh_attr(req, "bytes");
    char text[64];

    line_add(l, "{\"time\":\"");
    line_add(l, self->time_json);
    line_add(l, "\"");
    add_member(l, "id", bh_attr(req, "id"), WORD_MAX);
    add_member(l, "client", bh_attr(req, "client"), WORD_MAX);
    add_member(l, "listener", bh_attr(req, "listener"), WORD_MAX);
    add_member(l, "host", bh_attr(req, "host"), WORD_MAX);
    add_member(l, "method", bh_attr(req, "method"), WORD_MAX);
    add_url_member(l, "target", bh_attr(req, "raw_path"), redact, url_max(self));
    add_member(l, "protocol", bh_attr(req, "protocol"), WORD_MAX);
    line_add(l, ",\"status\":");
    line_add(l, status.n > 0 ? status.p : "null");
    line_add(l, ",\"bytes\":");
    line_add(l, bytes.n > 0 ? bytes.p : "0");
    snprintf(text, sizeof text, ",\"duration_ms\":%lld.%03lld", (long long)(took_ns / 1000000),
             (long long)(took_ns / 1000 % 1000));
    line_add(l, text);
    add_url_member(l, "referer", bh_header(req, "Referer"), redact, REFERER_MAX);
    add_member(l, "user_agent", bh_header(req, "User-Agent"), AGENT_MAX);
    add_member(l, "route", bh_attr(req, "route"), WORD_MAX);
    add_member(l, "trace_id", bh_attr(req, "trace_id"), WORD_MAX);
    add_member(l, "crash_id", bh_attr(req, "crash_id"), WORD_MAX);
    for (size_t i = 0; i < self->cfg->vars.n; i++)
        add_member(l, self->cfg->vars.v[i].p, bh_var(req, self->cfg->vars.v[i].p), VAR_MAX);
    line_add(l, "}");
}

static void on_log(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    const struct request *r = ctx;
    struct line line;
    int64_t took_ns = 0;

    line.n = 0;
    if (r->begun_ns != 0)
        took_ns = bh_now_ns(BH_CLOCK_MONO) - r->begun_ns;
    update_time(self);
    if (self->cfg->format == FORMAT_JSON)
        write_json(self, req, took_ns, &line);
    else
        write_combined(self, req, took_ns, &line);
    /* When the sink is full the host counts the line as dropped; waiting would be worse. */
    bh_sink_write(self->inst, self->sink, line.p, line.n);
}

BH_PLUGIN("access_log", "1.0.0", .summary = "Logs every request, combined or as JSON",
          .options = options, .cfg_size = sizeof(struct config), .ctx_size = sizeof(struct request),
          .validate = validate, .open = open_instance, .close = close_instance,
          .on_request = on_request, .on_log = on_log)
