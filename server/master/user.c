#include "master/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/must.h"
#include "conf/config.h"
#include "obs/log.h"

int user_find(const struct config *cfg, struct diag *diag, struct user *out)
{
    struct user user = {.is_set = true, .n_groups = USER_MAX_GROUPS};
    const struct passwd *pw;

    if (cfg->user == NULL) {
        *out = (struct user){.is_set = false};
        return 0;
    }
    errno = 0;
    pw = getpwnam(cfg->user);
    if (pw == NULL) {
        int err = errno == 0 || errno == ESRCH ? ENOENT : errno;

        diag_add(diag, cfg->path, 0, 0,
                 "create it with: useradd --system --no-create-home NAME, or remove the key",
                 "server.user: there is no user '%s' here (%s)", cfg->user, strerror(err));
        return -err;
    }
    if (geteuid() != 0) {
        if (pw->pw_uid != geteuid())
            log_warn("server.user '%s' has no effect: only root can change the user", cfg->user);
        *out = (struct user){.is_set = false};
        return 0;
    }
    user.uid = pw->pw_uid;
    user.gid = pw->pw_gid;
    if (getgrouplist(cfg->user, user.gid, user.group, &user.n_groups) < 0) {
        log_warn("server.user '%s' is in more than %d groups; the rest is left out", cfg->user,
                 USER_MAX_GROUPS);
        user.n_groups = USER_MAX_GROUPS;
    }
    *out = user;
    return 0;
}

int user_become(const struct user *user)
{
    if (!user->is_set)
        return 0;
    if (setgroups((size_t)user->n_groups, user->group) < 0 ||
        setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return -errno;
    must(user->uid == 0 || setuid(0) < 0);
    return 0;
}
