#include "tls/apart.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "conf/config.h"
#include "tls/bundle.h"
#include "tls/set.h"

#define FINDINGS 16 /* that come back */

struct finding {
    bool is_warning, has_hint;
    int line, column;
    char what[1024], hint[512];
};

struct verdict { /* shared by both */
    bool is_done;
    int result, n;
    struct finding finding[FINDINGS];
};

struct config apart_config(const struct config *cfg, struct config_listener *only)
{
    return (struct config){
        .path = cfg->path, .dir = cfg->dir, .n_workers = 1, .listener = only, .n_listeners = 1};
}

static void note(struct verdict *v, const struct diag *diag, bool is_warning)
{
    for (int i = 0; i < diag->n && v->n < FINDINGS; i++) {
        const struct diag_item *item = &diag->item[i];
        struct finding *f = &v->finding[v->n++];

        f->is_warning = is_warning;
        f->line = item->line;
        f->column = item->column;
        f->has_hint = item->hint != NULL;
        snprintf(f->what, sizeof f->what, "%s", item->what);
        snprintf(f->hint, sizeof f->hint, "%s", item->hint != NULL ? item->hint : "");
    }
}

static _Noreturn void look(const struct config *cfg, int fd, struct verdict *v)
{
    const struct rlimit no_core = {0, 0};
    struct tls_set *set = NULL;
    struct diag diag, warnings;

    setrlimit(RLIMIT_CORE, &no_core);
    diag_init(&diag);
    diag_init(&warnings);
    v->result = tls_set_load(cfg, fd, &diag, &warnings, &set);
    note(v, &diag, false);
    note(v, &warnings, true);
    v->is_done = true;
    _exit(0); /* its memory goes as a whole */
}

static int take_verdict(const struct config *cfg, const struct verdict *v, struct diag *diag,
                        struct diag *warnings)
{
    if (!v->is_done)
        return -EIO;
    for (int i = 0; i < v->n; i++) {
        const struct finding *f = &v->finding[i];

        diag_add(f->is_warning ? warnings : diag, cfg->path, f->line, f->column,
                 f->has_hint ? f->hint : NULL, "%s", f->what);
    }
    return v->result;
}

static int have_looked_at(const struct config *cfg, int fd, struct diag *diag,
                          struct diag *warnings)
{
    struct verdict *v = mmap(NULL, sizeof *v, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                             -1, 0);
    int r = 0;
    pid_t pid;

    if (v == MAP_FAILED)
        return -ENOMEM;
    pid = fork();
    if (pid == 0)
        look(cfg, fd, v);
    if (pid < 0)
        r = -errno;
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (r == 0)
        r = take_verdict(cfg, v, diag, warnings);
    munmap(v, sizeof *v);
    return r;
}

int apart_bundle(const struct config *cfg, struct diag *diag, struct diag *warnings, int *out)
{
    unsigned char secret[BUNDLE_SECRET];
    int fd = -1, r;

    /* Of this bundle alone: whoever has it can read the sessions that are resumed with it. */
    if (gnutls_rnd(GNUTLS_RND_KEY, secret, sizeof secret) < 0)
        return -EIO;
    r = bundle_create(cfg, secret, diag, &fd);
    gnutls_memset(secret, 0, sizeof secret);
    if (r == 0)
        r = have_looked_at(cfg, fd, diag, warnings);
    if (r < 0 && diag != NULL && diag->n_errors == 0)
        diag_add(diag, cfg->path, cfg->listener[0].tls.pos.line, cfg->listener[0].tls.pos.column,
                 NULL, "tls: %s", strerror(-r));
    if (r == 0)
        *out = fd;
    else
        fd_close(&fd);
    return r;
}
