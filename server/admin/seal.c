/*
 * seal.c - TLS of the admin interface: a session of GnuTLS over a client's socket.
 *
 * Certificates and rules are those of tls/set.h, as for the listeners. What a newcomer would get wrong:
 * a record that did not go out whole has been encrypted and cannot be taken back; so GnuTLS is asked
 * to go on with it (a send of nothing), and what it holds counts as sent only then.
 */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "admin/internal.h"
#include "obs/log.h"
#include "tls/set.h"

#define RECORD   16384 /* bytes in one, at most (RFC 8446 5.1) */
#define WARNINGS 8     /* alerts in a row that mean nothing */

struct seal {
    gnutls_session_t session;
    struct tls_set *set;
    bool is_shaken, has_unsent, has_failed;
};

struct seal *seal_create(struct tls_set *set, int fd)
{
    struct seal *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    if (tls_set_session(set, 0, &s->session) < 0) {
        free(s);
        return NULL;
    }
    gnutls_transport_set_int(s->session, fd);
    s->set = tls_set_get(set);
    return s;
}

void seal_destroy(struct seal **seal)
{
    struct seal *s = *seal;

    *seal = NULL;
    if (s == NULL)
        return;
    gnutls_deinit(s->session);
    tls_set_put(&s->set);
    free(s);
}

static int fail(struct seal *s, int error)
{
    log_debug("TLS of the admin interface: %s", gnutls_strerror(error));
    s->has_failed = true;
    if (error == GNUTLS_E_NO_CERTIFICATE_FOUND)
        gnutls_alert_send(s->session, GNUTLS_AL_FATAL, GNUTLS_A_HANDSHAKE_FAILURE);
    else if (error != GNUTLS_E_PUSH_ERROR && error != GNUTLS_E_PULL_ERROR &&
             error != GNUTLS_E_FATAL_ALERT_RECEIVED && error != GNUTLS_E_PREMATURE_TERMINATION)
        gnutls_alert_send_appropriate(s->session, error);
    return -EPROTO;
}

int seal_shake_hands(struct seal *s)
{
    bool is_verified;
    int r, n = 0;

    do {
        r = gnutls_handshake(s->session);
    } while (r == GNUTLS_E_INTERRUPTED ||
             (r < 0 && r != GNUTLS_E_AGAIN && gnutls_error_is_fatal(r) == 0 && n++ < WARNINGS));
    if (r == GNUTLS_E_AGAIN)
        return 0;
    if (r == 0 && !tls_set_admits(s->set, 0, s->session, &is_verified))
        r = GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
    if (r < 0)
        return fail(s, r);
    s->is_shaken = true;
    return 1;
}

bool seal_wants_to_write(const struct seal *s)
{
    return gnutls_record_get_direction(s->session) == 1;
}

ssize_t seal_recv(struct seal *s, void *buf, size_t size)
{
    for (int n_warnings = 0;;) {
        ssize_t r = gnutls_record_recv(s->session, buf, size);

        if (r >= 0)
            return r;
        if (r == GNUTLS_E_INTERRUPTED ||
            (r == GNUTLS_E_WARNING_ALERT_RECEIVED && n_warnings++ < WARNINGS))
            continue;
        if (r == GNUTLS_E_AGAIN)
            return -EAGAIN;
        if (r == GNUTLS_E_PREMATURE_TERMINATION)
            return 0;                    /* where a request ends is told by its framing */
        if (r == GNUTLS_E_REHANDSHAKE) { /* TLS 1.2: not with us */
            gnutls_alert_send(s->session, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
            return -EPROTO;
        }
        return fail(s, (int)r);
    }
}

ssize_t seal_send(struct seal *s, const void *buf, size_t size)
{
    ssize_t r;

    do {
        r = s->has_unsent ? gnutls_record_send(s->session, NULL, 0)
                          : gnutls_record_send(s->session, buf, size < RECORD ? size : RECORD);
    } while (r == GNUTLS_E_INTERRUPTED);
    s->has_unsent = r == GNUTLS_E_AGAIN;
    if (r == GNUTLS_E_AGAIN)
        return -EAGAIN;
    return r < 0 ? -EPIPE : r;
}

void seal_bye(struct seal *s)
{
    if (s->is_shaken && !s->has_unsent && !s->has_failed)
        gnutls_bye(s->session, GNUTLS_SHUT_WR);
}
