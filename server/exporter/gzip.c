#include "exporter/gzip.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#define GZIP_WINDOW (15 + 16) /* 16: with gzip's header, as zlib.h says */
#define LEVEL       1         /* JSON of spans shrinks to a tenth by any; this one is fast */

char *gzip_pack(const char *p, size_t n, size_t *out_n)
{
    z_stream z = {.next_in = (z_const Bytef *)(z_const void *)p};
    char *out;
    uLong most;

    if (n > UINT_MAX ||
        deflateInit2(&z, LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    z.avail_in = (uInt)n;
    most = deflateBound(&z, n);
    out = malloc(most);
    z.next_out = (Bytef *)(void *)out;
    z.avail_out = (uInt)most;
    if (out == NULL || deflate(&z, Z_FINISH) != Z_STREAM_END) {
        free(out);
        deflateEnd(&z);
        return NULL;
    }
    *out_n = z.total_out;
    deflateEnd(&z);
    return out;
}
