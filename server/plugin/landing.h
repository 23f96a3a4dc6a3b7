/*
 * landing.h - what a crash may leave behind in its thread, and setting it right.
 *
 * Only what belongs to the thread or the process and that host code relies on: floating-point
 * state, locale, file mode mask, working directory, cancellation, clean-up handlers, alternate
 * stack, signal mask, errno. recover_landed() is called by whoever landed.
 */
#ifndef PLUGIN_LANDING_H
#define PLUGIN_LANDING_H

#include <stdatomic.h>
#include <stdbool.h>

/* Notes the process's state. Once, before any plugin is loaded. */
void landing_init(void);

/* Notes this thread's: cancellation is off from here on. */
void landing_thread_init(void);

/* A plugin has called umask() or chdir(): the next crash puts both back. */
extern _Atomic bool landing_place_was_moved;

/* A crash has landed since the last landing_settle(). */
extern _Atomic bool landing_is_due;
void landing_settle_slow(void);

/* Once in each turn of the loop: file mode mask and working directory as they were, however a plugin
 * that crashed in this turn may have changed them. */
static inline void landing_settle(void)
{
    if (__builtin_expect(atomic_load_explicit(&landing_is_due, memory_order_relaxed), 0))
        landing_settle_slow();
}

/* Whoever had used so many bytes of the stack has it emptied: an overflow would else keep megabytes. */
#define LANDING_DEEP (256u << 10)

#define LANDING_ALT_STACK_SIZE (128u << 10) /* and a guard page below */

#endif
