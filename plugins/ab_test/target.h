/*
 * target.h - who takes part: conditions on a request, all of which have to hold.
 */
#ifndef TARGET_H
#define TARGET_H

#include <bulkhead.h>

/* NULL: fine; else what is wrong with the condition: static text. */
const char *target_fault(bh_str what);

/* The value of "header:X", "cookie:X", "query:X", "var:X", "client", "path", "host", "method" or
 * "listener". Absent: there is none. */
bh_str target_value(bh_req *req, bh_str what);

/* Does every condition hold? Patterns are alternatives with '|' between them; '*' stands for any
 * text. A condition whose value is absent does not hold. */
int target_matches(bh_req *req, const bh_map *conditions);

/* For the tests: does text match the pattern (one of the alternatives)? */
int target_glob(bh_str pattern, bh_str text);

#endif
