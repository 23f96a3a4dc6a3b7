/*
 * figures.c - defines metrics, and does what the query asks of them: ?do=WHAT&l=LABEL&v=NUMBER.
 *
 * WHAT: add (a counter), set (a gauge), observe (a histogram), offload (the counter, from another
 * thread), many (the counter, with v labels), bad (a bad pointer as label), crash (adds first).
 * refused: metrics that must not be; the reply says what became of each.
 */
#include <bulkhead.h>

#include <stdio.h>
#include <stdlib.h>

struct instance {
    bh_inst *inst;
    uint32_t counter, gauge, histogram, largest;
};

static bh_rc open_(bh_inst *inst, const void *cfg, void **out)
{
    static const char *const labels[] = {"l", NULL};
    struct instance *self = calloc(1, sizeof *self);

    (void)cfg;
    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    if (bh_metric(inst, BH_M_COUNTER, "figures_total", "Of a test.", labels, &self->counter) ||
        bh_metric(inst, BH_M_GAUGE, "figures_level", "Of a test.", labels, &self->gauge) ||
        bh_metric(inst, BH_M_GAUGE_MAX, "figures_largest", NULL, NULL, &self->largest) ||
        bh_metric(inst, BH_M_HISTOGRAM, "figures_seconds", NULL, NULL, &self->histogram))
        return BH_FAIL;
    *out = self;
    return BH_OK;
}

static void close_(void *self)
{
    free(self);
}

static int32_t work(void *arg)
{
    const struct instance *self = arg;
    bh_str label = bh_s("offload");

    for (int i = 0; i < 1000; i++)
        bh_metric_add(self->inst, self->counter, &label, 1);
    return BH_CONTINUE;
}

static bh_rc reply_refused(const struct instance *self, bh_req *req)
{
    static const char *const bad_label[] = {"plugin", NULL}, *const twice[] = {"a", "a", NULL};
    static const struct {
        const char *name;
        const char *const *labels;
        int32_t type;
    } tries[] = {{"bulkhead_mine", NULL, BH_M_COUNTER},
                 {"x y", NULL, BH_M_COUNTER},
                 {"x_count", NULL, BH_M_GAUGE},
                 {"x_total", NULL, BH_M_GAUGE},
                 {"x", bad_label, BH_M_GAUGE},
                 {"x", twice, BH_M_GAUGE},
                 {"x", NULL, 77}};
    char text[128] = "";
    uint32_t id = 1;

    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        bh_rc rc = bh_metric(self->inst, tries[i].type, tries[i].name, "", tries[i].labels, &id);

        snprintf(text + strlen(text), sizeof text - strlen(text), "%d,%u ", (int)rc, id);
    }
    return bh_reply(req, 200, "text/plain", text);
}

static bh_rc on_request(void *arg, bh_req *req, void *ctx)
{
    const struct instance *self = arg;
    bh_str what = bh_query(req, "do"), label = bh_query(req, "l"), v = bh_query(req, "v");
    double number = v.p != NULL ? atof(v.p) : 1;

    (void)ctx;
    if (bh_str_eq(what, "add")) {
        bh_metric_add(self->inst, self->counter, &label, number);
    } else if (bh_str_eq(what, "set")) {
        bh_metric_set(self->inst, self->gauge, &label, number);
        bh_metric_set(self->inst, self->largest, NULL, number);
    } else if (bh_str_eq(what, "observe")) {
        bh_metric_observe(self->inst, self->histogram, NULL, number);
    } else if (bh_str_eq(what, "offload")) {
        return bh_offload(req, work, arg);
    } else if (bh_str_eq(what, "many")) {
        for (int i = 0; i < (int)number; i++) {
            char text[16];
            bh_str one;

            snprintf(text, sizeof text, "many %d", i);
            one = bh_s(text);
            bh_metric_add(self->inst, self->counter, &one, 1);
        }
    } else if (bh_str_eq(what, "bad")) {
        bh_str one = bh_sn((const char *)8, 5);

        bh_metric_add(self->inst, self->counter, &one, 1);
    } else if (bh_str_eq(what, "crash")) {
        bh_metric_add(self->inst, self->counter, &label, number);
        abort();
    } else if (bh_str_eq(what, "refused")) {
        return reply_refused(self, req);
    }
    return BH_CONTINUE;
}

BH_PLUGIN("figures", "1.0.0", .open = open_, .close = close_, .on_request = on_request)
