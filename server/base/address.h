/*
 * address.h - IP addresses and networks, as 16 bytes whatever the family.
 *
 * An IPv4 address is kept as ::ffff:a.b.c.d, so that a client is the same one on a socket for IPv4 and
 * on one for both. What a newcomer would get wrong: a network of /8 has /104 here; address_net_parse()
 * adds the 96 bits.
 */
#ifndef BASE_ADDRESS_H
#define BASE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

struct address {
    uint8_t ip[16];
    uint16_t port;  /* host order; 0: not known */
    uint8_t family; /* AF_INET, AF_INET6; AF_UNIX: no ip; 0: not known */
};

struct address_net {
    uint8_t ip[16]; /* bits beyond the prefix are 0 */
    uint8_t bits;   /* 0 to 128 */
};

#define ADDRESS_TEXT INET6_ADDRSTRLEN

/* len: as accept() gave it. What is neither IP nor Unix gets family 0. */
void address_from_sockaddr(struct address *a, const struct sockaddr *sa, size_t len);
void address_from_ipv4(struct address *a, const uint8_t ip[4]);
void address_from_ipv6(struct address *a, const uint8_t ip[16]);

/* 0 to 65535, in up to five digits. False: that is none, and *port may be anything. */
bool address_parse_port(const char *p, size_t n, uint16_t *port);

/* "192.0.2.1", "2001:db8::1"; with_port: also "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80". No
 * zone, no leading zeros, no blanks. */
bool address_parse(struct address *a, const char *p, size_t n, bool with_port);
/* Without the port. False for what is no IP address: buf is empty then. */
bool address_print(const struct address *a, char buf[ADDRESS_TEXT]);

/* "10.0.0.0/8", "2001:db8::/32", or a single address. 0; -EINVAL: it is none; -ERANGE: there are bits
 * beyond the prefix, in *net they are cleared. */
int address_net_parse(struct address_net *net, const char *text);
bool address_is_in(const struct address *a, const struct address_net *nets, int n);

#endif
