#include "ipc/refusal.h"

#include "base/must.h"

static const struct {
    const char *name, *detail;
    int status;
} table[REFUSAL_COUNT] = {
#define REFUSAL(constant, name_, status_, detail_) \
    [REFUSAL_##constant] = {.name = name_, .detail = detail_, .status = status_},
    REFUSALS(REFUSAL)
#undef REFUSAL
};

const char *refusal_name(enum http_refusal r)
{
    must(r < REFUSAL_COUNT);
    return table[r].name;
}

int refusal_status(enum http_refusal r)
{
    must(r < REFUSAL_COUNT);
    return table[r].status;
}

const char *refusal_detail(enum http_refusal r)
{
    must(r < REFUSAL_COUNT);
    return table[r].detail;
}
