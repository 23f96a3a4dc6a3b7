/*
 * range.h - which parts of a representation a Range header asks for (RFC 9110 14.2).
 */
#ifndef STATIC_RANGE_H
#define STATIC_RANGE_H

#include <bulkhead.h>

/* More are more work than they are worth: a list of thousands has brought servers down
 * (CVE-2011-3192). Whoever asks for more gets the whole. */
#define RANGE_MAX 32

#define RANGE_WHOLE         0  /* not understood, or too many: answer 200 with all of it */
#define RANGE_UNSATISFIABLE -1 /* answer 416 */

struct range {
    uint64_t first, len; /* len is at least 1, and all of it is there */
};

/* How many parts to send, in out[]: 1 to RANGE_MAX, in the order asked for, none of which overlap;
 * or one of the above. value may be absent. */
int range_parse(bh_str value, uint64_t size, struct range out[RANGE_MAX]);

#endif
