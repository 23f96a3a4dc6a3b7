/*
 * token.c - tokens of the admin interface, from their files.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "conf/config.h"
#include "master/admin.h"
#include "obs/log.h"

#define FILE_MAX  4096
#define TOKEN_MIN 16 /* characters; those that we make have 64 */

/* Under another name first: half of a token is never read. */
static int make(const char *path)
{
    unsigned char random[32];
    char text[2 * sizeof random + 2], *temporary = NULL;
    int fd, r;

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return -EIO;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(text + 2 * i, 3, "%02x", random[i]);
    text[sizeof text - 2] = '\n';
    if (asprintf(&temporary, "%s.%ld", path, (long)getpid()) < 0)
        return -ENOMEM;
    unlink(temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : fd_write_all(fd, text, sizeof text - 1);
    if (r == 0 && link(temporary, path) < 0) /* not rename(): another may have made it meanwhile */
        r = errno == EEXIST ? 0 : -errno;
    if (fd >= 0)
        unlink(temporary);
    fd_close(&fd);
    free(temporary);
    explicit_bzero(random, sizeof random);
    explicit_bzero(text, sizeof text);
    return r;
}

__attribute__((format(printf, 4, 5))) static int refuse(const struct config *cfg, struct diag *diag,
                                                        const char *hint, const char *fmt, ...)
{
    char what[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    diag_add(diag, cfg->path, cfg->admin.pos.line, cfg->admin.pos.column, hint, "%s", what);
    return -EINVAL;
}

static int check_file(int fd, const char *path, const char *key, const struct config *cfg,
                      struct diag *diag)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return refuse(cfg, diag, NULL, "admin.%s: %s is no regular file", key, path);
    if ((st.st_mode & (S_IWOTH | S_IROTH)) != 0)
        return refuse(cfg, diag, "chmod 600, or 640 for a group",
                      "admin.%s: %s is open to every user", key, path);
    return 0;
}

static int read_token(int fd, const char *path, const char *key, const struct config *cfg,
                      struct diag *diag, struct admin_token *out)
{
    char text[FILE_MAX + 1];
    ssize_t n = read(fd, text, sizeof text);
    size_t len = n > 0 ? (size_t)n : 0;
    int r = 0;

    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
        len--;
    if (n < 0)
        r = -errno;
    else if (len > FILE_MAX - 2 || len < TOKEN_MIN)
        r = refuse(cfg, diag, "remove the file, and one with a good token is made",
                   "admin.%s: what is in %s is no token: %d to %d characters", key, path, TOKEN_MIN,
                   FILE_MAX - 2);
    for (size_t i = 0; i < len && r == 0; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            r = refuse(cfg, diag, "letters, digits and punctuation, without spaces",
                       "admin.%s: character %zu in %s cannot be sent in a header", key, i + 1,
                       path);
    if (r == 0 && gnutls_hash_fast(GNUTLS_DIG_SHA256, text, len, out->sum) < 0)
        r = -EIO;
    out->is_set = r == 0;
    explicit_bzero(text, sizeof text);
    return r;
}

int token_load(const char *path, const char *key, const struct config *cfg, struct diag *diag,
               struct admin_token *out)
{
    int n_before = diag->n_errors, fd, r = 0;

    *out = (struct admin_token){.is_set = false};
    if (path == NULL)
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        r = make(path);
        fd = r == 0 ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
        if (fd >= 0)
            log_info("admin.%s: %s is made, with a random token", key, path);
    }
    if (fd < 0 && r == 0)
        r = -errno;
    if (r == 0)
        r = check_file(fd, path, key, cfg, diag);
    if (r == 0)
        r = read_token(fd, path, key, cfg, diag, out);
    fd_close(&fd);
    if (r < 0 && diag->n_errors == n_before)
        refuse(cfg, diag, NULL, "admin.%s: %s: %s", key, path, strerror(-r));
    return r;
}
