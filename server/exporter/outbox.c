#include "exporter/outbox.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/curl.h"
#include "base/list.h"
#include "conf/config.h"
#include "exporter/echo.h"
#include "obs/log.h"

#ifndef BULKHEAD_VERSION
#define BULKHEAD_VERSION "0"
#endif

#define FIRST_DELAY_MS 1000
#define LAST_DELAY_MS  30000
#define MAX_DELAY_MS   300000 /* whatever Retry-After says */
#define BODY_MAX       4096
#define POLL_FDS       8
#define CURL_FDS       POLL_FDS

struct letter {
    struct list node; /* in address.waiting, or .away */
    struct mailbox *to;
    char *body;
    size_t n;
    uint32_t tag;
    int64_t born_ms;
    CURL *easy;             /* on its way */
    int64_t retry_after_ms; /* -1: was not said */
    char error[CURL_ERROR_SIZE];
    size_t answer_len;
    char answer[BODY_MAX + 1];
};

struct mailbox {
    struct list node; /* in outbox.addresses */
    struct outbox *outbox;
    struct outbox_address is;
    struct curl_slist *headers;
    char *url, *shown, *ca; /* shown: no more than the host */
    char what[64];
    struct list waiting, away;
    uint32_t n_away;
    size_t bytes;
    int64_t not_before_ms;
    uint32_t n_failures; /* in a row */
    struct outbox_counts counts;
    uint64_t dropped_told;
    char trouble[160];
};

struct outbox {
    const struct curl *curl;
    CURLM *multi;
    struct list addresses;
    uint64_t random;
};

/* ---- set-up ---- */

int outbox_open(struct outbox **out, char *why, size_t size)
{
    struct outbox *o = calloc(1, sizeof *o);
    int r = -ENOMEM;

    snprintf(why, size, "out of memory");
    if (o == NULL)
        return -ENOMEM;
    list_init(&o->addresses);
    o->random = (uint64_t)clock_mono_ns() | 1;
    r = curl_load(&o->curl, why, size);
    if (r == 0) {
        o->multi = o->curl->multi_init();
        r = o->multi == NULL ? -ENOMEM : 0;
    }
    if (r < 0) {
        free(o);
        return r;
    }
    *out = o;
    return 0;
}

static bool add_header(const struct curl *curl, struct curl_slist **list, const char *name,
                       const char *value)
{
    size_t n = strlen(name) + strlen(value) + 3;
    char *line = malloc(n);
    struct curl_slist *longer = NULL;

    if (line != NULL) {
        /* "Name;" is how libcurl is told of an empty one. */
        snprintf(line, n, value[0] != '\0' ? "%s: %s" : "%s;", name, value);
        longer = curl->slist_append(*list, line);
    }
    free(line);
    if (longer == NULL)
        return false;
    *list = longer;
    return true;
}

static bool make_headers(const struct curl *curl, const struct outbox_address *is,
                         struct curl_slist **list)
{
    bool ok = add_header(curl, list, "Content-Type", is->content_type);

    if (ok && is->is_gzip)
        ok = add_header(curl, list, "Content-Encoding", "gzip");
    for (int i = 0; ok && i < is->n_headers; i++)
        ok = add_header(curl, list, is->header[i].name, is->header[i].value);
    if (ok) { /* no waiting for a 100 before the body */
        struct curl_slist *longer = curl->slist_append(*list, "Expect:");

        ok = longer != NULL;
        if (ok)
            *list = longer;
    }
    return ok;
}

/* A path may be a key as well as a query. */
static size_t count_shown(const char *url)
{
    const char *scheme = strstr(url, "://");
    size_t n = scheme != NULL ? (size_t)(scheme + 3 - url) : 0;

    return n + strcspn(url + n, "/?#");
}

struct mailbox *outbox_add(struct outbox *o, const struct outbox_address *what)
{
    struct mailbox *a = calloc(1, sizeof *a);

    if (a == NULL)
        return NULL;
    a->is = *what;
    a->outbox = o;
    list_init(&a->waiting);
    list_init(&a->away);
    snprintf(a->what, sizeof a->what, "%s", what->what);
    a->url = strdup(what->url);
    a->shown = strndup(what->url, count_shown(what->url));
    a->ca = what->ca != NULL ? strdup(what->ca) : NULL;
    if (a->url == NULL || a->shown == NULL || (what->ca != NULL && a->ca == NULL) ||
        !make_headers(o->curl, what, &a->headers)) {
        o->curl->slist_free_all(a->headers);
        free(a->url);
        free(a->shown);
        free(a->ca);
        free(a);
        return NULL;
    }
    list_append(&o->addresses, &a->node);
    return a;
}

/* ---- letters ---- */

static struct letter *first(const struct list *list)
{
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not see that list_remove() takes one out */
    return list_is_empty(list) ? NULL : list_entry(list->next, struct letter, node);
}

static void settle(struct letter *l, bool was_taken)
{
    struct mailbox *a = l->to;

    if (l->easy != NULL) {
        a->outbox->curl->multi_remove_handle(a->outbox->multi, l->easy);
        a->outbox->curl->easy_cleanup(l->easy);
        a->n_away--;
    }
    list_remove(&l->node);
    a->bytes -= l->n;
    if (was_taken)
        a->counts.sent++;
    else
        a->counts.dropped++;
    if (a->is.settled != NULL)
        a->is.settled(a->is.context, l->tag, was_taken);
    free(l->body);
    free(l);
}

int outbox_put(struct outbox *o, struct mailbox *a, char *body, size_t n, uint32_t tag)
{
    struct letter *l = outbox_has_room(a) && body != NULL ? calloc(1, sizeof *l) : NULL;

    (void)o;
    if (l == NULL) {
        a->counts.dropped++;
        if (a->is.settled != NULL)
            a->is.settled(a->is.context, tag, false);
        free(body);
        return outbox_has_room(a) ? -ENOMEM : -ENOBUFS;
    }
    l->to = a;
    l->body = body;
    l->n = n;
    l->tag = tag;
    l->born_ms = clock_mono_ms();
    list_append(&a->waiting, &l->node);
    a->bytes += n;
    return 0;
}

bool outbox_has_room(const struct mailbox *a)
{
    return a->bytes < a->is.max_bytes;
}

size_t outbox_bytes(const struct mailbox *a)
{
    return a->bytes;
}

const struct outbox_counts *outbox_counts(const struct mailbox *a)
{
    return &a->counts;
}

const char *outbox_trouble(const struct mailbox *a)
{
    return a->trouble;
}

bool outbox_is_empty(const struct outbox *o)
{
    for (struct list *p = o->addresses.next; p != &o->addresses; p = p->next)
        if (list_entry(p, struct mailbox, node)->bytes > 0)
            return false;
    return true;
}

static void close_address(struct mailbox *a)
{
    struct letter *l;

    while ((l = first(&a->away)) != NULL)
        settle(l, false);
    while ((l = first(&a->waiting)) != NULL)
        settle(l, false);
    list_remove(&a->node);
    a->outbox->curl->slist_free_all(a->headers);
    free(a->url);
    free(a->shown);
    free(a->ca);
    free(a);
}

void outbox_close(struct outbox **outp)
{
    struct outbox *o = *outp;

    if (o == NULL)
        return;
    *outp = NULL;
    while (o->addresses.next != &o->addresses)
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): as in first() */
        close_address(list_entry(o->addresses.next, struct mailbox, node));
    o->curl->multi_cleanup(o->multi);
    free(o);
}

/* ---- what comes back ---- */

enum outbox_verdict outbox_judge(const struct outbox_answer *answer)
{
    switch (answer->status) {
    case 0:
    case 408:
    case 429:
    case 502:
    case 503:
    case 504: return OUTBOX_AGAIN;
    default: return answer->status >= 200 && answer->status < 300 ? OUTBOX_TAKEN : OUTBOX_REFUSED;
    }
}

int64_t outbox_retry_after_ms(const char *value, int64_t now_s)
{
    struct tm tm = {0};
    int64_t s;
    char *end;

    while (*value == ' ' || *value == '\t')
        value++;
    if (*value >= '0' && *value <= '9') {
        errno = 0;
        s = strtoll(value, &end, 10);
        if (errno != 0)
            return MAX_DELAY_MS;
        while (*end == ' ' || *end == '\t' || *end == '\r' || *end == '\n')
            end++;
        if (*end != '\0')
            return -1;
    } else {
        /* IMF-fixdate (RFC 9110 5.6.7): nobody sends the obsolete ones here. */
        end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        if (end == NULL)
            return -1;
        s = (int64_t)timegm(&tm) - now_s;
    }
    if (s < 0)
        return 0;
    return s > MAX_DELAY_MS / 1000 ? MAX_DELAY_MS : s * 1000;
}

static size_t take_header(char *p, size_t size, size_t n, void *letter)
{
    static const char name[] = "retry-after:";
    struct letter *l = letter;
    char value[64];

    n *= size;
    if (n >= sizeof name && strncasecmp(p, name, sizeof name - 1) == 0) {
        snprintf(value, sizeof value, "%.*s", (int)(n - sizeof name + 1), p + sizeof name - 1);
        value[strcspn(value, "\r\n")] = '\0';
        l->retry_after_ms = outbox_retry_after_ms(value, clock_real_ns() / 1000000000);
    }
    return n;
}

static size_t take_body(char *p, size_t size, size_t n, void *letter)
{
    struct letter *l = letter;
    size_t room = BODY_MAX - l->answer_len;

    n *= size;
    memcpy(l->answer + l->answer_len, p, n < room ? n : room);
    l->answer_len += n < room ? n : room;
    return n; /* the rest is read and thrown away: the connection can be used again */
}

/* ---- on the way ---- */

static bool send_letter(struct letter *l)
{
    struct mailbox *a = l->to;
    const struct curl *curl = a->outbox->curl;
    CURL *easy = curl->easy_init();

    if (easy == NULL)
        return false;
    l->retry_after_ms = -1;
    l->answer_len = 0;
    l->error[0] = '\0';
    curl->easy_setopt(easy, CURLOPT_URL, a->url);
    curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl->easy_setopt(easy, CURLOPT_POST, 1L);
    curl->easy_setopt(easy, CURLOPT_POSTFIELDS, l->body);
    curl->easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)l->n);
    curl->easy_setopt(easy, CURLOPT_HTTPHEADER, a->headers);
    curl->easy_setopt(easy, CURLOPT_USERAGENT, "bulkhead/" BULKHEAD_VERSION);
    curl->easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)a->is.timeout_ms);
    if (a->ca != NULL)
        curl->easy_setopt(easy, CURLOPT_CAINFO, a->ca);
    curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl->easy_setopt(easy, CURLOPT_HEADERDATA, l);
    curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl->easy_setopt(easy, CURLOPT_WRITEDATA, l);
    curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, l->error);
    curl->easy_setopt(easy, CURLOPT_PRIVATE, l);
    if (curl->multi_add_handle(a->outbox->multi, easy) != CURLM_OK) {
        curl->easy_cleanup(easy);
        return false;
    }
    l->easy = easy;
    a->n_away++;
    list_remove(&l->node);
    list_append(&a->away, &l->node);
    return true;
}

/* Not all at once after an outage: up to a fifth more. */
static int64_t delay_ms(struct mailbox *a, const struct letter *l)
{
    int64_t ms = a->n_failures > 5 ? LAST_DELAY_MS : (int64_t)FIRST_DELAY_MS << (a->n_failures - 1);

    a->outbox->random ^= a->outbox->random << 13;
    a->outbox->random ^= a->outbox->random >> 7;
    a->outbox->random ^= a->outbox->random << 17;
    if (ms > LAST_DELAY_MS)
        ms = LAST_DELAY_MS;
    ms += (int64_t)(a->outbox->random % (uint64_t)(ms / 5));
    return l->retry_after_ms > ms ? l->retry_after_ms : ms;
}

/* Back to the head of the queue, in the order in which they came. */
static void put_back(struct letter *l)
{
    struct mailbox *a = l->to;
    struct list *at = &a->waiting;

    a->outbox->curl->multi_remove_handle(a->outbox->multi, l->easy);
    a->outbox->curl->easy_cleanup(l->easy);
    l->easy = NULL;
    a->n_away--;
    list_remove(&l->node);
    while (at->next != &a->waiting &&
           list_entry(at->next, struct letter, node)->born_ms <= l->born_ms)
        at = at->next;
    list_append(at->next, &l->node); /* before that one */
}

static void tell_failure(const struct mailbox *a, int64_t delay)
{
    /* The first time, and then as the delay grows. */
    if (a->n_failures == 1 || (a->n_failures & (a->n_failures - 1)) == 0)
        log_warn("%s: %s: %s; tried again in %" PRId64 " s", a->what, a->shown, a->trouble,
                 (delay + 999) / 1000);
}

static bool repeats_a_secret(const struct mailbox *a, const char *text)
{
    if (echo_has_url(text, a->url))
        return true;
    for (const struct curl_slist *h = a->headers; h != NULL; h = h->next)
        if (echo_has_header(text, h->data))
            return true;
    return false;
}

static void note_trouble(struct mailbox *a, const struct outbox_answer *answer, const char *why)
{
    char status[32];

    snprintf(status, sizeof status, "status %ld", answer->status);
    snprintf(a->trouble, sizeof a->trouble, "%s%s%s", answer->status != 0 ? status : answer->error,
             why[0] != '\0' ? ": " : "", why);
}

static void arrived(struct letter *l, CURLcode result, int64_t now_ms)
{
    struct mailbox *a = l->to;
    const struct curl *curl = a->outbox->curl;
    struct outbox_answer answer = {.body = l->answer, .body_len = l->answer_len};
    enum outbox_verdict verdict;
    char why[256] = "";
    int64_t delay;

    l->answer[l->answer_len] = '\0';
    if (result == CURLE_OK)
        curl->easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &answer.status);
    else
        answer.error = l->error[0] != '\0' ? l->error : curl->easy_strerror(result);
    verdict = a->is.judge != NULL && answer.status != 0 ? a->is.judge(&answer, why, sizeof why)
                                                        : outbox_judge(&answer);
    if (why[0] != '\0' && (repeats_a_secret(a, why) || repeats_a_secret(a, l->answer)))
        snprintf(why, sizeof why, "its answer repeats what it was sent, and is not shown");
    if (verdict == OUTBOX_TAKEN)
        a->trouble[0] = '\0';
    else
        note_trouble(a, &answer, why);
    switch (verdict) {
    case OUTBOX_TAKEN:
        if (a->n_failures > 0)
            log_info("%s: %s takes them again; %" PRIu64 " requests were dropped meanwhile",
                     a->what, a->shown, a->counts.dropped - a->dropped_told);
        a->dropped_told = a->counts.dropped;
        a->n_failures = 0;
        a->not_before_ms = 0;
        if (why[0] != '\0')
            log_warn("%s: %s: %s", a->what, a->shown, why);
        settle(l, true);
        return;
    case OUTBOX_REFUSED:
        log_error("%s: %s: refused with status %ld%s%s: dropped", a->what, a->shown, answer.status,
                  why[0] != '\0' ? ": " : "", why);
        settle(l, false);
        return;
    case OUTBOX_AGAIN:
        a->counts.again++;
        /* Those that were under way together fail together: that is one failure. */
        if (a->not_before_ms <= now_ms) {
            a->n_failures++;
            delay = delay_ms(a, l);
            a->not_before_ms = now_ms + delay;
            tell_failure(a, delay);
        }
        if (now_ms - l->born_ms > a->is.max_age_ms)
            settle(l, false);
        else
            put_back(l);
        return;
    }
}

static void begin_due(struct mailbox *a, int64_t now_ms)
{
    struct letter *l;

    while ((l = first(&a->waiting)) != NULL && a->n_away < a->is.parallel &&
           a->not_before_ms <= now_ms)
        if (!send_letter(l))
            settle(l, false);
    while ((l = first(&a->waiting)) != NULL && now_ms - l->born_ms > (int64_t)a->is.max_age_ms)
        settle(l, false);
}

void outbox_run(struct outbox *o, int64_t now_ms)
{
    int n_running, n_left;
    struct CURLMsg *m;

    for (struct list *p = o->addresses.next; p != &o->addresses; p = p->next)
        begin_due(list_entry(p, struct mailbox, node), now_ms);
    o->curl->multi_perform(o->multi, &n_running);
    while ((m = o->curl->multi_info_read(o->multi, &n_left)) != NULL) {
        CURLcode result = m->data.result;
        struct letter *l = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        o->curl->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &l);
        arrived(l, result, now_ms);
    }
    for (struct list *p = o->addresses.next; p != &o->addresses; p = p->next)
        begin_due(list_entry(p, struct mailbox, node), now_ms);
    o->curl->multi_perform(o->multi, &n_running);
}

void outbox_wait(struct outbox *o, struct pollfd *fds, unsigned n, int timeout_ms, int64_t now_ms)
{
    struct curl_waitfd extra[CURL_FDS];

    for (struct list *p = o->addresses.next; p != &o->addresses; p = p->next) {
        const struct mailbox *a = list_entry(p, struct mailbox, node);

        if (a->waiting.next != &a->waiting && a->n_away == 0 &&
            a->not_before_ms - now_ms < timeout_ms)
            timeout_ms = a->not_before_ms > now_ms ? (int)(a->not_before_ms - now_ms) : 0;
    }
    for (unsigned i = 0; i < n && i < CURL_FDS; i++)
        extra[i] = (struct curl_waitfd){.fd = fds[i].fd, .events = CURL_WAIT_POLLIN};
    o->curl->multi_poll(o->multi, extra, n < CURL_FDS ? n : CURL_FDS, timeout_ms, NULL);
    for (unsigned i = 0; i < n && i < CURL_FDS; i++)
        fds[i].revents = extra[i].revents;
}
