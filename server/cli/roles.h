/*
 * roles.h - what forked children run, and what a reload loads: the one place where the master and the upper layers meet.
 */
#ifndef CLI_ROLES_H
#define CLI_ROLES_H

#include "master/master.h"

extern const struct master_roles cli_roles;

#endif
