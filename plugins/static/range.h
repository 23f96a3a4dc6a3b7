/*
 * range.h - which part of a representation a Range header asks for (RFC 9110 14.2).
 */
#ifndef STATIC_RANGE_H
#define STATIC_RANGE_H

#include <bulkhead.h>

#define RANGE_WHOLE         0 /* no range, several, or not understood: answer 200 with all of it */
#define RANGE_PART          1 /* answer 206 */
#define RANGE_UNSATISFIABLE 2 /* answer 416 */

/* value may be absent. first and len are set for RANGE_PART only; len is at least 1. */
int range_parse(bh_str value, uint64_t size, uint64_t *first, uint64_t *len);

#endif
