/*
 * postgres.h - a PostgreSQL that a test starts and ends; skips the test where it is not installed.
 */
#ifndef POSTGRES_H
#define POSTGRES_H

#include <sys/types.h>

struct postgres {
    char *dir; /* data in DIR/data, socket in DIR; user pg, database postgres */
    char bin[4096];
    pid_t pid;
};

/* One for all tests of an executable, started by the first who asks. There is no table exposures. */
struct postgres *postgres_shared(void);
/* As a group's teardown. */
int postgres_end(void **state);

/* Immediately: as after a power cut. Then start() brings it back. */
void postgres_stop(struct postgres *pg);
void postgres_start(struct postgres *pg);

/* psql's exit code; what it prints to *out, which may be NULL, freed by the caller. Shell quoting. */
int postgres_sql(const struct postgres *pg, char **out, const char *query);
/* Of a query; -1 when it fails. */
long postgres_number(const struct postgres *pg, const char *query);

#endif
