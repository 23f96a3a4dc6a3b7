#include "http/authority.h"

#include <arpa/inet.h>
#include <string.h>

#define ADDRESS_MAX 46 /* of an IPv6 address in text */

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* RFC 3986 3.2.2, reg-name: unreserved and sub-delims; '%' is looked at apart. */
static bool is_name_char(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
           (c != '\0' && strchr("-._~!$&'()*+,;=", c) != NULL);
}

/* The length of a name or an IPv4 address at the start of text; 0: there is none. */
static size_t name_len(bh_str text)
{
    size_t i = 0;

    while (i < text.n) {
        if (is_name_char(text.p[i])) {
            i++;
        } else if (text.p[i] == '%') {
            if (text.n - i < 3 || !is_hex(text.p[i + 1]) || !is_hex(text.p[i + 2]))
                return 0;
            i += 3;
        } else {
            break;
        }
    }
    return i;
}

/* The length of "[address]" at the start of text; 0: there is none. Not of a kind that is yet to be
 * invented (IPvFuture), nor with a zone, which has no place in HTTP. */
static size_t literal_len(bh_str text)
{
    const char *end = memchr(text.p, ']', text.n);
    char address[ADDRESS_MAX + 1];
    unsigned char bytes[16];
    size_t n;

    if (end == NULL || (n = (size_t)(end - text.p) - 1) > ADDRESS_MAX)
        return 0;
    memcpy(address, text.p + 1, n);
    address[n] = '\0';
    return strlen(address) == n && inet_pton(AF_INET6, address, bytes) == 1 ? n + 2 : 0;
}

bool authority_parse(bh_str text, struct authority *out)
{
    size_t n = text.n > 0 && text.p[0] == '[' ? literal_len(text) : name_len(text);
    uint32_t port = 0;

    if (n == 0)
        return false;
    out->host = bh_sn(text.p, n);
    out->has_port = text.n > n + 1;
    if (n < text.n && text.p[n] != ':')
        return false;
    for (size_t i = n + 1; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(text.p[i] - '0');
        if (port > UINT16_MAX)
            return false;
    }
    out->port = (uint16_t)port;
    return true;
}
