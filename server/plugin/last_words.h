/*
 * last_words.h - what the C++ library says before it aborts over an exception that nobody caught.
 *
 * libstdc++ writes "terminate called after throwing an instance of 'X'", and what() of it, to standard
 * error in five or six pieces, and then calls abort(). In a call into a plugin that is a crash like any
 * other: the text goes into its record and from there into the log, and not in pieces between lines of it.
 */
#ifndef PLUGIN_LAST_WORDS_H
#define PLUGIN_LAST_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define LAST_WORDS_BEGIN "terminate called "

/* Somebody at `caller` writes to f. True: it is a piece of such a text, and has been kept
 * (recover_self.message); it is not to be written. */
bool last_words_take(const char *p, size_t n, const FILE *f, const void *caller);

#endif
