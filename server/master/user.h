/*
 * user.h - server.user: whom the children become when the server is started as root.
 */
#ifndef MASTER_USER_H
#define MASTER_USER_H

#include <stdbool.h>
#include <sys/types.h>

#define USER_MAX_GROUPS 64

struct config;
struct diag;

struct user {
    bool is_set; /* false: the children stay who the master is */
    uid_t uid;
    gid_t gid;
    gid_t group[USER_MAX_GROUPS];
    int n_groups;
};

/* 0, or -errno with the reason in diag. Unset, with a warning in the log, when the master is not
 * root and somebody else. */
int user_find(const struct config *cfg, struct diag *diag, struct user *out);

/* For good: there is no way back. In a child. 0 or -errno. */
int user_become(const struct user *user);

#endif
