/*
 * tls_client.h - a client that speaks TLS record by record, and certificates made for the occasion.
 */
#ifndef TLS_CLIENT_H
#define TLS_CLIENT_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>

struct tls_client {
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    int fd;
    int error; /* of the handshake; 0: none */
    int alert; /* received in it; -1: none */
};

struct tls_options {
    const char *sni;
    const char *priority;   /* NULL: NORMAL */
    const char *cert, *key; /* files; NULL: no certificate */
    const char *alpn;
    gnutls_datum_t resume; /* size 0: a new session */
    bool is_small;         /* a receive buffer as small as can be */
};

/* Connects and shakes hands; the certificate is not looked at. Never fails the test for an error of
 * TLS: see error and alert. */
struct tls_client *tls_open(int port, struct tls_options options);
/* is_polite: says good-bye. */
void tls_close(struct tls_client **clientp, bool is_polite);

/* In one record (up to 16 KiB), whole. */
void tls_send(struct tls_client *c, const char *p, size_t n);
/* One answer with Content-Length, its head too; freed by the caller. NULL: the connection ended before.
 * body (may be NULL): where it begins; n: its length. */
char *tls_answer(struct tls_client *c, char **body, size_t *n);
/* GET, then the answer. NULL as above. */
char *tls_get(struct tls_client *c, const char *target);
/* The number in "HTTP/1.1 NNN"; 0 for NULL. */
int tls_status(const char *answer);

enum tls_end { TLS_GOOD_BYE, TLS_FIN, TLS_RESET };
/* Waits for the end of the connection, and how it came; throws away what comes before. */
enum tls_end tls_wait_end(struct tls_client *c);
/* Nothing has come, and it is open. */
bool tls_is_idle(struct tls_client *c);

/* Common name of the certificate that the server showed; freed by the caller. */
char *tls_server_cn(struct tls_client *c);

/* DIR/NAME.pem and DIR/NAME.key, for the DNS names (comma separated, the first is the common name),
 * signed by DIR/CA.pem, or by itself when ca is NULL, in which case it may sign others. days < 0: it
 * has expired. */
void tls_make_cert(const char *dir, const char *name, const char *ca, const char *dns, int days);

#endif
