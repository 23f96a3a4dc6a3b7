#include "plugin/landing.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "plugin/recover.h"

_Atomic bool landing_place_was_moved, landing_is_due;

static int cwd = -1;
static mode_t file_mask;

void landing_init(void)
{
    file_mask = umask(022);
    umask(file_mask);
    cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* ---- clean-up handlers ---- */

/* libc's lists: of its own waits, and of pthread_cleanup_push(). Links in them lie on the stack, and
 * are dropped with it; a later longjmp() or pthread_exit() would call what stands there by then. */
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *b, void (*fn)(void *), void *arg);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *b, int execute);

static __thread struct _pthread_cleanup_buffer waits;
static __thread __pthread_unwind_buf_t pushed;

static void remember_cleanups(void)
{
    _pthread_cleanup_push(&waits, NULL, NULL);
    _pthread_cleanup_pop(&waits, 0);
    __pthread_register_cancel(&pushed);
    __pthread_unregister_cancel(&pushed);
}

static void forget_cleanups(void)
{
    _pthread_cleanup_pop(&waits, 0);
    __pthread_unregister_cancel(&pushed);
}

/* ---- the stack ---- */

/* Everything below this frame is dead. Not all of it is mapped, of a process's first stack: the kernel
 * then says so, and gives back the rest. */
static void give_back_stack(struct recover_thread *t)
{
    uintptr_t lo = ((uintptr_t)t->stack_lo + SHM_PAGE - 1) & ~(uintptr_t)(SHM_PAGE - 1);
    uintptr_t hi = ((uintptr_t)__builtin_frame_address(0) - LANDING_DEEP / 2) &
                   ~(uintptr_t)(SHM_PAGE - 1);

    t->is_deep = false;
    if (hi > lo)
        madvise((void *)lo, hi - lo, MADV_DONTNEED);
}

/* ---- all of it ---- */

void landing_thread_init(void)
{
    struct recover_thread *t = &recover_self;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    remember_cleanups();
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &t->signal_mask, sizeof t->signal_mask);
}

/* What belongs to the process costs a system call each, so only when somebody has touched it: a
 * plugin by the functions of interpose_place.c. What goes round those (nftw(), say) is found at the
 * end of the loop's turn. */
static void put_place_back(void)
{
    umask(file_mask);
    if (cwd >= 0 && fchdir(cwd) < 0)
        errno = 0; /* the directory is gone: nothing here depends on it */
}

void landing_settle_slow(void)
{
    atomic_store_explicit(&landing_is_due, false, memory_order_relaxed);
    put_place_back();
}

void recover_landed(void)
{
    struct recover_thread *t = &recover_self;
    uint32_t mxcsr = 0x1f80; /* round to nearest, no exception unmasked */
    stack_t ss = {.ss_sp = (char *)t->alt_stack + SHM_PAGE, .ss_size = LANDING_ALT_STACK_SIZE};

    __asm__ volatile("fninit; ldmxcsr %0; cld" : : "m"(mxcsr) : "memory");
    uselocale(LC_GLOBAL_LOCALE);
    if (atomic_load_explicit(&landing_place_was_moved, memory_order_relaxed)) {
        atomic_store_explicit(&landing_place_was_moved, false, memory_order_relaxed);
        put_place_back();
    }
    atomic_store_explicit(&landing_is_due, true, memory_order_relaxed);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL); /* libc's waits are asynchronous */
    forget_cleanups();
    if (!t->has_alt_stack) /* the handler told */
        syscall(SYS_sigaltstack, &ss, NULL);
    t->has_alt_stack = false;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &t->signal_mask, NULL, sizeof t->signal_mask);
    if (t->is_deep)
        give_back_stack(t);
    errno = 0;
}
