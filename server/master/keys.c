/*
 * keys.c - certificates and keys: read by the master, used by the workers.
 *
 * The master may be the only one who can read them, so it reads, for each generation, and again when a
 * file has changed; checks that they are good; and hands them to the workers as a sealed memory file
 * (tls/bundle.h): by inheritance, or, when they run already, through their channels. What a newcomer
 * would get wrong: a certificate and its key are renewed by two writes. So a change counts only when it
 * has stood for a while, and what does not fit together leaves everything as it was.
 */
#include <errno.h>
#include <gnutls/crypto.h>
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
#define TICKET_MS (24 * 3600 * 1000ll) /* a secret is good for so long */

_Static_assert(sizeof(((struct master *)0)->tickets.secret) == BUNDLE_SECRET, "one secret");

static void log_errors(const struct diag *diag)
{
    char line[1024];

    for (int i = 0; i < diag->n; i++) {
        diag_format(diag, i, line, sizeof line);
        log_error("%s", line);
    }
}

static void log_warnings(const struct diag *diag)
{
    for (int i = 0; i < diag->n; i++)
        log_warn("%s:%d:%d: %s", diag->item[i].file, diag->item[i].line, diag->item[i].column,
                 diag->item[i].what);
}

static void renew_secret(struct master *m)
{
    int64_t now = clock_mono_ms();

    if (now < m->tickets.until_ms)
        return;
    /* Should the system have no randomness, sessions are resumed by the old one. */
    if (gnutls_rnd(GNUTLS_RND_KEY, m->tickets.secret, sizeof m->tickets.secret) == 0)
        m->tickets.until_ms = now + TICKET_MS;
}

int keys_load(struct master *m, struct generation *g, struct diag *diag)
{
    struct keys *k = &g->keys;
    struct tls_set *set = NULL;
    struct diag warnings;
    int fd = -1, r;

    if (!bundle_is_needed(g->cfg))
        return 0;
    renew_secret(m);
    if (m->tickets.until_ms == 0)
        return -EIO;
    diag_init(&warnings);
    k->signature = k->seen = bundle_signature(
        g->cfg); /* before: a change meanwhile is seen later */
    r = bundle_create(g->cfg, m->tickets.secret, diag, &fd);
    if (r == 0)
        r = tls_set_load(g->cfg, fd, diag, &warnings, &set);
    tls_set_put(&set); /* the master has no use for it */
    if (r == 0) {
        /* At the start they stood on stderr when the config was read. */
        if (m->phase != MASTER_STARTING || strcmp(g->cfg->log.path, "-") != 0)
            log_warnings(&warnings);
        fd_close(&k->fd);
        k->fd = fd;
        k->edition++;
    } else {
        fd_close(&fd);
    }
    diag_fini(&warnings);
    return r;
}

int keys_open(struct master *m)
{
    struct diag diag;
    int r;

    diag_init(&diag);
    r = keys_load(m, m->generation, &diag);
    if (r < 0) {
        diag_print(&diag, stderr);
        master_say(m, "certificates or keys cannot be used: %s; nothing was started", strerror(-r));
    }
    diag_fini(&diag);
    return r;
}

static void close_one(const struct keys *k, int keep_fd)
{
    int fd = k->fd;

    if (fd != keep_fd)
        fd_close(&fd);
}

void keys_close(const struct master *m, int keep_fd)
{
    for (const struct generation *g = m->generation; g != NULL; g = g->older)
        close_one(&g->keys, keep_fd);
    if (m->reload.next != NULL)
        close_one(&m->reload.next->keys, keep_fd);
}

/* ---- renewal ---- */

static void hand_out(struct master *m)
{
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];
        struct channel_message msg = {.kind = CHANNEL_KEYS, .n = 1};

        if (!child_is_alive(c) || c->channel_fd < 0 || c->keys_edition == c->gen->keys.edition)
            continue;
        if (channel_send(c->channel_fd, &msg, &c->gen->keys.fd, NULL) != -EAGAIN)
            c->keys_edition =
                c->gen->keys.edition; /* an error is its end, which is seen elsewhere */
    }
}

static void load_again(struct master *m, const char *why)
{
    struct diag diag;
    int r;

    diag_init(&diag);
    r = keys_load(m, m->generation, &diag);
    if (r < 0) {
        log_errors(&diag);
        log_error("%s: certificates and keys stay as they were, until the files are right", why);
    } else {
        log_info("%s: certificates and keys were read again, and are used from now on", why);
    }
    diag_fini(&diag);
}

void keys_tick(struct master *m, int64_t now_ms)
{
    struct keys *k = &m->generation->keys;
    uint64_t signature;

    if (k->fd < 0 || now_ms < k->next_ms || m->phase != MASTER_SERVING)
        return;
    k->next_ms = now_ms + LOOK_MS;
    signature = bundle_signature(m->cfg);
    if (signature != k->signature && signature == k->seen)
        load_again(m, "a file has changed");
    else if (now_ms >= m->tickets.until_ms)
        load_again(m, "a new day");
    k->seen = signature;
    hand_out(m);
}

int64_t keys_next_ms(const struct master *m)
{
    const struct keys *k = &m->generation->keys;

    return k->fd < 0 || m->phase != MASTER_SERVING ? INT64_MAX : k->next_ms;
}
