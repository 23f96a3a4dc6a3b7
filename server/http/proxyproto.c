#include "http/proxyproto.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

/* ---- version 2: binary ---- */

static int parse_v2(const uint8_t *p, size_t n, struct proxy_header *out)
{
    uint32_t len;

    if (n < 16)
        return n > 12 && (p[12] & 0xfe) != 0x20 ? -EPROTO : 0;
    if ((p[12] & 0xfe) != 0x20) /* version 2, LOCAL or PROXY */
        return -EPROTO;
    len = (uint32_t)p[14] << 8 | p[15];
    out->len = 16 + len;
    out->client = (struct address){.family = 0};
    if (p[12] == 0x20)
        return 1;
    switch (p[13]) {
    case 0x11: /* TCP over IPv4: two addresses, two ports */
        if (len < 12)
            return -EPROTO;
        if (n < 16 + 12)
            return 0;
        address_from_ipv4(&out->client, p + 16);
        out->client.port = (uint16_t)(p[24] << 8 | p[25]);
        return 1;
    case 0x21:
        if (len < 36)
            return -EPROTO;
        if (n < 16 + 36)
            return 0;
        address_from_ipv6(&out->client, p + 16);
        out->client.port = (uint16_t)(p[48] << 8 | p[49]);
        return 1;
    case 0x31: out->client.family = AF_UNIX; return len < 216 ? -EPROTO : 1;
    case 0x00:
    case 0x12:
    case 0x22:
    case 0x32: return 1;
    default: return -EPROTO;
    }
}

/* ---- version 1: a line of text ---- */

/* The next word of [*p, end), which ends at a space or at the end; *p after it. */
static size_t word(const char **p, const char *end, const char **begin)
{
    const char *space = memchr(*p, ' ', (size_t)(end - *p));

    *begin = *p;
    *p = space != NULL ? space + 1 : end;
    return (size_t)((space != NULL ? space : end) - *begin);
}

static int parse_port(const char *p, size_t n)
{
    int v = 0;

    if (n == 0 || n > 5 || (n > 1 && p[0] == '0'))
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -1;
        v = v * 10 + p[i] - '0';
    }
    return v <= UINT16_MAX ? v : -1;
}

static int parse_v1(const char *p, size_t n, struct proxy_header *out)
{
    const char *lf = memchr(p, '\n', n < PROXY_PEEK ? n : PROXY_PEEK), *end, *w, *w2, *at;
    struct address source, destination;
    size_t len, len2;
    int port;

    if (lf == NULL)
        return n >= PROXY_PEEK ? -EPROTO : 0;
    end = lf - 1;
    if (end < p || *end != '\r')
        return -EPROTO;
    out->len = (uint32_t)(lf + 1 - p);
    out->client = (struct address){.family = 0};
    at = p + 6; /* behind "PROXY " */
    if (end - at < 4)
        return -EPROTO;
    len = word(&at, end, &w);
    if (len == 7 && memcmp(w, "UNKNOWN", 7) == 0)
        return 1;
    if (len != 4 || memcmp(w, "TCP", 3) != 0 || (w[3] != '4' && w[3] != '6'))
        return -EPROTO;
    /* A colon tells the families apart: ::ffff:192.0.2.1 is one of IPv6 to who wrote it. */
    len = word(&at, end, &w2);
    len2 = word(&at, end, &w);
    if (!address_parse(&source, w2, len, false) || !address_parse(&destination, w, len2, false) ||
        (memchr(w2, ':', len) != NULL) != (p[9] == '6') ||
        (memchr(w, ':', len2) != NULL) != (p[9] == '6'))
        return -EPROTO;
    len = word(&at, end, &w);
    port = parse_port(w, len);
    if (port < 0 || at == end || parse_port(at, (size_t)(end - at)) < 0)
        return -EPROTO;
    source.port = (uint16_t)port;
    out->client = source;
    return 1;
}

int proxy_parse(const void *p, size_t n, enum config_proxy_protocol allowed,
                struct proxy_header *out)
{
    size_t n1 = n < 6 ? n : 6, n2 = n < sizeof signature ? n : sizeof signature;

    if (n == 0)
        return 0;
    if (memcmp(p, "PROXY ", n1) == 0)
        return allowed == CONFIG_PROXY_V2 ? -EPROTO : n1 < 6 ? 0 : parse_v1(p, n, out);
    if (memcmp(p, signature, n2) == 0)
        return allowed == CONFIG_PROXY_V1 ? -EPROTO
               : n2 < sizeof signature    ? 0
                                          : parse_v2(p, n, out);
    return -EPROTO;
}
