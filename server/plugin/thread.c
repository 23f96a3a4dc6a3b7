#include "plugin/thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include "base/urgency.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/boundary.h"
#include "plugin/eject.h"
#include "plugin/heap.h"
#include "plugin/recover.h"
#include "plugin/text.h"

/* Refusals in a row, none of its threads having ended in between: it leaks them. */
#define REFUSALS_MAX 16

/* From its creation until libc has called the last destructor. */
struct plugin_thread {
    void *(*fn)(void *);
    void *arg; /* of fn; this, when one of the following is to be called */
    int (*fn_c11)(void *);
    void *arg_c11;
    void (*fn_timer)(union sigval);
    union sigval value;
    uint32_t plugin;
    struct heap *heap; /* of the incarnation that started it; NULL: libc's */
    int rounds;        /* of destructors */
    struct shm_thread *shown;
    struct shm_call call; /* when it is not shown */
};

static struct {
    const struct config *cfg;
    struct shm_worker *shared;
    _Atomic(const void *) fn[SHM_THREADS]; /* that those began in which are shown */
    pthread_once_t once;
    pthread_key_t key;
    int n_hosts; /* made while this process yields, and do not */
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int (*thrd_create)(thrd_t *, thrd_start_t, void *);
    struct {
        _Atomic uint32_t n, n_refused;
        _Atomic bool is_told, has_why;
        char why[128]; /* of its ejection */
    } of[CONFIG_MAX_PLUGINS + 1];
} threads = {.once = PTHREAD_ONCE_INIT};

static __thread struct plugin_thread *self __attribute__((tls_model("initial-exec")));

static void last_destructor(void *arg);

static void init_once(void)
{
    /* In the executable, "next" is libc, or a sanitizer, which wants to know of threads. */
    *(void **)&threads.pthread_create = dlsym(RTLD_NEXT, "pthread_create");
    *(void **)&threads.thrd_create = dlsym(RTLD_NEXT, "thrd_create");
    if (pthread_key_create(&threads.key, last_destructor) != 0)
        abort(); /* 1,024 of them are taken already, before any plugin is there */
}

void thread_init(const struct config *cfg, struct shm_worker *shared)
{
    pthread_once(&threads.once, init_once);
    threads.cfg = cfg;
    threads.shared = shared;
    for (int i = 0; i < SHM_THREADS; i++) /* a predecessor's; pages that are clean stay so */
        if (atomic_load_explicit(&shared->thread[i].tid, memory_order_relaxed) != 0)
            atomic_store(&shared->thread[i].tid, 0);
}

/* ---- where a thread is shown ---- */

struct shm_thread *thread_show(uint32_t plugin)
{
    int32_t tid = gettid();

    for (int i = 0; threads.shared != NULL && i < SHM_THREADS; i++) {
        struct shm_thread *s = &threads.shared->thread[i];
        int32_t nobody = 0;

        if (!atomic_compare_exchange_strong(&s->tid, &nobody, tid))
            continue;
        atomic_store(&s->call.plugin, 0);
        atomic_store(&s->call.fd, -1);
        atomic_store(&s->plugin, plugin);
        return s;
    }
    return NULL;
}

bool thread_is_shown(int32_t tid)
{
    for (int i = 0; threads.shared != NULL && i < SHM_THREADS; i++)
        if (atomic_load(&threads.shared->thread[i].tid) == tid)
            return true;
    return false;
}

void thread_hide(struct shm_thread *shown)
{
    if (shown == NULL)
        return;
    atomic_store(&shown->plugin, 0);
    atomic_store(&shown->call.plugin, 0);
    atomic_store(&shown->tid, 0);
}

/* ---- whose it is, and how many ---- */

uint32_t thread_creator(const void *caller)
{
    const struct recover_thread *t = &recover_self;

    if (t->is_child_of_fork)
        return 0;
    if (t->call != NULL && (t->top != NULL || atomic_load(&t->call->hook) == HOOK_LOAD)) {
        uint32_t plugin = atomic_load(&t->call->plugin);

        if (plugin != 0)
            return plugin;
    }
    return text_owner((uintptr_t)caller);
}

static bool count(uint32_t plugin)
{
    uint32_t most, n = atomic_fetch_add(&threads.of[plugin].n, 1);

    if (threads.cfg == NULL || plugin > (uint32_t)threads.cfg->n_plugins)
        return true;
    most = threads.cfg->plugin[plugin - 1].threads;
    if (n < most)
        return true;
    atomic_fetch_sub(&threads.of[plugin].n, 1);
    if (!atomic_exchange(&threads.of[plugin].is_told, true))
        log_warn("plugin '%s' has as many threads as it may, %u: it gets no more (EAGAIN); "
                 "plugins.%s.threads is the limit",
                 threads.cfg->plugin[plugin - 1].name, most, threads.cfg->plugin[plugin - 1].name);
    if (atomic_fetch_add(&threads.of[plugin].n_refused, 1) + 1 == REFUSALS_MAX)
        eject(plugin, "it starts ever more threads, and none of them ends");
    return false;
}

static void discount(uint32_t plugin)
{
    atomic_store(&threads.of[plugin].n_refused, 0);
    atomic_fetch_sub(&threads.of[plugin].n, 1);
}

uint32_t thread_count(uint32_t plugin)
{
    return atomic_load(&threads.of[plugin].n);
}

const void *thread_function(uint32_t plugin)
{
    for (int i = 0; threads.shared != NULL && i < SHM_THREADS; i++)
        if (atomic_load(&threads.shared->thread[i].plugin) == plugin)
            return atomic_load(&threads.fn[i]);
    return NULL;
}

/* NULL: no memory, or as many threads as it may have. */
static struct plugin_thread *prepare(uint32_t plugin, struct heap *heap)
{
    struct plugin_thread *p;

    pthread_once(&threads.once, init_once);
    if (plugin > CONFIG_MAX_PLUGINS || !count(plugin))
        return NULL;
    p = calloc(1, sizeof *p);
    if (p == NULL) {
        discount(plugin);
        return NULL;
    }
    p->plugin = plugin;
    atomic_store(&p->call.fd, -1);
    p->heap = heap;
    heap_pin(p->heap);
    return p;
}

/* Of the incarnation whose call starts a thread. A constructor has none. */
static struct heap *heap_here(void)
{
    return recover_is_armed() ? recover_self.heap : NULL;
}

static void dispose(struct plugin_thread *p)
{
    thread_hide(p->shown);
    heap_unpin(p->heap);
    discount(p->plugin);
    free(p);
}

/* ---- its life ---- */

static void *call_c11(void *arg);
static void *call_timer(void *arg);

static const void *first_function(const struct plugin_thread *p)
{
    if (p->fn == call_c11)
        return *(const void *const *)&p->fn_c11;
    return p->fn == call_timer ? *(const void *const *)&p->fn_timer : *(const void *const *)&p->fn;
}

static void begin(struct plugin_thread *p)
{
    sigset_t set;

    self = p;
    pthread_setspecific(threads.key, p); /* one of the first 32 keys needs no memory */
    /* Its creator may have blocked everything, and libc nothing (in a timer's thread). */
    recover_signals(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    p->shown = thread_show(p->plugin);
    if (p->shown != NULL)
        atomic_store(&threads.fn[p->shown - threads.shared->thread], first_function(p));
    recover_use_heap(p->heap);
    /* It fails when there is no memory for an alternate stack. The thread then runs as it would
     * without us, and its crash is the worker's. */
    recover_self.is_plugins = recover_thread_init(p->shown != NULL ? &p->shown->call : &p->call) ==
                              0;
    if (!recover_self.is_plugins)
        recover_self.call = NULL;
}

/* After the last destructor. A crash of what may still come ends the worker. */
static void finish(struct plugin_thread *p)
{
    recover_self.top = NULL;
    recover_self.call = NULL;
    recover_self.is_plugins = false;
    recover_thread_fini();
    self = NULL;
    dispose(p);
}

static void last_destructor(void *arg)
{
    struct plugin_thread *p = arg;

    if (++p->rounds < PTHREAD_DESTRUCTOR_ITERATIONS && pthread_setspecific(threads.key, p) == 0)
        return; /* there may be a round after this one */
    finish(p);
}

static const char *describe_crash(uint32_t plugin)
{
    const struct recover_fault *fault = &recover_self.fault;
    char *why = threads.of[plugin].why, how[48];

    if (atomic_exchange(&threads.of[plugin].has_why, true))
        return "a thread of its own crashed"; /* not the first: nobody reads it */
    if (fault->signo != 0)
        snprintf(how, sizeof how, "crashed with SIG%s", sigabbrev_np(fault->signo));
    else
        snprintf(how, sizeof how, "called %s()", fault->kind);
    snprintf(why, sizeof threads.of[plugin].why, "a thread of its own %s; crash record %s", how,
             fault->record_id[0] != '\0' ? fault->record_id : "not written, too many at once");
    return why;
}

/* The loop logs it: this thread's stack may be small. */
static void report_crash(uint32_t plugin)
{
    struct recover_fault *fault = &recover_self.fault;
    const char *why = describe_crash(plugin);

    if (fault->record != NULL)
        recover_record_done(fault->record);
    fault->record = NULL;
    eject(plugin, why);
}

/* Or the next thread that gets this one's stack would find them, and destroy them at its end. */
static void forget_specifics(void)
{
    for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++)
        if (pthread_getspecific(key) != NULL)
            pthread_setspecific(key, NULL);
}

/*
 * A destructor crashed that libc called. There is no frame of ours below libc's, so the thread ends
 * here by the bare system call. That is sound: libc holds no lock while it calls destructors, the
 * kernel wakes who joins it and who waits for its robust mutexes. Lost are the destructors that were
 * to follow, libc's cache of free chunks for this thread, and, when it was detached, its stack. The
 * worker is replaced anyhow.
 */
static void end_by_crash(void)
{
    struct plugin_thread *p = self;

    recover_landed();
    report_crash(p->plugin);
    finish(p);
    forget_specifics();
    for (;;)
        syscall(SYS_exit, 0);
}

/* Runs when the function has returned, and after pthread_exit() and cancellation. */
static void leave(void *arg)
{
    const struct plugin_thread *p = arg;

    if (recover_self.is_child_of_fork)
        _exit(0); /* it came back into the host */
    if (recover_self.is_plugins)
        recover_arm_end(p->plugin, HOOK_THREAD, end_by_crash);
}

static void *run(void *arg)
{
    struct plugin_thread *p = arg;
    void *volatile result = PTHREAD_CANCELED; /* cleanup_push is a setjmp() */
    void *value;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    begin(p);
    pthread_cleanup_push(leave, p);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    if (!recover_self.is_plugins) {
        result = p->fn(p->arg);
    } else if (boundary_thread(p->plugin, p->fn, p->arg, &value)) {
        result = value;
    } else {
        report_crash(p->plugin);
    }
    pthread_cleanup_pop(1);
    return result;
}

/* ---- starting them ---- */

int thread_create(uint32_t plugin, pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                  void *arg)
{
    struct plugin_thread *p;
    int r;

    if (plugin == 0) {
        pthread_once(&threads.once, init_once);
        return threads.pthread_create(out, attr, fn, arg);
    }
    /* Bad pointers fault here, and not where libc holds a lock. */
    *(volatile pthread_t *)out = 0;
    if (attr != NULL)
        (void)*(const volatile char *)attr;
    recover_critical_enter();
    p = prepare(plugin, heap_here());
    if (p == NULL) {
        r = EAGAIN;
    } else {
        p->fn = fn;
        p->arg = arg;
        r = threads.pthread_create(out, attr, run, p);
        if (r != 0)
            dispose(p);
    }
    recover_critical_leave();
    return r;
}

static void *call_c11(void *arg)
{
    const struct plugin_thread *p = arg;

    return (void *)(intptr_t)p->fn_c11(p->arg_c11);
}

static int run_c11(void *arg)
{
    return (int)(intptr_t)run(arg);
}

int thread_create_c11(uint32_t plugin, pthread_t *out, int (*fn)(void *), void *arg)
{
    struct plugin_thread *p;
    int r = thrd_error;

    if (plugin == 0) {
        pthread_once(&threads.once, init_once);
        return threads.thrd_create(out, fn, arg);
    }
    *(volatile pthread_t *)out = 0;
    recover_critical_enter();
    p = prepare(plugin, heap_here());
    if (p != NULL) {
        p->fn = call_c11;
        p->arg = p;
        p->fn_c11 = fn;
        p->arg_c11 = arg;
        r = threads.thrd_create(out, run_c11, p);
        if (r != thrd_success)
            dispose(p);
    }
    recover_critical_leave();
    return r;
}

static void *call_timer(void *arg)
{
    const struct plugin_thread *p = arg;

    p->fn_timer(p->value);
    return NULL;
}

void thread_run_timer(uint32_t plugin, struct heap *heap, void (*fn)(union sigval),
                      union sigval value)
{
    struct plugin_thread *p = prepare(plugin, heap);

    if (p == NULL)
        return; /* as if the timer had overrun */
    p->fn = call_timer;
    p->arg = p;
    p->fn_timer = fn;
    p->value = value;
    run(p);
}

/* ---- the host's own ---- */

struct hosts_thread {
    char name[16];
    void *(*fn)(void *);
    void *arg;
};

/* Its name is set by the thread itself: pthread_setname_np() for another one opens a file below
 * /proc/PID/task. The kernel throws such an entry away when the thread ends, and again when the process
 * does, and whoever comes second spins until the first one, which may be waiting for that very CPU, is
 * done: milliseconds of a master that collects its children. */
static void *begin_hosts(void *arg)
{
    struct hosts_thread h = *(struct hosts_thread *)arg;

    free(arg);
    prctl(PR_SET_NAME, h.name);
    urgency_thread_be_usual();
    return h.fn(h.arg);
}

/* One of the host's does not yield with the thread that makes it: what plugins do in open() is watched in
 * time, and whoever comes back has fewer threads to look for. */
static int create_hosts(pthread_t *thread, struct hosts_thread *h)
{
    pthread_attr_t attr;
    int r = EPERM;

    if (urgency_has_yielded() && pthread_attr_init(&attr) == 0) {
        pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
        pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
        r = threads.pthread_create(thread, &attr, begin_hosts, h);
        pthread_attr_destroy(&attr);
        threads.n_hosts += r == 0;
    }
    return r != EPERM ? r : threads.pthread_create(thread, NULL, begin_hosts, h);
}

void thread_restore_urgency(void)
{
    pid_t tid[SHM_THREADS];
    int n = 0;

    for (int i = 0; threads.shared != NULL && i < SHM_THREADS; i++) {
        int32_t shown = atomic_load(&threads.shared->thread[i].tid);

        if (shown != 0)
            tid[n++] = shown;
    }
    urgency_return(tid, n, threads.n_hosts);
}

int thread_start(const char *name, void *(*fn)(void *), void *arg)
{
    struct hosts_thread *h = malloc(sizeof *h);
    sigset_t set, faults, old;
    pthread_t thread;
    int r;

    if (h == NULL)
        return -ENOMEM;
    snprintf(h->name, sizeof h->name, "%s", name);
    h->fn = fn;
    h->arg = arg;
    pthread_once(&threads.once, init_once);
    sigfillset(&set);
    recover_signals(&faults);
    for (int signo = 1; signo < NSIG; signo++)
        if (sigismember(&faults, signo) == 1)
            sigdelset(&set, signo);
    pthread_sigmask(SIG_SETMASK, &set, &old);
    r = create_hosts(&thread, h);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r != 0) {
        free(h);
        return -r;
    }
    pthread_detach(thread);
    return 0;
}
