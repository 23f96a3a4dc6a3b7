#include "plugin/arm.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/siphash.h"
#include "conf/config.h"
#include "ipc/rollout.h"
#include "obs/log.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/request.h"
#include "plugin/shadow.h"

bool arm_is_on;

/* Each request for itself. */
static uint64_t hash_request(const uint64_t salt[2])
{
    static uint64_t n;
    uint64_t seed[2] = {(uint64_t)getpid(), ++n};

    return siphash13(salt, seed, sizeof seed);
}

static uint64_t hash_of(struct bh_req *req, const struct config *cfg)
{
    bh_str key = {NULL, 0};

    switch (cfg->rollout.key) {
    case PLAN_KEY_REQUEST: return hash_request(cfg->rollout.salt);
    case PLAN_KEY_HEADER: key = host_table()->hdr_get(req, BH_REQ, cfg->rollout.key_name, 0); break;
    case PLAN_KEY_COOKIE: key = host_table()->cookie(req, cfg->rollout.key_name); break;
    case PLAN_KEY_CLIENT: break;
    }
    if (key.n == 0) /* who has no such header or cookie goes by the address */
        key = host_table()->attr(req, "client");
    return siphash13(cfg->rollout.salt, key.n > 0 ? key.p : "", key.n);
}

/* One that has no working instance, or whose breaker is not closed, costs nobody anything. */
static bool is_fit(const bh_inst *candidate)
{
    return candidate->current != NULL && !candidate->is_ejected &&
           !quarantine_is_on(&candidate->stat->quarantine);
}

void arm_pick(struct bh_req *req, struct entry *e)
{
    const struct config *cfg = e->inst->config;
    uint64_t word = atomic_load_explicit(&e->inst->rollout->word, memory_order_relaxed);
    enum rollout_mode mode = rollout_mode(word);

    if (rollout_number(word) != cfg->rollout.number ||
        (mode != ROLLOUT_SHADOW && mode != ROLLOUT_CANARY))
        return;
    if (req->arm != 0) { /* the plugin is twice in this chain: as before */
        if (req->arm == ARM_CANDIDATE && is_fit(e->inst->next))
            e->inst = e->inst->next;
        return;
    }
    req->arm = ARM_STABLE;
    req->arm_at = (int)(e - req->entry);
    if (rollout_has(rollout_parts(word), hash_of(req, cfg)) && is_fit(e->inst->next)) {
        if (mode == ROLLOUT_SHADOW) {
            shadow_enter(req, e->inst->next);
        } else {
            req->arm = ARM_CANDIDATE;
            e->inst = e->inst->next;
        }
    }
    /* A clock is read here and in arm_count(), as long as there is a rollout: its gates compare how
     * long requests take, and the loop's clock stands still while a request runs through its chain. */
    req->arm_ns = clock_mono_ns();
}

void arm_count(const struct bh_req *req)
{
    const struct entry *e = &req->entry[req->arm_at];
    struct rollout *r = e->inst->rollout;
    bool has_failed = (e->flags & ENTRY_OUT) != 0 || req->reply.status >= 500;

    if (rollout_number(atomic_load_explicit(&r->word, memory_order_relaxed)) ==
        e->inst->config->rollout.number)
        rollout_count(r, req->arm == ARM_CANDIDATE ? ROLLOUT_CANDIDATE : ROLLOUT_STABLE, has_failed,
                      clock_mono_ns() - req->arm_ns);
}

void arm_trip(const bh_inst *candidate)
{
    if (rollout_trip(candidate->rollout, candidate->config->rollout.number))
        log_error("plugin '%s': no request gets it any more: it is rolled back",
                  candidate->cfg->name);
}
