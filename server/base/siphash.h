/*
 * siphash.h - SipHash-1-3 (Aumasson, Bernstein 2012), for tables whose keys strangers choose.
 */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t siphash_rotl(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void siphash_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = siphash_rotl(v[1], 13) ^ v[0];
    v[3] = siphash_rotl(v[3], 16) ^ v[2];
    v[0] = siphash_rotl(v[0], 32) + v[3];
    v[2] += v[1];
    v[3] = siphash_rotl(v[3], 21) ^ v[0];
    v[1] = siphash_rotl(v[1], 17) ^ v[2];
    v[2] = siphash_rotl(v[2], 32);
}

static inline uint64_t siphash13(const uint64_t key[2], const void *p, size_t n)
{
    const uint8_t *s = p;
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
    uint64_t m, last = (uint64_t)n << 56;

    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&m, s, 8);
        v[3] ^= m;
        siphash_round(v);
        v[0] ^= m;
    }
    m = 0;
    memcpy(&m, s, n);
    last |= m;
    v[3] ^= last;
    siphash_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        siphash_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
