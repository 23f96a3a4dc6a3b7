/*
 * must.h - checks for what only a bug in Bulkhead can break.
 *
 * Never for input, allocation, peers or plugins: those get an error, not an abort.
 */
#ifndef BASE_MUST_H
#define BASE_MUST_H

#define must(cond) ((cond) ? (void)0 : must_failed(#cond, __FILE__, __LINE__))

__attribute__((noreturn, cold)) void must_failed(const char *cond, const char *file, int line);

#endif
