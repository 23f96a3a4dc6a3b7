/*
 * api_key.c - lets in who has a key.
 *
 * Where the key is looked for, and what comes of it. The keys themselves, and the comparison that
 * takes equally long for a good and a bad one, are in keys.c.
 */
#include "keys.h"

#include <bulkhead.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>

/* The file is looked at at most this often. */
#define CHECK_NS 1000000000LL

static const char problem[] = "{\"type\":\"about:blank\",\"title\":\"Unauthorized\",\"status\":401,"
                              "\"detail\":\"A valid API key is needed.\"}\n";

struct config {
    const char *keys_file, *header, *realm;
    int32_t bearer;
};

struct api_key {
    const struct config *cfg;
    bh_inst *inst;
    struct keys *keys;
    int64_t checked_ns;
    char path[PATH_MAX];
    char challenge[128], challenge_invalid[160]; /* WWW-Authenticate */
};

static int is_token(const char *s)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return *s != '\0' && s[strspn(s, chars)] == '\0';
}

static bh_rc api_key_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    bh_rc rc = BH_OK;

    if (c->keys_file[0] == '\0') {
        bh_cfg_error(errs, "keys_file", "is empty");
        rc = BH_FAIL;
    }
    if (!is_token(c->header)) {
        bh_cfg_error(errs, "header", "is not a header name (a token, RFC 9110 5.1)");
        rc = BH_FAIL;
    }
    if (strlen(c->realm) > 64 || strpbrk(c->realm, "\"\\\r\n\t") != NULL) {
        bh_cfg_error(errs, "realm", "is longer than 64 bytes, or has quotes or control characters");
        rc = BH_FAIL;
    }
    return rc;
}

static void api_key_close(void *self)
{
    struct api_key *a = self;

    keys_destroy(a->keys);
    free(a);
}

static bh_rc api_key_open(bh_inst *inst, const void *cfg, void **self)
{
    struct api_key *a = calloc(1, sizeof *a);
    const struct config *c = cfg;
    bh_str dir = bh_info(inst, "config_dir");
    char why[256];
    int n;

    if (a == NULL) {
        bh_log(inst, BH_LOG_ERROR, "out of memory");
        return BH_FAIL;
    }
    a->cfg = c;
    a->inst = inst;
    if (c->keys_file[0] == '/' || dir.n == 0)
        n = snprintf(a->path, sizeof a->path, "%s", c->keys_file);
    else
        n = snprintf(a->path, sizeof a->path, "%s/%s", dir.p, c->keys_file);
    snprintf(a->challenge, sizeof a->challenge, "Bearer realm=\"%s\"", c->realm);
    snprintf(a->challenge_invalid, sizeof a->challenge_invalid, "%s, error=\"invalid_token\"",
             a->challenge);

    if (n >= (int)sizeof a->path)
        snprintf(why, sizeof why, "the name is too long");
    else
        a->keys = keys_load(a->path, why, sizeof why);
    if (a->keys == NULL) {
        bh_logf(inst, BH_LOG_ERROR, "keys_file %s: %s", c->keys_file, why);
        api_key_close(a);
        return BH_FAIL;
    }
    if (keys_count(a->keys) == 0)
        bh_logf(inst, BH_LOG_WARN, "keys_file %s has no keys: nobody gets in", c->keys_file);
    if (keys_are_public(a->keys))
        bh_logf(inst, BH_LOG_WARN, "keys_file %s can be read by every user: chmod o-r",
                c->keys_file);
    a->checked_ns = bh_now_ns(BH_CLOCK_LOOP);
    *self = a;
    return BH_OK;
}

/* A changed file replaces the keys; one that cannot be read or has a mistake does not. */
static void reload(struct api_key *a)
{
    struct keys *fresh;
    int64_t now = bh_now_ns(BH_CLOCK_LOOP);
    char why[256];

    if (now - a->checked_ns < CHECK_NS)
        return;
    a->checked_ns = now;
    if (!keys_changed(a->keys, a->path))
        return;
    fresh = keys_load(a->path, why, sizeof why);
    if (fresh == NULL) {
        bh_logf(a->inst, BH_LOG_ERROR, "keys_file %s: %s; the old keys stay", a->cfg->keys_file,
                why);
        return;
    }
    bh_logf(a->inst, BH_LOG_INFO, "keys_file %s: %zu keys read", a->cfg->keys_file,
            keys_count(fresh));
    keys_destroy(a->keys);
    a->keys = fresh;
}

/* RFC 6750 2.1; the scheme's name has no case. */
static bh_str bearer_token(bh_str authorization)
{
    if (authorization.n < 8 || strncasecmp(authorization.p, "Bearer ", 7) != 0)
        return bh_s(NULL);
    authorization.p += 7;
    authorization.n -= 7;
    while (authorization.n > 0 && *authorization.p == ' ') {
        authorization.p++;
        authorization.n--;
    }
    return authorization;
}

static bh_rc refuse(const struct api_key *a, bh_req *req, int had_key)
{
    if (bh_resp_header(req, "WWW-Authenticate", had_key ? a->challenge_invalid : a->challenge) !=
        BH_OK)
        return BH_FAIL;
    return bh_reply_n(req, 401, "application/problem+json", problem, sizeof problem - 1);
}

static bh_rc api_key_on_request(void *self, bh_req *req, void *ctx)
{
    struct api_key *a = self;
    const char *header = a->cfg->header, *from = header;
    bh_str key = bh_header(req, header), name;

    (void)ctx;
    reload(a);
    if (key.p == NULL && a->cfg->bearer) {
        from = "Authorization";
        key = bearer_token(bh_header(req, from));
    }
    if (key.p == NULL)
        return refuse(a, req, 0);
    /* Two of them: a proxy may have looked at the other one. */
    if (bh_header_nth(req, BH_REQ, from, 1).p != NULL || !keys_find(a->keys, key, &name))
        return refuse(a, req, 1);

    if (bh_var_set(req, "api_key_name", name) != BH_OK || bh_header_del(req, BH_REQ, from) != BH_OK)
        return BH_FAIL;
    return BH_CONTINUE;
}

static const bh_opt api_key_options[] = {
    BH_STR_REQUIRED(struct config, keys_file, "one NAME:KEY or KEY per line; # begins a comment"),
    BH_STR(struct config, header, "X-Api-Key", "header that carries the key"),
    BH_BOOL(struct config, bearer, "true", "take Authorization: Bearer KEY, too"),
    BH_STR(struct config, realm, "api", "realm of WWW-Authenticate"),
    BH_OPT_END,
};

BH_PLUGIN("api_key", "1.0.0", .summary = "lets in who has a key from a file",
          .options = api_key_options, .cfg_size = sizeof(struct config),
          .validate = api_key_validate, .open = api_key_open, .close = api_key_close,
          .on_request = api_key_on_request)
