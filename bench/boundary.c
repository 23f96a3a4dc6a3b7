/*
 * boundary.c - what the recovery boundary costs: a guarded call over a plain one, and the way from a
 * fault back to the host; and what it costs a request to be held to the version of a plugin that it
 * has begun with.
 *
 * A difference of a few nanoseconds drowns in the drift of the clock frequency, so batches of plain
 * and guarded calls alternate, the difference is taken within each pair, and the median of many
 * pairs is shown. Both sides call through a pointer that the compiler cannot see through, as the
 * chain does.
 */
#include <bulkhead.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ipc/shm.h"
#include "plugin/boundary.h"
#include "plugin/instance.h"
#include "plugin/recover.h"

/* link: @interpose */

enum { BATCH = 4096, PAIRS = 2001, FAULTS = 20001, WARM_UP = 200 };

static hook_fn *volatile hook; /* volatile: an indirect call each time, as through a descriptor */

static bh_rc returns_at_once(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return BH_CONTINUE;
}

static int *volatile nowhere;

static bh_rc writes_to_null(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    *nowhere = 1;
    return BH_CONTINUE;
}

static bh_rc aborts(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    abort();
}

/* As the chain calls a hook, and as it lets go of the crash record. */
static bool guarded_call(void)
{
    bh_rc rc;

    if (boundary_hook(1, HOOK_REQUEST, hook, NULL, NULL, NULL, &rc))
        return true;
    if (recover_self.fault.record != NULL)
        recover_record_done(recover_self.fault.record);
    return false;
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double plain_batch_ns(void)
{
    double start = now_ns();

    for (int i = 0; i < BATCH; i++)
        (void)hook(NULL, NULL, NULL);
    return (now_ns() - start) / BATCH;
}

static double guarded_batch_ns(void)
{
    double start = now_ns();

    for (int i = 0; i < BATCH; i++)
        (void)guarded_call();
    return (now_ns() - start) / BATCH;
}

/* As chain_enter() and the end of a request do, for each plugin. To its generation a request is held by
 * being in that process, which costs nothing. */
static double pin_batch_ns(void)
{
    static struct incarnation version = {.refs = 1};
    static bh_inst inst = {.current = &version};
    static bh_inst *volatile entered = &inst;
    double start = now_ns();

    for (int i = 0; i < BATCH; i++) {
        struct incarnation *pinned = incarnation_get(entered);

        __asm__ volatile("" : "+r"(pinned) : : "memory"); /* the request comes in between */
        incarnation_put(pinned);
    }
    return (now_ns() - start) / BATCH;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts v. */
static double percentile(double *v, size_t n, unsigned percent)
{
    qsort(v, n, sizeof *v, ascending);
    return v[(n - 1) * percent / 100];
}

static void measure_call(void)
{
    static double plain[PAIRS];
    static double guarded[PAIRS];
    static double over[PAIRS];

    hook = returns_at_once;
    for (int i = 0; i < WARM_UP; i++) {
        (void)plain_batch_ns();
        (void)guarded_batch_ns();
    }
    for (int i = 0; i < PAIRS; i++) {
        if (i % 2 == 0) { /* whoever comes second has the warmer caches: take turns */
            plain[i] = plain_batch_ns();
            guarded[i] = guarded_batch_ns();
        } else {
            guarded[i] = guarded_batch_ns();
            plain[i] = plain_batch_ns();
        }
        over[i] = guarded[i] - plain[i];
    }
    printf("plain indirect call        %7.2f ns\n", percentile(plain, PAIRS, 50));
    printf("guarded call               %7.2f ns\n", percentile(guarded, PAIRS, 50));
    printf("boundary over plain call   %7.2f ns   (10%%: %.2f, 90%%: %.2f; target <= 4 ns)\n",
           percentile(over, PAIRS, 50), percentile(over, PAIRS, 10), percentile(over, PAIRS, 90));
}

static void measure_pin(void)
{
    static double took[PAIRS];

    for (int i = 0; i < WARM_UP; i++)
        (void)pin_batch_ns();
    for (int i = 0; i < PAIRS; i++)
        took[i] = pin_batch_ns();
    printf("pin and unpin of a version %7.2f ns   (10%%: %.2f, 90%%: %.2f; target <= 10 ns)\n",
           percentile(took, PAIRS, 50), took[(PAIRS - 1) / 10], took[(PAIRS - 1) * 9 / 10]);
}

/* False when a call that must fault came back as if it had not. */
static bool measure_fault(const char *name, hook_fn *faulty, const char *target)
{
    static double took[FAULTS];

    hook = faulty;
    for (int i = -WARM_UP; i < FAULTS; i++) {
        double start = now_ns();

        if (guarded_call()) {
            fprintf(stderr, "boundary: %s: the call was not stopped\n", name);
            return false;
        }
        if (i >= 0)
            took[i] = (now_ns() - start) / 1000;
    }
    printf("%-26s %7.2f us   (99%%: %.2f%s)\n", name, percentile(took, FAULTS, 50),
           percentile(took, FAULTS, 99), target);
    return true;
}

/* What a worker does before it loads plugins. */
static int set_up(struct shm **out)
{
    int r = shm_create(1, 1, out);

    if (r == 0)
        r = recover_init(*out, 0);
    if (r == 0)
        recover_add_object("", 1); /* this program's own code counts as that of plugin 1 */
    return r;
}

int main(void)
{
    struct shm *shm = NULL;
    int r = set_up(&shm);

    if (r < 0) {
        fprintf(stderr, "boundary: set-up: %s\n", strerror(-r));
        return 1;
    }
    measure_call();
    measure_pin();
    if (!measure_fault("write to NULL, recovered", writes_to_null, "; target <= 4 us") ||
        !measure_fault("abort(), recovered", aborts, ""))
        return 1;
    return 0;
}
