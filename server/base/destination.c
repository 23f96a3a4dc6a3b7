#include "base/destination.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define V4(a, b, c, d) 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d

/* Link-local: the metadata services of clouds are there, and things that have no other address. Then
 * what is nobody's address, and metadata services that live elsewhere. */
static const struct address_net special[] = {
    {{V4(169, 254, 0, 0)}, 96 + 16},
    {{V4(0, 0, 0, 0)}, 96 + 8},
    {{V4(224, 0, 0, 0)}, 96 + 3},    /* multicast, reserved, broadcast */
    {{V4(100, 100, 100, 200)}, 128}, /* Alibaba's */
    {{V4(192, 0, 0, 192)}, 128},     /* Oracle's */
    {{0xfe, 0x80}, 10},
    {{0xff}, 8},
    {{0}, 128},                               /* "::" */
    {{0xfd, 0x00, 0x0e, 0xc2, [15] = 0}, 32}, /* Amazon's, fd00:ec2::/32 */
};

/* Not of the open internet (RFC 6890), besides those above. */
static const struct address_net local[] = {
    {{V4(10, 0, 0, 0)}, 96 + 8},
    {{V4(100, 64, 0, 0)}, 96 + 10},
    {{V4(127, 0, 0, 0)}, 96 + 8},
    {{V4(172, 16, 0, 0)}, 96 + 12},
    {{V4(192, 0, 0, 0)}, 96 + 24},
    {{V4(192, 0, 2, 0)}, 96 + 24},
    {{V4(192, 168, 0, 0)}, 96 + 16},
    {{V4(198, 18, 0, 0)}, 96 + 15},
    {{V4(198, 51, 100, 0)}, 96 + 24},
    {{V4(203, 0, 113, 0)}, 96 + 24},
    {{[15] = 1}, 128},
    {{0xfc}, 7},
    {{0xfe, 0xc0}, 10},
    {{0x20, 0x01, 0x0d, 0xb8}, 32},
    {{0x01, 0x00}, 64},
};

#define N(ARRAY) ((int)(sizeof(ARRAY) / sizeof(ARRAY)[0]))

/* An IPv4 address in one of IPv6's: NAT64 (RFC 6052), 6to4 and the compatible ones of old lead there. */
static struct address unwrapped(const struct address *a)
{
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b}, compatible[12] = {0};
    struct address out = *a;

    if (memcmp(a->ip, nat64, 12) == 0 ||
        (memcmp(a->ip, compatible, 12) == 0 && (a->ip[12] | a->ip[13]) != 0))
        address_from_ipv4(&out, a->ip + 12);
    else if (a->ip[0] == 0x20 && a->ip[1] == 0x02)
        address_from_ipv4(&out, a->ip + 2);
    return out;
}

static bool is_special(const struct address *a)
{
    struct address inner = unwrapped(a);

    return address_is_in(a, special, N(special)) || address_is_in(&inner, special, N(special));
}

bool destination_is_public(const struct address *a)
{
    struct address inner = unwrapped(a);

    return !is_special(a) && !address_is_in(a, local, N(local)) &&
           !address_is_in(&inner, local, N(local));
}

/* ---- rules ---- */

static bool is_host_name(const char *p, size_t n)
{
    bool has_letter = false;

    for (size_t i = 0; i < n; i++) {
        char c = (char)(p[i] | 0x20);

        if (c >= 'a' && c <= 'z')
            has_letter = true;
        else if (!(p[i] >= '0' && p[i] <= '9') && strchr("-_.", p[i]) == NULL)
            return false;
        if (p[i] == '.' && (i == 0 || p[i - 1] == '.'))
            return false;
    }
    return n > 0 && n <= 253 && has_letter; /* 1.2.3 is no name, and 0x7f is an address to some */
}

static bool read_port(const char *text, uint16_t *port)
{
    char *end;
    long v = text[0] >= '0' && text[0] <= '9' ? strtol(text, &end, 10) : 0;

    if (v < 1 || v > 65535 || *end != '\0')
        return false;
    *port = (uint16_t)v;
    return true;
}

/* "10.0.0.0/8", "10.0.0.1", "::1", "[::1]", "[2001:db8::/32]"; and a port behind all but the third. */
static int parse_net(struct destination_rule *r, const char *text)
{
    const char *colon = strrchr(text, ':'), *end = strchr(text, ']');
    char net[64];
    size_t n;

    if (text[0] == '[') {
        if (end == NULL || (end[1] != '\0' && (end[1] != ':' || !read_port(end + 2, &r->port))))
            return -EINVAL;
        text++;
        n = (size_t)(end - text);
    } else if (colon != NULL && strchr(text, ':') == colon) {
        if (!read_port(colon + 1, &r->port))
            return -EINVAL;
        n = (size_t)(colon - text);
    } else {
        n = strlen(text);
    }
    if (n == 0 || n >= sizeof net)
        return -EINVAL;
    memcpy(net, text, n);
    net[n] = '\0';
    r->kind = DESTINATION_NET;
    return address_net_parse(&r->net, net);
}

int destination_parse(struct destination_rule *rule, const char *text)
{
    struct destination_rule r = {.kind = DESTINATION_NAME};
    const char *colon;
    int e;

    if (strcmp(text, "public") == 0 || strcmp(text, "any") == 0) {
        r.kind = text[0] == 'p' ? DESTINATION_PUBLIC : DESTINATION_ANY;
        *rule = r;
        return 0;
    }
    if (strncmp(text, "unix:/", 6) == 0) {
        r.kind = DESTINATION_UNIX;
        r.name = text + 5;
        r.name_n = strlen(r.name);
        *rule = r;
        return 0;
    }
    e = parse_net(&r, text);
    if (e != -EINVAL) {
        if (e == 0)
            *rule = r;
        return e;
    }
    r = (struct destination_rule){.kind = DESTINATION_NAME, .name = text};
    if (strncmp(text, "*.", 2) == 0) {
        r.kind = DESTINATION_BELOW;
        r.name = text + 2;
    }
    colon = strchr(r.name, ':');
    r.name_n = colon != NULL ? (size_t)(colon - r.name) : strlen(r.name);
    if ((colon != NULL && !read_port(colon + 1, &r.port)) || !is_host_name(r.name, r.name_n))
        return -EINVAL;
    *rule = r;
    return 0;
}

static bool is_same(const char *a, const char *b, size_t n)
{
    return strncasecmp(a, b, n) == 0;
}

static bool fits_name(const struct destination_rule *r, const char *host, size_t n)
{
    if (n > 0 && host[n - 1] == '.')
        n--; /* the root's: the same host */
    if (r->kind == DESTINATION_NAME)
        return n == r->name_n && is_same(host, r->name, n);
    return r->kind == DESTINATION_BELOW && n > r->name_n + 1 && host[n - r->name_n - 1] == '.' &&
           is_same(host + n - r->name_n, r->name, r->name_n);
}

static bool fits_port(const struct destination_rule *r, uint16_t port)
{
    return r->port == 0 || r->port == port;
}

bool destination_may_ask(const struct destination *d, const char *host, size_t host_n,
                         uint16_t port)
{
    struct address a;

    if (address_parse(&a, host, host_n, false))
        return destination_may_connect(d, host, host_n, port, &a);
    if (!d->has_rules)
        return true;
    for (int i = 0; i < d->n_rules; i++) {
        const struct destination_rule *r = &d->rule[i];

        if (fits_port(r, port) && (r->kind == DESTINATION_NET || r->kind == DESTINATION_PUBLIC ||
                                   r->kind == DESTINATION_ANY || fits_name(r, host, host_n)))
            return true;
    }
    return false;
}

bool destination_may_connect(const struct destination *d, const char *host, size_t host_n,
                             uint16_t port, const struct address *a)
{
    bool is_refused = is_special(a);

    if (a->family != AF_INET && a->family != AF_INET6)
        return false;
    if (!d->has_rules)
        return !is_refused;
    for (int i = 0; i < d->n_rules; i++) {
        const struct destination_rule *r = &d->rule[i];
        bool fits;

        if (!fits_port(r, port))
            continue;
        switch (r->kind) {
        case DESTINATION_NET: fits = address_is_in(a, &r->net, 1); break;
        case DESTINATION_PUBLIC: fits = destination_is_public(a); break;
        case DESTINATION_ANY: fits = !is_refused; break;
        default: fits = !is_refused && fits_name(r, host, host_n); break;
        }
        if (fits)
            return true;
    }
    return false;
}

bool destination_may_use_socket(const struct destination *d, const char *path)
{
    if (!d->has_rules)
        return true;
    for (int i = 0; i < d->n_rules; i++)
        if (d->rule[i].kind == DESTINATION_ANY ||
            (d->rule[i].kind == DESTINATION_UNIX && strcmp(d->rule[i].name, path) == 0))
            return true;
    return false;
}
