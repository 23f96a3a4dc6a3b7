/*
 * boundary.c - the frames that a crash lands in.
 *
 * One routine makes every call. It is in assembly because the compiler's __builtin_setjmp() costs
 * more than all else: a function that has one saves the registers it owes its caller on entry and
 * loads them again on each return, though they are lost only when the call is left. Here they are
 * stored, and loaded by the landing alone; and whether the call came back is told in a second
 * register, not through memory.
 *
 * In C it would be:
 *
 *     struct recover_frame f = {.guard = landing, .rbx = ..., .prev = t->top, .depth = t->depth};
 *     if (f.prev != NULL)
 *         f.outer = t->call->{plugin, hook};
 *     t->call->{plugin, hook} = who;
 *     t->call->seq++;
 *     t->top = &f;
 *     value = fn(a, b, c, d);
 *     if (t->top != &f)
 *         recover_out_of_order(&f);
 *     t->top = f.prev;
 *     if (f.prev == NULL) {
 *         t->call->plugin = 0;
 *     } else {
 *         t->call->{plugin, hook} = f.outer;
 *         t->call->seq++;
 *     }
 *     return {value, true};
 *
 * What a newcomer would get wrong: the order of the stores. The handler runs on this thread, so no
 * fence is needed, but it must find attribution published by the time that it finds the frame.
 */
#include "plugin/boundary.h"

#include <stddef.h>

#include "plugin/recover.h"

/* In the assembly below: as numbers, since it takes no offsetof(). */
_Static_assert(sizeof(struct recover_frame) == 0x50, "FRAME");
_Static_assert(
    offsetof(struct recover_frame, guard) == 0 && offsetof(struct recover_frame, rbx) == 8 &&
        offsetof(struct recover_frame, r12) == 16 && offsetof(struct recover_frame, r13) == 24 &&
        offsetof(struct recover_frame, r14) == 32 && offsetof(struct recover_frame, r15) == 40 &&
        offsetof(struct recover_frame, prev) == 48 && offsetof(struct recover_frame, depth) == 56 &&
        offsetof(struct recover_frame, outer) == 64,
    "the frame");
_Static_assert(offsetof(struct recover_thread, top) == 0 &&
                   offsetof(struct recover_thread, depth) == 8 &&
                   offsetof(struct recover_thread, call) == 16,
               "the thread");
_Static_assert(offsetof(struct shm_call, seq) == 0 && offsetof(struct shm_call, plugin) == 8 &&
                   offsetof(struct shm_call, hook) == 12,
               "attribution");

/* A section of its own, so that it is near nothing else and a profile names it. rbp is kept as frame
 * pointer and told to unwinders: a C++ exception must get through to std::terminate(). */
__asm__(".pushsection boundary_text, \"ax\", @progbits\n"
        ".globl boundary_call\n"
        ".hidden boundary_call\n"
        ".type boundary_call, @function\n"
        ".p2align 5\n"
        "boundary_call:\n" /* rdi: who, rsi: fn, rdx rcx r8 r9: its arguments */
        "    .cfi_startproc\n"
        "    pushq %rbp\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset 6, -16\n"
        "    movq %rsp, %rbp\n"
        "    .cfi_def_cfa_register 6\n"
        "    subq $0x50, %rsp\n"
        "    movq recover_self@gottpoff(%rip), %r10\n"
        "    leaq boundary_landing(%rip), %rax\n"
        "    movq %rax, 0(%rsp)\n"
        "    movq %rbx, 8(%rsp)\n"
        "    movq %r12, 16(%rsp)\n"
        "    movq %r13, 24(%rsp)\n"
        "    movq %r14, 32(%rsp)\n"
        "    movq %r15, 40(%rsp)\n"
        "    movq %fs:0(%r10), %rax\n"  /* top */
        "    movl %fs:8(%r10), %r11d\n" /* depth */
        "    movq %rax, 48(%rsp)\n"
        "    movl %r11d, 56(%rsp)\n"
        "    movq %fs:16(%r10), %r11\n" /* call */
        "    testq %rax, %rax\n"
        "    jne 2f\n"
        "1:  movq %rdi, 8(%r11)\n" /* plugin and hook in one */
        "    incl 0(%r11)\n"       /* one writer: no lock prefix */
        "    movq %rsp, %fs:0(%r10)\n"
        "    movq %rsi, %rax\n"
        "    movq %rdx, %rdi\n"
        "    movq %rcx, %rsi\n"
        "    movq %r8, %rdx\n"
        "    movq %r9, %rcx\n"
        "    call *%rax\n"
        "    movq recover_self@gottpoff(%rip), %r10\n"
        "    cmpq %rsp, %fs:0(%r10)\n"
        "    jne 4f\n"
        "    movq %fs:16(%r10), %r11\n"
        "    cmpq $0, 48(%rsp)\n"
        "    jne 3f\n"
        "    movq $0, %fs:0(%r10)\n"
        "    movl $0, 8(%r11)\n"
        "    movl $1, %edx\n"
        "    leave\n"
        "    .cfi_remember_state\n"
        "    .cfi_def_cfa 7, 8\n"
        "    ret\n"
        "    .cfi_restore_state\n"
        /* A call within a call (a host function that calls a plugin): the outer one's attribution
         * comes back with it. */
        "2:  movq 8(%r11), %rax\n"
        "    movq %rax, 64(%rsp)\n"
        "    jmp 1b\n"
        "3:  movq 48(%rsp), %rcx\n"
        "    movq %rcx, %fs:0(%r10)\n"
        "    movq 64(%rsp), %rcx\n"
        "    movq %rcx, 8(%r11)\n"
        "    incl 0(%r11)\n"
        "    movl $1, %edx\n"
        "    leave\n"
        "    .cfi_remember_state\n"
        "    .cfi_def_cfa 7, 8\n"
        "    ret\n"
        "    .cfi_restore_state\n"
        "4:  movq %rsp, %rdi\n"
        "    call recover_out_of_order\n"
        "    ud2\n"
        ".globl boundary_landing\n"
        ".hidden boundary_landing\n"
        "boundary_landing:\n" /* rsp: the frame, disarmed; all else is lost */
        "    leaq 0x50(%rsp), %rbp\n"
        "    movq 8(%rsp), %rbx\n"
        "    movq 16(%rsp), %r12\n"
        "    movq 24(%rsp), %r13\n"
        "    movq 32(%rsp), %r14\n"
        "    movq 40(%rsp), %r15\n"
        "    call recover_landed\n"
        "    xorl %eax, %eax\n"
        "    xorl %edx, %edx\n"
        "    leave\n"
        "    .cfi_def_cfa 7, 8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size boundary_call, . - boundary_call\n"
        ".popsection\n");

/* More arguments than boundary_call() passes on. */
struct body_call {
    hook_body_fn *fn;
    void *self;
    bh_req *req;
    void *ctx;
    bh_str chunk;
    int32_t end;
};

static bh_rc call_body(const struct body_call *b)
{
    return b->fn(b->self, b->req, b->ctx, b->chunk, b->end);
}

bool boundary_body(uint32_t plugin, enum hook hook, hook_body_fn *fn, void *self, bh_req *req,
                   void *ctx, bh_str chunk, int32_t end, bh_rc *out)
{
    struct body_call b = {fn, self, req, ctx, chunk, end};

    return boundary_rc(
        boundary_call(boundary_who(plugin, hook), (boundary_fn *)call_body, &b, NULL, NULL, NULL),
        out);
}
