/*
 * accept.h - which of two kinds of error page a client would rather read.
 */
#ifndef ERROR_PAGES_ACCEPT_H
#define ERROR_PAGES_ACCEPT_H

#include <bulkhead.h>

/* 1: JSON, 0: HTML. Without a preference (no Accept header, or any type will do), HTML. */
int accept_prefers_json(bh_req *req);

#endif
