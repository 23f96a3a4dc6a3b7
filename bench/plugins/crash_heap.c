/*
 * crash_heap.c - crash.c with an instance of the usual kind: open() allocates a struct and two texts,
 * and each request another one, which the crash leaks.
 */
#include <bulkhead.h>
#include <stdlib.h>
#include <string.h>

struct instance {
    char *name, *text;
    int numbers[40];
};

static int *volatile nowhere; /* volatile: the compiler must not see that this is NULL */
static char *volatile seen;

static bh_rc open_instance(bh_inst *inst, const void *cfg, void **selfp)
{
    struct instance *self = calloc(1, sizeof *self);

    (void)inst, (void)cfg;
    if (self == NULL)
        return BH_ENOMEM;
    self->name = strdup("an instance");
    self->text = malloc(2000);
    *selfp = self;
    return self->name != NULL && self->text != NULL ? BH_OK : BH_ENOMEM;
}

static void close_instance(void *arg)
{
    struct instance *self = arg;

    free(self->name);
    free(self->text);
    free(self);
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    bh_str path = bh_attr(req, "path");

    (void)self, (void)ctx;
    seen = malloc(100);
    seen[0] = 'x';
    if (path.n > 1 && path.p[1] == 'a')
        abort();
    *nowhere = 1;
    return BH_CONTINUE;
}

static bh_rc on_response(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return BH_CONTINUE;
}

static void on_log(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
}

BH_PLUGIN("crash_heap", "1.0", .summary = "Dereferences NULL, having allocated something",
          .open = open_instance, .close = close_instance, .on_request = on_request,
          .on_response = on_response, .on_log = on_log)
