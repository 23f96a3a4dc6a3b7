/*
 * environment.h - what whoever starts the server has given it: limits, a umask, signals.
 */
#ifndef MASTER_ENVIRONMENT_H
#define MASTER_ENVIRONMENT_H

struct config;

/* Before anything is made or forked, and before the frames of master_run(). 0; -ENOMEM: the stack is too
 * small, and standard error says so. */
int environment_prepare(void);

/* As many as may be: sockets, one per worker and listener here, one per connection in the workers. Warns of
 * too few. */
void environment_raise_descriptors(const struct config *cfg);

#endif
