#include "obs/utf8.h"

size_t utf8_length(const char *p, size_t n)
{
    const unsigned char *c = (const unsigned char *)p;
    /* The range of the second byte: no overlong forms, no surrogates, nothing past U+10FFFF. */
    unsigned char lo = c[0] == 0xe0 ? 0xa0 : c[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char hi = c[0] == 0xed ? 0x9f : c[0] == 0xf4 ? 0x8f : 0xbf;
    size_t len;

    if (c[0] < 0x80)
        return 1;
    if (c[0] < 0xc2 || c[0] > 0xf4)
        return 0;
    len = c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    if (len > n || c[1] < lo || c[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if (c[i] < 0x80 || c[i] > 0xbf)
            return 0;
    }
    return len;
}
