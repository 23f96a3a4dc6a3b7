/*
 * interpose_end.c - calls that would end the process or the thread.
 *
 * The executable's definitions win over libc's for every object that dlopen() loads. Inside a
 * plugin call they become a crash of that call; elsewhere they do what they always did. What a
 * newcomer would get wrong: default visibility is what makes this work, and a raw system call or
 * RTLD_DEEPBIND goes round it (then the master finds a dead worker and charges the plugin).
 */
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include "plugin/interpose.h"
#include "plugin/recover.h"
#include "plugin/text.h"

/* From a thread of a plugin's that has no boundary (it went round pthread_create()): it takes the
 * worker along, but is charged and on record. */
static void note_thread(const char *kind, const void *caller)
{
    uint32_t plugin = text_owner((uintptr_t)caller);

    if (plugin != 0)
        recover_note_thread(kind, plugin);
}

void exit(int status)
{
    if (recover_is_armed())
        recover_raise("exit", 0);
    note_thread("exit", __builtin_return_address(0));
    INTERPOSE_REAL(exit);
    real(status);
    __builtin_unreachable();
}

void quick_exit(int status)
{
    if (recover_is_armed())
        recover_raise("quick_exit", 0);
    note_thread("quick_exit", __builtin_return_address(0));
    INTERPOSE_REAL(quick_exit);
    real(status);
    __builtin_unreachable();
}

void _exit(int status)
{
    if (recover_is_armed() && !recover_self.is_child_of_fork)
        recover_raise("_exit", 0);
    note_thread("_exit", __builtin_return_address(0));
    for (;;)
        syscall(SYS_exit_group, status);
}

void _Exit(int status)
{
    if (recover_is_armed())
        recover_raise("_Exit", 0);
    note_thread("_Exit", __builtin_return_address(0));
    for (;;)
        syscall(SYS_exit_group, status);
}

void abort(void)
{
    if (recover_is_armed())
        recover_raise("abort", SIGABRT);
    /* In a thread without a boundary the handler of the signal charges it. */
    INTERPOSE_REAL(abort);
    real();
    __builtin_unreachable();
}

void __assert_fail(const char *cond, const char *file, unsigned int line, const char *function)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s:%u: %s: Assertion `%s' failed.\n", file, line,
                     function != NULL ? function : "?", cond);

    if (n > 0 && write(2, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1) < 0) {
        /* stderr is gone: the record still says it */
    }
    if (recover_is_armed()) {
        snprintf(recover_self.message, sizeof recover_self.message, "Assertion `%.120s' failed",
                 cond);
        recover_raise("assert", SIGABRT);
    }
    abort();
}

/* Called by a function whose stack guard was overwritten: nothing of that frame is trusted. */
__attribute__((noreturn)) void __stack_chk_fail(void);
void __stack_chk_fail(void)
{
    if (recover_is_armed()) {
        strcpy(recover_self.message, "stack smashing detected");
        recover_raise("stack_smash", SIGABRT);
    }
    abort();
}

/* A thread of a plugin's own may end itself: that is what these are for. */
static bool ends_a_call(void)
{
    return recover_is_armed() && !recover_self.is_plugins;
}

void pthread_exit(void *value)
{
    if (ends_a_call())
        recover_raise("pthread_exit", 0);
    INTERPOSE_REAL(pthread_exit);
    real(value);
    __builtin_unreachable();
}

void thrd_exit(int value)
{
    if (ends_a_call())
        recover_raise("thrd_exit", 0);
    INTERPOSE_REAL(thrd_exit);
    real(value);
    __builtin_unreachable();
}

int pthread_cancel(pthread_t thread)
{
    if (ends_a_call() && pthread_equal(thread, pthread_self()))
        recover_raise("pthread_cancel", 0);
    INTERPOSE_REAL(pthread_cancel);
    return real(thread);
}
