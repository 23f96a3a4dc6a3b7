/*
 * kinds.c - the faults themselves: one small function each, and the table of their names.
 *
 * Each is a function of its own that is never inlined, as crash records are judged by whether
 * their top frame names it. Everything that a compiler could prove to be undefined goes through a
 * volatile, or it would be removed. Some return: those do their damage silently, or did not die.
 */
#define _GNU_SOURCE
#include "kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#undef NDEBUG
#include <assert.h>

#define FAULT __attribute__((noinline)) static void
/* After a last call: it is no jump then, and this function stays in the backtrace. */
#define STAY __asm__ volatile("")

#if defined(__has_attribute)
#if __has_attribute(stack_protect)
#define WITH_CANARY __attribute__((stack_protect))
#endif
#if __has_attribute(no_sanitize)
#define NO_SANITIZE __attribute__((no_sanitize("address", "undefined")))
#endif
#endif
#ifndef WITH_CANARY
#define WITH_CANARY
#endif
#ifndef NO_SANITIZE
#define NO_SANITIZE
#endif

static void *volatile nowhere; /* NULL, but the compiler cannot know */
static volatile int zero;
static volatile size_t sink;

/* ---- bad addresses ------------------------------------------------------------------------ */

void *fault_unmapped_page(void)
{
    static void *page;

    /* Nobody will map there again: mmap() keeps away from a PROT_NONE page. */
    if (page == NULL) {
        page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            page = (void *)(uintptr_t)4096;
    }
    return page;
}

void *fault_truncated_page(void)
{
    static void *page;
    int fd;

    if (page != NULL)
        return page;
    fd = memfd_create("truncated", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 4096) < 0)
        return nowhere;
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ftruncate(fd, 0) < 0 || page == MAP_FAILED)
        page = NULL;
    close(fd);
    return page;
}

FAULT fault_segv_null(const struct fault_site *site)
{
    (void)site;
    *(volatile int *)nowhere = 1;
}

FAULT fault_segv_addr(const struct fault_site *site)
{
    (void)site;
    sink = *(volatile unsigned char *)fault_unmapped_page();
}

/* The kernel reports no address for this one: si_addr is 0, si_code SI_KERNEL. */
FAULT fault_segv_noncanonical(const struct fault_site *site)
{
    (void)site;
    *(volatile int *)((uintptr_t)nowhere + 0x6861636b65640000u) = 1;
}

FAULT fault_segv_text(const struct fault_site *site)
{
    (void)site;
    *(volatile char *)(uintptr_t)fault_segv_null = 0;
}

FAULT fault_jump(const struct fault_site *site)
{
    void (*volatile target)(void) = (void (*)(void))fault_unmapped_page();

    (void)site;
    target();
    STAY;
}

FAULT fault_bus(const struct fault_site *site)
{
    (void)site;
    *(volatile int *)fault_truncated_page() = 1;
}

/* ---- bad instructions --------------------------------------------------------------------- */

FAULT NO_SANITIZE fault_fpe(const struct fault_site *site)
{
    (void)site;
#if defined(__x86_64__) || defined(__i386__)
    sink = (size_t)(42 / zero);
#else
    raise(SIGFPE); /* division by zero is not a fault here */
    STAY;
#endif
}

FAULT fault_ill(const struct fault_site *site)
{
    (void)site;
    if (!zero)
        __builtin_trap();
}

FAULT fault_trap(const struct fault_site *site)
{
    (void)site;
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("int3");
#elif defined(__aarch64__)
    __asm__ volatile("brk #0");
#else
    raise(SIGTRAP);
    STAY;
#endif
}

/* ---- libc notices ------------------------------------------------------------------------- */

FAULT fault_abort(const struct fault_site *site)
{
    (void)site;
    if (!zero)
        abort();
}

FAULT fault_assert(const struct fault_site *site)
{
    (void)site;
    assert(zero == 1);
}

FAULT WITH_CANARY NO_SANITIZE fault_stack_smash(const struct fault_site *site)
{
    volatile char small[16];
    volatile char *volatile p = small;

    (void)site;
    /* Over the canary, but not as far as the return address. */
    for (size_t i = 0; i < sizeof small + 16; i++)
        p[i] = 'A';
}

FAULT fault_fortify(const struct fault_site *site)
{
    char small[16];
    volatile size_t n = 64;

    (void)site;
    __builtin___memset_chk(small, 'A', n, sizeof small);
    sink = (size_t)((volatile char *)small)[0];
}

FAULT fault_double_free(const struct fault_site *site)
{
    char *volatile p = malloc(40);
    char *volatile q = p;

    (void)site;
    free(p);
    free(q); /* NOLINT: the point of it */
    STAY;
}

/* ---- the stack ---------------------------------------------------------------------------- */

__attribute__((noinline)) static size_t fault_overflow_deeper(size_t depth)
{
    volatile char frame[1024];

    frame[depth % sizeof frame] = (char)depth;
    if (zero)
        return depth;
    return fault_overflow_deeper(depth + 1) + (size_t)frame[0];
}

FAULT fault_overflow(const struct fault_site *site)
{
    (void)site;
    sink = fault_overflow_deeper(0);
}

FAULT NO_SANITIZE fault_bigframe(const struct fault_site *site)
{
    volatile char frame[(size_t)64 << 20];
    volatile char *volatile p = frame; /* keeps the whole of it */

    (void)site;
    p[0] = 1;
    sink = (size_t)p[0];
}

/* A place far up the stack, in one of the host's frames. */
NO_SANITIZE static __attribute__((always_inline)) inline void **frame_of_the_host(void)
{
    void **frame = __builtin_frame_address(0);

    for (int i = 0; i < 5 && (void **)*frame > frame; i++)
        frame = *frame;
    return frame;
}

/* What a longjmp() to a jmp_buf of a call that is over amounts to. libc's are mangled; which words of
 * it are what is the same in every glibc. */
FAULT NO_SANITIZE fault_longjmp(const struct fault_site *site)
{
    jmp_buf env;

    (void)site;
    if (setjmp(env) != 0)
        return;
#if defined(__x86_64__) && defined(__GLIBC__)
    void **frame = frame_of_the_host();
    uintptr_t to[3] = {(uintptr_t)frame[0], (uintptr_t)(frame + 2), (uintptr_t)frame[1]};

    for (int i = 0; i < 3; i++)
        __asm__("xor %%fs:0x30, %0; rol $0x11, %0" : "+r"(to[i]));
    memcpy((char *)env + 8, &to[0], 8);   /* rbp */
    memcpy((char *)env + 48, &to[1], 16); /* rsp, rip */
#endif
    longjmp(env, 1);
}

/* The same by hand, which nobody can notice beforehand. */
FAULT NO_SANITIZE fault_longjmp_unseen(const struct fault_site *site)
{
    void **frame = frame_of_the_host();
    static void *target[5];

    (void)site;
    target[0] = frame[0];
    target[1] = frame[1];
    target[2] = frame + 2;
    __builtin_longjmp(target, 1);
}

FAULT NO_SANITIZE fault_smash_return(const struct fault_site *site)
{
    void *volatile *frame = __builtin_frame_address(0);

    (void)site;
    frame[1] = (void *)(uintptr_t)0x4141414141414141u;
}

/* The frames of the callers, too: the hook's and some of the host's. */
FAULT NO_SANITIZE fault_smash_stack(const struct fault_site *site)
{
    void *volatile *frame = __builtin_frame_address(0);

    (void)site;
    for (int i = 0; i < 96; i++)
        frame[i] = (void *)(uintptr_t)0x4141414141414141u;
}

/* ---- ends the process --------------------------------------------------------------------- */

FAULT fault_exit(const struct fault_site *site)
{
    (void)site;
    exit(41);
}

FAULT fault__exit(const struct fault_site *site)
{
    (void)site;
    _exit(42);
}

FAULT fault_quick_exit(const struct fault_site *site)
{
    (void)site;
    quick_exit(43);
}

FAULT fault_exit_group(const struct fault_site *site)
{
    (void)site;
    syscall(SYS_exit_group, 44);
    STAY;
}

FAULT fault_sigkill(const struct fault_site *site)
{
    (void)site;
    kill(getpid(), SIGKILL);
    STAY;
}

FAULT fault_pthread_exit(const struct fault_site *site)
{
    (void)site;
    pthread_exit(NULL);
}

FAULT fault_cancel_self(const struct fault_site *site)
{
    (void)site;
    pthread_cancel(pthread_self());
    pthread_testcancel();
    STAY;
}

FAULT fault_fork(const struct fault_site *site)
{
    (void)site;
    if (fork() < 0)
        sink = (size_t)errno; /* parent and child both return into the host */
}

/* ---- takes for ever ----------------------------------------------------------------------- */

FAULT fault_loop(const struct fault_site *site)
{
    (void)site;
    while (!zero)
        sink++;
}

FAULT fault_sleep(const struct fault_site *site)
{
    struct timespec left = {.tv_sec = 3600};

    (void)site;
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        sink++;
}

FAULT fault_mutex(const struct fault_site *site)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    (void)site;
    pthread_mutex_lock(&lock);
    pthread_mutex_lock(&lock);
    STAY;
}

FAULT fault_rwlock(const struct fault_site *site)
{
    static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

    (void)site;
    pthread_rwlock_rdlock(&lock);
    pthread_rwlock_wrlock(&lock);
    STAY;
}

FAULT fault_condition(const struct fault_site *site)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

    (void)site;
    pthread_mutex_lock(&lock);
    while (!zero)
        pthread_cond_wait(&never, &lock);
    pthread_mutex_unlock(&lock);
}

FAULT fault_semaphore(const struct fault_site *site)
{
    static sem_t never;

    (void)site;
    while (!zero)
        sem_wait(&never);
}

/* ---- silent damage ------------------------------------------------------------------------ */

FAULT NO_SANITIZE fault_heap_corruption(const struct fault_site *site)
{
    char *volatile p = malloc(24);

    (void)site;
    for (size_t i = 0; i < 32 && p != NULL; i++)
        p[i] = 'A'; /* the last 8 are the size of the next chunk */
}

FAULT fault_close_fds(const struct fault_site *site)
{
    (void)site;
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
}

/* By putting something else in their place. */
FAULT fault_dup2_fds(const struct fault_site *site)
{
    int other = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)site;
    for (int fd = 3; fd < 1024; fd++)
        if (fd != other && fcntl(fd, F_GETFD) >= 0)
            dup2(other, fd);
    close(other);
}

FAULT fault_close_range(const struct fault_site *site)
{
    (void)site;
    close_range(3, ~0u, 0);
    closefrom(3);
}

FAULT fault_close_unseen(const struct fault_site *site)
{
    (void)site;
    for (int fd = 3; fd < 1024; fd++)
        syscall(SYS_close, fd);
}

static void die_in_own_handler(int signo)
{
    _exit(100 + signo);
}

FAULT fault_sigaction(const struct fault_site *site)
{
    struct sigaction sa = {.sa_handler = die_in_own_handler};

    (void)site;
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGABRT, &sa, NULL);
}

FAULT fault_sigmask(const struct fault_site *site)
{
    sigset_t all;

    (void)site;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
}

FAULT fault_altstack(const struct fault_site *site)
{
    stack_t none = {.ss_flags = SS_DISABLE};

    (void)site;
    sigaltstack(&none, NULL);
    STAY;
}

FAULT fault_leak(const struct fault_site *site)
{
    const size_t n = (size_t)1 << 20;
    volatile char *p = malloc(n);

    (void)site;
    for (size_t i = 0; p != NULL && i < n; i += 4096)
        p[i] = 1;
    sink = (uintptr_t)p;
}

FAULT fault_leak_fd(const struct fault_site *site)
{
    (void)site;
    sink = (size_t)open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void *wait_for_ever(void *arg)
{
    (void)arg;
    for (;;)
        pause();
    return NULL;
}

FAULT fault_leak_thread(const struct fault_site *site)
{
    pthread_t thread;

    (void)site;
    if (pthread_create(&thread, NULL, wait_for_ever, NULL) == 0)
        pthread_detach(thread);
}

/* ---- without end: until it is refused, again and again -------------------------------------- */

enum { HOARD_REFUSALS = 20, HOARD_MAX = 4096 };

FAULT fault_hoard(const struct fault_site *site)
{
    (void)site;
    for (int i = 0, refused = 0; i < HOARD_MAX && refused < HOARD_REFUSALS; i++) {
        volatile char *p = malloc((size_t)1 << 16);

        if (p == NULL)
            refused++;
        else
            p[0] = 1;
    }
}

FAULT fault_hoard_fd(const struct fault_site *site)
{
    (void)site;
    for (int i = 0, refused = 0; i < HOARD_MAX && refused < HOARD_REFUSALS; i++)
        refused += open("/dev/null", O_RDONLY | O_CLOEXEC) < 0;
}

FAULT fault_hoard_thread(const struct fault_site *site)
{
    pthread_t thread;

    (void)site;
    for (int i = 0, refused = 0; i < HOARD_MAX && refused < HOARD_REFUSALS; i++)
        refused += pthread_create(&thread, NULL, wait_for_ever, NULL) != 0;
}

/* ---- inside the host ---------------------------------------------------------------------- */

FAULT fault_bad_ptr_log(const struct fault_site *site)
{
    if (bh__h != NULL)
        bh__h->log(site->inst, BH_LOG_ERROR, fault_unmapped_page(), 100);
    STAY;
}

FAULT fault_bad_ptr(const struct fault_site *site)
{
    if (site->req != NULL)
        bh_header_set(site->req, BH_RESP, "X-Fault", bh_sn(fault_unmapped_page(), 100));
    else
        fault_bad_ptr_log(site);
    STAY;
}

FAULT fault_bad_ptr_reply(const struct fault_site *site)
{
    if (site->req != NULL)
        bh_reply_n(site->req, 200, "text/plain", fault_unmapped_page(), 100);
    else
        fault_bad_ptr_log(site);
    STAY;
}

/* Fine until the answer is being sent: the host reads the body after the hook has returned. */
FAULT fault_bad_ptr_reply_ref(const struct fault_site *site)
{
    if (site->req != NULL)
        bh_reply_ref(site->req, 200, "text/plain", fault_unmapped_page(), 100);
    else
        fault_bad_ptr_log(site);
    STAY;
}

FAULT fault_bad_req(const struct fault_site *site)
{
    (void)site;
    bh_resp_header(fault_unmapped_page(), "X-Fault", "1");
    STAY;
}

/* ---- inside libc -------------------------------------------------------------------------- */

/* Makes malloc() follow a pointer that leads nowhere: glibc's list of free chunks of a size ("tcache",
 * its links mangled since 2.32) is bent. Returns when malloc() does not work like that. */
FAULT NO_SANITIZE fault_malloc_fault(const struct fault_site *site)
{
    uintptr_t *volatile a = malloc(72);
    uintptr_t *volatile b = malloc(72);
    uintptr_t page = (uintptr_t)fault_unmapped_page();

    (void)site;
    free(a);
    free(b);
    *(volatile uintptr_t *)b = ((uintptr_t)b >> 12) ^ page; /* NOLINT: the point of it */
    for (int i = 0; i < 3; i++)
        sink = (uintptr_t)malloc(72);
}

/* Dies in free(), by glibc's own check. */
FAULT NO_SANITIZE fault_free_fault(const struct fault_site *site)
{
    char *volatile p = malloc(40);
    char *volatile q = (char *)((uintptr_t)p + 1);

    (void)site;
    free(q); /* NOLINT: the point of it */
    STAY;
}

FAULT fault_stdio_lock(const struct fault_site *site)
{
    (void)site;
    flockfile(stderr);
    *(volatile int *)nowhere = 1;
    funlockfile(stderr);
}

__attribute__((noinline)) static int fault_dl_iterate_callback(struct dl_phdr_info *info, size_t n,
                                                               void *arg)
{
    (void)info, (void)n, (void)arg;
    *(volatile int *)nowhere = 1;
    return 0;
}

FAULT fault_dl_iterate(const struct fault_site *site)
{
    (void)site;
    dl_iterate_phdr(fault_dl_iterate_callback, NULL);
    STAY;
}

__attribute__((noinline)) static int fault_qsort_comparator(const void *a, const void *b)
{
    sink = (uintptr_t)a ^ (uintptr_t)b;
    *(volatile int *)nowhere = 1;
    return 0;
}

FAULT fault_qsort(const struct fault_site *site)
{
    int numbers[] = {3, 1, 2};

    (void)site;
    qsort(numbers, 3, sizeof numbers[0], fault_qsort_comparator);
}

/* ---- the table ---------------------------------------------------------------------------- */

static const struct fault_kind kinds[] = {
    {"segv", 1, "writes to NULL", fault_segv_null},
    {"segv_addr", 1, "reads from an address that is not mapped", fault_segv_addr},
    {"segv_noncanonical", 1, "writes to an address that cannot exist", fault_segv_noncanonical},
    {"segv_text", 1, "writes to its own code", fault_segv_text},
    {"jump", 2, "calls a function at a bad address", fault_jump},
    {"bus", 3, "writes to a mapping whose file was truncated (SIGBUS)", fault_bus},
    {"fpe", 4, "divides by zero", fault_fpe},
    {"ill", 5, "executes an illegal instruction", fault_ill},
    {"trap", 5, "executes a breakpoint", fault_trap},
    {"abort", 6, "calls abort()", fault_abort},
    {"assert", 6, "fails an assert()", fault_assert},
    {"stack_smash", 6, "overruns a buffer on the stack; the stack protector notices",
     fault_stack_smash},
    {"fortify", 6, "overruns a buffer with memset(); fortify notices", fault_fortify},
    {"double_free", 6, "frees memory twice; the allocator notices", fault_double_free},
    {"free_fault", 6, "frees what was never allocated", fault_free_fault},
    {"overflow", 7, "recurses until the stack is used up", fault_overflow},
    {"bigframe", 7, "has a 64 MiB variable on the stack", fault_bigframe},
    {"exit", 9, "calls exit(41)", fault_exit},
    {"_exit", 9, "calls _exit(42)", fault__exit},
    {"quick_exit", 9, "calls quick_exit(43)", fault_quick_exit},
    {"exit_group", 10, "makes the exit_group system call", fault_exit_group},
    {"sigkill", 10, "sends itself SIGKILL", fault_sigkill},
    {"pthread_exit", 11, "calls pthread_exit()", fault_pthread_exit},
    {"cancel_self", 11, "cancels its own thread", fault_cancel_self},
    {"loop", 12, "loops for ever", fault_loop},
    {"sleep", 13, "blocks in a system call for an hour", fault_sleep},
    {"mutex", 14, "locks a mutex twice", fault_mutex},
    {"rwlock", 14, "waits for a lock that it has for reading to write", fault_rwlock},
    {"condition", 14, "waits for a condition that never comes", fault_condition},
    {"semaphore", 14, "waits for a semaphore that nobody posts", fault_semaphore},
    {"longjmp", 15, "jumps out with longjmp(), past the host's frames", fault_longjmp},
    {"longjmp_unseen", 15, "jumps out past the host's frames, not by libc's means",
     fault_longjmp_unseen},
    {"smash_return", 15, "returns to a bad address", fault_smash_return},
    {"smash_stack", 15, "overwrites the callers' frames, too", fault_smash_stack},
    {"heap_corruption", 16, "overruns a heap buffer, silently", fault_heap_corruption},
    {"close_fds", 17, "closes the host's file descriptors", fault_close_fds},
    {"dup2_fds", 17, "puts /dev/null in place of the host's file descriptors", fault_dup2_fds},
    {"close_range", 17, "closes all file descriptors at once", fault_close_range},
    {"close_unseen", 17, "closes the host's file descriptors by system calls", fault_close_unseen},
    {"sigaction", 18, "installs its own SIGSEGV and SIGABRT handlers", fault_sigaction},
    {"sigmask", 18, "blocks all signals", fault_sigmask},
    {"altstack", 18, "takes the alternate signal stack away", fault_altstack},
    {"leak", 19, "leaks 1 MiB of memory", fault_leak},
    {"leak_fd", 19, "leaks a file descriptor", fault_leak_fd},
    {"leak_thread", 19, "leaks a thread", fault_leak_thread},
    {"hoard", 19, "leaks memory until it gets no more (256 MiB at most)", fault_hoard},
    {"hoard_fd", 19, "leaks descriptors until it gets no more (4096 at most)", fault_hoard_fd},
    {"hoard_thread", 19, "leaks threads until it gets no more (4096 at most)", fault_hoard_thread},
    {"fork", 20, "forks; the child returns into the host", fault_fork},
    {"bad_ptr", 1, "passes a bad pointer to the host (a header's value)", fault_bad_ptr},
    {"bad_ptr_reply", 1, "passes a bad pointer to the host (a reply)", fault_bad_ptr_reply},
    {"bad_ptr_reply_ref", 1, "passes a bad pointer to the host, which reads it later",
     fault_bad_ptr_reply_ref},
    {"bad_ptr_log", 1, "passes a bad pointer to the host (a log line)", fault_bad_ptr_log},
    {"bad_req", 1, "passes something that is no request to the host", fault_bad_req},
    {"malloc_fault", 1, "faults inside malloc(), whose lists it has bent", fault_malloc_fault},
    {"stdio_lock", 1, "faults while it holds the lock of stderr", fault_stdio_lock},
    {"dl_iterate", 1, "faults in a dl_iterate_phdr() callback", fault_dl_iterate},
    {"qsort", 1, "faults in a comparator of qsort()", fault_qsort},
};

const struct fault_kind *fault_kind_find(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strlen(kinds[i].name) == n && memcmp(kinds[i].name, name, n) == 0)
            return &kinds[i];
    }
    return NULL;
}

const struct fault_kind *fault_kind_at(size_t i)
{
    return i < sizeof kinds / sizeof kinds[0] ? &kinds[i] : NULL;
}
