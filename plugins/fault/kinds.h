/*
 * kinds.h - the faults that plugins/fault can commit, by name.
 */
#ifndef FAULT_KINDS_H
#define FAULT_KINDS_H

#include <bulkhead.h>

/* Where a fault is committed. req is NULL outside of a request's hooks, in other threads too. */
struct fault_site {
    bh_inst *inst;
    bh_req *req;
};

struct fault_kind {
    const char *name;
    int row;          /* of the crash matrix; 0: none */
    const char *what; /* one line */
    void (*commit)(const struct fault_site *site);
};

/* NULL: there is no such fault. n: bytes of name. */
const struct fault_kind *fault_kind_find(const char *name, size_t n);
/* The ith fault, NULL past the last. */
const struct fault_kind *fault_kind_at(size_t i);

/* A page that is unmapped for certain, and one whose file is shorter than its mapping. */
void *fault_unmapped_page(void);
void *fault_truncated_page(void);

#endif
