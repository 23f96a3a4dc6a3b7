/*
 * master.h - the parent process: sockets, children, signals.
 *
 * It opens every listening socket (one SO_REUSEPORT socket per worker and address, kept open while
 * the server runs, so that connections queued at a dead worker wait for its successor), forks the
 * recorder and the workers, and respawns them. It loads no plugin and parses nothing a peer sent.
 *
 * Signals to the master:
 *   SIGTERM, SIGINT  stop: no new connections, up to limits.drain_ms for the open ones. A second
 *                    one stops at once, a third one kills.
 *   SIGQUIT          stop at once.
 *   SIGHUP           the config is loaded anew (reload.c).
 *   SIGUSR2          upgrade: the executable (its path as it was at the start) is run again with the
 *                    same arguments, and takes over everything (upgrade.c).
 *   SIGUSR1          log files are opened anew, here and in every child.
 */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/seat.h"

struct admin_seat;
struct config;
struct diag;
struct overlay;
struct overlay_variant;
struct setup;
struct shm;

/* What master_run() returns, the exit status of `bulkhead run`. */
enum {
    MASTER_STOPPED = 0, /* as asked, gracefully or at once */
    MASTER_FAILED = 1,  /* did not come up; stderr says why */
};

#define RECORDER_VIEWS 16

/* What the recorder may meet: the config that is served, and before it those with which workers still
 * finish what they have begun. Plugins have the same places in all. */
struct recorder_view {
    int n;
    const struct config *cfg[RECORDER_VIEWS]; /* [0]: the current one */
    const struct setup *setup[RECORDER_VIEWS];
};

/*
 * The roles that main.c hands in: what a forked child runs. The master knows no upper layer.
 *
 * They start with an empty signal mask, PR_SET_PDEATHSIG SIGTERM, and as cfg->user when the server
 * was started as root. SIGINT, SIGHUP, SIGPIPE, SIGXFSZ and SIGUSR1 are ignored (a terminal sends Ctrl-C
 * to the whole group, but stopping is the master's business), in the recorder SIGQUIT as well; all
 * others have their default action. SIGUSR1 asks for log_reopen().
 */
struct master_roles {
    /* Serves until told to stop by SIGTERM (drain; may come more than once) or SIGQUIT (at once), or
     * until what it had is done after CHANNEL_HAND_OVER. seat->ready_fd: write one byte when serving
     * (standing by: when it could begin to); or, in one write, a message of two bytes or more that
     * says why not, and return WORKER_NOT_READY. Close it after that. Returns the exit status. */
    int (*worker)(const struct config *cfg, const struct setup *setup, struct shm *shm,
                  const struct worker_seat *seat);

    /* Writes crash records and log lines until SIGTERM, then drains what is left and returns. By
     * then all workers have ended. SIGUSR2: returns at once, another one goes on. */
    int (*recorder)(const struct recorder_view *view, struct shm *shm);

    /* Sends traces and alerts until SIGTERM, which comes when all workers have ended: what is left is sent
     * within some seconds. SIGUSR2: the same within one, another goes on. SIGUSR1 asks for log_reopen().
     * wants_exporter: has the config anything for it? Both may be NULL. */
    int (*exporter)(const struct config *cfg, struct shm *shm);
    bool (*wants_exporter)(const struct config *cfg);

    /* Serves the admin interface until SIGTERM or SIGQUIT. SIGUSR2: ends what it is about to answer
     * and returns, another one goes on. SIGUSR1 asks for log_reopen(). NULL: there is none. */
    int (*admin)(const struct config *cfg, const struct setup *setup, struct shm *shm,
                 const struct admin_seat *seat);

    /* Loads the config file of `before` anew, with its plugins, as it is now: every mistake in diag.
     * in_use and is_fresh: config_align(). overlay: in what the plugins differ from the file's; what
     * does not hold any more is taken out. 0, or -errno and nothing to give back. NULL: there is no
     * reload. */
    int (*load)(const struct config *before, const struct setup *before_setup, const bool *in_use,
                struct overlay *overlay, bool *is_fresh, struct diag *diag,
                const struct config **cfg, const struct setup **setup);
    /* Plugin i as it runs; out->signature: of what the file says of it now ("": it does not). 0 or
     * -errno. */
    int (*variant)(const struct config *cfg, const struct setup *setup, int i,
                   struct overlay_variant *out);
    /* What tells one version of a plugin's object from another: "1.0.0 sha256:0123..." */
    void (*describe)(const struct setup *setup, int i, char *buf, size_t size);
    /* The path of a plugin's object. */
    const char *(*object)(const struct setup *setup, int i);
    /* Is there a plugin in both whose state goes from one to the other? */
    bool (*moves_state)(const struct setup *before, const struct setup *setup);
    /* Gives back what load() made, files included that none of the others needs. keeps_memory: it
     * was not made by load(), only files go. */
    void (*unload)(const struct config *cfg, const struct setup *setup,
                   const struct setup *const *others, int n_others, bool keeps_memory);

    /* Tries all plugins: dlopen, validate, open, close; validate_only, for `check`: no open. Runs
     * in a child with limits. To report_fd it writes lines (one write each, so that a crash loses
     * none):
     *   plugin NAME stage STAGE [object PATH]   before each stage: hook_name(), "load" for dlopen;
     *                                           the object need be told once
     *   [FILE:LINE:COLUMN: ]error: TEXT         what is wrong; "  hint: TEXT" may follow
     *   crash NAME                              that plugin crashed, in a boundary
     *   ok                                      the last, and only when all is well
     * and then returns 0. */
    int (*preflight)(const struct config *cfg, const struct setup *setup, struct shm *shm,
                     int report_fd, int validate_only);

    /* The same, and restore() after open(), with what a worker has saved (ipc/state.h). Lines besides:
     *   note TEXT                               to be logged as a warning
     * NULL: there is no rehearsal. */
    int (*rehearse)(const struct config *cfg, const struct setup *setup, struct shm *shm,
                    int report_fd, int state_fd);

    /* Names what shm_call.hook says, for messages; plugin/hook.h is out of the master's reach.
     * NULL: numbers are shown. */
    const char *(*hook_name)(unsigned hook);

    /* The SHA-256 of a plugin's object; "": there is none. NULL: no quarantine. */
    const char *(*digest)(const struct setup *setup, int i);

    /* In what the plugins differ from the file's from the start on, or NULL; its content is taken. And the
     * plugin whose rollout the last server did not end, or NULL. */
    struct overlay *overlay;
    const char *interrupted;

    /* What SIGUSR2 executes: argv[0] is a path. NULL: no upgrade. */
    char *const *argv;
};

/* Runs the server in the foreground; returns the exit status of the process. SIGCHLD and the
 * signals above are blocked meanwhile; call it with one thread. */
int master_run(const struct config *cfg, const struct setup *setup,
               const struct master_roles *roles);

/* Runs roles->preflight in a child with CPU, memory and wall limits; prints to stderr which plugin
 * failed, at which stage and why. shm may be NULL if the role takes that. 0, or -1 when something is
 * wrong. */
int master_preflight(const struct config *cfg, const struct setup *setup, struct shm *shm,
                     const struct master_roles *roles, int validate_only);

#endif
