/*
 * answer.h - what the right answer to a request of the soak test is: known to its client and to the
 * plugin that answers (tests/plugins/checked.c), derived from the request's key alone.
 */
#ifndef SOAK_ANSWER_H
#define SOAK_ANSWER_H

#include <stddef.h>
#include <stdint.h>

/* Byte i of the answer to the request with that key. Any part can be checked by itself. */
static inline uint8_t answer_byte(uint64_t key, uint64_t i)
{
    return (uint8_t)((key * 0x9e3779b97f4a7c15u + (i + 1) * 0xd1b54a32d192ed03u) >> 56);
}

static inline void answer_fill(uint64_t key, uint64_t from, char *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (char)answer_byte(key, from + i);
}

/* Of a request's body: what the answer to a POST tells. FNV-1a. */
#define ANSWER_HASH_START 0xcbf29ce484222325u

static inline uint64_t answer_hash(uint64_t hash, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)p[i]) * 0x100000001b3u;
    return hash;
}

#endif
