#include "worker/offload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/boundary.h"
#include "plugin/heap.h"
#include "plugin/instance.h"
#include "plugin/recover.h"
#include "plugin/remains.h"
#include "plugin/request.h"
#include "plugin/thread.h"
#include "worker/async.h"
#include "worker/watchdog.h"

struct job {
    struct job *next;
    int32_t (*work)(void *);
    void *arg;
    bh_inst *inst;
    struct heap
        *heap; /* of the request's incarnation; pinned: the request may end before the job */
    bh_ticket *ticket;
    uint64_t use;
    int fd; /* of the client whose request it is for */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job *first, **last;
    int n_jobs, n_threads, n_idle;
    const struct shm_call *loop;
    pthread_key_t key;                     /* of on_end() */
    struct shm_call call[OFFLOAD_THREADS]; /* of those that are not shown: SHM_THREADS */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .last = &pool.first};

/* A thread of the pool never ends, unless a job jumps out of it by hand. */
static void on_end(void *arg)
{
    (void)arg;
    recover_out_of_order(NULL);
}

static void *serve(void *arg)
{
    struct shm_thread *shown = thread_show(0);
    struct shm_call *call = shown != NULL ? &shown->call : arg;

    if (recover_thread_init(call) < 0) {
        pthread_mutex_lock(&pool.lock);
        pool.n_threads--; /* the next job tries to have one again */
        pthread_mutex_unlock(&pool.lock);
        return NULL;
    }
    pthread_setspecific(pool.key, call);
    watchdog_add(call);
    for (;;) {
        struct job *job;
        int32_t verdict = BH_FAIL;
        bool came_back;

        pthread_mutex_lock(&pool.lock);
        pool.n_idle++;
        while (pool.first == NULL)
            pthread_cond_wait(&pool.more, &pool.lock);
        pool.n_idle--;
        job = pool.first;
        pool.first = job->next;
        if (pool.first == NULL)
            pool.last = &pool.first;
        pool.n_jobs--;
        pthread_mutex_unlock(&pool.lock);

        async_runs_in(job->ticket, job->use, call, job->fd);
        recover_use_heap(job->heap);
        metrics_add_shared(&job->inst->meter->calls[HOOK_OFFLOAD], 1);
        came_back = boundary_work(job->inst->id, job->work, job->arg, &verdict);
        remains_of_thread(job->heap);
        heap_unpin(job->heap);
        if (came_back)
            async_fire(job->ticket, job->use, verdict == BH_PAUSE ? BH_FAIL : verdict, NULL, NULL);
        else
            async_fire(job->ticket, job->use, BH_FAIL, job->inst, &recover_self.fault);
        if (recover_is_armed())
            recover_out_of_order(NULL);
        async_ran(job->ticket, call);
        atomic_fetch_sub(&job->inst->n_jobs, 1); /* from here on it may be gone */
        free(job);
    }
}

/* Called with the lock. */
static void start_thread(void)
{
    char name[24];

    snprintf(name, sizeof name, "offload %d", pool.n_threads);
    if (thread_start(name, serve, &pool.call[pool.n_threads]) == 0)
        pool.n_threads++;
    else
        log_warn("cannot start an offload thread; jobs wait for the %d there are", pool.n_threads);
}

static bh_rc host_offload(bh_req *req, int32_t (*work)(void *), void *arg)
{
    const struct entry *e;
    struct job *job;
    bh_ticket *ticket;
    bh_rc r = BH_OK;

    if (!request_is(req) || work == NULL)
        return BH_EINVAL;
    ticket = async_ticket(req, 0);
    if (ticket == NULL)
        return BH_EPHASE;
    e = &req->entry[req->at];
    recover_critical_enter(); /* a lock is held: no fault in here can be left */
    job = malloc(sizeof *job);
    if (job == NULL) {
        r = BH_ENOMEM;
    } else {
        *job = (struct job){NULL,
                            work,
                            arg,
                            e->inst,
                            e->inc != NULL ? e->inc->heap : NULL,
                            ticket,
                            async_use(ticket),
                            atomic_load(&pool.loop->fd)};
        heap_pin(job->heap);
        pthread_mutex_lock(&pool.lock);
        if (pool.n_jobs >= OFFLOAD_MAX) {
            r = BH_EAGAIN;
        } else {
            if (pool.n_idle <= pool.n_jobs && pool.n_threads < OFFLOAD_THREADS)
                start_thread();
            if (pool.n_threads == 0) {
                r = BH_ENOMEM;
            } else {
                *pool.last = job;
                pool.last = &job->next;
                pool.n_jobs++;
                atomic_fetch_add(&job->inst->n_jobs, 1);
                pthread_cond_signal(&pool.more);
            }
        }
        pthread_mutex_unlock(&pool.lock);
    }
    if (r != BH_OK) {
        if (job != NULL)
            heap_unpin(job->heap);
        free(job);
        async_forget(req->up);
    }
    recover_critical_leave();
    return r;
}

void offload_init(bh_host *h, const struct shm_call *loop)
{
    pool.loop = loop;
    must(pthread_key_create(&pool.key, on_end) == 0); /* no plugin has taken any yet */
    h->offload = host_offload;
}
