/*
 * replay_request.h - the request of a crash record, as bytes to be sent again.
 */
#ifndef CLI_REPLAY_REQUEST_H
#define CLI_REPLAY_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

struct json_t;

/*
 * HTTP/1.1 with Connection: close, and `body`: whole, if somebody has given it; what is on record
 * (crash.record_body) is made as long as it was by bytes "x", up to REPLAY_BODY_MAX. In what it differs from
 * the request that crashed is appended to notes, an array of texts.
 *
 * 0 and *out malloc'd; -ENOENT: the record has no request; -EBADMSG: not one that could be sent;
 * -ENOMEM.
 */
#define REPLAY_BODY_MAX (1u << 20)
struct replay_body {
    const char *p; /* NULL: none is known */
    size_t n;
    bool is_given;
};
int replay_request(const struct json_t *record, const struct replay_body *body,
                   struct json_t *notes, char **out, size_t *len);

#endif
