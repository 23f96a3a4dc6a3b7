/*
 * keys.c - certificates and keys: read by the master, used by the workers.
 *
 * The master may be the only one who can read them, so it reads, once at the start, on SIGHUP, and when
 * a file has changed; checks that they are good; and hands them to the workers as a sealed memory file
 * (tls/bundle.h): by inheritance, or, when they run already, through their channels. What a newcomer
 * would get wrong: a certificate and its key are renewed by two writes. So a change counts only when it
 * has stood for a while, and what does not fit together leaves everything as it was.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "ipc/channel.h"
#include "master/internal.h"
#include "obs/log.h"
#include "tls/bundle.h"
#include "tls/set.h"

#define LOOK_MS   1000                 /* between two looks at the files: a few stat(2) */
#define TICKET_MS (24 * 3600 * 1000ll) /* the keys of session tickets are good for so long */

static void log_diag(const struct diag *diag, bool is_error)
{
    char line[1024];

    for (int i = 0; i < diag->n; i++) {
        diag_format(diag, i, line, sizeof line);
        if (is_error)
            log_error("%s", line);
        else
            log_warn("%s:%d:%d: %s", diag->item[i].file, diag->item[i].line, diag->item[i].column,
                     diag->item[i].what);
    }
}

/* Reads and checks; the new ones take the place of the old ones, or nothing changes. */
static int load(struct master *m, bool new_tickets, struct diag *diag)
{
    struct keys *k = &m->keys;
    struct tls_set *set = NULL;
    struct diag warnings;
    int fd = -1, r;

    diag_init(&warnings);
    k->signature = bundle_signature(m->cfg); /* before: a change while we read is seen later */
    r = bundle_create(m->cfg, new_tickets ? -1 : k->fd, diag, &fd);
    if (r == 0)
        r = tls_set_load(m->cfg, fd, diag, &warnings, &set);
    tls_set_put(&set); /* the master has no use for them */
    if (r == 0) {
        /* At the start they stood on stderr when the config was read. */
        if (m->phase != MASTER_STARTING || strcmp(m->cfg->log.path, "-") != 0)
            log_diag(&warnings, false);
        fd_close(&k->fd);
        k->fd = fd;
        k->edition++;
    } else {
        fd_close(&fd);
    }
    diag_fini(&warnings);
    if (new_tickets && r == 0)
        k->tickets_until_ms = clock_mono_ms() + TICKET_MS;
    return r;
}

int keys_open(struct master *m)
{
    struct diag diag;
    int r;

    if (!bundle_is_needed(m->cfg))
        return 0;
    diag_init(&diag);
    r = load(m, true, &diag);
    if (r < 0) {
        diag_print(&diag, stderr);
        master_say(m, "certificates or keys cannot be used: %s; nothing was started", strerror(-r));
    }
    diag_fini(&diag);
    return r;
}

void keys_close(struct master *m)
{
    fd_close(&m->keys.fd);
}

/* ---- renewal ---- */

static void hand_out(struct master *m)
{
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];
        struct channel_message msg = {.kind = CHANNEL_KEYS, .n = 1};

        if (c->keys_edition == m->keys.edition || !child_is_alive(c) || c->channel_fd < 0)
            continue;
        if (channel_send(c->channel_fd, &msg, &m->keys.fd, NULL) != -EAGAIN)
            c->keys_edition = m->keys.edition; /* an error is its end, which is seen elsewhere */
    }
}

void keys_reload(struct master *m, const char *why)
{
    struct diag diag;
    int r;

    if (!bundle_is_needed(m->cfg))
        return;
    diag_init(&diag);
    r = load(m, false, &diag);
    m->keys.seen = m->keys.signature;
    if (r < 0) {
        log_diag(&diag, true);
        log_error("%s: certificates and keys stay as they were, until the files are right", why);
    } else {
        log_info("%s: certificates and keys were read again, and are used from now on", why);
        hand_out(m);
    }
    diag_fini(&diag);
}

void keys_tick(struct master *m, int64_t now_ms)
{
    struct keys *k = &m->keys;
    uint64_t signature;

    if (k->fd < 0 || now_ms < k->next_ms || m->phase >= MASTER_DRAINING)
        return;
    k->next_ms = now_ms + LOOK_MS;
    signature = bundle_signature(m->cfg);
    if (signature != k->signature && signature == k->seen)
        keys_reload(m, "a file has changed");
    k->seen = signature;
    if (now_ms >= k->tickets_until_ms) {
        struct diag diag;

        diag_init(&diag);
        if (load(m, true, &diag) < 0) /* said already: the files are not right */
            k->tickets_until_ms = now_ms + LOOK_MS * 60;
        diag_fini(&diag);
    }
    hand_out(m);
}

int64_t keys_next_ms(const struct master *m)
{
    return m->keys.fd < 0 ? INT64_MAX : m->keys.next_ms;
}
