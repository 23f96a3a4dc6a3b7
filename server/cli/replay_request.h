/*
 * replay_request.h - the request of a crash record, as bytes to be sent again.
 */
#ifndef CLI_REPLAY_REQUEST_H
#define CLI_REPLAY_REQUEST_H

#include <stddef.h>

struct json_t;

/*
 * HTTP/1.1 with Connection: close. A record has no body: `body` is sent (NULL: none is known), and
 * where the record says that there was one, as many bytes "x", up to REPLAY_BODY_MAX. In what it
 * differs from the request that crashed is appended to notes, an array of texts.
 *
 * 0 and *out malloc'd; -ENOENT: the record has no request; -EBADMSG: not one that could be sent;
 * -ENOMEM.
 */
#define REPLAY_BODY_MAX (1u << 20)
int replay_request(const struct json_t *record, const char *body, size_t body_len,
                   struct json_t *notes, char **out, size_t *len);

#endif
