/*
 * landing.h - what a crash may leave behind in its thread, and setting it right.
 *
 * Only what belongs to the thread or the process and that host code relies on: floating-point
 * state, locale, file mode mask, working directory, cancellation, clean-up handlers, alternate
 * stack, signal mask, errno. Called by recover.c and, as recover_landed(), by whoever landed.
 */
#ifndef PLUGIN_LANDING_H
#define PLUGIN_LANDING_H

/* Notes the process's state. Once, before any plugin is loaded. */
void landing_init(void);

/* Notes this thread's: cancellation is off from here on. */
void landing_thread_init(void);

/* Whoever had used so many bytes of the stack has it emptied: an overflow would else keep megabytes. */
#define LANDING_DEEP (256u << 10)

#define LANDING_ALT_STACK_SIZE (128u << 10) /* and a guard page below */

#endif
