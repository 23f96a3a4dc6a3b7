/*
 * destination.h - where requests of plugins to other servers may go: rules, and what they let pass.
 *
 *     api.example.org       that name, any port          10.1.0.0/16    what resolves to there
 *     api.example.org:443   that port                    [::1]:8080     an address, with a port
 *     *.example.org         all names below it           public         any address of the open internet
 *     unix:/run/auth.sock   that socket                  any            all, as without rules
 *
 * One rule that fits is enough. What a newcomer would get wrong: a name is judged before it is resolved,
 * and the address that is then connected to is judged again, so that a name which resolves to another
 * address the next time gains nothing. Link-local addresses, where clouds have their metadata, and those
 * that name no host are refused whatever name led there; only a rule with a network that has them lets
 * them pass.
 */
#ifndef BASE_DESTINATION_H
#define BASE_DESTINATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

struct destination_rule {
    enum {
        DESTINATION_NAME,
        DESTINATION_BELOW, /* a name: all below it */
        DESTINATION_NET,
        DESTINATION_PUBLIC,
        DESTINATION_ANY,
        DESTINATION_UNIX,
    } kind;
    const char *name; /* a host's, without "*."; a socket's path. Borrowed from the text */
    size_t name_n;
    struct address_net net;
    uint16_t port; /* 0: any */
};

struct destination { /* where one may go; all zero: no rules, anywhere that is not refused to all */
    const struct destination_rule *rule;
    int n_rules;
    bool has_rules; /* also when there are none: nowhere */
};

/* 0, -EINVAL: it is none of these, or -ERANGE: a network with bits beyond its prefix. */
int destination_parse(struct destination_rule *rule, const char *text);

/* Before it is resolved: may it be, or does that depend on the address? host: a name or an address,
 * without brackets. */
bool destination_may_ask(const struct destination *d, const char *host, size_t host_n,
                         uint16_t port);
/* What is about to be connected to, under that name. */
bool destination_may_connect(const struct destination *d, const char *host, size_t host_n,
                             uint16_t port, const struct address *a);
bool destination_may_use_socket(const struct destination *d, const char *path);

/* Loopback, private, link-local and the like are not. */
bool destination_is_public(const struct address *a);

#endif
