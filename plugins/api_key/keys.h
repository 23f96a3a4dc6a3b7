/*
 * keys.h - the keys of a file, and the search among them.
 */
#ifndef API_KEY_KEYS_H
#define API_KEY_KEYS_H

#include <bulkhead.h>

#define KEY_MAX      128 /* bytes; shorter than 16 is refused, it could be guessed */
#define KEY_MIN      16
#define NAME_MAX_LEN 64
#define KEYS_MAX     10000

struct keys;

/* NULL with the reason in why: the file cannot be read, or has a mistake (line N is named). */
struct keys *keys_load(const char *path, char *why, size_t why_size);
void keys_destroy(struct keys *keys); /* wipes them; NULL is fine */

size_t keys_count(const struct keys *keys);
int keys_are_public(const struct keys *keys); /* the file is readable for "others" */
/* Is the file another one than when it was last looked at? Remembers what it sees, so that the
 * same bad file is reported once. False when it cannot be looked at. */
int keys_changed(struct keys *keys, const char *path);

/* 1 and the key's name, which lives as long as keys; 0: no such key. Compares with every key, all
 * bytes of it: the time it takes depends on the number of keys only. */
int keys_find(const struct keys *keys, bh_str key, bh_str *name);

#endif
