#include "multipart.h"

#include <inttypes.h>

bool multipart_init(struct multipart *m, const char *type, uint64_t size)
{
    uint64_t random;

    m->type = type;
    m->size = size;
    /* It may not stand in any part. Nobody can foresee it, so nobody can write such a file. */
    if (bh_random(&random, sizeof random) != BH_OK)
        return false;
    snprintf(m->boundary, sizeof m->boundary, "%016" PRIx64, random);
    return true;
}

void multipart_type(const struct multipart *m, char out[MULTIPART_TYPE_SIZE])
{
    snprintf(out, MULTIPART_TYPE_SIZE, "multipart/byteranges; boundary=%s", m->boundary);
}

size_t multipart_head(const struct multipart *m, bool is_first, const struct range *range,
                      char *buf, size_t buf_size)
{
    const char *gap = is_first ? "" : "\r\n";
    int n;

    if (range == NULL)
        n = snprintf(buf, buf_size, "%s--%s--\r\n", gap, m->boundary);
    else
        n = snprintf(buf, buf_size,
                     "%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %" PRIu64 "-%" PRIu64
                     "/%" PRIu64 "\r\n\r\n",
                     gap, m->boundary, m->type, range->first, range->first + range->len - 1,
                     m->size);
    return n > 0 ? (size_t)n : 0;
}
