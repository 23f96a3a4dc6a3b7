/*
 * stream.h - the queue between stream_write() and the socket.
 */
#ifndef PLUGIN_STREAM_H
#define PLUGIN_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define STREAM_MAX (1u << 20) /* bytes waiting */

struct stream;

struct stream *stream_create(void); /* NULL: no memory */
void stream_put(struct stream **sp);

/* 0, -EAGAIN when full (nothing was taken), -EPIPE after the end, -ENOMEM. */
int stream_append(struct stream *s, const void *p, size_t n, bool end);

/* The oldest block, or false when none waits. Borrowed until stream_pop(). */
bool stream_peek(const struct stream *s, const char **p, size_t *n);
void stream_pop(struct stream *s);
bool stream_has_ended(const struct stream *s); /* and all was popped */

/* Called when something was appended. */
void stream_on_data(struct stream *s, void (*fn)(void *), void *arg);

#endif
