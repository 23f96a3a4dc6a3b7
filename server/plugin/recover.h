/*
 * recover.h - the recovery boundary: a plugin call that crashes ends, and nothing else does.
 *
 * How it works. Each call into a plugin is made by boundary_call() (boundary.h), whose stack frame is
 * a struct recover_frame, and which arms it. The handler of a fault signal finds the armed frame,
 * judges where it struck, writes the raw crash record into shared memory, and jumps out of the handler
 * to the boundary's landing. No signal mask is saved on entry: recover_landed() sets it as it was when
 * the thread began. Functions that would end the thread or process (exit, abort, pthread_exit, a
 * failed assert) are interposed (interpose_*.c) and land the same way, without a signal.
 *
 * What a newcomer would get wrong: this module is the only one that has handlers for fault signals
 * and the only one that jumps. Between arming and landing no host state may be half changed: host
 * functions copy what a plugin passes before they change anything, and what must not be cut in two
 * stands between recover_critical_enter() and _leave().
 *
 * A thread that a plugin started (thread.h) has one boundary around all of it. A crash ends the
 * thread, and the plugin is taken out of the worker (eject.h): Q.
 *
 * Verdicts. R: jump. Q: jump, and the plugin is taken out of the worker, as it crashed in a thread of
 * its own, or waits for a lock that nobody gives back. X: the process writes a record, stands still
 * until the master has taken its connections (park.h), and dies (allocator or stdio lock held, host in
 * a critical section, no armed frame, or a frame that is not on this thread's live stack).
 */
#ifndef PLUGIN_RECOVER_H
#define PLUGIN_RECOVER_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/shm.h"
#include "plugin/hook.h"

struct heap;

/* One armed call: all of boundary_call()'s stack frame, so that its address is the stack pointer to
 * come back to. Above it are the caller's frame pointer and the return address. boundary.c has its
 * layout as numbers. */
struct recover_frame {
    const void *guard;                /* boundary_landing; else it was overwritten */
    uint64_t rbx, r12, r13, r14, r15; /* the caller's, loaded by the landing */
    struct recover_frame *prev;
    uint32_t depth; /* of the thread when armed */
    struct {
        _Alignas(8) uint32_t plugin;
        uint32_t hook;
    } outer;         /* with prev: published again when this call ends */
    uint64_t unused; /* the stack stays aligned */
};

/* What is known of a fault after landing. Valid until the next one on this thread. */
struct recover_fault {
    int signo; /* 0: kind tells */
    bool is_deadline;
    char kind[32];
    struct shm_crash *record; /* to be completed with recover_record_done(); NULL: folded */
    char record_id[40];       /* of the record, or of the one it was folded into; may be empty */
    uint64_t place;           /* tells equal crashes from others, in all workers alike */
};

/* Depth counters, packed; one load tells the handler that nothing is held. */
#define RECOVER_ALLOC 0x00000001u /* in the allocator */
#define RECOVER_LIBC  0x00000100u /* in libc, holding a lock (stdio, loader list) */
#define RECOVER_HOST  0x00010000u /* in a critical section of the host */

/* Is a plugin call in a function that waits for a lock? interpose_wait.c */
enum recover_waits { RECOVER_WAITS_NOT, RECOVER_WAITS_IN_FUTEX, RECOVER_WAITS_SPINNING };

struct recover_thread {
    /* These three first: boundary.c has their places as numbers. */
    struct recover_frame *top; /* NULL: not armed */
    uint32_t depth;
    struct shm_call *call; /* where attribution is published */
    enum recover_waits waits;
    bool is_child_of_fork;
    bool is_plugins;      /* a thread that a plugin started: thread.h */
    bool is_deep;         /* what crashed had used much of the stack: landing.c gives it back */
    bool has_alt_stack;   /* the handler that landed ran on it: the kernel still has it */
    struct heap *heap;    /* of the incarnation that is called: what the plugin allocates */
    struct heap *in_heap; /* inside which this thread is just now: heap.h */
    char *stack_lo, *stack_hi;
    void *alt_stack;
    uint64_t signal_mask; /* the kernel's form; what a crash is left with */
    struct recover_fault fault;
    char message[256];      /* of a failed assert and the like */
    uint32_t last_words_of; /* the call that it is of: last_words.h */
    /* Armed when the function of a plugin's thread has ended, while libc calls destructors: there is
     * no frame to come back to, a crash ends the thread through at_end(). See recover_arm_end(). */
    struct recover_frame end;
    void (*at_end)(void); /* does not return */
    char *end_sp;         /* below this */
};

extern __thread struct recover_thread recover_self __attribute__((tls_model("initial-exec")));

/* Whoever will fork processes that call recover_init() may do once what is the same in all of them: it
 * takes most of its time. */
void recover_prepare(void);

/* Once per process, before any plugin is loaded. worker: whose slots take crash records; -1: none are
 * kept (preflight). 0 or -errno. */
int recover_init(struct shm *shm, int worker);

/* Is this one, and not a trial run of the plugins? */
bool recover_is_worker(void);

/* The signal that makes a thread ask park.h whether to stand still. */
int recover_stop_signal(void);

/* Once per thread that will call plugins: alternate stack, stack bounds, the signal mask of this
 * moment. call: where this thread publishes attribution. 0 or -errno. */
int recover_thread_init(struct shm_call *call);
void recover_thread_fini(void);

/* What the plugin allocates in calls that this thread makes from now on comes from there; NULL: libc's. */
static inline void recover_use_heap(struct heap *h)
{
    recover_self.heap = h;
}

/* From here on nothing returns into this thread's code: a crash that could be left calls at_end() on
 * this stack, below the caller's frame. plugin, hook: whom to charge. */
void recover_arm_end(uint32_t plugin, enum hook hook, void (*at_end)(void));

/* What must never be blocked where a plugin's code runs: fault signals, the deadline signal. */
void recover_signals(sigset_t *out);

/* Text of a plugin object (text.h), a new snapshot of all loaded objects for the symboliser, and
 * the signals as they were before its constructors. After each dlopen. plugin: index + 1 of its
 * first instance. */
void recover_add_object(const char *path, uint32_t plugin);

/* Called by interposed exit() and the like, on a thread that is armed: never returns then. */
__attribute__((noreturn)) void recover_raise(const char *kind, int signo);
/* The same from a thread that went round pthread_create() and so has no boundary: an X record. */
void recover_note_thread(const char *kind, uint32_t plugin);

/* The host cannot go on because of what a plugin did earlier (closed a descriptor, say): the death
 * of this process that follows is charged to it. */
void recover_blame(uint32_t plugin, uint32_t hook);

/* Sends the deadline signal for call number seq to the loop thread. last: no further try will
 * follow; what cannot be recovered ends the process. */
void recover_deadline(int tid, uint32_t seq, bool last);

/* After landing: sets right what a crash may have left behind (errno, rounding, mask, cwd ...). */
void recover_landed(void);

/* Hands the completed record to the recorder. */
void recover_record_done(struct shm_crash *record);

static inline bool recover_is_armed(void)
{
    return recover_self.top != NULL;
}

static inline void recover_critical_enter(void)
{
    recover_self.depth += RECOVER_HOST;
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void recover_critical_leave(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    recover_self.depth -= RECOVER_HOST;
}

/* ---- for those who publish without a boundary ---- */

/* The sequence number: one writer, so no locked instruction is needed. */
static inline void recover_next_call(struct shm_call *call)
{
    atomic_store_explicit(&call->seq, atomic_load_explicit(&call->seq, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static inline void recover_publish(struct shm_call *call, uint32_t plugin, uint32_t hook)
{
    atomic_store_explicit(&call->hook, hook, memory_order_relaxed);
    atomic_store_explicit(&call->plugin, plugin, memory_order_relaxed);
}

/* ---- used by boundary.c alone ---- */

/* f: whose call returned though it is not the one that was armed last. */
__attribute__((cold, noreturn)) void recover_out_of_order(struct recover_frame *f);

#endif
