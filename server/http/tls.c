/*
 * tls.c - TLS under libmicrohttpd: what it takes for plain sockets are sessions of GnuTLS.
 *
 * The library's own TLS is not used. With it a client that does not finish its handshake has the loop
 * turn without end (measured with 0.9.75: 1,100,000 turns a second), it sends no alerts, and its calls
 * would have to be wrapped for the wire guard a second time. Here its recv(), send() and sendfile() of
 * a connection with TLS end up below (wire.c), and nothing above knows the difference.
 *
 * What a newcomer would get wrong: the library's epoll set is edge-triggered, and it takes a short
 * count for "the socket is empty" or "full". So each call goes on until that is true: tls_recv() until
 * its buffer is full or GnuTLS has asked the kernel in vain, tls_send() likewise. And a record that did
 * not go out whole has been encrypted: it cannot be taken back, so what it holds is told the library as
 * sent only once it is (`credit`).
 */
#include "http/tls.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/config.h"
#include "http/internal.h"
#include "http/socket.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/host.h"
#include "tls/set.h"

#define RECORD      16384 /* bytes in one, at most (RFC 8446 5.1) */
#define BLOCKED_MS  50    /* between two tries of handshakes whose clients take nothing */
#define WARNINGS    8     /* alerts in a row that mean nothing */
#define PARTS       256   /* records in a row that complete nothing */
#define FINGERPRINT 32    /* SHA-256 */

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_ENDED };

struct tls_conn {
    struct list node; /* in front.tls_ended or front.tls_blocked, or alone */
    struct conn *conn;
    struct tls_set *set;
    gnutls_session_t session;
    enum tls_state state;
    bool has_spoken; /* the client */
    bool is_leaving; /* to be closed as soon as nothing more of it is there to read */
    bool has_left;   /* close_notify was sent, or is not to be */
    bool has_unsent; /* a record is on its way out */
    bool has_ended;  /* the client's side of the TCP connection */
    bool is_dry;     /* all that the client has sent so far is read */
    size_t credit;   /* bytes that went out, and were not told the library */
    /* for plugins, once the handshake is done */
    char *server_name;
    char *subject, *fingerprint; /* of the client's certificate; NULL: none */
};

static char record[RECORD]; /* of the loop thread */

static int64_t now_ms(void)
{
    return host_loop_mono_ns / 1000000;
}

/* A resumed connection counts as readable and writable. */
static void nudge(struct conn *c)
{
    if (c->x != NULL && c->x->is_suspended)
        return; /* it will be, once it is resumed */
    MHD_suspend_connection(c->mhd);
    MHD_resume_connection(c->mhd);
    c->listener->needs_run = true;
}

/* ---- from beginning ... ---- */

/* To GnuTLS an end without close_notify is an error that leaves no way to answer. Where a request ends
 * is told by its framing, though, and one that is whole gets its answer (RFC 9112 9.8): so GnuTLS learns
 * of no end, and tls_recv() asks here. */
static ssize_t pull(gnutls_transport_ptr_t arg, void *buf, size_t size)
{
    struct tls_conn *t = arg;
    ssize_t n = socket_recv(t->conn->fd, buf, size, 0);

    if (n != 0 || size == 0) {
        t->is_dry = n < 0;
        return n;
    }
    t->is_dry = true;
    t->has_ended = true;
    errno = EAGAIN;
    return -1;
}

bool tls_begin(struct conn *c)
{
    static const int on = 1;
    struct front *f = c->listener->front;
    int index = (int)(c->listener - f->listener);
    struct tls_conn *t;

    if (f->tls == NULL || !wire_has_room(c->fd))
        return false;
    t = calloc(1, sizeof *t);
    if (t == NULL)
        return false;
    if (tls_set_session(f->tls, index, &t->session) < 0) {
        free(t);
        return false;
    }
    gnutls_transport_set_ptr2(t->session, t, (gnutls_transport_ptr_t)(intptr_t)c->fd);
    gnutls_transport_set_pull_function(t->session, pull);
    t->set = tls_set_get(f->tls);
    t->conn = c;
    list_init(&t->node);
    /* The last flight of a handshake is small, and must not wait for an acknowledgement. */
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->tls = t;
    return true;
}

/* Nothing more comes in. Where the library waits for something it has to be told: its event is spent. */
static ssize_t end_of_input(struct tls_conn *t, size_t n)
{
    t->state = TLS_ENDED;
    list_remove(&t->node);
    if (n > 0)
        list_append(&t->conn->listener->front->tls_ended, &t->node);
    return (ssize_t)n;
}

static ssize_t again(void)
{
    errno = EAGAIN;
    return -1;
}

/* A fatal error: says so to the peer, in a way that a reset does not overtake. */
static void fail(struct tls_conn *t, int error)
{
    struct conn *c = t->conn;

    log_debug("TLS on connection %d, listener '%s': %s", c->fd, c->listener->name,
              gnutls_strerror(error));
    if (error == GNUTLS_E_PUSH_ERROR || error == GNUTLS_E_PULL_ERROR ||
        error == GNUTLS_E_FATAL_ALERT_RECEIVED)
        return;
    if (error ==
        GNUTLS_E_NO_CERTIFICATE_FOUND) /* for which GnuTLS has decode_error: RFC 5246 7.4.6 */
        gnutls_alert_send(t->session, GNUTLS_AL_FATAL, GNUTLS_A_HANDSHAKE_FAILURE);
    else
        gnutls_alert_send_appropriate(t->session, error);
    farewell_linger(c->listener->front, c->fd);
}

/* ---- ... through the handshake ... ---- */

static char *fingerprint_of(const gnutls_datum_t *cert)
{
    unsigned char digest[FINGERPRINT];
    char *text = malloc(sizeof digest * 2 + 1);

    if (text == NULL || gnutls_hash_fast(GNUTLS_DIG_SHA256, cert->data, cert->size, digest) < 0) {
        free(text);
        return NULL;
    }
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return text;
}

/* The subject as RFC 4514 writes it. */
static char *subject_of(const gnutls_datum_t *cert)
{
    gnutls_datum_t dn = {NULL, 0};
    gnutls_x509_crt_t crt;
    char *text = NULL;

    if (gnutls_x509_crt_init(&crt) < 0)
        return NULL;
    if (gnutls_x509_crt_import(crt, cert, GNUTLS_X509_FMT_DER) == 0 &&
        gnutls_x509_crt_get_dn3(crt, &dn, 0) == 0)
        text = strndup((const char *)dn.data, dn.size);
    gnutls_free(dn.data);
    gnutls_x509_crt_deinit(crt);
    return text;
}

/* Once, so that no hook of a plugin ever runs code of GnuTLS. */
static void note_facts(struct tls_conn *t, bool is_verified)
{
    const gnutls_datum_t *cert;
    char name[256];
    size_t len = sizeof name - 1;
    unsigned n = 0, type = 0;

    if (gnutls_server_name_get(t->session, name, &len, &type, 0) == 0 && type == GNUTLS_NAME_DNS)
        t->server_name = strndup(name, len);
    cert = is_verified ? gnutls_certificate_get_peers(t->session, &n) : NULL;
    if (cert == NULL || n == 0)
        return;
    t->subject = subject_of(&cert[0]);
    t->fingerprint = fingerprint_of(&cert[0]);
}

/* The client speaks first. A request in plain text would wait in vain for an answer that it understands:
 * it gets one. False: nothing to do yet, or any more, and as recv() answers then. */
static bool hear(struct tls_conn *t, ssize_t *result)
{
    struct conn *c = t->conn;
    char first;

    *result = recvfrom(c->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT, NULL,
                       NULL); /* recv() leads here */
    if (*result <= 0)
        return false;
    t->has_spoken = true;
    if (first < 'A' || first > 'Z')
        return true;
    farewell_wrong_port(c->listener->front, c->fd);
    *result = end_of_input(t, 0);
    return false;
}

/* GnuTLS says AGAIN, too, after a record that completes nothing: part of a message, a new key. What has come
 * after it has had its event already, and would never be read. */
static bool has_more(const struct tls_conn *t, ssize_t r, int *n)
{
    return r == GNUTLS_E_AGAIN && !t->is_dry && gnutls_record_get_direction(t->session) == 0 &&
           (*n)++ < PARTS;
}

/* True: it is done. False: as `result` says, which is what recv() shall answer. */
static bool shake_hands(struct tls_conn *t, ssize_t *result)
{
    struct conn *c = t->conn;
    bool is_verified = false;
    int r, n = 0, n_parts = 0;

    if (!t->has_spoken && !hear(t, result))
        return false;
    do {
        t->is_dry = false;
        r = gnutls_handshake(t->session);
    } while (r == GNUTLS_E_INTERRUPTED || has_more(t, r, &n_parts) ||
             (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r) && n++ < WARNINGS));
    if (r == GNUTLS_E_AGAIN && t->has_ended) {
        *result = end_of_input(t, 0);
        return false;
    }
    if (r == GNUTLS_E_AGAIN) {
        /* Its event would be one that the library does not look at while it wants to read. */
        if (gnutls_record_get_direction(t->session) == 1 && list_is_empty(&t->node))
            list_append(&c->listener->front->tls_blocked, &t->node);
        *result = again();
        return false;
    }
    if (r == 0 && !tls_set_admits(t->set, (int)(c->listener - c->listener->front->listener),
                                  t->session, &is_verified))
        r = GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
    if (r < 0) {
        metrics_add(&c->listener->meter->handshakes[METRICS_HANDSHAKE_FAILED], 1);
        fail(t, r);
        *result = end_of_input(t, 0);
        return false;
    }
    t->state = TLS_OPEN;
    metrics_add(&c->listener->meter->handshakes[gnutls_session_is_resumed(t->session) != 0
                                                    ? METRICS_HANDSHAKE_RESUMED
                                                    : METRICS_HANDSHAKE_FULL],
                1);
    note_facts(t, is_verified);
    deadline_set(c, DEADLINE_HEAD);
    return true;
}

/* ---- ... to data ... ---- */

ssize_t tls_recv(struct conn *c, void *buf, size_t size)
{
    struct tls_conn *t = c->tls;
    size_t n = 0;
    int n_warnings = 0, n_parts = 0;
    ssize_t r;

    if (t->state == TLS_HANDSHAKE && !shake_hands(t, &r))
        return r;
    if (t->state == TLS_ENDED)
        return 0;
    while (n < size) {
        t->is_dry = false;
        r = gnutls_record_recv(t->session, (char *)buf + n, size - n);
        if (r > 0) {
            n += (size_t)r;
            continue;
        }
        if (r == GNUTLS_E_INTERRUPTED || has_more(t, r, &n_parts) ||
            (r == GNUTLS_E_WARNING_ALERT_RECEIVED && n_warnings++ < WARNINGS))
            continue;
        if (r == GNUTLS_E_AGAIN && !t->has_ended)
            break;
        if (r == GNUTLS_E_AGAIN)
            return end_of_input(t, n);
        if (r == GNUTLS_E_REHANDSHAKE) /* TLS 1.2: not with us */
            gnutls_alert_send(t->session, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
        else if (r < 0)
            fail(t, (int)r);
        return end_of_input(t, n);
    }
    if (n > 0)
        return (ssize_t)n;
    return t->is_leaving && c->x == NULL && (c->flags & SHM_CONN_BUSY) == 0 ? 0 : again();
}

/* What is left of a record; 0, or -1 with errno as of send(). */
static int flush(struct tls_conn *t)
{
    ssize_t r;

    if (!t->has_unsent)
        return 0;
    do {
        r = gnutls_record_send(t->session, NULL, 0);
    } while (r == GNUTLS_E_INTERRUPTED);
    if (r < 0) {
        errno = r == GNUTLS_E_AGAIN ? EAGAIN : EPIPE;
        return -1;
    }
    t->has_unsent = false;
    t->credit += (size_t)r;
    return 0;
}

/* Bytes that had gone out before they were asked for again. */
static size_t take_credit(struct tls_conn *t, size_t size)
{
    size_t n = t->credit < size ? t->credit : size;

    t->credit -= n;
    return n;
}

ssize_t tls_send(struct conn *c, const void *buf, size_t size)
{
    struct tls_conn *t = c->tls;
    size_t n;

    if (t->state == TLS_HANDSHAKE) {
        errno = EPIPE;
        return -1;
    }
    if (flush(t) < 0)
        return -1;
    n = take_credit(t, size);
    while (n < size) {
        size_t len = size - n < RECORD ? size - n : RECORD;
        ssize_t r = gnutls_record_send(t->session, (const char *)buf + n, len);

        if (r > 0) {
            n += (size_t)r;
            continue;
        }
        t->has_unsent = r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;
        if (!t->has_unsent)
            errno = EPIPE;
        if (!t->has_unsent || flush(t) < 0)
            return n > 0 ? (ssize_t)n : -1;
        n += take_credit(t, size - n);
    }
    return (ssize_t)n;
}

/* Head and body of a small answer go out in one record. */
ssize_t tls_sendmsg(struct conn *c, const struct msghdr *msg)
{
    size_t n = 0, at = 0;

    for (size_t i = 0; i < msg->msg_iovlen;) {
        size_t len = 0;
        ssize_t r;

        while (len < RECORD && i < msg->msg_iovlen) {
            const struct iovec *v = &msg->msg_iov[i];
            size_t take = v->iov_len - at < RECORD - len ? v->iov_len - at : RECORD - len;

            memcpy(record + len, (const char *)v->iov_base + at, take);
            len += take;
            at += take;
            if (at == v->iov_len) {
                at = 0;
                i++;
            }
        }
        r = tls_send(c, record, len);
        if (r < 0)
            return n > 0 ? (ssize_t)n : -1;
        n += (size_t)r;
        if ((size_t)r < len)
            break;
    }
    return (ssize_t)n;
}

ssize_t tls_sendfile(struct conn *c, int from, off64_t *at, size_t size)
{
    size_t n = 0;

    while (n < size) {
        ssize_t len = pread(from, record, size - n < RECORD ? size - n : RECORD, *at), r;

        if (len <= 0) /* as sendfile(2): 0 at the end of the file */
            return n > 0 ? (ssize_t)n : len;
        r = tls_send(c, record, (size_t)len);
        if (r < 0)
            return n > 0 ? (ssize_t)n : -1;
        *at += r;
        n += (size_t)r;
        if (r < len)
            break;
    }
    return (ssize_t)n;
}

/* ---- ... to the end ---- */

void tls_leave(struct conn *c)
{
    struct tls_conn *t = c->tls;

    if (t->state == TLS_HANDSHAKE) {
        shutdown(c->fd, SHUT_RDWR);
    } else if (!t->is_leaving) {
        t->is_leaving = true;
        nudge(c);
    }
}

/* An answer that was cut short must not look whole where the end of the connection is its end: then
 * there is no close_notify (RFC 8446 6.1). */
void tls_bye(struct conn *c)
{
    struct tls_conn *t = c->tls;

    if (t == NULL || t->has_left)
        return;
    t->has_left = true;
    if (t->state != TLS_HANDSHAKE && (c->flags & SHM_CONN_SENT) == 0 && !t->has_unsent)
        gnutls_bye(t->session, GNUTLS_SHUT_WR);
}

void tls_close(struct conn *c)
{
    struct tls_conn *t = c->tls;

    if (t == NULL)
        return;
    tls_bye(c);
    gnutls_deinit(t->session);
    tls_set_put(&t->set);
    list_remove(&t->node);
    free(t->server_name);
    free(t->subject);
    free(t->fingerprint);
    free(t);
    c->tls = NULL;
}

void front_use_tls(struct front *f, struct tls_set *set)
{
    tls_set_put(&f->tls);
    f->tls = set != NULL ? tls_set_get(set) : NULL;
}

/* ---- from the loop ---- */

int tls_timeout_ms(const struct front *f)
{
    return list_is_empty(&f->tls_blocked) ? -1 : BLOCKED_MS;
}

void tls_run(struct front *f)
{
    struct list *node, *next;

    while (!list_is_empty(&f->tls_ended)) {
        struct tls_conn *t = list_entry(f->tls_ended.next, struct tls_conn, node);

        list_remove(&t->node);
        nudge(t->conn);
    }
    if (list_is_empty(&f->tls_blocked) || now_ms() < f->tls_next_ms)
        return;
    f->tls_next_ms = now_ms() + BLOCKED_MS;
    for (node = f->tls_blocked.next; node != &f->tls_blocked; node = next) {
        struct tls_conn *t = list_entry(node, struct tls_conn, node);

        next = node->next;
        list_remove(node); /* it comes again if need be */
        nudge(t->conn);
    }
}

/* ---- for plugins ---- */

static bh_str text_or_absent(const char *s)
{
    return s != NULL ? bh_s(s) : (bh_str){NULL, 0};
}

bh_str tls_text(bh_req *req, const char *key)
{
    const struct conn *c = exchange_of(req)->conn;
    const struct tls_conn *t = c != NULL ? c->tls : NULL;

    if (t == NULL || t->state == TLS_HANDSHAKE)
        return text_or_absent(NULL);
    if (strcmp(key, "tls.version") == 0)
        return bh_s(gnutls_protocol_get_version(t->session) == GNUTLS_TLS1_3 ? "TLSv1.3"
                                                                             : "TLSv1.2");
    if (strcmp(key, "tls.cipher") == 0)
        return text_or_absent(gnutls_ciphersuite_get(t->session));
    if (strcmp(key, "tls.resumed") == 0)
        return bh_s(gnutls_session_is_resumed(t->session) != 0 ? "yes" : "no");
    if (strcmp(key, "tls.sni") == 0)
        return text_or_absent(t->server_name);
    if (strcmp(key, "tls.client.verified") == 0)
        return bh_s(t->fingerprint != NULL ? "yes" : "no");
    if (strcmp(key, "tls.client.subject") == 0)
        return text_or_absent(t->subject);
    if (strcmp(key, "tls.client.fingerprint") == 0)
        return text_or_absent(t->fingerprint);
    return text_or_absent(NULL);
}
