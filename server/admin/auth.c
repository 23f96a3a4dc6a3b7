/*
 * auth.c - who may ask, and who may act.
 *
 * Programs send a token with each request (Authorization: Bearer). Browsers log in with it once, and
 * get a cookie; what they send is then looked at for its origin, since a browser also sends cookies
 * where another site's page tells it to.
 *
 * What a newcomer would get wrong: a right token always passes. All users of a machine are one address
 * on its loopback, and whoever guesses there must not be able to lock the operators out: what limits
 * an address applies to those who show no right token, and those who do have a budget of their own.
 *
 * Sessions lie in a memory file that outlives this process, so that a reload does not log everybody
 * out. Of a session's id it keeps the SHA-256 only.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "base/must.h"
#include "conf/config.h"
#include "obs/log.h"

#define SESSIONS    64
#define CLIENTS     256 /* addresses that are kept in mind */
#define RATE        50 /* requests a second of one address, or with one role, in the long run ... */
#define BURST       200  /* ... and at once */
#define TRIES       10   /* wrong tokens of one address that are told so; then 429 ... */
#define TRY_MS      6000 /* ... until one is forgotten, in so long */
#define TOKEN_MAX   4096
#define COOKIE_SIZE 64

struct session {
    uint8_t sum[32];     /* of its id; all zero: free */
    int64_t end_ns;      /* real */
    uint32_t role;       /* enum admin_role */
    uint8_t of_token[8]; /* begin of the token's sum: another token, no session */
};

_Static_assert(sizeof(struct session) * SESSIONS <= ADMIN_SESSIONS_SIZE, "they fit");

struct client {
    struct address address; /* family 0: free */
    int64_t seen_ms;
    double requests, tries; /* left */
};

struct budget {
    int64_t seen_ms;
    double requests; /* left */
};

struct auth {
    const struct admin_view *view;
    struct admin_token token[ADMIN_OPERATOR + 1]; /* by role */
    struct session *session;
    struct client client[CLIENTS];
    struct budget budget[ADMIN_OPERATOR + 1]; /* by role */
    char cookie[COOKIE_SIZE];                 /* its name */
    bool is_unix, is_tls;
};

static const char *const role_names[] = {"nobody", "reader", "operator"};

const char *auth_role_name(enum admin_role role)
{
    return role_names[role];
}

int auth_create(const struct admin_view *view, const struct admin_seat *seat, struct auth **out)
{
    const struct config_listener *l = &view->cfg->admin.listener;
    struct auth *auth = calloc(1, sizeof *auth);
    void *p;

    if (auth == NULL)
        return -ENOMEM;
    p = mmap(NULL, ADMIN_SESSIONS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, seat->sessions_fd, 0);
    if (p == MAP_FAILED) {
        free(auth);
        return -errno;
    }
    auth->view = view;
    auth->session = p;
    auth->token[ADMIN_OPERATOR] = seat->operator_token;
    auth->token[ADMIN_READER] = seat->reader_token;
    for (int i = 0; i <= ADMIN_OPERATOR; i++)
        auth->budget[i].requests = BURST;
    auth->is_unix = l->addr.sa.sa_family == AF_UNIX;
    auth->is_tls = l->tls.is_on;
    /* A browser has one jar for all ports of a host. With that prefix it takes the cookie only from
     * whom it reaches by https, and not from a host beside this one (RFC 6265bis 4.1.3). */
    snprintf(auth->cookie, sizeof auth->cookie, "%sbulkhead_admin_%d",
             auth->is_tls ? "__Host-" : "", auth->is_unix ? 0 : ntohs(l->addr.in.sin_port));
    *out = auth;
    return 0;
}

/* ---- rates ---- */

static struct client *find_client(struct auth *auth, const struct request *req, int64_t now_ms)
{
    struct address who = req->visitor != NULL ? req->visitor->host->who
                                              : (struct address){.family = AF_UNIX};
    struct client *oldest = &auth->client[0];
    double elapsed;

    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &auth->client[i];

        if (c->address.family == who.family && memcmp(c->address.ip, who.ip, sizeof who.ip) == 0) {
            elapsed = (double)(now_ms - c->seen_ms);
            c->seen_ms = now_ms;
            c->requests += elapsed * RATE / 1000;
            c->requests = c->requests > BURST ? BURST : c->requests;
            c->tries += elapsed / TRY_MS;
            c->tries = c->tries > TRIES ? TRIES : c->tries;
            return c;
        }
        if (c->address.family == 0 || c->seen_ms < oldest->seen_ms)
            oldest = oldest->address.family == 0 && oldest != &auth->client[0] ? oldest : c;
    }
    *oldest = (struct client){.address = who, .seen_ms = now_ms, .requests = BURST, .tries = TRIES};
    return oldest;
}

/* One request of what is left. */
static bool take_request(struct auth *auth, const struct request *req, int64_t now_ms)
{
    double *left;

    if (req->role == ADMIN_NOBODY) {
        left = &find_client(auth, req, now_ms)->requests;
    } else {
        struct budget *b = &auth->budget[req->role];

        b->requests += (double)(now_ms - b->seen_ms) * RATE / 1000;
        b->requests = b->requests > BURST ? BURST : b->requests;
        b->seen_ms = now_ms;
        left = &b->requests;
    }
    if (*left < 1)
        return false;
    *left -= 1;
    return true;
}

static bool too_many(struct request *req, const char *what)
{
    reply_problem(req, 429, "Too Many Requests", "%s; try again in a few seconds", what);
    reply_header(req, "Retry-After", "6");
    return false;
}

/* ---- what browsers may be led to do ---- */

/* "[::1]:9900" -> "[::1]"; the host part, without its port. */
static void host_of(const char *text, char *host, size_t size)
{
    size_t n = text[0] == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":");

    snprintf(host, size, "%.*s", (int)(n < size ? n : size - 1), text);
}

/* A name that is none of ours: a page of somebody else's, whose name leads here just now (DNS
 * rebinding). Addresses can't be led anywhere. */
static bool is_our_host(const struct auth *auth, const char *value)
{
    const struct config_admin *cfg = &auth->view->cfg->admin;
    struct address address;
    char host[256];
    size_t n;

    host_of(value, host, sizeof host);
    n = strlen(host);
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (host[0] == '[' && n > 2 && host[n - 1] == ']')
        return address_parse(&address, host + 1, n - 2, false);
    if (address_parse(&address, host, n, false))
        return true;
    for (int i = 0; i < cfg->n_hosts; i++)
        if (strcasecmp(host, cfg->host[i]) == 0)
            return true;
    return false;
}

static bool is_change(const struct request *req)
{
    return strcmp(req->method, "GET") != 0 && strcmp(req->method, "HEAD") != 0 &&
           strcmp(req->method, "OPTIONS") != 0;
}

/* There are few event streams. A page of this host on another port cannot read one, but its cookie would be
 * sent along, and the place be gone. */
static bool takes_a_place(const struct request *req)
{
    return strcmp(req->path, "/api/v1/events") == 0;
}

/* 1: of our own pages; 0: it does not say; -1: of another site's. Without TLS of ours there may be a
 * server in front that has it: https is as good as http then. */
static int judge_origin(const struct auth *auth, const struct request *req)
{
    const char *site = request_header(req, "Sec-Fetch-Site");
    const char *origin = request_header(req, "Origin");
    const char *host = request_header(req, "Host");
    const char *authority = origin != NULL ? strstr(origin, "://") : NULL;

    if (site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)
        return -1;
    if (origin != NULL && strncmp(origin, "https://", 8) != 0 &&
        (auth->is_tls || strncmp(origin, "http://", 7) != 0))
        return -1;
    if (origin != NULL)
        return authority != NULL && host != NULL && strcasecmp(authority + 3, host) == 0 ? 1 : -1;
    return site != NULL ? 1 : 0;
}

/* ---- tokens ---- */

static bool sum_of(const char *text, uint8_t sum[32])
{
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), sum) >= 0;
}

/* In constant time, and always against both. */
static enum admin_role role_of_token(const struct auth *auth, const char *token)
{
    enum admin_role role = ADMIN_NOBODY;
    uint8_t sum[32];

    if (strlen(token) > TOKEN_MAX || !sum_of(token, sum))
        return ADMIN_NOBODY;
    for (int i = ADMIN_READER; i <= ADMIN_OPERATOR; i++)
        if (gnutls_memcmp(sum, auth->token[i].sum, sizeof sum) == 0 && auth->token[i].is_set)
            role = (enum admin_role)i;
    return role;
}

static bool needs_no_token(const struct auth *auth)
{
    return !auth->token[ADMIN_OPERATOR].is_set; /* a Unix socket: its permissions say who may */
}

static bool refuse_token(struct auth *auth, struct request *req, int64_t now_ms)
{
    struct client *c = find_client(auth, req, now_ms);
    char who[ADDRESS_TEXT];

    if (c->tries < 1)
        return too_many(req, "too many wrong tokens from this address");
    c->tries -= 1;
    if (c->tries < 1 && c->tries >= 0 && address_print(&c->address, who))
        log_warn("%s has sent many wrong tokens; it has to wait", who);
    reply_problem(req, 401, "Unauthorized", "that is not a token of this server");
    reply_header(req, "WWW-Authenticate", "Bearer realm=\"bulkhead\", error=\"invalid_token\"");
    return false;
}

/* ---- sessions ---- */

static const char *cookie_of(const struct auth *auth, const struct request *req, char *buf,
                             size_t size)
{
    const char *p = request_cookie(req);
    size_t n = strlen(auth->cookie);

    while (p != NULL && *p != '\0') {
        p += strspn(p, "; ");
        if (strncmp(p, auth->cookie, n) == 0 && p[n] == '=') {
            size_t len = strcspn(p + n + 1, "; ");

            snprintf(buf, size, "%.*s", (int)(len < size ? len : size - 1), p + n + 1);
            return buf;
        }
        p += strcspn(p, ";");
    }
    return NULL;
}

static struct session *find_session(struct auth *auth, const struct request *req)
{
    int64_t now_ns = clock_real_ns();
    struct session *found = NULL;
    uint8_t sum[32];
    char id[128];

    if (cookie_of(auth, req, id, sizeof id) == NULL || !sum_of(id, sum))
        return NULL;
    for (int i = 0; i < SESSIONS; i++) {
        struct session *s = &auth->session[i];

        if (gnutls_memcmp(s->sum, sum, sizeof sum) == 0 && s->end_ns > now_ns &&
            (s->role == ADMIN_READER || s->role == ADMIN_OPERATOR) && auth->token[s->role].is_set &&
            memcmp(s->of_token, auth->token[s->role].sum, sizeof s->of_token) == 0)
            found = s;
    }
    return found;
}

/* ---- a request ---- */

/* Whose it is, as far as that can be told by its head; nothing is answered yet. */
static void recognise(struct auth *auth, struct request *req)
{
    const char *value = request_header(req, "Authorization");
    const struct session *s;

    if (needs_no_token(auth))
        return;
    if (value == NULL) {
        s = find_session(auth, req);
        req->is_by_cookie = s != NULL;
        req->role = s != NULL ? (enum admin_role)s->role : ADMIN_NOBODY;
    } else if (strncasecmp(value, "Bearer ", 7) == 0) {
        req->role = role_of_token(auth, value + 7 + strspn(value + 7, " "));
        req->has_wrong_token = req->role == ADMIN_NOBODY;
    } else {
        req->has_wrong_scheme = true;
    }
    if (req->visitor != NULL)
        req->visitor->is_known = req->role != ADMIN_NOBODY;
}

bool auth_admit(struct auth *auth, struct request *req, int64_t now_ms)
{
    const char *host = request_header(req, "Host");

    recognise(auth, req);
    if (!take_request(auth, req, now_ms))
        return too_many(req, "too many requests");
    /* Without any it is no browser, but a load balancer's probe in HTTP/1.0. */
    if (!auth->is_unix && host != NULL && !is_our_host(auth, host)) {
        reply_problem(req, 421, "Misdirected Request",
                      "the admin interface is asked by address, as localhost, or by a name in "
                      "admin.hosts; not as '%.100s'",
                      host);
        return false;
    }
    if ((is_change(req) || takes_a_place(req)) && judge_origin(auth, req) < 0) {
        reply_problem(req, 403, "Forbidden", "a page of another site has sent this");
        return false;
    }
    return true;
}

bool auth_identify(struct auth *auth, struct request *req, int64_t now_ms)
{
    if (needs_no_token(auth)) {
        req->role = ADMIN_OPERATOR;
        return true;
    }
    if (req->has_wrong_scheme) {
        reply_problem(req, 401, "Unauthorized", "send the token as: Authorization: Bearer TOKEN");
        reply_header(req, "WWW-Authenticate", "Bearer realm=\"bulkhead\"");
        return false;
    }
    if (req->has_wrong_token)
        return refuse_token(auth, req, now_ms);
    if (req->is_by_cookie && is_change(req) && judge_origin(auth, req) <= 0) {
        reply_problem(req, 403, "Forbidden",
                      "a change by cookie has to come from a page of this server: there is neither "
                      "Origin nor Sec-Fetch-Site");
        return false;
    }
    return true;
}

/* ---- logging in and out ---- */

/* Readers who log in again and again push out readers, and no operator. */
static struct session *take_session(struct auth *auth, enum admin_role role)
{
    int first = role == ADMIN_OPERATOR ? 0 : SESSIONS / 2;
    struct session *oldest = &auth->session[first];

    for (int i = first + 1; i < first + SESSIONS / 2; i++)
        if (auth->session[i].end_ns < oldest->end_ns)
            oldest = &auth->session[i];
    return oldest;
}

static void set_cookie(const struct auth *auth, struct request *req, const char *id, int64_t age_s)
{
    char text[256];

    snprintf(text, sizeof text, "%s=%s; Path=/; Max-Age=%lld; HttpOnly; SameSite=Strict%s",
             auth->cookie, id, (long long)age_s, auth->is_tls ? "; Secure" : "");
    reply_header(req, "Set-Cookie", text);
}

void auth_login(struct auth *auth, struct request *req, const char *token, int64_t now_ms)
{
    uint32_t session_ms = auth->view->cfg->admin.session_ms;
    enum admin_role role;
    struct session *s;
    uint8_t random[24];
    char id[2 * sizeof random + 1];

    if (needs_no_token(auth)) {
        reply_json(req, 200, json_pack("{s:s}", "role", auth_role_name(ADMIN_OPERATOR)));
        return;
    }
    role = role_of_token(auth, token);
    if (role == ADMIN_NOBODY) {
        refuse_token(auth, req, now_ms);
        return;
    }
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        reply_problem(req, 503, "Service Unavailable", "the kernel has no random numbers");
        return;
    }
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
    s = take_session(auth, role);
    *s = (struct session){.end_ns = clock_real_ns() + (int64_t)session_ms * 1000000, .role = role};
    memcpy(s->of_token, auth->token[role].sum, sizeof s->of_token);
    if (!sum_of(id, s->sum))
        *s = (struct session){.role = 0};
    reply_json(req, 200, json_pack("{s:s}", "role", auth_role_name(role)));
    set_cookie(auth, req, id, session_ms / 1000);
}

void auth_logout(struct auth *auth, struct request *req)
{
    struct session *s = find_session(auth, req);

    if (s != NULL)
        *s = (struct session){.role = 0};
    reply_empty(req, 204);
    set_cookie(auth, req, "", 0);
}
