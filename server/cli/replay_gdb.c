#include "cli/replay_gdb.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/replay_server.h"

#define ATTACH_MS 60000 /* gdb reads symbols meanwhile */

/* Traced, and running: gdb has said "continue". */
static bool is_released(pid_t pid)
{
    char path[64], *text;
    bool is_traced, is_stopped;
    const char *at;
    size_t n;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (fd_read_file(path, 1u << 16, &text, &n) < 0)
        return false;
    at = strstr(text, "\nTracerPid:\t");
    is_traced = at != NULL && at[12] != '0';
    at = strstr(text, "\nState:\t");
    is_stopped = at == NULL || at[8] == 't' || at[8] == 'T';
    free(text);
    return is_traced && !is_stopped;
}

static _Noreturn void send_when_released(const struct replay_server *s, pid_t worker,
                                         const char *request, size_t len)
{
    int64_t end_ms = clock_mono_ms() + ATTACH_MS;
    int status, n = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    /* For a while: it runs between two commands as well. */
    while (n < 10 && clock_mono_ms() < end_ms) {
        n = is_released(worker) ? n + 1 : 0;
        poll(NULL, 0, 10);
    }
    if (n > 0)
        replay_send(s, request, len, &status);
    _exit(0);
}

static _Noreturn void debug(pid_t worker, char *const *arguments)
{
    static const char *const commands[] = {
        "set pagination off",
        "handle all nostop noprint pass", /* the watchdog's, and so on */
        "handle SIGSEGV SIGBUS SIGFPE SIGILL SIGABRT stop print pass",
        "break recover_raise", /* abort(), exit() and the like come without a signal */
        "continue",
    };
    enum { N = sizeof commands / sizeof commands[0] };
    const char **argv;
    char pid[16];
    size_t n = 0, k = 0;

    while (arguments[n] != NULL)
        n++;
    argv = calloc(n + 2 * (size_t)N + 6, sizeof *argv);
    if (argv == NULL)
        _exit(127);
    snprintf(pid, sizeof pid, "%d", (int)worker);
    argv[k++] = "gdb";
    argv[k++] = "-q";
    argv[k++] = "-p";
    argv[k++] = pid;
    for (size_t i = 0; i < (size_t)N; i++) {
        argv[k++] = "-ex";
        argv[k++] = commands[i];
    }
    for (size_t i = 0; i < n; i++)
        argv[k++] = arguments[i];
    execvp("gdb", (char *const *)(uintptr_t)argv);
    fprintf(stderr, "bulkhead replay: cannot run gdb: %s%s\n", strerror(errno),
            errno == ENOENT ? " (Debian: apt-get install gdb)" : "");
    _exit(127);
}

int replay_gdb(struct replay_server *s, const char *request, size_t len, char *const *arguments)
{
    pid_t worker = replay_worker(s), client, gdb;
    int status;

    if (worker < 0) {
        fprintf(stderr, "%s: the worker cannot be found in /proc\n", s->command);
        return CLI_FAILED;
    }
    fflush(NULL);
    client = fork();
    if (client == 0)
        send_when_released(s, worker, request, len);
    gdb = fork();
    if (gdb == 0)
        debug(worker, arguments);
    signal(SIGINT, SIG_IGN); /* Ctrl-C is gdb's */
    if (gdb < 0 || waitpid(gdb, &status, 0) < 0)
        status = -1;
    signal(SIGINT, SIG_DFL);
    if (client > 0) {
        kill(client, SIGKILL);
        waitpid(client, NULL, 0);
    }
    return status == 0 ? CLI_OK : CLI_FAILED;
}
