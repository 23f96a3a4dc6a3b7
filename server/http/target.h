/*
 * target.h - from a request target (RFC 9112 3.2) to a path that is safe to route on.
 */
#ifndef HTTP_TARGET_H
#define HTTP_TARGET_H

#include <bulkhead.h>
#include <stdbool.h>

struct arena;

struct target {
    bh_str path;  /* percent-decoded once, dot segments and "//" gone; NUL-terminated */
    bh_str query; /* as sent, without '?'; absent when there is none */
    bh_str host;  /* of an absolute-form target; else absent */
};

/* raw: the target as sent, query cut off into query by the caller or still in it. False: not a
 * target that this server answers (bad escape, %00, not absolute, authority-form). */
bool target_parse(struct arena *a, bh_str raw, struct target *out);

#endif
