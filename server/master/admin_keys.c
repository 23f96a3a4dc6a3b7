/*
 * admin_keys.c - the certificate and the key of the admin interface.
 *
 * What a newcomer would get wrong: they are apart from those of the listeners (keys.c) for the sake of
 * the workers, whose plugins could read them: the master parses nothing of them (tls/apart.h) and has
 * a descriptor only, which no process but the admin's keeps. Renewed, they come with another admin
 * process: sessions outlive the old one, streams come again.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "master/internal.h"
#include "obs/log.h"
#include "tls/apart.h"
#include "tls/bundle.h"

#define LOOK_MS 1000 /* between two looks at the files */

int admin_keys_load(struct admin_keys *k, const struct config *cfg, struct diag *diag)
{
    struct config_listener listener = cfg->admin.listener;
    struct config only = apart_config(cfg, &listener);
    struct diag warnings;
    int fd = -1, r;

    if (!listener.tls.is_on) {
        admin_keys_close(k);
        return 0;
    }
    diag_init(&warnings);
    k->signature = k->seen = bundle_signature(&only); /* before: a change meanwhile is seen later */
    r = apart_bundle(&only, diag, &warnings, &fd);
    for (int i = 0; r == 0 && i < warnings.n; i++)
        log_warn("%s:%d:%d: %s", warnings.item[i].file, warnings.item[i].line,
                 warnings.item[i].column, warnings.item[i].what);
    diag_fini(&warnings);
    if (r < 0)
        return r;
    fd_close(&k->fd);
    k->fd = fd;
    return 0;
}

void admin_keys_close(struct admin_keys *k)
{
    fd_close(&k->fd);
    *k = (struct admin_keys){.fd = -1};
}

static void renew(struct master *m)
{
    struct diag diag;
    char line[1024];

    diag_init(&diag);
    if (admin_keys_load(&m->admin.door.keys, m->cfg, &diag) < 0) {
        for (int i = 0; i < diag.n; i++) {
            diag_format(&diag, i, line, sizeof line);
            log_error("%s", line);
        }
        log_error("the admin interface keeps its certificate until the files are right");
    } else {
        log_info("the certificate of the admin interface was read again");
        if (child_is_alive(&m->admin_child)) {
            m->admin.is_renewing = true;
            child_kill(&m->admin_child, SIGUSR2); /* it makes room for one that has the new one */
        }
    }
    diag_fini(&diag);
}

/* A certificate and its key are renewed by two writes: a change counts once it has stood for a while. */
void admin_keys_tick(struct master *m, int64_t now_ms)
{
    struct admin_keys *k = &m->admin.door.keys;
    struct config_listener listener = m->cfg->admin.listener;
    struct config only = apart_config(m->cfg, &listener);
    uint64_t signature;

    if (k->fd < 0 || now_ms < k->next_ms || m->phase != MASTER_SERVING || !m->cfg->admin.is_on)
        return;
    k->next_ms = now_ms + LOOK_MS;
    if (m->admin.is_renewing) /* once more: it may not have been prepared for the signal */
        child_kill(&m->admin_child, SIGUSR2);
    signature = bundle_signature(&only);
    if (signature != k->signature && signature == k->seen)
        renew(m);
    k->seen = signature;
}

int64_t admin_keys_next_ms(const struct master *m)
{
    const struct admin_keys *k = &m->admin.door.keys;

    return k->fd < 0 || m->phase != MASTER_SERVING ? INT64_MAX : k->next_ms;
}
