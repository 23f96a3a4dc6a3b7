/*
 * set.h - the certificates, keys and rules of all listeners with TLS, ready for use.
 *
 * Made from a bundle and the config; immutable. Each connection holds a reference to the set that it
 * began with: so a new set takes over from one handshake to the next, and nobody is interrupted.
 * References are counted without locks: one thread.
 */
#ifndef TLS_SET_H
#define TLS_SET_H

#include <gnutls/gnutls.h>
#include <stdbool.h>

struct config;
struct diag;
struct tls_set;

/* 0 and one reference in *out (NULL when no listener has TLS); or -errno, and each mistake in diag at
 * the place of the key in the config. What works but should be looked at, such as a certificate that
 * has expired, is put in warnings (may be NULL). */
int tls_set_load(const struct config *cfg, int bundle_fd, struct diag *diag, struct diag *warnings,
                 struct tls_set **out);
struct tls_set *tls_set_get(struct tls_set *set);
void tls_set_put(struct tls_set **setp); /* drops, NULLs; NULL is fine */

/* Reads the files, those of `admin.tls` too, checks them, and forgets them: for `bulkhead check`, and
 * before anything starts. */
int tls_check(const struct config *cfg, struct diag *diag, struct diag *warnings);

/* A server's session by the rules of that listener; the set must outlive it. 0 or -ENOMEM. */
int tls_set_session(struct tls_set *set, int listener, gnutls_session_t *out);

/* After the handshake: is the client who the listener's client_auth wants? A resumed session says who
 * it was then, which may no longer be good enough. *is_verified: it has shown a valid certificate. */
bool tls_set_admits(const struct tls_set *set, int listener, gnutls_session_t session,
                    bool *is_verified);

/* Does a certificate's name (which may begin with "*.") cover that host name? Both in lower case. */
bool tls_name_covers(const char *pattern, const char *host);

#endif
