/*
 * url.c - URLs in the config, and the hosts and ports in them: whether they can be asked at all.
 *
 * What a newcomer would get wrong: no reason here holds a part of the URL. Webhooks have their key in the
 * path, and people put passwords where a user stands.
 */
#include <ctype.h>
#include <string.h>

#include "base/address.h"
#include "conf/draft.h"

#define HOST_MAX 253

bool host_is_sound(const char *host, size_t n)
{
    struct address ip;
    const char *label = host;

    if (n == 0 || n > HOST_MAX)
        return false;
    if (host[0] == '[' || address_parse(&ip, host, n, false))
        return address_parse(&ip, host, n, true);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)host[i];

        if (c == '.' && host + i == label) /* an empty label */
            return false;
        if (c == '.' && i + 1 < n)
            label = host + i + 1;
        if (c < 0x80 && !isalnum(c) && c != '.' && c != '-' && c != '_')
            return false;
    }
    return !isdigit((unsigned char)label[0]) || /* 256.1.1.1, 127.1: some resolvers guess */
           label + strspn(label, "0123456789.") < host + n;
}

bool port_is_sound(const char *port, size_t n)
{
    uint16_t v;

    return address_parse_port(port, n, &v) && v > 0;
}

bool url_is_sound(const char *url, const char **why)
{
    const char *host = strncmp(url, "http://", 7) == 0    ? url + 7
                       : strncmp(url, "https://", 8) == 0 ? url + 8
                                                          : NULL;
    const char *bracket, *colon;
    size_t n, host_n;

    *why = "expected http:// or https:// and a host";
    if (host == NULL)
        return false;
    n = strcspn(host, "/?#");
    if (n == 0 || host[0] == ':')
        return false;
    *why = "has a user in it; put what the other end asks for into a header";
    if (memchr(host, '@', n) != NULL)
        return false;
    *why = "has blanks or control characters in it";
    for (const char *p = url; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return false;

    bracket = host[0] == '[' ? memchr(host, ']', n) : NULL;
    host_n = bracket != NULL ? (size_t)(bracket - host) + 1 : 0;
    colon = memchr(host + host_n, ':', n - host_n);
    host_n = colon != NULL ? (size_t)(colon - host) : n;
    *why = "has neither a name nor an address for a host; IPv6 ones stand in brackets";
    if (!host_is_sound(host, host_n) ||
        (colon != NULL && memchr(colon + 1, ':', n - host_n - 1) != NULL))
        return false;
    *why = "has a port that is not a number from 1 to 65535";
    return colon == NULL || port_is_sound(colon + 1, n - host_n - 1);
}
