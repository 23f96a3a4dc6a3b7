#include "tls/set.h"

#include <ctype.h>
#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "base/must.h"
#include "conf/config.h"
#include "tls/apart.h"
#include "tls/bundle.h"

#define NAMES_MAX 1000 /* of one certificate */
#define SOON_DAYS 7    /* an end that near is worth a word */

/*
 * Only what has forward secrecy and authenticates what it encrypts; curves and hashes as everybody has
 * them. No finite-field Diffie-Hellman: it is slow for the server, and every client has curves.
 */
#define ALGORITHMS                                                                                \
    "-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:"   \
    "-MAC-ALL:+AEAD:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+GROUP-SECP521R1:" \
    "-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1:-SIGN-DSA-SHA1:%SERVER_PRECEDENCE"
#define OUR_PRIORITY_12 "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:" ALGORITHMS
#define OUR_PRIORITY_13 "NORMAL:-VERS-ALL:+VERS-TLS1.3:" ALGORITHMS
#define NEVER           ":-VERS-SSL3.0:-VERS-TLS1.0:-VERS-TLS1.1:-VERS-DTLS-ALL"

struct certificate {
    gnutls_pcert_st *chain;
    unsigned n_chain;
    gnutls_privkey_t key;
    int algorithm; /* of its public key */
    char **name;   /* in lower case */
    int n_names;
};

struct rules { /* of a listener */
    bool is_on;
    struct certificate *certificate;
    int n_certificates;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    enum config_client_auth client_auth;
    gnutls_datum_t ticket_key; /* size 0: no tickets */
    unsigned char ticket_key_bytes[BUNDLE_TICKET_KEY];
};

struct tls_set {
    int refs;
    int n;
    struct rules rules[];
};

struct loader { /* what is being read */
    const struct config *cfg;
    const struct config_listener *listener;
    struct diag *diag, *warnings;
};

/* ---- which certificate ---- */

bool tls_name_covers(const char *pattern, const char *host)
{
    const char *dot;

    if (pattern[0] != '*' || pattern[1] != '.')
        return strcmp(pattern, host) == 0;
    dot = strchr(host, '.'); /* the star is one label, and not an empty one (RFC 6125 6.4.3) */
    return dot != NULL && dot != host && strcmp(pattern + 1, dot) == 0;
}

/* 2: by its full name; 1: by a star; 0: not at all. */
static int rank(const struct certificate *c, const char *host)
{
    int best = 0;

    for (int i = 0; i < c->n_names && best < 2; i++)
        if (tls_name_covers(c->name[i], host))
            best = c->name[i][0] == '*' ? 1 : 2;
    return best;
}

static bool is_usable(const struct certificate *c, const struct gnutls_cert_retr_st *info)
{
    for (unsigned i = 0; i < (unsigned)info->pk_algos_length; i++)
        if ((int)info->pk_algos[i] == c->algorithm)
            return true;
    return info->pk_algos_length == 0;
}

static void read_server_name(gnutls_session_t session, char *buf, size_t size)
{
    unsigned type = 0;
    size_t n = size - 1;

    buf[0] = '\0';
    if (gnutls_server_name_get(session, buf, &n, &type, 0) < 0 || type != GNUTLS_NAME_DNS)
        buf[0] = '\0';
    for (char *p = buf; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
}

/* The one whose name fits best, among those that the client can verify if there are any; else the
 * first: a client that names another host will say so better than we could. */
static int choose(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                  gnutls_pcert_st **chain, unsigned *n_chain, gnutls_ocsp_data_st **ocsp,
                  unsigned *n_ocsp, gnutls_privkey_t *key, unsigned *flags)
{
    const struct rules *rules = gnutls_session_get_ptr(session);
    const struct certificate *best = &rules->certificate[0];
    int best_score = -1;
    char host[256];

    read_server_name(session, host, sizeof host);
    for (int i = 0; i < rules->n_certificates; i++) {
        const struct certificate *c = &rules->certificate[i];
        int score = (host[0] != '\0' ? rank(c, host) * 2 : 0) + is_usable(c, info);

        if (score > best_score) {
            best = c;
            best_score = score;
        }
    }
    *chain = best->chain;
    *n_chain = best->n_chain;
    *key = best->key;
    *ocsp = NULL;
    *n_ocsp = 0;
    *flags = 0; /* they stay ours */
    return 0;
}

/* ---- whose certificate ---- */

/* 0 when there is none, too: whether that will do is for others to say. */
static int verify_client(gnutls_session_t session)
{
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned n = 0, status = 0;

    if (gnutls_certificate_get_peers(session, &n) == NULL || n == 0)
        return 0;
    if (gnutls_certificate_verify_peers(session, &purpose, 1, &status) < 0 || status != 0)
        return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
    return 0;
}

bool tls_set_admits(const struct tls_set *set, int listener, gnutls_session_t session,
                    bool *is_verified)
{
    const struct rules *rules = &set->rules[listener];
    unsigned n = 0;

    *is_verified = false;
    if (rules->client_auth == CONFIG_CLIENT_NONE)
        return true;
    if (gnutls_certificate_get_peers(session, &n) == NULL || n == 0)
        return rules->client_auth == CONFIG_CLIENT_OPTIONAL;
    *is_verified = !gnutls_session_is_resumed(session) || verify_client(session) == 0;
    return *is_verified;
}

int tls_set_session(struct tls_set *set, int listener, gnutls_session_t *out)
{
    static const char http_1_1[] = "http/1.1";
    gnutls_datum_t alpn = {(unsigned char *)(uintptr_t)http_1_1, sizeof http_1_1 - 1};
    struct rules *rules;
    gnutls_session_t session;
    unsigned flags = GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL;

    must(set != NULL && listener >= 0 && listener < set->n && set->rules[listener].is_on);
    rules = &set->rules[listener];
    if (gnutls_init(&session, rules->ticket_key.size > 0 ? flags : flags | GNUTLS_NO_TICKETS) < 0)
        return -ENOMEM;
    gnutls_session_set_ptr(session, rules);
    if (gnutls_priority_set(session, rules->priority) < 0 ||
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, rules->credentials) < 0 ||
        /* Who offers only others (h2) speaks another protocol: no_application_protocol, RFC 7301. */
        gnutls_alpn_set_protocols(session, &alpn, 1, GNUTLS_ALPN_MANDATORY) < 0 ||
        (rules->ticket_key.size > 0 &&
         gnutls_session_ticket_enable_server(session, &rules->ticket_key) < 0)) {
        gnutls_deinit(session);
        return -ENOMEM;
    }
    if (rules->client_auth != CONFIG_CLIENT_NONE)
        gnutls_certificate_server_set_request(session, rules->client_auth == CONFIG_CLIENT_REQUIRED
                                                           ? GNUTLS_CERT_REQUIRE
                                                           : GNUTLS_CERT_REQUEST);
    *out = session;
    return 0;
}

/* ---- loading ---- */

__attribute__((format(printf, 4, 5))) static int refuse(const struct loader *ld,
                                                        struct config_pos pos, const char *hint,
                                                        const char *fmt, ...)
{
    char what[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    diag_add(ld->diag, ld->cfg->path, pos.line, pos.column, hint, "listener '%s': %s",
             ld->listener->name, what);
    return -EINVAL;
}

static bool has(gnutls_datum_t d, const char *word)
{
    return d.size > 0 && memmem(d.data, d.size, word, strlen(word)) != NULL;
}

static void take_name(struct certificate *c, const char *name, size_t n)
{
    char *copy = n > 0 && n < 256 && memchr(name, '\0', n) == NULL ? strndup(name, n) : NULL;

    if (copy == NULL)
        return;
    for (char *p = copy; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    c->name[c->n_names++] = copy;
}

/* Subject alternative names; those who issue without them have only the common name. */
static void read_names(struct certificate *c, gnutls_x509_crt_t leaf)
{
    char name[256];

    for (unsigned i = 0; c->n_names < NAMES_MAX; i++) {
        size_t n = sizeof name;
        int type = gnutls_x509_crt_get_subject_alt_name(leaf, i, name, &n, NULL);

        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (type == GNUTLS_SAN_DNSNAME)
            take_name(c, name, n);
        else if (type < 0 && type != GNUTLS_E_SHORT_MEMORY_BUFFER)
            break;
    }
    if (c->n_names == 0) {
        size_t n = sizeof name;

        if (gnutls_x509_crt_get_dn_by_oid(leaf, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &n) == 0)
            take_name(c, name, n);
    }
}

static void warn_of_time(const struct loader *ld, const struct config_file *file,
                         gnutls_x509_crt_t leaf)
{
    time_t now = time(NULL), end = gnutls_x509_crt_get_expiration_time(leaf);
    struct tm tm;
    char when[32] = "?";

    if (gmtime_r(&end, &tm) != NULL)
        strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", &tm);
    if (now >= end)
        diag_add(ld->warnings, ld->cfg->path, file->pos.line, file->pos.column, NULL,
                 "listener '%s': the certificate in %s has expired on %s: clients refuse it",
                 ld->listener->name, file->path, when);
    else if (end - now < SOON_DAYS * 86400)
        diag_add(ld->warnings, ld->cfg->path, file->pos.line, file->pos.column, NULL,
                 "listener '%s': the certificate in %s expires on %s", ld->listener->name,
                 file->path, when);
    else if (now < gnutls_x509_crt_get_activation_time(leaf))
        diag_add(ld->warnings, ld->cfg->path, file->pos.line, file->pos.column, NULL,
                 "listener '%s': the certificate in %s is not valid yet", ld->listener->name,
                 file->path);
}

static int load_chain(const struct loader *ld, const struct config_certificate *cc,
                      gnutls_datum_t pem, struct certificate *c, gnutls_x509_crt_t *leaf)
{
    gnutls_x509_crt_t *crt = NULL;
    unsigned n = 0, n_good = 0;
    int r;

    r = gnutls_x509_crt_list_import2(&crt, &n, &pem, GNUTLS_X509_FMT_PEM,
                                     GNUTLS_X509_CRT_LIST_SORT);
    if (r < 0 || n == 0)
        return refuse(ld, cc->cert.pos,
                      has(pem, "PRIVATE KEY") ? "that is a private key: are cert and key swapped?"
                                              : "a PEM file: -----BEGIN CERTIFICATE----- ...",
                      "no certificate can be read from %s: %s", cc->cert.path,
                      gnutls_strerror(r < 0 ? r : GNUTLS_E_NO_CERTIFICATE_FOUND));
    c->chain = calloc(n, sizeof *c->chain);
    c->name = calloc(NAMES_MAX + 1, sizeof *c->name);
    for (; c->chain != NULL && n_good < n; n_good++)
        if (gnutls_pcert_import_x509(&c->chain[n_good], crt[n_good], 0) < 0)
            break;
    c->n_chain = n_good;
    if (n_good == n && c->name != NULL) {
        c->algorithm = gnutls_x509_crt_get_pk_algorithm(crt[0], NULL);
        if (cc->n_names == 0)
            read_names(c, crt[0]);
        for (int i = 0; i < cc->n_names && i < NAMES_MAX; i++)
            take_name(c, cc->names[i], strlen(cc->names[i]));
        warn_of_time(ld, &cc->cert, crt[0]);
        *leaf = crt[0];
        crt[0] = NULL;
        r = 0;
    } else {
        r = refuse(ld, cc->cert.pos, NULL, "%s: out of memory", cc->cert.path);
    }
    for (unsigned i = 0; i < n; i++)
        if (crt[i] != NULL)
            gnutls_x509_crt_deinit(crt[i]);
    gnutls_free(crt);
    return r;
}

static const char *hint_for_key(gnutls_datum_t pem)
{
    if (has(pem, "ENCRYPTED"))
        return "it has a passphrase, and nobody is there to type it: "
               "`openssl pkey -in WITH -out WITHOUT` takes it off";
    if (has(pem, "OPENSSH PRIVATE KEY"))
        return "that is a key for SSH";
    if (has(pem, "BEGIN CERTIFICATE"))
        return "that is a certificate: are cert and key swapped?";
    return "a PEM file: -----BEGIN PRIVATE KEY----- ...";
}

static bool is_pair(gnutls_x509_crt_t leaf, gnutls_x509_privkey_t key)
{
    unsigned char a[64], b[64];
    size_t n = sizeof a, m = sizeof b;

    return gnutls_x509_crt_get_key_id(leaf, GNUTLS_KEYID_USE_SHA256, a, &n) == 0 &&
           gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, b, &m) == 0 && n == m &&
           memcmp(a, b, n) == 0;
}

static int load_key(const struct loader *ld, const struct config_certificate *cc,
                    gnutls_datum_t pem, gnutls_x509_crt_t leaf, struct certificate *c)
{
    gnutls_x509_privkey_t key;
    int r;

    if (gnutls_x509_privkey_init(&key) < 0)
        return -ENOMEM;
    r = gnutls_x509_privkey_import2(key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (r < 0) {
        r = refuse(ld, cc->key.pos, hint_for_key(pem), "no private key can be read from %s: %s",
                   cc->key.path, gnutls_strerror(r));
    } else if (leaf != NULL && !is_pair(leaf, key)) {
        r = refuse(ld, cc->key.pos, "the two are made together; was only one of them renewed?",
                   "the key in %s does not belong to the certificate in %s", cc->key.path,
                   cc->cert.path);
    } else if (gnutls_privkey_init(&c->key) < 0 ||
               gnutls_privkey_import_x509(c->key, key, GNUTLS_PRIVKEY_IMPORT_COPY) < 0) {
        r = refuse(ld, cc->key.pos, NULL, "%s: out of memory", cc->key.path);
    }
    gnutls_x509_privkey_deinit(key); /* overwrites it */
    return r;
}

static int load_certificate(const struct loader *ld, const struct config_certificate *cc,
                            struct bundle *b, struct certificate *c)
{
    gnutls_datum_t cert, key;
    gnutls_x509_crt_t leaf = NULL;
    const unsigned char *p, *q;
    size_t n, m;
    int r, e;

    if (!bundle_next(b, &p, &n) || !bundle_next(b, &q, &m))
        return -EINVAL;
    cert = (gnutls_datum_t){(unsigned char *)(uintptr_t)p, (unsigned)n};
    key = (gnutls_datum_t){(unsigned char *)(uintptr_t)q, (unsigned)m};
    r = load_chain(ld, cc, cert, c, &leaf);
    e = load_key(ld, cc, key, leaf, c);
    if (leaf != NULL)
        gnutls_x509_crt_deinit(leaf);
    return r < 0 ? r : e;
}

static int load_priority(const struct loader *ld, struct rules *rules)
{
    const struct config_tls *tls = &ld->listener->tls;
    const char *at = NULL;
    char text[2048];
    int r;

    snprintf(text, sizeof text, "%s" NEVER,
             tls->priority != NULL   ? tls->priority
             : tls->min_version == 0 ? OUR_PRIORITY_12
                                     : OUR_PRIORITY_13);
    r = gnutls_priority_init(&rules->priority, text, &at);
    if (r < 0)
        return refuse(ld, tls->priority != NULL ? tls->priority_pos : tls->pos,
                      "`gnutls-cli --priority '...' --list` shows what a string means; "
                      "versions before TLS 1.2 are never spoken",
                      "GnuTLS does not take the priority string%s%.60s%s: %s",
                      at != NULL && at < text + sizeof text ? " from '" : "",
                      at != NULL && at < text + sizeof text ? at : "",
                      at != NULL && at < text + sizeof text ? "' on" : "", gnutls_strerror(r));
    return 0;
}

static int load_client_ca(const struct loader *ld, struct bundle *b, struct rules *rules)
{
    const struct config_file *file = &ld->listener->tls.client_ca;
    gnutls_datum_t pem;
    const unsigned char *p;
    size_t n;
    int r;

    if (file->path == NULL)
        return 0;
    if (!bundle_next(b, &p, &n))
        return -EINVAL;
    pem = (gnutls_datum_t){(unsigned char *)(uintptr_t)p, (unsigned)n};
    r = gnutls_certificate_set_x509_trust_mem(rules->credentials, &pem, GNUTLS_X509_FMT_PEM);
    if (r > 0)
        return 0;
    return refuse(ld, file->pos, "a PEM file: -----BEGIN CERTIFICATE----- ...",
                  "no certificate can be read from %s: %s", file->path,
                  gnutls_strerror(r < 0 ? r : GNUTLS_E_NO_CERTIFICATE_FOUND));
}

static int load_rules(const struct loader *ld, struct bundle *b, struct rules *rules)
{
    const struct config_tls *tls = &ld->listener->tls;
    const unsigned char *p;
    size_t n;
    int r, e;

    rules->is_on = true;
    rules->client_auth = tls->client_auth;
    if (!bundle_next(b, &p, &n) || n != BUNDLE_TICKET_KEY)
        return -EINVAL;
    memcpy(rules->ticket_key_bytes, p, n);
    rules->ticket_key.data = rules->ticket_key_bytes;
    rules->ticket_key.size = tls->no_tickets ? 0 : BUNDLE_TICKET_KEY;
    if (gnutls_certificate_allocate_credentials(&rules->credentials) < 0)
        return -ENOMEM;
    rules->certificate = calloc((size_t)tls->n_certificates, sizeof *rules->certificate);
    if (rules->certificate == NULL)
        return -ENOMEM;
    r = load_priority(ld, rules);
    for (int i = 0; i < tls->n_certificates; i++) {
        rules->n_certificates = i + 1;
        e = load_certificate(ld, &tls->certificate[i], b, &rules->certificate[i]);
        r = r < 0 ? r : e;
    }
    e = load_client_ca(ld, b, rules);
    gnutls_certificate_set_retrieve_function3(rules->credentials, choose);
    gnutls_certificate_set_verify_function(rules->credentials, verify_client);
    return r < 0 ? r : e;
}

int tls_set_load(const struct config *cfg, int bundle_fd, struct diag *diag, struct diag *warnings,
                 struct tls_set **out)
{
    struct loader ld = {.cfg = cfg, .diag = diag, .warnings = warnings};
    struct tls_set *set;
    struct bundle b;
    int r, e;

    if (!bundle_is_needed(cfg)) {
        *out = NULL;
        return 0;
    }
    r = bundle_map(bundle_fd, &b);
    if (r < 0)
        return r;
    set = calloc(1, sizeof *set + (size_t)cfg->n_listeners * sizeof set->rules[0]);
    if (set == NULL) {
        bundle_unmap(&b);
        return -ENOMEM;
    }
    set->refs = 1;
    set->n = cfg->n_listeners;
    for (int i = 0; i < cfg->n_listeners; i++) {
        ld.listener = &cfg->listener[i];
        if (!ld.listener->tls.is_on)
            continue;
        e = load_rules(&ld, &b, &set->rules[i]);
        r = r < 0 ? r : e;
    }
    bundle_unmap(&b);
    if (r < 0) {
        tls_set_put(&set);
        return r;
    }
    *out = set;
    return 0;
}

int tls_check(const struct config *cfg, struct diag *diag, struct diag *warnings)
{
    static const unsigned char no_secret[BUNDLE_SECRET];
    struct tls_set *set = NULL;
    int fd, r;

    r = bundle_create(cfg, no_secret, diag, &fd);
    if (r == 0)
        r = tls_set_load(cfg, fd, diag, warnings, &set);
    if (r < 0 && diag != NULL && diag->n_errors == 0)
        diag_add(diag, cfg->path, 0, 0, NULL, "TLS cannot be set up: %s", strerror(-r));
    tls_set_put(&set);
    fd_close(&fd);
    if (cfg->admin.is_on && cfg->admin.listener.tls.is_on) {
        struct config_listener listener = cfg->admin.listener;
        struct config only = apart_config(cfg, &listener);
        int e = apart_bundle(&only, diag, warnings, &fd);

        r = r < 0 ? r : e;
        fd_close(&fd);
    }
    return r;
}

/* ---- references ---- */

struct tls_set *tls_set_get(struct tls_set *set)
{
    set->refs++;
    return set;
}

static void free_certificate(struct certificate *c)
{
    for (unsigned i = 0; i < c->n_chain; i++)
        gnutls_pcert_deinit(&c->chain[i]);
    free(c->chain);
    if (c->key != NULL)
        gnutls_privkey_deinit(c->key);
    for (int i = 0; i < c->n_names; i++)
        free(c->name[i]);
    free(c->name);
}

void tls_set_put(struct tls_set **setp)
{
    struct tls_set *set = *setp;

    *setp = NULL;
    if (set == NULL || --set->refs > 0)
        return;
    for (int i = 0; i < set->n; i++) {
        struct rules *rules = &set->rules[i];

        for (int k = 0; k < rules->n_certificates; k++)
            free_certificate(&rules->certificate[k]);
        free(rules->certificate);
        if (rules->credentials != NULL)
            gnutls_certificate_free_credentials(rules->credentials);
        if (rules->priority != NULL)
            gnutls_priority_deinit(rules->priority);
        gnutls_memset(rules->ticket_key_bytes, 0, sizeof rules->ticket_key_bytes);
    }
    free(set);
}
