/*
 * precondition.h - If-Match, If-None-Match and their kin, in the order of RFC 9110 13.2.2.
 */
#ifndef STATIC_PRECONDITION_H
#define STATIC_PRECONDITION_H

#include <bulkhead.h>
#include <stdbool.h>

/* What a representation is known by. */
struct validators {
    const char *etag; /* strong, with its quotes */
    const char *modified_text;
    int64_t modified_s;
};

#define PRECONDITION_MET          0
#define PRECONDITION_NOT_MODIFIED 304
#define PRECONDITION_FAILED       412

/* For GET and HEAD. now_s: LOOP_REAL, in seconds. */
int precondition_check(bh_req *req, const struct validators *v, int64_t now_s);

/* If-Range: may the Range header of this request be honoured? */
bool precondition_allows_range(bh_req *req, const struct validators *v, int64_t now_s);

#endif
