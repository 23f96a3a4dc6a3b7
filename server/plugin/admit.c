#include "plugin/admit.h"

#include <string.h>

#include "base/clock.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/arm.h"
#include "plugin/instance.h"
#include "plugin/recover.h"
#include "plugin/request.h"

struct trials { /* of one request in one plugin */
    int n;
    struct quarantine_trial trial[QUARANTINE_TRIALS];
};

static struct quarantine *quarantine_of(const bh_inst *inst)
{
    return &inst->stat->quarantine;
}

static void tell(const bh_inst *inst, const struct quarantine_news *news)
{
    const struct config *cfg = inst->config;
    const char *route = config_route_name(cfg, news->route);
    bool is_bad = news->change == BREAKER_OPENED || news->change == BREAKER_REOPENED;
    char text[512];

    if (news->change == BREAKER_SAME)
        return;
    quarantine_tell(news, &inst->limits, route,
                    inst->cfg->on_error == CONFIG_FAIL_OPEN ? "served without it" : "answered 503",
                    text, sizeof text);
    if (is_bad)
        log_error("plugin '%s': %s", inst->cfg->name, text);
    else
        log_info("plugin '%s': %s", inst->cfg->name, text);
}

/* ---- entering ---- */

static void keep_trials(struct bh_req *req, struct entry *e, const struct quarantine_answer *answer)
{
    struct trials *t = arena_zalloc(&req->arena, sizeof *t);

    if (t == NULL) /* they will be given up in time */
        return;
    t->n = answer->n_trials;
    memcpy(t->trial, answer->trial, sizeof t->trial);
    e->trials = t;
    req->has_trials = true;
}

bool admit_ask(struct bh_req *req, struct entry *e)
{
    struct quarantine_answer answer;
    bool may = quarantine_ask(quarantine_of(e->inst), &e->inst->limits, clock_mono_ms(),
                              req->route_number, &answer);

    for (int i = 0; i < answer.n_news; i++)
        tell(e->inst, &answer.news[i]);
    if (!may) {
        req->retry_after_s = (answer.retry_ms + 999) / 1000;
        return false;
    }
    if (answer.n_trials > 0) {
        keep_trials(req, e, &answer);
        instance_freshen(e->inst);
    }
    return true;
}

static void end_trial(struct entry *e, const struct quarantine_trial *trial, bool passed)
{
    struct quarantine_news news = quarantine_trial_ended(quarantine_of(e->inst), &e->inst->limits,
                                                         trial, passed);

    tell(e->inst, &news);
}

void admit_trials_end(struct entry *e)
{
    struct trials *t = e->trials;

    e->trials = NULL;
    for (int i = 0; i < t->n; i++)
        end_trial(e, &t->trial[i], (e->flags & (ENTRY_ENTERED | ENTRY_OUT)) == ENTRY_ENTERED);
}

/* The token is when the trial will be given up; half of the way there is enough. */
void admit_streams(struct bh_req *req)
{
    int64_t now_ms = clock_mono_ms();
    bool has_more = false;

    for (int i = 0; i < req->n_entries; i++) {
        struct entry *e = &req->entry[i];

        if (e->trials == NULL)
            continue;
        if (e->trials->trial[0].token - now_ms <= (int64_t)e->inst->limits.open_ms / 2)
            admit_trials_end(e);
        else
            has_more = true;
    }
    req->has_trials = has_more;
}

/* ---- crashes ---- */

static void charge(bh_inst *inst, uint32_t route, uint64_t place)
{
    struct quarantine_news news[2];
    int n;

    if (inst->cfg->candidate_of != NULL)
        arm_trip(inst);
    if (inst->limits.crashes == 0)
        return; /* no breaker: not even a look at the clock */
    n = quarantine_charge(quarantine_of(inst), &inst->limits, clock_mono_ms(), route, place, news);

    for (int i = 0; i < n; i++)
        tell(inst, &news[i]);
}

void admit_charge(bh_inst *inst, const struct bh_req *req, const struct recover_fault *fault)
{
    /* A call that runs past its deadline is interrupted anywhere: that place says nothing. */
    charge(inst, req != NULL ? req->route_number : 0, fault->is_deadline ? 0 : fault->place);
}

void admit_charge_eject(bh_inst *inst)
{
    charge(inst, 0, 0);
}
