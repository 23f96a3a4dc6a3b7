#include "store/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/must.h"

/* Shared with the thread that looks a name up, which may take longer than the link lives. */
struct lookup {
    _Atomic int refs;
    _Atomic bool is_done;
    int error;
    struct addrinfo *found;
    char host[256], port[16];
};

struct link {
    const struct link_options *o;
    enum link_state state;
    int fd;
    uint64_t serial;
    struct lookup *lookup;
    const struct addrinfo *next; /* address to try next */
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    bool tls_wants_out;
    char error[256];
};

__attribute__((format(printf, 2, 3))) static enum link_state fail(struct link *l, const char *fmt,
                                                                  ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(l->error, sizeof l->error, fmt, ap);
    va_end(ap);
    return l->state = LINK_FAILED;
}

/* ---- names ---- */

static void lookup_put(struct lookup *look)
{
    if (look == NULL || atomic_fetch_sub(&look->refs, 1) != 1)
        return;
    if (look->found != NULL)
        freeaddrinfo(look->found);
    free(look);
}

static void look_up(struct lookup *look, int flags)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};

    look->error = getaddrinfo(look->host, look->port, &hints, &look->found);
    atomic_store(&look->is_done, look->error == 0 || flags == 0);
}

static void *look_up_in_thread(void *arg)
{
    look_up(arg, 0);
    lookup_put(arg);
    return NULL;
}

static enum link_state begin_lookup(struct link *l)
{
    struct lookup *look = calloc(1, sizeof *look);
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_t thread;
    int r;

    l->lookup = look;
    if (look == NULL)
        return fail(l, "out of memory");
    atomic_store(&look->refs, 1);
    snprintf(look->host, sizeof look->host, "%s", l->o->host);
    snprintf(look->port, sizeof look->port, "%s", l->o->port);
    l->state = LINK_RESOLVING;
    look_up(look, AI_NUMERICHOST);
    if (atomic_load(&look->is_done))
        return l->state;
    atomic_store(&look->refs, 2);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    r = pthread_create(&thread, &attr, look_up_in_thread, look);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0) {
        atomic_store(&look->refs, 1);
        return fail(l, "no thread to look up %s: %s", l->o->host, strerror(r));
    }
    return l->state;
}

/* ---- connecting ---- */

static int connect_to(struct link *l, const struct sockaddr *sa, socklen_t len, int family)
{
    static _Atomic uint64_t serial;
    static const int on = 1;

    l->serial = atomic_fetch_add(&serial, 1) + 1;
    l->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return -errno;
    if (family != AF_UNIX)
        (void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(l->fd, sa, len) < 0 && errno != EINPROGRESS)
        return -errno;
    l->state = LINK_CONNECTING;
    return 0;
}

static enum link_state try_next(struct link *l, int error)
{
    for (; l->next != NULL; l->next = l->next->ai_next) {
        const struct addrinfo *a = l->next;

        fd_close(&l->fd);
        error = connect_to(l, a->ai_addr, a->ai_addrlen, a->ai_family);
        if (error == 0) {
            l->next = a->ai_next;
            return l->state;
        }
    }
    return fail(l, "%s", strerror(-error));
}

static enum link_state connect_unix(struct link *l)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int r;

    snprintf(un.sun_path, sizeof un.sun_path, "%s", l->o->path);
    r = connect_to(l, (const struct sockaddr *)(const void *)&un, sizeof un, AF_UNIX);
    return r < 0 ? fail(l, "%s", strerror(-r)) : l->state;
}

/* ---- TLS ---- */

static int load_trust(const struct link_options *o, gnutls_certificate_credentials_t *out)
{
    int r = gnutls_certificate_allocate_credentials(out);

    if (r == 0)
        r = o->ca != NULL ? gnutls_certificate_set_x509_trust_file(*out, o->ca, GNUTLS_X509_FMT_PEM)
                          : gnutls_certificate_set_x509_system_trust(*out);
    return r < 0 ? r : r == 0 ? GNUTLS_E_NO_CERTIFICATE_FOUND : 0;
}

int link_check(const struct link_options *o, char *why, size_t size)
{
    gnutls_certificate_credentials_t c = NULL;
    int r = o->tls ? load_trust(o, &c) : 0;

    if (r < 0)
        snprintf(why, size, "%s: %s", o->ca != NULL ? o->ca : "the system's certificates",
                 gnutls_strerror(r));
    if (c != NULL)
        gnutls_certificate_free_credentials(c);
    return r < 0 ? -EINVAL : 0;
}

static enum link_state begin_greeting(struct link *l)
{
    const char *name = l->o->name != NULL ? l->o->name : l->o->host;
    unsigned char ip[16];
    int r = load_trust(l->o, &l->credentials);

    if (r == 0)
        r = gnutls_init(&l->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (r == 0)
        r = gnutls_set_default_priority(l->session);
    if (r == 0)
        r = gnutls_credentials_set(l->session, GNUTLS_CRD_CERTIFICATE, l->credentials);
    if (r < 0)
        return fail(l, "TLS: %s", gnutls_strerror(r));
    if (name != NULL && inet_pton(AF_INET, name, ip) != 1 && inet_pton(AF_INET6, name, ip) != 1)
        gnutls_server_name_set(l->session, GNUTLS_NAME_DNS, name, strlen(name));
    gnutls_session_set_verify_cert(l->session, name, 0);
    gnutls_transport_set_int(l->session, l->fd);
    return l->state = LINK_GREETING;
}

static enum link_state greet(struct link *l)
{
    int r = gnutls_handshake(l->session);
    gnutls_datum_t text = {NULL, 0};

    l->tls_wants_out = gnutls_record_get_direction(l->session) == 1;
    if (r == GNUTLS_E_SUCCESS)
        return l->state = LINK_OPEN;
    if (gnutls_error_is_fatal(r) == 0)
        return l->state;
    if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR &&
        gnutls_certificate_verification_status_print(
            gnutls_session_get_verify_cert_status(l->session), GNUTLS_CRT_X509, &text, 0) == 0) {
        fail(l, "TLS: %s", text.data);
        gnutls_free(text.data);
        return l->state;
    }
    return fail(l, "TLS: %s", gnutls_strerror(r));
}

/* ---- from outside ---- */

struct link *link_open(const struct link_options *o)
{
    struct link *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    l->o = o;
    l->fd = -1;
    if (o->host == NULL)
        connect_unix(l);
    else
        begin_lookup(l);
    return l;
}

void link_close(struct link **lp)
{
    struct link *l = *lp;

    *lp = NULL;
    if (l == NULL)
        return;
    if (l->session != NULL)
        gnutls_deinit(l->session);
    if (l->credentials != NULL)
        gnutls_certificate_free_credentials(l->credentials);
    fd_close(&l->fd);
    lookup_put(l->lookup);
    free(l);
}

enum link_state link_state(const struct link *l)
{
    return l->state;
}

const char *link_error(const struct link *l)
{
    return l->error;
}

int link_fd(const struct link *l)
{
    return l->state == LINK_FAILED ? -1 : l->fd;
}

uint64_t link_serial(const struct link *l)
{
    return l->serial;
}

short link_events(const struct link *l, bool wants_out)
{
    switch (l->state) {
    case LINK_CONNECTING: return POLLOUT;
    case LINK_GREETING: return l->tls_wants_out ? POLLOUT : POLLIN;
    case LINK_OPEN: return (short)(POLLIN | (wants_out ? POLLOUT : 0));
    default: return 0;
    }
}

static enum link_state finish_connect(struct link *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof error;

    if (poll(&p, 1, 0) <= 0)
        return l->state;
    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0)
        return try_next(l, error != 0 ? -error : -errno);
    return l->o->tls ? begin_greeting(l) : (l->state = LINK_OPEN);
}

enum link_state link_run(struct link *l)
{
    if (l->state == LINK_RESOLVING && atomic_load(&l->lookup->is_done)) {
        if (l->lookup->error != 0)
            return fail(l, "%s", gai_strerror(l->lookup->error));
        l->next = l->lookup->found;
        try_next(l, -EADDRNOTAVAIL);
    }
    if (l->state == LINK_CONNECTING)
        finish_connect(l);
    if (l->state == LINK_GREETING)
        greet(l);
    return l->state;
}

/* What GnuTLS, or the kernel, said: the link's words for it. */
static ssize_t result(struct link *l, ssize_t n, bool is_read)
{
    if (n > 0 || (n == 0 && !is_read))
        return n;
    if (n == 0) {
        fail(l, "the server has closed the connection");
        return -ECONNRESET;
    }
    if (l->session != NULL) {
        if (gnutls_error_is_fatal((int)n) == 0)
            return -EAGAIN;
        fail(l, "TLS: %s", gnutls_strerror((int)n));
        return -ECONNRESET;
    }
    if (errno == EAGAIN || errno == EINTR)
        return -EAGAIN;
    fail(l, "%s", strerror(errno));
    return -errno;
}

ssize_t link_read(struct link *l, void *buf, size_t n)
{
    must(l->state == LINK_OPEN);
    return result(
        l, l->session != NULL ? gnutls_record_recv(l->session, buf, n) : recv(l->fd, buf, n, 0),
        true);
}

ssize_t link_write(struct link *l, const void *buf, size_t n)
{
    must(l->state == LINK_OPEN);
    return result(l,
                  l->session != NULL ? gnutls_record_send(l->session, buf, n)
                                     : send(l->fd, buf, n, MSG_NOSIGNAL),
                  false);
}
