/*
 * logger.c - a plugin for tests: logs what the query asks for.
 *
 * ?say=TEXT&level=1..4&times=N (percent-decoded: any bytes), also as an event with &event=NAME (the answer
 * is what bh_event() said at first and at last), or ?hostile=1: lines that would break a
 * format which does not take care. Each line goes to the error log, and to an access log, if there is
 * one (option sink).
 */
#include <bulkhead.h>
#include <stdlib.h>

struct config {
    const char *sink;
};

struct self {
    uint32_t sink;
    int has_sink;
};

static const bh_opt options[] = {
    BH_STR(struct config, sink, NULL, "access log to write the lines to as well"),
    BH_OPT_END,
};

static char huge[65536 + 1];

static const bh_str lines[] = {
    {"two\nlines\r\nand a third", 22},
    {"\0starts with a NUL\0", 19},
    {"\x1b[2J\x1b]0;title\x07 moves the terminal", 32},
    {"\xff\xfe\xc0\x80\xed\xa0\x80\xf5\x80\x80\x80 is no UTF-8", 25},
    {"\xe2\x80\xa8 \xc2\x85 \xc2\x9b \x7f", 12},
    {"\",\"level\":\"error\",\"forged\":true}\n{\"x\":\"", 39},
    {"%s%n%d %999999999d \\u0000 \\", 27},
    {"cut within a character \xf0\x9f", 25},
    {"<3>not a priority", 17},
    {"", 0},
    {huge, 65536},
};

static bh_rc open_it(bh_inst *inst, const void *cfg, void **out)
{
    const struct config *c = cfg;
    struct self *self = calloc(1, sizeof *self);

    for (size_t i = 0; i < sizeof huge - 1; i++)
        huge[i] = "\xc3\xa9\"\\\n\xff"[i % 6];
    if (self == NULL)
        return BH_FAIL;
    if (c->sink != NULL) {
        if (bh_sink_open(inst, c->sink, &self->sink) != BH_OK)
            return BH_FAIL;
        self->has_sink = 1;
    }
    *out = self;
    return BH_OK;
}

static int number(bh_req *req, const char *name, int missing)
{
    bh_str v = bh_query(req, name);

    return v.p != NULL ? atoi(v.p) : missing;
}

static bh_rc on_request(void *arg, bh_req *req, void *ctx)
{
    bh_inst *inst = bh_instance(req);
    struct self *self = arg;
    bh_str say = bh_query(req, "say");
    int level = number(req, "level", BH_LOG_INFO), times = number(req, "times", 1);

    bh_rc rc = BH_OK, first = BH_OK;
    char text[32];

    (void)ctx;
    for (int i = 0; i < times && say.p != NULL; i++)
        bh__h->log(inst, level, say.p, say.n);
    for (int i = 0; i < times && bh_query(req, "event").p != NULL; i++) {
        bh_str name = bh_query(req, "event");

        rc = bh__h->event(inst, name.p, say.p, say.n);
        if (i == 0)
            first = rc;
    }
    if (bh_query(req, "event").p != NULL) {
        snprintf(text, sizeof text, "%d %d\n", first, rc);
        return bh_reply(req, 200, "text/plain", text);
    }
    for (size_t i = 0; number(req, "hostile", 0) != 0 && i < sizeof lines / sizeof lines[0]; i++) {
        bh__h->log(inst, level, lines[i].p, lines[i].n);
        if (self->has_sink)
            bh_sink_write(inst, self->sink, lines[i].p, lines[i].n);
    }
    return bh_reply(req, 200, "text/plain", bh_log_enabled(inst, level) ? "on\n" : "off\n");
}

static void close_it(void *self)
{
    free(self);
}

BH_PLUGIN("logger", "1.0.0", .options = options, .cfg_size = sizeof(struct config), .open = open_it,
          .close = close_it, .on_request = on_request)
