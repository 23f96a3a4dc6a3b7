/*
 * roles.h - what forked children run: the one place where the master and the upper layers meet.
 */
#ifndef CLI_ROLES_H
#define CLI_ROLES_H

#include "master/master.h"

struct setup;

extern const struct master_roles cli_roles;

/* Before master_run(): the plugins that the recorder will name. Borrowed. */
void cli_roles_use(const struct setup *setup);

#endif
