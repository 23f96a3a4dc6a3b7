#include "exporter/receivers.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "conf/config.h"
#include "exporter/alert_text.h"
#include "exporter/outbox.h"
#include "exporter/rule.h"
#include "ipc/shm.h"
#include "obs/log.h"

#define TIMEOUT_MS 10000
#define MAX_AGE_MS 900000
#define MAX_BYTES  (1u << 20)

_Static_assert(SHM_RECEIVERS == CONFIG_MAX_RECEIVERS, "a place for each");

struct receiver {
    const struct config_receiver *is;
    struct mailbox *box;
    int64_t resend_ms; /* Alertmanager: all that fires, then */
    uint32_t waiting;
    int64_t arrived_ns;
};

static struct {
    const struct config_alerts *cfg;
    struct shm *shm;
    struct outbox *outbox;
    struct alert *alert; /* SHM_ALERTS */
    struct receiver receiver[CONFIG_MAX_RECEIVERS];
    uint32_t last_message;
    bool is_ending;
    char host[HOST_NAME_MAX + 1];
} receivers;

/* ---- what they answer ---- */

/* For webhooks any trouble of the other end's own is worth another try. */
static enum outbox_verdict judge(const struct outbox_answer *answer, char *why, size_t size)
{
    (void)why;
    (void)size;
    return answer->status >= 500 ? OUTBOX_AGAIN : outbox_judge(answer);
}

/* WeCom answers 200, whatever it thinks of it. */
static enum outbox_verdict judge_wecom(const struct outbox_answer *answer, char *why, size_t size)
{
    enum outbox_verdict verdict = judge(answer, why, size);
    json_t *json, *code;

    if (verdict != OUTBOX_TAKEN)
        return verdict;
    json = json_loadb(answer->body, answer->body_len, 0, NULL);
    code = json_object_get(json, "errcode");
    if (!json_is_integer(code)) {
        snprintf(why, size, "its answer is none of WeCom's");
        verdict = OUTBOX_REFUSED;
    } else if (json_integer_value(code) != 0) {
        const char *message = json_string_value(json_object_get(json, "errmsg"));

        snprintf(why, size, "errcode %lld: %.100s", (long long)json_integer_value(code),
                 message != NULL ? message : "");
        /* -1: busy; 45009: more than 20 messages a minute. */
        verdict = json_integer_value(code) == -1 || json_integer_value(code) == 45009
                      ? OUTBOX_AGAIN
                      : OUTBOX_REFUSED;
    }
    json_decref(json);
    return verdict;
}

/* Dropped at the end of this process: somebody has to tell it all the same. */
static void settled(void *context, uint32_t message, bool was_taken)
{
    struct receiver *r = context;
    size_t k = (size_t)(r - receivers.receiver);

    r->waiting--;
    if (was_taken)
        r->arrived_ns = clock_real_ns();
    for (uint32_t i = 0; i < SHM_ALERTS; i++) {
        struct alert *a = &receivers.alert[i];

        if (a->rule == NULL || a->message[k] != message)
            continue;
        a->is.told[k] = was_taken             ? ALERT_ARRIVED
                        : receivers.is_ending ? ALERT_UNTOLD
                                              : ALERT_NOT_ARRIVED;
        if (receivers.is_ending)
            shm_alert_write(receivers.shm, i, &a->is);
    }
}

/* ---- from the exporter before ---- */

static int place_before(const char *name)
{
    struct shm_receiver before;

    for (uint32_t k = 0; k < SHM_RECEIVERS; k++)
        if (shm_receiver_read(receivers.shm, k, &before) && strcmp(before.name, name) == 0)
            return (int)k;
    return -1;
}

static uint8_t told_before(const struct shm_alert *a, int place)
{
    if (place < 0)
        return a->state == ALERT_RESOLVED ? ALERT_SPARED : ALERT_UNTOLD;
    if (a->told[place] == ALERT_ON_ITS_WAY) /* it ended, or was killed, before it knew */
        return ALERT_UNTOLD;
    if (a->state == ALERT_FIRING && a->told[place] == ALERT_SPARED) /* by the rule as it was */
        return ALERT_UNTOLD;
    return a->told[place];
}

/* The receivers of this config may be others, and stand at other places. */
static void take_over(void)
{
    int before[CONFIG_MAX_RECEIVERS];

    for (int k = 0; k < receivers.cfg->n_receivers; k++)
        before[k] = place_before(receivers.cfg->receiver[k].name);
    for (int i = 0; i < SHM_ALERTS; i++) {
        struct shm_alert *a = &receivers.alert[i].is;
        uint8_t told[SHM_RECEIVERS] = {0};

        for (int k = 0; k < receivers.cfg->n_receivers; k++)
            told[k] = told_before(a, before[k]);
        memcpy(a->told, told, sizeof told);
    }
}

/* ---- set-up ---- */

static int open_receiver(struct receiver *r, const struct config_receiver *c)
{
    char what[64];
    struct outbox_address address = {.what = what,
                                     .url = c->url,
                                     .ca = c->ca,
                                     .content_type = "application/json",
                                     .header = c->header,
                                     .n_headers = c->n_headers,
                                     .timeout_ms = TIMEOUT_MS,
                                     .max_age_ms = MAX_AGE_MS,
                                     .parallel = 1, /* "resolved" must not overtake "firing" */
                                     .max_bytes = MAX_BYTES,
                                     .judge = c->type == CONFIG_WECOM ? judge_wecom : judge,
                                     .settled = settled,
                                     .context = r};

    snprintf(what, sizeof what, "alerts to '%.40s'", c->name);
    r->is = c;
    r->box = outbox_add(receivers.outbox, &address);
    return r->box != NULL ? 0 : -ENOMEM;
}

int receivers_open(const struct config_alerts *cfg, struct shm *shm, struct outbox *outbox,
                   struct alert *alert)
{
    receivers.cfg = cfg;
    receivers.shm = shm;
    receivers.outbox = outbox;
    receivers.alert = alert;
    for (int i = 0; i < cfg->n_receivers; i++)
        if (open_receiver(&receivers.receiver[i], &cfg->receiver[i]) < 0)
            return -ENOMEM;
    if (gethostname(receivers.host, sizeof receivers.host - 1) < 0)
        receivers.host[0] = '\0';
    take_over();
    receivers_publish();
    return 0;
}

/* ---- telling ---- */

static bool is_due(const struct receiver *r, const struct alert *a, bool is_resend, int64_t now_ms)
{
    size_t k = (size_t)(r - receivers.receiver);

    if (a->rule == NULL || (a->rule->receivers & 1u << k) == 0)
        return false;
    if (a->is.state == ALERT_FIRING)
        return a->is.told[k] == ALERT_UNTOLD || is_resend ||
               (r->is->type != CONFIG_ALERTMANAGER &&
                now_ms - a->is.told_ms >= (int64_t)receivers.cfg->repeat_ms);
    return a->is.state == ALERT_RESOLVED && a->is.told[k] == ALERT_UNTOLD && !r->is->is_quiet;
}

static void put_message(struct receiver *r, struct alert_message *m, const int *place)
{
    size_t k = (size_t)(r - receivers.receiver), n;
    uint32_t message = ++receivers.last_message;
    char *text = alert_text(m, &n);

    for (int i = 0; i < m->n; i++) {
        struct alert *a = &receivers.alert[place[i]];

        a->message[k] = message;
        if (a->is.told[k] != ALERT_ARRIVED) /* when it is only told again, it has */
            a->is.told[k] = ALERT_ON_ITS_WAY;
    }
    r->waiting++;
    if (outbox_put(receivers.outbox, r->box, text, n, message) < 0)
        log_error("alerts to '%s': %d dropped: too many wait already, or no memory", r->is->name,
                  m->n);
}

static void tell(struct receiver *r, int64_t now_ms, int64_t now_ns)
{
    const struct alert *list[SHM_ALERTS];
    int place[SHM_ALERTS];
    struct alert_message m = {.to = r->is,
                              .alert = list,
                              .instance = receivers.host[0] != '\0' ? receivers.host : NULL,
                              .now_ns = now_ns};
    bool is_resend = r->is->type == CONFIG_ALERTMANAGER && now_ms >= r->resend_ms;

    for (int i = 0; i < SHM_ALERTS; i++)
        if (is_due(r, &receivers.alert[i], is_resend, now_ms)) {
            place[m.n] = i;
            list[m.n++] = &receivers.alert[i];
        }
    if (is_resend)
        r->resend_ms = now_ms + ALERT_RESEND_MS;
    if (m.n > 0)
        put_message(r, &m, place);
}

void receivers_tell(int64_t now_ms, int64_t now_ns)
{
    for (int k = 0; k < receivers.cfg->n_receivers; k++)
        tell(&receivers.receiver[k], now_ms, now_ns);
    for (int i = 0; i < SHM_ALERTS; i++) {
        struct alert *a = &receivers.alert[i];
        bool is_shown = a->is.state == ALERT_FIRING || a->is.state == ALERT_RESOLVED;

        if (a->rule == NULL || !is_shown)
            continue;
        for (int k = 0; k < receivers.cfg->n_receivers; k++)
            if (a->is.told[k] == ALERT_UNTOLD) /* those who are told of this have been */
                a->is.told[k] = ALERT_SPARED;
        if (a->is.told_ms == 0 || (a->is.state == ALERT_FIRING &&
                                   now_ms - a->is.told_ms >= (int64_t)receivers.cfg->repeat_ms))
            a->is.told_ms = now_ms;
    }
}

/* ---- for others ---- */

static void publish(uint32_t k)
{
    const struct receiver *r = &receivers.receiver[k];
    const struct outbox_counts *counts = r->box != NULL ? outbox_counts(r->box) : NULL;
    struct shm_receiver is = {.waiting = r->waiting, .arrived_ns = r->arrived_ns};

    if (counts != NULL) {
        is.arrived = counts->sent;
        is.dropped = counts->dropped;
        snprintf(is.name, sizeof is.name, "%s", r->is->name);
        snprintf(is.trouble, sizeof is.trouble, "%s", outbox_trouble(r->box));
    }
    shm_receiver_write(receivers.shm, k, &is);
}

void receivers_publish(void)
{
    for (uint32_t k = 0; k < SHM_RECEIVERS; k++)
        publish(k);
}

void receivers_end(void)
{
    receivers.is_ending = true;
}
