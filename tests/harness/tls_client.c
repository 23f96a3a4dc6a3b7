#include "tls_client.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

#define check(expression) assert_true((expression) >= 0)

/* ---- connections ---- */

static void wait_for(struct tls_client *c, int64_t end_ms)
{
    struct pollfd pfd = {.fd = c->fd,
                         .events = gnutls_record_get_direction(c->session) ? POLLOUT : POLLIN};
    int64_t left_ms = end_ms - harness_now_ms();

    if (left_ms <= 0)
        harness_fail(__FILE__, __LINE__, "the server says nothing");
    poll(&pfd, 1, left_ms > 1000 ? 1000 : (int)left_ms);
}

static int connect_to(int port, bool is_small)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 16384;

    assert_true(fd >= 0);
    if (is_small)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

struct tls_client *tls_open(int port, struct tls_options o)
{
    struct tls_client *c = calloc(1, sizeof *c);
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);

    assert_non_null(c);
    c->alert = -1;
    c->fd = connect_to(port, o.is_small);
    check(gnutls_init(&c->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL));
    check(gnutls_certificate_allocate_credentials(&c->credentials));
    if (o.cert != NULL)
        check(gnutls_certificate_set_x509_key_file(c->credentials, o.cert, o.key,
                                                   GNUTLS_X509_FMT_PEM));
    check(gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->credentials));
    check(gnutls_priority_set_direct(c->session, o.priority != NULL ? o.priority : "NORMAL", NULL));
    if (o.sni != NULL)
        check(gnutls_server_name_set(c->session, GNUTLS_NAME_DNS, o.sni, strlen(o.sni)));
    if (o.alpn != NULL) {
        gnutls_datum_t protocol = {(unsigned char *)(uintptr_t)o.alpn, (unsigned)strlen(o.alpn)};

        check(gnutls_alpn_set_protocols(c->session, &protocol, 1, 0));
    }
    if (o.resume.size > 0)
        check(gnutls_session_set_data(c->session, o.resume.data, o.resume.size));
    gnutls_transport_set_int(c->session, c->fd);
    while ((c->error = gnutls_handshake(c->session)) < 0) {
        if (c->error == GNUTLS_E_FATAL_ALERT_RECEIVED)
            c->alert = (int)gnutls_alert_get(c->session);
        if (gnutls_error_is_fatal(c->error))
            break;
        wait_for(c, end_ms);
    }
    return c;
}

void tls_close(struct tls_client **clientp, bool is_polite)
{
    struct tls_client *c = *clientp;

    *clientp = NULL;
    if (is_polite)
        gnutls_bye(c->session, GNUTLS_SHUT_WR);
    close(c->fd);
    gnutls_deinit(c->session);
    gnutls_certificate_free_credentials(c->credentials);
    free(c);
}

void tls_send(struct tls_client *c, const char *p, size_t n)
{
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);

    while (n > 0) {
        ssize_t r = gnutls_record_send(c->session, p, n);

        if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED) {
            wait_for(c, end_ms);
            continue;
        }
        if (r < 0)
            return; /* reading will tell */
        p += r;
        n -= (size_t)r;
    }
}

/* As gnutls_record_recv(), but it waits. */
static ssize_t receive(struct tls_client *c, char *buf, size_t size)
{
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);

    for (;;) {
        ssize_t r = gnutls_record_recv(c->session, buf, size);

        /* With TLS 1.3 the server's refusal of a certificate comes after the handshake. */
        if (r == GNUTLS_E_FATAL_ALERT_RECEIVED)
            c->alert = (int)gnutls_alert_get(c->session);
        if (r >= 0 || gnutls_error_is_fatal((int)r))
            return r;
        wait_for(c, end_ms);
    }
}

char *tls_answer(struct tls_client *c, char **body, size_t *n)
{
    size_t cap = 16 << 20, len = 0, length;
    char *p = malloc(cap), *end = NULL, *field;

    assert_non_null(p);
    p[0] = '\0';
    while ((end = strstr(p, "\r\n\r\n")) ==
           NULL) { /* one byte at a time: nothing of the next one */
        if (len + 2 > cap || receive(c, p + len, 1) != 1) {
            free(p);
            return NULL;
        }
        p[++len] = '\0';
    }
    field = strcasestr(p, "\r\nContent-Length:");
    length = field != NULL ? strtoul(field + 17, NULL, 10) : 0;
    assert_true(len + length < cap);
    while (length > 0) {
        ssize_t r = receive(c, p + len, length);

        if (r <= 0) {
            free(p);
            return NULL;
        }
        len += (size_t)r;
        length -= (size_t)r;
    }
    p[len] = '\0';
    if (body != NULL)
        *body = end + 4;
    if (n != NULL)
        *n = len - (size_t)(end + 4 - p);
    return p;
}

char *tls_get(struct tls_client *c, const char *target)
{
    char text[512];
    int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);

    tls_send(c, text, (size_t)n);
    return tls_answer(c, NULL, NULL);
}

int tls_status(const char *answer)
{
    return answer != NULL && strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

enum tls_end tls_wait_end(struct tls_client *c)
{
    char junk[16384];
    ssize_t r;

    while ((r = receive(c, junk, sizeof junk)) > 0)
        continue;
    return r == 0 ? TLS_GOOD_BYE : r == GNUTLS_E_PREMATURE_TERMINATION ? TLS_FIN : TLS_RESET;
}

bool tls_is_idle(struct tls_client *c)
{
    char byte;

    ssize_t r = gnutls_record_recv(c->session, &byte, 1);

    return r < 0 && !gnutls_error_is_fatal((int)r); /* a session ticket may have come */
}

char *tls_server_cn(struct tls_client *c)
{
    const gnutls_datum_t *cert = gnutls_certificate_get_peers(c->session, &(unsigned){0});
    gnutls_x509_crt_t crt;
    char name[256] = "";
    size_t n = sizeof name;

    if (cert == NULL)
        return strdup("none");
    check(gnutls_x509_crt_init(&crt));
    check(gnutls_x509_crt_import(crt, cert, GNUTLS_X509_FMT_DER));
    check(gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &n));
    gnutls_x509_crt_deinit(crt);
    return strdup(name);
}

/* ---- certificates ---- */

static void write_pem(const char *dir, const char *name, const char *ending, gnutls_datum_t pem)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s.%s", dir, name, ending);
    file_write(path, "%.*s", (int)pem.size, (char *)pem.data);
    gnutls_free(pem.data);
}

static gnutls_datum_t read_pem(const char *dir, const char *name, const char *ending)
{
    char path[512];
    gnutls_datum_t d;

    snprintf(path, sizeof path, "%s/%s.%s", dir, name, ending);
    check(gnutls_load_file(path, &d));
    return d;
}

static void sign(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *dir, const char *ca)
{
    gnutls_x509_privkey_t ca_key;
    gnutls_x509_crt_t ca_crt;
    gnutls_datum_t d;

    if (ca == NULL) {
        check(gnutls_x509_crt_set_basic_constraints(crt, 1, -1));
        check(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0));
        return;
    }
    check(gnutls_x509_crt_init(&ca_crt));
    check(gnutls_x509_privkey_init(&ca_key));
    d = read_pem(dir, ca, "pem");
    check(gnutls_x509_crt_import(ca_crt, &d, GNUTLS_X509_FMT_PEM));
    gnutls_free(d.data);
    d = read_pem(dir, ca, "key");
    check(gnutls_x509_privkey_import(ca_key, &d, GNUTLS_X509_FMT_PEM));
    gnutls_free(d.data);
    check(gnutls_x509_crt_sign2(crt, ca_crt, ca_key, GNUTLS_DIG_SHA256, 0));
    gnutls_x509_crt_deinit(ca_crt);
    gnutls_x509_privkey_deinit(ca_key);
}

void tls_make_cert(const char *dir, const char *name, const char *ca, const char *dns, int days)
{
    static unsigned serial;
    unsigned char number[8] = {1, (unsigned char)(getpid() >> 8), (unsigned char)getpid(),
                               (unsigned char)(serial >> 8), (unsigned char)serial};
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t pem;
    time_t now = time(NULL);
    char names[512], *save = NULL;

    serial++;
    check(gnutls_x509_privkey_init(&key));
    check(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                       GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    check(gnutls_x509_crt_init(&crt));
    check(gnutls_x509_crt_set_version(crt, 3));
    check(gnutls_x509_crt_set_serial(crt, number, sizeof number));
    check(gnutls_x509_crt_set_activation_time(crt, now - 10 * 86400));
    check(gnutls_x509_crt_set_expiration_time(crt, now + days * 86400));
    check(gnutls_x509_crt_set_key(crt, key));
    snprintf(names, sizeof names, "%s", dns);
    for (char *one = strtok_r(names, ",", &save); one != NULL; one = strtok_r(NULL, ",", &save)) {
        if (one == names)
            check(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, one,
                                                (unsigned)strlen(one)));
        if (ca != NULL)
            check(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, one,
                                                       (unsigned)strlen(one), GNUTLS_FSAN_APPEND));
    }
    sign(crt, key, dir, ca);
    check(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(dir, name, "pem", pem);
    check(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(dir, name, "key", pem);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}
