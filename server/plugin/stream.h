/*
 * stream.h - the queue between stream_write() and the socket.
 *
 * What a newcomer would get wrong: a stream goes wrong in two ways. It is *gone* when nobody reads it
 * any more: the client left, or the connection was cut. It is *broken* when its writer cannot be
 * trusted to have written what it announced: then the client must not take the answer for a whole one,
 * and the connection is cut once what waits has been sent.
 */
#ifndef PLUGIN_STREAM_H
#define PLUGIN_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "plugin/boundary.h"

#define STREAM_MAX (1u << 20)       /* bytes waiting */
#define STREAM_LOW (STREAM_MAX / 2) /* with no more than that there is room */
#define STREAM_ANY UINT64_MAX       /* no length was announced */

struct stream;

/* len: announced bytes, or STREAM_ANY. owners: the list of streams it is put into; NULL: none. NULL: no
 * memory. */
struct stream *stream_create(uint64_t len, struct stream **owners);
void stream_put(struct stream **sp);

/* 0; -EAGAIN when full (nothing was taken); -EPIPE after the end, -ECONNRESET when it is gone,
 * -EMSGSIZE when that is not what was announced (then and ever after: it is broken), -ENOMEM. */
int stream_append(struct stream *s, const void *p, size_t n, bool end);

/* The oldest bytes, or false when none wait. Borrowed until stream_pop(). */
bool stream_peek(struct stream *s, const char **p, size_t *n);
void stream_pop(struct stream *s);
bool stream_has_ended(const struct stream *s); /* and all was popped */
bool stream_is_broken(const struct stream *s);
/* Nobody reads it any more. */
void stream_lose(struct stream *s);

/* Called when something was appended, when there is something to be called for, or it breaks. */
void stream_on_data(struct stream *s, void (*fn)(void *), void *arg);

/* The writer wants fn called when there is room: once. False: nothing was written since the last such
 * call began; it would be called again and again. */
bool stream_want_room(struct stream *s, hook_fn *fn);
bool stream_has_wish(const struct stream *s);
/* Is it time? Then fn, forgotten with that; or NULL. */
hook_fn *stream_take_wish(struct stream *s);

/* All of a list: their writer has crashed; their writer is about to be freed. */
void streams_break(struct stream *first);
void streams_disown(struct stream **first);

#endif
