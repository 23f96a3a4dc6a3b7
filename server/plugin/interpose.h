/*
 * interpose.h - what the interposers share: finding libc's own function behind ours.
 *
 * What a newcomer would get wrong: an interposer runs for the whole process, the host and its
 * libraries included. Only what is done while a plugin call is armed may differ from libc.
 */
#ifndef PLUGIN_INTERPOSE_H
#define PLUGIN_INTERPOSE_H

#include <dlfcn.h>

#include "plugin/recover.h"

/* Declares `real`, libc's function of that name. Looked up on first use; a race stores the same
 * value twice. */
#define INTERPOSE_REAL(NAME)               \
    static __typeof__(&(NAME)) real;       \
    if (__builtin_expect(real == NULL, 0)) \
    real = (__typeof__(&(NAME)))dlsym(RTLD_NEXT, #NAME)

/* Counts a thread into what cannot be left (RECOVER_*), and out again. */
static inline void interpose_enter(uint32_t what)
{
    recover_self.depth += what;
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void interpose_leave(uint32_t what)
{
    atomic_signal_fence(memory_order_seq_cst);
    recover_self.depth -= what;
}

#endif
