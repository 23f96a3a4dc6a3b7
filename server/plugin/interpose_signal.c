/*
 * interpose_signal.c - plugins do not get the signals that the boundary lives on, and a child that
 * a plugin forks never runs host code.
 *
 * Only calls made while a plugin call runs on this thread are looked at. Raw system calls go round
 * it: the crash that follows then ends the worker.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "obs/log.h"
#include "plugin/interpose.h"
#include "plugin/recover.h"

static bool is_reserved(int signo)
{
    return signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL ||
           signo == SIGTRAP || signo == SIGABRT || signo == SIGSYS || signo == SIGTERM ||
           signo == SIGQUIT || signo == SIGINT || signo == SIGRTMIN + 3;
}

static void refuse(const char *what, int signo)
{
    static _Atomic int n_told;

    errno = EPERM;
    if (atomic_fetch_add(&n_told, 1) >= 10)
        return; /* it is known by now */
    log_warn("a plugin called %s for signal %d, which belongs to the server: refused (EPERM)", what,
             signo);
    errno = EPERM;
}

int sigaction(int signo, const struct sigaction *act, struct sigaction *old)
{
    INTERPOSE_REAL(sigaction);
    if (act != NULL && recover_is_armed() && is_reserved(signo)) {
        refuse("sigaction()", signo);
        return -1;
    }
    return real(signo, act, old);
}

__sighandler_t signal(int signo, __sighandler_t handler)
{
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;

    if (sigaction(signo, &act, &old) < 0)
        return SIG_ERR;
    return old.sa_handler;
}

int sigaltstack(const stack_t *ss, stack_t *old)
{
    INTERPOSE_REAL(sigaltstack);
    if (ss != NULL && recover_is_armed()) {
        refuse("sigaltstack()", 0);
        return -1;
    }
    return real(ss, old);
}

/* The set without what must stay deliverable. */
static const sigset_t *permitted(int how, const sigset_t *set, sigset_t *copy)
{
    if (set == NULL || how == SIG_UNBLOCK || !recover_is_armed())
        return set;
    *copy = *set;
    for (int s = 1; s < NSIG; s++)
        if (is_reserved(s) && s != SIGTERM && s != SIGQUIT && s != SIGINT)
            sigdelset(copy, s);
    return copy;
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t copy;

    INTERPOSE_REAL(pthread_sigmask);
    return real(how, permitted(how, set, &copy), old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    int r = pthread_sigmask(how, set, old);

    if (r != 0)
        errno = r;
    return r != 0 ? -1 : 0;
}

pid_t fork(void)
{
    /* Asked before: what is published is shared with the parent, who goes on. */
    bool is_plugin = recover_self.call != NULL && atomic_load(&recover_self.call->plugin) != 0;
    pid_t pid;

    INTERPOSE_REAL(fork);
    interpose_enter(RECOVER_LIBC); /* handlers of pthread_atfork() run with libc's locks held */
    pid = real();
    interpose_leave(RECOVER_LIBC);
    if (pid == 0 && is_plugin) {
        /* It may exec or _exit. Coming back into the host ends it: see recover_disarm(), and
         * load_object() for constructors, which run in no boundary. */
        recover_self.is_child_of_fork = true;
        recover_self.top = NULL;
    }
    return pid;
}
