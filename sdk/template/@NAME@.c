/*
 * @NAME@.c - greets at /hello, and marks every answer that passes.
 *
 * A plugin that shows the three things most have: an option, a hook that answers, and a hook that
 * changes answers of others. Hooks run on one thread, so there is nothing to lock; they must not
 * block. A crash in here costs one request.
 */
#include <bulkhead.h>

/* The host checks the options, fills them in, and passes the struct to open(). */
struct config {
    const char *greeting;
    const char *mark;
};

static const bh_opt options[] = {
    BH_STR(struct config, greeting, "Hello", "How to greet"),
    BH_STR(struct config, mark, "@NAME@", "Value of the header X-Passed-Through"),
    BH_OPT_END,
};

/* What open() puts into *self is what the hooks get. Here the options are all there is to know. */
static bh_rc open_instance(bh_inst *inst, const void *cfg, void **self)
{
    (void)inst;
    *self = (void *)(uintptr_t)cfg;
    return BH_OK;
}

/* On the way in: answer, or let the next plugin of the chain have the request. */
static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    const struct config *cfg = self;
    bh_str name = bh_query(req, "name");
    char text[256];

    (void)ctx;
    if (!bh_str_eq(bh_attr(req, "path"), "/hello"))
        return BH_CONTINUE;
    if (name.n == 0)
        name = bh_s("world");
    if (name.n > 100)
        return bh_reply(req, 400, "text/plain; charset=utf-8", "That is a long name.\n");
    snprintf(text, sizeof text, "%.100s, %s!\n", cfg->greeting, name.p);
    return bh_reply(req, 200, "text/plain; charset=utf-8", text);
}

/* On the way out: the answer's head is about to be sent, whoever has made it. */
static bh_rc on_response(void *self, bh_req *req, void *ctx)
{
    const struct config *cfg = self;

    (void)ctx;
    if (bh_resp_header(req, "X-Passed-Through", cfg->mark) != BH_OK)
        return BH_FAIL;
    return BH_CONTINUE;
}

BH_PLUGIN("@NAME@", "0.1.0", .summary = "Greets at /hello", .options = options,
          .cfg_size = sizeof(struct config), .open = open_instance, .on_request = on_request,
          .on_response = on_response)
