/*
 * siphash.h - SipHash-2-4 (Aumasson and Bernstein, 2012) with a key of zeros.
 *
 * An SDK in any language can do the same: the salt is part of what is hashed, not the key.
 */
#ifndef SIPHASH_H
#define SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const void *p, size_t n);

#endif
