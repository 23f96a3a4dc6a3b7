#include "base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

void address_from_ipv4(struct address *a, const uint8_t ip[4])
{
    memcpy(a->ip, mapped, 12);
    memcpy(a->ip + 12, ip, 4);
    a->family = AF_INET;
}

void address_from_ipv6(struct address *a, const uint8_t ip[16])
{
    memcpy(a->ip, ip, 16);
    a->family = memcmp(ip, mapped, 12) == 0 ? AF_INET : AF_INET6;
}

void address_from_sockaddr(struct address *a, const struct sockaddr *sa, size_t len)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    memset(a, 0, sizeof *a);
    if (len < sizeof sa->sa_family)
        return;
    if (sa->sa_family == AF_INET && len >= sizeof in) {
        memcpy(&in, sa, sizeof in);
        address_from_ipv4(a, (const uint8_t *)&in.sin_addr);
        a->port = ntohs(in.sin_port);
    } else if (sa->sa_family == AF_INET6 && len >= sizeof in6) {
        memcpy(&in6, sa, sizeof in6);
        address_from_ipv6(a, in6.sin6_addr.s6_addr);
        a->port = ntohs(in6.sin6_port);
    } else if (sa->sa_family == AF_UNIX) {
        a->family = AF_UNIX;
    }
}

bool address_parse_port(const char *p, size_t n, uint16_t *port)
{
    uint32_t v = 0;

    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(p[i] - '0');
    }
    *port = (uint16_t)v;
    return v <= UINT16_MAX;
}

static bool parse_ip(struct address *a, const char *p, size_t n)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t ip[16];

    if (n == 0 || n >= sizeof text || memchr(p, '\0', n) != NULL)
        return false;
    memcpy(text, p, n);
    text[n] = '\0';
    if (inet_pton(AF_INET, text, ip) == 1)
        address_from_ipv4(a, ip);
    else if (inet_pton(AF_INET6, text, ip) == 1)
        address_from_ipv6(a, ip);
    else
        return false;
    return true;
}

bool address_parse(struct address *a, const char *p, size_t n, bool with_port)
{
    struct address out = {.port = 0};
    const char *end = p + n, *close, *colon;

    if (with_port && n > 0 && p[0] == '[') {
        close = memchr(p, ']', n);
        if (close == NULL || !parse_ip(&out, p + 1, (size_t)(close - p) - 1) ||
            memchr(p, ':', (size_t)(close - p)) == NULL)
            return false;
        if (close + 1 != end &&
            (close[1] != ':' ||
             !address_parse_port(close + 2, (size_t)(end - close) - 2, &out.port)))
            return false;
    } else {
        colon = with_port && n > 0 ? memchr(p, ':', n) : NULL;
        if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon) - 1) == NULL) {
            if (!address_parse_port(colon + 1, (size_t)(end - colon) - 1, &out.port))
                return false;
            end = colon;
        }
        if (!parse_ip(&out, p, (size_t)(end - p)))
            return false;
    }
    *a = out;
    return true;
}

bool address_print(const struct address *a, char buf[ADDRESS_TEXT])
{
    buf[0] = '\0';
    if (a->family == AF_INET)
        return inet_ntop(AF_INET, a->ip + 12, buf, ADDRESS_TEXT) != NULL;
    return a->family == AF_INET6 && inet_ntop(AF_INET6, a->ip, buf, ADDRESS_TEXT) != NULL;
}

/* Clears what is beyond the prefix; false: something was set there. */
static bool mask(uint8_t ip[16], unsigned bits)
{
    bool was_clear = true;

    for (unsigned i = bits; i < 128; i++) {
        uint8_t bit = (uint8_t)(0x80 >> i % 8);

        was_clear = was_clear && (ip[i / 8] & bit) == 0;
        ip[i / 8] &= (uint8_t)~bit;
    }
    return was_clear;
}

int address_net_parse(struct address_net *net, const char *text)
{
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    struct address a;
    uint16_t bits = 128;
    bool is_short;

    if (!address_parse(&a, text, n, false))
        return -EINVAL;
    is_short = a.family == AF_INET && memchr(text, ':', n) == NULL;
    if (slash != NULL) {
        if (strlen(slash + 1) > 3 || !address_parse_port(slash + 1, strlen(slash + 1), &bits) ||
            bits > (is_short ? 32 : 128))
            return -EINVAL;
        bits = (uint16_t)(bits + (is_short ? 96 : 0));
    }
    memcpy(net->ip, a.ip, sizeof net->ip);
    net->bits = (uint8_t)bits;
    return mask(net->ip, bits) ? 0 : -ERANGE;
}

static bool is_in(const uint8_t ip[16], const struct address_net *net)
{
    unsigned whole = net->bits / 8, rest = net->bits % 8;

    if (memcmp(ip, net->ip, whole) != 0)
        return false;
    return rest == 0 || ((ip[whole] ^ net->ip[whole]) & (0xff00 >> rest) & 0xff) == 0;
}

bool address_is_in(const struct address *a, const struct address_net *nets, int n)
{
    if (a->family != AF_INET && a->family != AF_INET6)
        return false;
    for (int i = 0; i < n; i++)
        if (is_in(a->ip, &nets[i]))
            return true;
    return false;
}
