/*
 * contract.h - what every backend of the store has to do, as one suite that runs against each.
 */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <stdbool.h>
#include <stdint.h>

struct store;

struct contract_backend {
    const char *name;
    struct store *(*open)(
        void); /* an empty store; NULL: it cannot be had here, the test is skipped */
    void (*close)(struct store *s);
    bool has_own_clock; /* time passes by itself, contract_advance() waits */
    bool has_quota;
    bool is_another_way; /* to a store that has passed already: without the tests that wait */
};

/* Runs the suite; the number of failed tests. */
int contract_run(const struct contract_backend *b);

#endif
