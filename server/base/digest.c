#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"

static void print(const unsigned char sum[32], char out[DIGEST_TEXT])
{
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
}

int digest_bytes(const void *p, size_t n, char out[DIGEST_TEXT])
{
    unsigned char sum[32];

    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, p, n, sum) < 0)
        return -ENOMEM;
    print(sum, out);
    return 0;
}

int digest_file(const char *path, char out[DIGEST_TEXT])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
    unsigned char sum[32];
    gnutls_hash_hd_t hash;
    char buf[16384];
    ssize_t n;

    if (fd < 0)
        return -errno;
    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0) {
        fd_close(&fd);
        return -ENOMEM;
    }
    while ((n = read(fd, buf, sizeof buf)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || gnutls_hash(hash, buf, (size_t)n) < 0) {
            r = n < 0 ? -errno : -EIO;
            break;
        }
    }
    gnutls_hash_deinit(hash, sum);
    fd_close(&fd);
    if (r == 0)
        print(sum, out);
    return r;
}
