/*
 * interpose_jump.c - longjmp() out of a plugin call.
 *
 * A plugin may jump about within its own call. A target beyond the boundary (a jmp_buf of an
 * earlier call, of an outer one, or overwritten) would drop frames of the host and of
 * libmicrohttpd: there the call ends instead, as a crash, while nothing of the host's was crossed.
 *
 * What a newcomer would get wrong: where the target lies is told by its stack pointer alone, which
 * glibc stores mangled (PTR_MANGLE: exclusive or with a secret of the thread's, rotated left by
 * 17). __builtin_longjmp() and assembly go round all this; recover_out_of_order() notices those.
 */
#undef _FORTIFY_SOURCE /* it makes all of them __longjmp_chk(), which is defined here as well */
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include "plugin/interpose.h"

#define JB_RSP 6 /* word of a jmp_buf: sysdeps/x86_64/jmpbuf-offsets.h */

static uintptr_t target_sp(const void *env)
{
    uintptr_t sp;

    memcpy(&sp, (const char *)env + JB_RSP * sizeof sp, sizeof sp);
    __asm__("ror $0x11, %0; xor %%fs:0x30, %0" : "+r"(sp));
    return sp;
}

/* Other stacks are coroutines of the plugin's own: theirs to jump to. */
static bool leaves_the_call(const void *env)
{
    const struct recover_thread *t = &recover_self;
    uintptr_t sp;

    if (t->top == NULL)
        return false;
    sp = target_sp(env);
    return sp > (uintptr_t)t->top && sp <= (uintptr_t)t->stack_hi;
}

/* What the three others are with _FORTIFY_SOURCE. */
__attribute__((noreturn)) void __longjmp_chk(struct __jmp_buf_tag env[1], int value);

#define JUMP(NAME)                                                              \
    __attribute__((noreturn)) void NAME(struct __jmp_buf_tag env[1], int value) \
    {                                                                           \
        INTERPOSE_REAL(NAME);                                                   \
        if (leaves_the_call(env))                                               \
            recover_raise("longjmp", 0);                                        \
        real(env, value);                                                       \
        __builtin_unreachable();                                                \
    }

JUMP(longjmp)
JUMP(_longjmp)
JUMP(siglongjmp)
JUMP(__longjmp_chk)
