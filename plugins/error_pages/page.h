/*
 * page.h - fills in the placeholders of an error page.
 */
#ifndef ERROR_PAGES_PAGE_H
#define ERROR_PAGES_PAGE_H

#include <bulkhead.h>

/* What may be told to a client; strings may be NULL. */
struct page_facts {
    int status;
    const char *title;  /* of the status, RFC 9110 15 */
    const char *detail; /* one sentence */
    bh_str id;          /* of the crash record */
    bh_str path;        /* of the request */
};

extern const char page_default[]; /* the built-in template */

/* Both answer a text in the request's memory, absent when there is none left. */
bh_str page_html(bh_req *req, bh_str template, const struct page_facts *facts);
bh_str page_json(bh_req *req, const struct page_facts *facts);

#endif
