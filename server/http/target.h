/*
 * target.h - from a request target (RFC 9112 3.2) to a path that is safe to route on.
 *
 * What a newcomer would get wrong: escapes are undone once, and what comes out counts as what it
 * stands for. "%2F" is a slash and "%2e%2e" a way up, for the routes as for every plugin, so that
 * none of them can be talked round by a spelling that another one reads differently.
 */
#ifndef HTTP_TARGET_H
#define HTTP_TARGET_H

#include <bulkhead.h>
#include <stdbool.h>

#include "http/authority.h"

struct arena;

enum target_form {
    TARGET_ORIGIN,    /* /path?query */
    TARGET_ABSOLUTE,  /* http://host/path?query */
    TARGET_AUTHORITY, /* host:port, of CONNECT */
    TARGET_ASTERISK,  /* *, of OPTIONS */
};

struct target {
    enum target_form form;
    bh_str path;  /* percent-decoded once, dot segments and "//" gone; NUL-terminated. As sent when
                     the form has none. */
    bh_str query; /* as sent, without '?'; absent when there is none */
    bh_str host;  /* with its port, of absolute-form and authority-form; else absent */
    struct authority authority; /* of host */
};

/* raw: the target as sent, NUL-terminated. False: it is none (a bad escape, %00, a character that a
 * URI does not have, a scheme other than http and https, user names), or no memory. */
bool target_parse(struct arena *a, bh_str raw, struct target *out);

#endif
