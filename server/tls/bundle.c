#include "tls/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "base/must.h"
#include "conf/config.h"

bool bundle_is_needed(const struct config *cfg)
{
    for (int i = 0; i < cfg->n_listeners; i++)
        if (cfg->listener[i].tls.is_on)
            return true;
    return false;
}

/* ---- writing ---- */

static int put(int fd, const void *p, uint32_t n)
{
    int r = fd_write_all(fd, &n, sizeof n);

    return r < 0 ? r : fd_write_all(fd, p, n);
}

static const char *hint_for(int err)
{
    switch (err) {
    case ENOENT: return "relative paths are meant from the folder of the config";
    case EACCES:
        return "it is read by the user who starts the server, before server.user takes over: "
               "start as root, or let that user's group read it";
    case EFBIG: return "a PEM file has a few KiB; is this the right one?";
    case EISDIR: return "name the file in it";
    default: return NULL;
    }
}

/* Into buf, BUNDLE_FILE_MAX bytes; the length, or -errno. */
static ssize_t read_whole(const char *path, unsigned char *buf)
{
    /* O_NONBLOCK: a FIFO is not to be waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r = 0;
    struct stat st;
    size_t n = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        r = -errno;
    else if (!S_ISREG(st.st_mode))
        r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    while (r == 0) {
        ssize_t got = read(fd, buf + n, BUNDLE_FILE_MAX - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            r = -errno;
        if (got <= 0)
            break;
        n += (size_t)got;
        if (n == BUNDLE_FILE_MAX)
            r = -EFBIG;
    }
    fd_close(&fd);
    return r < 0 ? r : (ssize_t)n;
}

static int put_file(int fd, const struct config *cfg, const struct config_file *file,
                    unsigned char *buf, struct diag *diag)
{
    ssize_t n = read_whole(file->path, buf);

    if (n < 0) {
        diag_add(diag, cfg->path, file->pos.line, file->pos.column, hint_for((int)-n),
                 "cannot read %s: %s", file->path, strerror((int)-n));
        put(fd, "", 0);
        return (int)n;
    }
    return put(fd, buf, (uint32_t)n);
}

/* A ticket of one listener must not open another, which may ask more of its clients. */
static int put_ticket_key(int fd, const char *listener, const unsigned char *secret)
{
    unsigned char key[BUNDLE_TICKET_KEY];
    int r;

    if (gnutls_hmac_fast(GNUTLS_MAC_SHA512, secret, BUNDLE_SECRET, listener, strlen(listener),
                         key) < 0)
        return -EIO;
    r = put(fd, key, sizeof key);
    gnutls_memset(key, 0, sizeof key);
    return r;
}

static int put_listener(int fd, const struct config *cfg, const struct config_listener *l,
                        const unsigned char *secret, unsigned char *buf, struct diag *diag)
{
    const struct config_tls *tls = &l->tls;
    int r = put_ticket_key(fd, l->name, secret), e;

    for (int i = 0; i < tls->n_certificates; i++) {
        e = put_file(fd, cfg, &tls->certificate[i].cert, buf, diag);
        r = r < 0 ? r : e;
        e = put_file(fd, cfg, &tls->certificate[i].key, buf, diag);
        r = r < 0 ? r : e;
    }
    if (tls->client_ca.path != NULL) {
        e = put_file(fd, cfg, &tls->client_ca, buf, diag);
        r = r < 0 ? r : e;
    }
    return r;
}

int bundle_create(const struct config *cfg, const unsigned char secret[BUNDLE_SECRET],
                  struct diag *diag, int *out)
{
    unsigned char *buf;
    int fd, r = 0, e;

    *out = -1;
    if (!bundle_is_needed(cfg))
        return 0;
    buf = malloc(BUNDLE_FILE_MAX);
    fd = memfd_create("bulkhead-tls", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (buf == NULL || fd < 0) {
        r = buf == NULL ? -ENOMEM : -errno;
        goto out;
    }
    for (int i = 0; i < cfg->n_listeners; i++) {
        if (!cfg->listener[i].tls.is_on)
            continue;
        e = put_listener(fd, cfg, &cfg->listener[i], secret, buf, diag);
        r = r < 0 ? r : e;
    }
    gnutls_memset(buf, 0, BUNDLE_FILE_MAX);
    if (r == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        r = -errno;
    if (r == 0) {
        *out = fd;
        fd = -1;
    }
out:
    fd_close(&fd);
    free(buf);
    return r;
}

/* ---- changes ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
    return (h ^ v) * 0x100000001b3ull; /* FNV-1a, by words */
}

static uint64_t sign_file(uint64_t h, const struct config_file *file)
{
    struct stat st;

    if (file->path == NULL || stat(file->path, &st) < 0)
        return mix(h, 1);
    h = mix(mix(h, st.st_dev), st.st_ino);
    h = mix(mix(h, (uint64_t)st.st_size), (uint64_t)st.st_mtim.tv_sec);
    return mix(h, (uint64_t)st.st_mtim.tv_nsec);
}

uint64_t bundle_signature(const struct config *cfg)
{
    uint64_t h = 0xcbf29ce484222325ull;

    for (int i = 0; i < cfg->n_listeners; i++) {
        const struct config_tls *tls = &cfg->listener[i].tls;

        for (int k = 0; tls->is_on && k < tls->n_certificates; k++)
            h = sign_file(sign_file(h, &tls->certificate[k].cert), &tls->certificate[k].key);
        if (tls->is_on)
            h = sign_file(h, &tls->client_ca);
    }
    return h;
}

/* ---- reading ---- */

int bundle_map(int fd, struct bundle *b)
{
    struct stat st;
    void *p;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size == 0)
        return -EINVAL;
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *b = (struct bundle){p, (size_t)st.st_size, 0};
    return 0;
}

void bundle_unmap(struct bundle *b)
{
    if (b->p != NULL)
        munmap((void *)(uintptr_t)b->p, b->n);
    b->p = NULL;
}

bool bundle_next(struct bundle *b, const unsigned char **p, size_t *n)
{
    uint32_t len;

    if (b->n - b->at < sizeof len)
        return false;
    memcpy(&len, b->p + b->at, sizeof len);
    if (len > b->n - b->at - sizeof len)
        return false;
    *p = b->p + b->at + sizeof len;
    *n = len;
    b->at += sizeof len + len;
    return true;
}
