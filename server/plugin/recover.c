#include "plugin/recover.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/must.h"
#include "plugin/capture.h"
#include "plugin/eject.h"
#include "plugin/heap.h"
#include "plugin/landing.h"
#include "plugin/park.h"
#include "plugin/text.h"

#ifndef __x86_64__
#error "the recovery boundary knows x86-64 only"
#endif

#define WORDS_LOOKED   1024 /* of a stack, for an address in a plugin */
#define ALT_STACK_SIZE LANDING_ALT_STACK_SIZE

__thread struct recover_thread recover_self __attribute__((tls_model("initial-exec")));

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
#define N_FAULT_SIGNALS (sizeof fault_signals / sizeof fault_signals[0])

static struct {
    struct shm *shm;
    pid_t pid;
    bool is_worker; /* not a trial run of the plugins */
    int deadline_signal;
    const char *const *abort_msg; /* glibc's __abort_msg: a struct {size; char msg[]} pointer */
    bool is_prepared;
    char *first_lo, *first_hi; /* the stack of the process's first thread, when prepared */
} recover;

/* ---- set-up ---- */

static void install(int signo, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    /* All others stay blocked in the handler; a second fault inside it kills the process. */
    sigfillset(&sa.sa_mask);
    for (size_t i = 0; i < N_FAULT_SIGNALS; i++)
        sigdelset(&sa.sa_mask, fault_signals[i]);
    sigaddset(&sa.sa_mask, signo);
    must(sigaction(signo, &sa, NULL) == 0);
}

static void on_fault(int signo, siginfo_t *si, void *ctx);
static void on_deadline(int signo, siginfo_t *si, void *ctx);

static void install_all(void)
{
    for (size_t i = 0; i < N_FAULT_SIGNALS; i++)
        install(fault_signals[i], on_fault);
    install(recover.deadline_signal, on_deadline);
}

void recover_signals(sigset_t *out)
{
    sigemptyset(out);
    for (size_t i = 0; i < N_FAULT_SIGNALS; i++)
        sigaddset(out, fault_signals[i]);
    sigaddset(out, recover.deadline_signal);
}

static int find_stack(char **lo, char **hi)
{
    pthread_attr_t attr;
    size_t size;
    void *at;

    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return -ENOMEM;
    pthread_attr_getstack(&attr, &at, &size);
    pthread_attr_destroy(&attr);
    *lo = at;
    *hi = *lo + size;
    return 0;
}

static void find_constants(void)
{
    recover.abort_msg = dlvsym(RTLD_DEFAULT, "__abort_msg", "GLIBC_PRIVATE");
    text_init();
}

void recover_prepare(void)
{
    if (find_stack(&recover.first_lo, &recover.first_hi) <
        0) /* /proc/self/maps: no descriptor left */
        return;
    find_constants();
    capture_modules();
    recover.is_prepared = true;
}

int recover_init(struct shm *shm, int worker)
{
    recover.shm = shm;
    recover.pid = getpid();
    recover.is_worker = worker >= 0;
    recover.deadline_signal = SIGRTMIN + 3;
    landing_init();
    if (!recover.is_prepared)
        find_constants();
    if (worker >= 0)
        capture_init(shm, worker);
    install_all();
    return recover_thread_init(&shm->worker[worker >= 0 ? worker : 0].call);
}

bool recover_is_worker(void)
{
    return recover.is_worker;
}

int recover_stop_signal(void)
{
    return recover.deadline_signal;
}

int recover_thread_init(struct shm_call *call)
{
    struct recover_thread *t = &recover_self;
    stack_t ss;
    char *p;

    t->call = call;
    if (recover.is_prepared && gettid() == recover.pid) {
        t->stack_lo = recover.first_lo;
        t->stack_hi = recover.first_hi;
    } else if (find_stack(&t->stack_lo, &t->stack_hi) < 0) {
        return -ENOMEM;
    }
    landing_thread_init();

    p = mmap(NULL, 4096 + ALT_STACK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    if (mprotect(p + 4096, ALT_STACK_SIZE, PROT_READ | PROT_WRITE) < 0) {
        int r = -errno;

        munmap(p, 4096 + ALT_STACK_SIZE);
        return r;
    }
    t->alt_stack = p;
    ss = (stack_t){.ss_sp = p + 4096, .ss_size = ALT_STACK_SIZE};
    return syscall(SYS_sigaltstack, &ss, NULL) < 0 ? -errno : 0;
}

void recover_thread_fini(void)
{
    stack_t off = {.ss_flags = SS_DISABLE};

    if (recover_self.alt_stack == NULL)
        return;
    syscall(SYS_sigaltstack, &off, NULL);
    munmap(recover_self.alt_stack, 4096 + ALT_STACK_SIZE);
    recover_self.alt_stack = NULL;
}

void recover_arm_end(uint32_t plugin, enum hook hook, void (*at_end)(void))
{
    struct recover_thread *t = &recover_self;

    t->top = NULL;
    /* Whoever was cancelled inside libc was counted in, but not out. What he held is released. */
    t->depth = 0;
    memset(&t->end, 0, sizeof t->end);
    t->end_sp = __builtin_frame_address(0);
    t->at_end = at_end;
    recover_publish(t->call, plugin, hook);
    recover_next_call(t->call);
    atomic_signal_fence(memory_order_seq_cst);
    t->top = &t->end;
}

void recover_add_object(const char *path, uint32_t plugin)
{
    text_add_object(path, plugin);
    capture_modules();
    /* Its constructors ran in no call: whatever they did to the signals is undone. */
    install_all();
    recover_landed();
}

/* ---- judging ---- */

/* glibc's own heap checks that run before the arena lock is taken: leaving from there is sound.
 * Anything else that aborts inside the allocator may hold the lock. */
static bool is_lockless_heap_check(const char *msg)
{
    static const char *const sound[] = {"free(): double free detected in tcache 2",
                                        "free(): invalid pointer",
                                        "free(): invalid size",
                                        "double free or corruption (fasttop)",
                                        "munmap_chunk(): invalid pointer",
                                        "realloc(): invalid pointer",
                                        "free(): unaligned chunk detected in tcache 2",
                                        "malloc(): unaligned tcache chunk detected"};

    for (size_t i = 0; i < sizeof sound / sizeof sound[0]; i++)
        if (strncmp(msg, sound[i], strlen(sound[i])) == 0)
            return true;
    return false;
}

/* The text glibc left for debuggers when it aborted, or NULL. */
static const char *glibc_message(void)
{
    const char *p = recover.abort_msg != NULL ? *recover.abort_msg : NULL;

    return p != NULL ? p + sizeof(unsigned int) : NULL;
}

/* boundary.c */
extern const char boundary_landing[] __attribute__((visibility("hidden")));

/* An overwritten frame is not gone back to. What overflows a plugin's buffer comes from below, by the
 * guard; and whoever called the boundary is host code. */
static bool is_intact(const struct recover_frame *f)
{
    struct {
        uintptr_t rbp, return_address;
    } above;

    memcpy(&above, f + 1, sizeof above);
    return f->guard == boundary_landing && text_system(above.return_address) == TEXT_HOST;
}

/* NULL when it is sound to jump to f, else the reason why not. */
static const char *why_not(const struct recover_thread *t, const struct recover_frame *f,
                           const char *abort_text, uintptr_t sp)
{
    uint32_t held = t->depth - (f != NULL ? f->depth : 0);

    if (t->is_child_of_fork)
        return "in a child that the plugin forked";
    if (f == NULL)
        return "no plugin call was running on this thread";
    if (f != &t->end) {
        if ((char *)f < t->stack_lo || (char *)(f + 1) + 16 > t->stack_hi)
            return "the boundary's frame is not on this thread's stack";
        if (!is_intact(f))
            return "the boundary's frame was overwritten";
        if (sp > (uintptr_t)f && sp < (uintptr_t)t->stack_hi)
            return "the boundary's frame has returned";
    }
    if ((held & 0xff) != 0) {
        if (abort_text == NULL || !is_lockless_heap_check(abort_text))
            return "inside the allocator, its lock may be held";
    }
    if ((held & 0xff00) != 0)
        return "inside libc, holding a lock (stdio or loader)";
    if (held >= RECOVER_HOST)
        return "in a critical section of the host";
    return NULL;
}

/* ---- landing ---- */

/* Out of a handler as well: what sigreturn would restore of the signal mask, recover_landed() does;
 * the floating-point state is that of a handler, which the kernel starts with a clean one; and of
 * the alternate stack the kernel remembers nothing but where it is. It costs 0.3 us less. */
static __attribute__((noreturn, noinline)) void jump_to(struct recover_frame *f)
{
    if (f == &recover_self.end)
        recover_self.at_end();
    __asm__ volatile("movq %0, %%rsp\n\tjmp boundary_landing" : : "r"(f) : "memory");
    __builtin_unreachable();
}

#ifdef BULKHEAD_SANITIZE
void __asan_unpoison_memory_region(void const volatile *addr, size_t size) __attribute__((weak));

/* The frames that are dropped left their red zones poisoned, the handler's as well. */
static void unpoison(const struct recover_thread *t, const struct recover_frame *f)
{
    if (__asan_unpoison_memory_region == NULL)
        return;
    __asan_unpoison_memory_region(t->stack_lo, (size_t)((char *)f - t->stack_lo));
    if (t->alt_stack != NULL)
        __asan_unpoison_memory_region((char *)t->alt_stack + SHM_PAGE, ALT_STACK_SIZE);
}
#else
static void unpoison(const struct recover_thread *t, const struct recover_frame *f)
{
    (void)t;
    (void)f;
}
#endif

/* Leaves the boundary's frame: from here on the thread is as it was when f was armed. */
static void disarm(struct recover_thread *t, const struct recover_frame *f)
{
    t->top = f->prev;
    t->depth = f->depth;
    t->waits = RECOVER_WAITS_NOT;
    if (t->in_heap != NULL) { /* half changed, and locked: it is thrown away as a whole */
        heap_condemn(t->in_heap);
        t->in_heap = NULL;
    }
    recover_publish(t->call, f->prev != NULL ? f->outer.plugin : 0,
                    f->prev != NULL ? f->outer.hook : (uint32_t)HOOK_NONE);
    recover_next_call(t->call);
    unpoison(t, f);
}

/* A handler that runs elsewhere: the plugin gave the kernel another stack, or none. */
static bool is_on_alt_stack(const struct recover_thread *t)
{
    const char *here = __builtin_frame_address(0), *lo = t->alt_stack;

    return lo != NULL && here > lo && here < lo + SHM_PAGE + ALT_STACK_SIZE;
}

/* ---- faults ---- */

static uintptr_t find_in(const uint64_t *word, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (text_owner(word[k]) != 0)
            return word[k];
    return 0;
}

/* The innermost address on the stack that is in a plugin: of the fault, or who called what faulted.
 * 0: there is none near by. */
static uintptr_t find_plugin_code(const struct recover_thread *t, const uint64_t *reg)
{
    uint64_t word[SHM_PAGE / sizeof(uint64_t)];
    uintptr_t at = reg[SHM_RSP] & ~(uintptr_t)7, found = 0;
    const char *here = __builtin_frame_address(0);

    if (text_owner(reg[SHM_RIP]) != 0)
        return reg[SHM_RIP];
    /* Without a signal this runs on that stack: it is there. */
    if (here >= t->stack_lo && here < (const char *)at && at < (uintptr_t)t->stack_hi) {
        size_t n = ((uintptr_t)t->stack_hi - at) / sizeof word[0];

        return find_in((const uint64_t *)at, n < WORDS_LOOKED ? n : WORDS_LOOKED);
    }
    /* The kernel reads, as the stack pointer may lead nowhere; page by page, as it may be near the
     * stack's end. */
    for (int i = 0; i < 2 && found == 0; i++) {
        size_t n = SHM_PAGE - (at & (SHM_PAGE - 1));
        struct iovec to = {word, n}, from = {(void *)at, n};

        if (process_vm_readv(recover.pid, &to, 1, &from, 1, 0) != (ssize_t)n)
            return 0;
        found = find_in(word, n / sizeof word[0]);
        at += n;
    }
    return found;
}

static void describe(struct recover_thread *t, struct capture *c)
{
    struct recover_fault *fault = &t->fault;

    fault->signo = c->signo;
    fault->is_deadline = false;
    strncpy(fault->kind, c->kind, sizeof fault->kind - 1);
    c->plugin = atomic_load(&t->call->plugin);
    c->hook = atomic_load(&t->call->hook);
    c->place = find_plugin_code(t, c->reg);
    if (c->plugin > 0 && c->plugin <= recover.shm->n_plugins) {
        struct shm_plugin *p = &recover.shm->plugin[c->plugin - 1];

        atomic_fetch_add(&p->crashes, 1);
        if (strcmp(c->kind, "deadline") != 0) /* counted as such */
            atomic_fetch_add(&p->crashes_by[metrics_crash_of(c->signo)], 1);
    }
    fault->place = c->fingerprint = capture_fingerprint(c);
    capture_crash(c, &fault->record, fault->record_id);
}

/* The end of this process, with a record; not before the master has taken its connections (park.h).
 * Returns, for the signal to strike again by default. */
static void die(struct recover_thread *t, struct capture *c)
{
    bool was_armed = t->top != NULL;
    struct shm_crash *record = NULL;
    char id[40];

    /* Nothing lands any more, and our own signal() is not refused (or the fault would strike for
     * ever). */
    t->top = NULL;
    if (recover.pid != getpid())
        return; /* a forked child: none of the server's business */
    c->verdict = SHM_WORKER_DIED;
    if (t->call != NULL && was_armed) {
        describe(t, c);
        record = t->fault.record;
    } else {
        c->plugin = text_owner(t->call != NULL ? c->reg[SHM_RIP] : find_plugin_code(t, c->reg));
        c->hook = c->plugin != 0 ? HOOK_THREAD : HOOK_NONE;
        if (c->plugin == 0 && t->call != NULL) { /* recover_blame() */
            c->plugin = atomic_load(&t->call->plugin);
            c->hook = atomic_load(&t->call->hook);
        }
        if (c->plugin != 0 && c->plugin <= recover.shm->n_plugins)
            atomic_fetch_add(&recover.shm->plugin[c->plugin - 1].crashes, 1);
        capture_crash(c, &record, id);
    }
    park(record);
}

/* Out of a handler. Returns for the end of a thread only, whose last function runs as if the
 * interrupted code had called it. */
static void land(struct recover_thread *t, struct recover_frame *f, ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;

    disarm(t, f);
    t->has_alt_stack = is_on_alt_stack(t);
    t->is_deep = f != &t->end && (uintptr_t)f - (uintptr_t)g[REG_RSP] > LANDING_DEEP;
    if (f != &t->end)
        jump_to(f);
    /* Below the frame (and a red zone) all is dropped. A function starts with rsp 8 off 16. */
    g[REG_RSP] = (greg_t)((((uintptr_t)t->end_sp - 256) & ~(uintptr_t)15) - 8);
    g[REG_RIP] = (greg_t)(uintptr_t)jump_to;
    g[REG_RDI] = (greg_t)(uintptr_t)f;
    g[REG_EFL] &= ~(greg_t)0x400; /* direction flag */
    memcpy(&uc->uc_sigmask, &t->signal_mask, sizeof t->signal_mask);
}

static void on_fault(int signo, siginfo_t *si, void *ctx)
{
    struct recover_thread *t = &recover_self;
    struct recover_frame *f = t->top;
    ucontext_t *uc = ctx;
    const char *abort_text = signo == SIGABRT ? glibc_message() : NULL;
    uint64_t reg[SHM_REGS] = {0};
    struct capture c = {
        .signo = signo, .code = si->si_code, .kind = "signal", .message = abort_text, .reg = reg};
    int saved_errno = errno;
    const char *why;

    if (park_has_begun()) {
        if (park_is_mine())
            park(NULL);
        else
            park_stand_still();
        signal(signo, SIG_DFL);
        return;
    }
    capture_registers(uc, reg);
    if (si->si_code > 0 && signo != SIGABRT)
        c.fault_addr = (uint64_t)(uintptr_t)si->si_addr;
    why = why_not(t, f, (t->depth & 0xff) != 0 ? abort_text : NULL, (uintptr_t)reg[SHM_RSP]);
    if (si->si_code <= 0 && si->si_pid != recover.pid)
        why = "sent by another process";
    if (why == NULL) {
        c.verdict = t->is_plugins ? SHM_EJECTED : SHM_RECOVERED;
        c.reason = t->is_plugins ? "fault in a thread of the plugin's own, nothing held"
                                 : "fault inside a plugin call, nothing held";
        if (t->in_heap != NULL)
            c.reason = "fault inside the plugin's own heap, which is given up";
        describe(t, &c);
        land(t, f, uc);
        errno = saved_errno;
        return;
    }
    c.reason = why;
    die(t, &c);
    signal(signo, SIG_DFL);
    if (si->si_code <= 0 || signo == SIGTRAP) /* what does not strike again by itself */
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signo);
}

/* ---- deadlines ---- */

void recover_deadline(int tid, uint32_t seq, bool last)
{
    siginfo_t si = {.si_signo = recover.deadline_signal, .si_code = SI_QUEUE};

    si.si_pid = recover.pid;
    si.si_value.sival_ptr = (void *)((uintptr_t)seq | (last ? (uintptr_t)1 << 32 : 0));
    syscall(SYS_rt_tgsigqueueinfo, recover.pid, tid, recover.deadline_signal, &si);
}

/* In one of the functions of interpose_wait.c, and there in the wait itself: right behind a system
 * call, which then is the futex wait; libc is not in the middle of anything. */
static bool waits_for_lock(const struct recover_thread *t, uintptr_t pc)
{
    static const unsigned char syscall_insn[2] = {0x0f, 0x05};

    if (t->waits == RECOVER_WAITS_NOT || text_system(pc) != TEXT_LIBC)
        return false;
    return t->waits == RECOVER_WAITS_SPINNING ||
           memcmp((const void *)(pc - 2), syscall_insn, sizeof syscall_insn) == 0;
}

static void on_deadline(int signo, siginfo_t *si, void *ctx)
{
    struct recover_thread *t = &recover_self;
    struct recover_frame *f = t->top;
    ucontext_t *uc = ctx;
    uintptr_t value = (uintptr_t)si->si_value.sival_ptr;
    uint64_t reg[SHM_REGS] = {0};
    struct capture c = {.signo = 0, .kind = "deadline", .reg = reg};
    int saved_errno = errno;
    const char *why;
    bool is_stuck; /* it would block again */

    (void)signo;
    if (park_has_begun() && !park_is_mine()) {
        park_stand_still();
        return;
    }
    if (si->si_code != SI_QUEUE || si->si_pid != recover.pid ||
        atomic_load(&t->call->seq) != (uint32_t)value)
        return; /* that call is over */
    /* Constructors run in no boundary; one that hangs in a worker ends it. A trial run has a limit of
     * its own. */
    if (f == NULL && !(recover.is_worker && atomic_load(&t->call->hook) == HOOK_LOAD))
        return;
    capture_registers(uc, reg);
    why = why_not(t, f, NULL, (uintptr_t)reg[SHM_RSP]);
    is_stuck = waits_for_lock(t, reg[SHM_RIP]);
    if (why == NULL && t->in_heap != NULL && value >> 32 == 0)
        return; /* for some nanoseconds, most likely; if not, its heap is given up */
    if (why == NULL && !is_stuck && text_owner(reg[SHM_RIP]) == 0 &&
        !text_is_waiting(reg[SHM_RIP]) && t->in_heap == NULL)
        why = "past its deadline outside plugin code";
    if (why == NULL) {
        uint32_t plugin = atomic_load(&t->call->plugin);

        c.verdict = is_stuck ? SHM_EJECTED : SHM_RECOVERED;
        c.reason = is_stuck ? "past its deadline, waiting for a lock, nothing of the host's held"
                            : "past its deadline, nothing held";
        if (is_stuck)
            eject(plugin, "it waits for a lock that nobody gives back");
        if (plugin > 0 && plugin <= recover.shm->n_plugins)
            atomic_fetch_add(&recover.shm->plugin[plugin - 1].deadlines, 1);
        describe(t, &c);
        t->fault.is_deadline = true;
        land(t, f, uc);
    } else if (value >> 32 != 0) {
        c.reason = why;
        die(t, &c);
        syscall(SYS_kill, getpid(), SIGKILL);
    }
    errno = saved_errno;
}

/* ---- without a signal ---- */

/* The registers of the caller, as far as an unwinder needs them. */
static __attribute__((noinline)) void registers_here(uint64_t *reg)
{
    memset(reg, 0, SHM_REGS * sizeof *reg);
    __asm__ volatile(
        "movq %%rbx, %0; movq %%r12, %1; movq %%r13, %2; movq %%r14, %3; movq %%r15, %4"
        : "=m"(reg[SHM_RBX]), "=m"(reg[SHM_R12]), "=m"(reg[SHM_R13]), "=m"(reg[SHM_R14]),
          "=m"(reg[SHM_R15]));
    /* The caller's frame: built with frame pointers. */
    reg[SHM_RBP] = *(uint64_t *)__builtin_frame_address(0);
    reg[SHM_RSP] = (uint64_t)(uintptr_t)__builtin_frame_address(0) + 16;
    reg[SHM_RIP] = (uint64_t)(uintptr_t)__builtin_return_address(0);
}

void recover_raise(const char *kind, int signo)
{
    struct recover_thread *t = &recover_self;
    struct recover_frame *f = t->top;
    uint64_t reg[SHM_REGS] = {0};
    struct capture c = {.signo = signo,
                        .kind = kind,
                        .message = t->message[0] != '\0' ? t->message : NULL,
                        .reg = reg};

    registers_here(reg);
    c.reason = why_not(t, f, NULL, (uintptr_t)reg[SHM_RSP]);
    if (c.reason == NULL) {
        c.verdict = t->is_plugins ? SHM_EJECTED : SHM_RECOVERED;
        c.reason = t->is_plugins ? "ended in a thread of the plugin's own, nothing held"
                                 : "ended inside a plugin call, nothing held";
        describe(t, &c);
        t->message[0] = '\0';
        disarm(t, f);
        jump_to(f);
    }
    die(t, &c);
    signal(SIGABRT, SIG_DFL);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGABRT);
    for (;;)
        pause();
}

void recover_blame(uint32_t plugin, uint32_t hook)
{
    if (recover_self.call != NULL && !recover_is_armed())
        recover_publish(recover_self.call, plugin, hook);
}

void recover_note_thread(const char *kind, uint32_t plugin)
{
    uint64_t reg[SHM_REGS] = {0};
    struct capture c = {.kind = kind,
                        .reason = "in a thread that the plugin started",
                        .verdict = SHM_WORKER_DIED,
                        .plugin = plugin,
                        .hook = HOOK_THREAD,
                        .reg = reg};
    struct shm_crash *record;
    char id[40];

    if (recover.pid != getpid())
        return;
    registers_here(reg);
    if (plugin > 0 && plugin <= recover.shm->n_plugins)
        atomic_fetch_add(&recover.shm->plugin[plugin - 1].crashes, 1);
    capture_crash(&c, &record, id);
    if (record != NULL)
        recover_record_done(record);
}

void recover_out_of_order(struct recover_frame *f)
{
    struct recover_thread *t = &recover_self;
    uint64_t reg[SHM_REGS] = {0};
    struct capture c = {.kind = "boundary", .reg = reg};

    if (t->is_child_of_fork)
        _exit(0); /* a child that the plugin forked came back into the host: it ends here */
    (void)f;
    registers_here(reg);
    c.reason = "a call returned past its boundary (longjmp)";
    die(t, &c);
    for (;;)
        syscall(SYS_kill, getpid(), SIGKILL);
}

void recover_record_done(struct shm_crash *record)
{
    atomic_store(&record->state, SHM_CRASH_FULL);
    shm_kick(recover.shm);
}
