/*
 * test_heap.c - the private heaps of plugins: what they hand out, whose it is, what becomes of it.
 *
 * The test itself is the plugin: its text is what may allocate from a private heap (tenant()).
 */
/* Misuse of the allocator is what is tested here. */
#pragma GCC diagnostic ignored "-Wuse-after-free"
#pragma GCC diagnostic ignored "-Wfree-nonheap-object"

#include "plugin/heap.h"

/* link: @interpose */

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/config.h"
#include "plugin/boundary.h"
#include "plugin/eject.h"
#include "plugin/remains.h"
#include "recovering.h"

enum { PLUGIN = 1, LIMITED = 2, OTHER = 3, SHARED = 4, N_PLUGINS = 4, LIMIT = 1 << 20 };

static struct shm *shm;
static struct config_plugin plugins[N_PLUGINS] = {
    {.name = "one"},
    {.name = "limited", .memory = LIMIT},
    {.name = "other"},
    {.name = "shared", .heap = CONFIG_HEAP_SHARED},
};
static const struct config cfg = {.plugin = plugins, .n_plugins = N_PLUGINS};
static uint32_t uses;

static int group_set_up(void **state)
{
    int r;

    (void)state;
    r = recovering_set_up(&shm, N_PLUGINS);
    if (r == 0)
        heap_init(&cfg, &shm->worker[0]);
    return r;
}

static struct heap *new_heap(uint32_t plugin)
{
    extern const char __executable_start[], etext[];
    struct heap *h = heap_create(plugin, 0, &uses);

    assert_non_null(h);
    h->text_lo = (uintptr_t)__executable_start;
    h->text_size = (uintptr_t)etext - (uintptr_t)__executable_start;
    return h;
}

static int set_up(void **state)
{
    eject_init(-1);
    uses = 0;
    *state = new_heap(PLUGIN);
    return 0;
}

static int tear_down(void **state)
{
    struct heap *h = *state;

    if (h != NULL)
        heap_destroy(&h);
    assert_int_equal(heap_plugin_bytes(PLUGIN), 0);
    assert_int_equal(heap_plugin_bytes(LIMITED), 0);
    assert_null(recover_self.in_heap);
    return 0;
}

/* ---- blocks ---- */

static bool is_mine(const struct heap *h, const void *p)
{
    return region_has(p) && region_slot_of(p)->owner == h;
}

static void every_size_is_usable_and_told_apart(void **state)
{
    struct heap *h = *state;
    enum { N = 700 };
    char *block[N];
    size_t size[N], n = 0;

    for (int i = 0; i < N; i++) {
        n = i < 300 ? (size_t)i : n + n / 30;
        size[i] = n;
        block[i] = heap_alloc(h, n);
        if (n > (8u << 20)) { /* enough of them */
            heap_free(block[i]);
            block[i] = NULL;
            n = 1000;
            continue;
        }
        assert_non_null(block[i]);
        assert_true(is_mine(h, block[i]));
        assert_int_equal((uintptr_t)block[i] % 16, 0);
        assert_true(heap_usable_size(block[i]) >= n);
        memset(block[i], i, heap_usable_size(block[i]));
    }
    for (int i = 0; i < N; i++) {
        if (block[i] == NULL)
            continue;
        for (size_t k = 0; k < heap_usable_size(block[i]); k += 1 + size[i] / 7)
            assert_int_equal((unsigned char)block[i][k], (unsigned char)i);
        heap_free(block[i]);
    }
}

/* A size asked for is not rounded up by more than a quarter and a page. */
static void little_is_wasted(void **state)
{
    struct heap *h = *state;

    for (size_t n = 1; n < (3u << 20); n += 1 + n / 50) {
        char *p = heap_alloc(h, n);

        assert_in_range(heap_usable_size(p), n, n <= 8192 ? n + n / 4 + 16 : n + 4096);
        heap_free(p);
    }
}

static void alignment_is_kept(void **state)
{
    struct heap *h = *state;

    for (size_t align = 16; align <= (4u << 20); align *= 2) {
        for (size_t n = 1; n < 40000; n = n * 3 + 1) {
            char *p = heap_alloc_aligned(h, align, n);

            assert_non_null(p);
            assert_int_equal((uintptr_t)p % align, 0);
            assert_true(heap_usable_size(p) >= n);
            memset(p, 1, n);
            heap_free(p);
        }
    }
}

static void what_was_freed_is_used_again(void **state)
{
    struct heap *h = *state;
    uint64_t taken = 0;

    for (int round = 0; round < 200; round++) {
        void *p[100];

        for (int i = 0; i < 100; i++)
            p[i] = heap_alloc(h, (size_t)i * 373 + (size_t)(round % 7));
        if (round == 0)
            taken = h->bytes;
        for (int i = 0; i < 100; i++)
            heap_free(p[(i * 37) % 100]);
    }
    assert_in_range(h->bytes, 0, taken + 65536);
}

static void a_block_can_grow_and_shrink(void **state)
{
    struct heap *h = *state;
    char *p = heap_alloc(h, 1);

    p[0] = 'x';
    for (size_t n = 2; n < (6u << 20); n = n * 5 / 3 + 1) {
        p = heap_realloc(p, n);
        assert_non_null(p);
        assert_int_equal(p[0], 'x');
        p[n - 1] = 'y';
    }
    for (size_t n = 4u << 20; n > 0; n /= 3) {
        p = heap_realloc(p, n);
        assert_int_equal(p[0], 'x');
        assert_in_range(heap_usable_size(p), n, 2 * n + 4096);
    }
    heap_free(p);
}

/* Deterministic, against a model. */
static void a_million_operations_do_not_mix_blocks_up(void **state)
{
    struct heap *h = *state;
    enum { N = 2000 };
    static uint32_t *block[N];
    static size_t size[N];
    uint32_t x = 2463534242;

    for (int i = 0; i < 1000000; i++) {
        uint32_t k;

        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        k = x % N;
        if (block[k] != NULL) {
            assert_int_equal(block[k][0], k);
            assert_int_equal(block[k][size[k] - 1], k);
            heap_free(block[k]);
            block[k] = NULL;
        } else {
            size[k] = (x >> 11) % (x % 50 == 0 ? 20000 : 100) + 1;
            block[k] = heap_alloc(h, size[k] * 4);
            assert_non_null(block[k]);
            block[k][0] = block[k][size[k] - 1] = k;
        }
    }
    for (int k = 0; k < N; k++) {
        if (block[k] != NULL)
            heap_free(block[k]);
        block[k] = NULL;
    }
}

static void *hammer(void *arg)
{
    struct heap *h = arg;
    static _Atomic(void *) shared[64];

    for (int i = 0; i < 50000; i++) {
        void *p = heap_alloc(h, (size_t)(i % 500) + 8);

        *(int *)p = i;
        p = atomic_exchange(&shared[i % 64], p); /* often another thread's */
        if (p != NULL)
            heap_free(p);
    }
    for (int i = 0; i < 64; i++) {
        void *p = atomic_exchange(&shared[i], NULL);

        if (p != NULL)
            heap_free(p);
    }
    return NULL;
}

static void any_thread_frees_what_another_allocated(void **state)
{
    struct heap *h = *state;
    pthread_t thread[4];

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, hammer, h), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    assert_in_range(h->bytes, 0, 300000); /* at most one empty span of each size */
}

/* ---- the end of it ---- */

static bool is_accessible(void *p)
{
    int fd[2];
    bool is;

    assert_int_equal(pipe(fd), 0);
    is = write(fd[1], p, 1) == 1; /* EFAULT */
    close(fd[0]);
    close(fd[1]);
    return is;
}

static void destroying_a_heap_gives_all_of_it_back(void **state)
{
    struct heap *h = *state;
    char *small = heap_alloc(h, 100), *large = heap_alloc(h, 100000),
         *huge = heap_alloc(h, 5000000);

    *state = NULL;
    assert_true(is_accessible(small) && is_accessible(large) && is_accessible(huge));
    heap_destroy(&h);
    assert_null(h);
    assert_false(is_accessible(small) || is_accessible(large) || is_accessible(huge));
    assert_int_equal(heap_plugin_bytes(PLUGIN), 0);
    assert_int_equal(atomic_load(&shm->worker[0].memory[PLUGIN - 1]), 0);
}

#ifndef BULKHEAD_SANITIZE /* whose free() it would be */
static void freeing_what_has_gone_does_nothing(void **state)
{
    struct heap *h = *state;
    char *p = heap_alloc(h, 100);

    *state = NULL;
    heap_destroy(&h);
    free(p);
    assert_int_equal(malloc_usable_size(p), 0); /* NOLINT: what it is about */
    assert_null(realloc(p, 10));
}
#endif

static void addresses_come_back_only_after_others(void **state)
{
    struct heap *h;
    char *p;

    heap_destroy((struct heap **)state);
    h = new_heap(PLUGIN);
    p = heap_alloc(h, 100);
    heap_destroy(&h);
    for (int i = 0; i < REGION_REST; i++) {
        char *q;

        h = new_heap(PLUGIN);
        q = heap_alloc(h, 100);
        assert_ptr_not_equal(q, p);
        heap_destroy(&h);
    }
}

static void the_page_behind_a_heaps_last_one_is_not_accessible(void **state)
{
    struct heap *h = *state;
    char *p = heap_alloc(h, 100), *huge = heap_alloc(h, 3000000);

    assert_false(is_accessible((char *)((uintptr_t)p & ~(REGION_SLOT - 1)) + REGION_SLOT - 1));
    assert_false(is_accessible(huge + heap_usable_size(huge)));
    heap_free(huge);
}

/* ---- limits ---- */

static void beyond_the_limit_there_is_no_memory(void **state)
{
    struct heap *h = new_heap(LIMITED);
    int n = 0;

    (void)state;
    while (heap_alloc(h, 4096) != NULL)
        n++;
    assert_int_equal(errno, ENOMEM);
    assert_in_range(n, LIMIT / 4096 - 20, LIMIT / 4096);
    assert_in_range(heap_plugin_bytes(LIMITED), LIMIT - 65536, LIMIT);
    assert_int_equal(atomic_load(&shm->worker[0].memory[LIMITED - 1]), heap_plugin_bytes(LIMITED));
    assert_null(heap_alloc(h, 1u << 20));
    assert_null(heap_alloc(h, SIZE_MAX - 10000));
    heap_destroy(&h);
}

static void the_limit_is_for_all_heaps_of_a_plugin(void **state)
{
    struct heap *a = new_heap(LIMITED), *b = new_heap(LIMITED), *other = new_heap(OTHER);

    (void)state;
    assert_non_null(heap_alloc(a, 700000));
    assert_null(heap_alloc(b, 700000));
    assert_non_null(heap_alloc(other, 700000));
    heap_destroy(&a);
    assert_non_null(heap_alloc(b, 700000));
    heap_destroy(&b);
    heap_destroy(&other);
}

static void whoever_asks_in_vain_again_and_again_is_ejected(void **state)
{
    struct heap *h = new_heap(LIMITED);
    void *p;

    (void)state;
    for (int i = 0; i < 100; i++) { /* it makes room when it is refused: that is no leak */
        p = heap_alloc(h, 900000);
        assert_non_null(p);
        assert_null(heap_alloc(h, 900000));
        heap_free(p);
    }
    assert_false(eject_is_out(LIMITED));
    p = heap_alloc(h, 900000);
    for (int i = 0; i < 15; i++) {
        assert_null(heap_alloc(h, 200000));
        heap_free(heap_alloc(h, 10));
    }
    assert_false(eject_is_out(LIMITED));
    assert_null(heap_alloc(h, 200000));
    assert_true(eject_is_out(LIMITED));
    heap_free(p);
    heap_destroy(&h);
}

/* ---- who gets what ---- */

#ifndef BULKHEAD_SANITIZE

static struct heap *of_call;

static bool call(uint32_t plugin, void (*fn)(void *), void *arg)
{
    recovering_begin(shm); /* cmocka has taken the signals since set_up() */
    recover_use_heap(of_call);
    return boundary_void(plugin, HOOK_DEFER, fn, arg);
}

static void allocate_all_kinds(void *arg)
{
    void **p = arg;
    char *line = NULL;
    size_t n = 0;
    FILE *f = fmemopen((char[]){"a line\n"}, 7, "r");

    p[0] = malloc(10);
    p[1] = calloc(10, 10);
    p[2] = realloc(NULL, 10);
    p[3] = aligned_alloc(64, 128);
    p[4] = strdup("text");
    p[5] = strndup("text", 2);
    if (asprintf((char **)&p[6], "%d and %s", 42, "more") < 0)
        p[6] = NULL;
    p[7] = getline(&line, &n, f) > 0 ? line : NULL;
    p[8] = realpath("/", NULL);
    p[9] = getcwd(NULL, 0);
    p[10] = reallocarray(NULL, 3, 5);
    if (posix_memalign(&p[11], 256, 100) != 0)
        p[11] = NULL;
    fclose(f);
}

enum { KINDS = 12 };

static void what_a_plugin_allocates_in_a_call_is_its_own(void **state)
{
    void *p[KINDS + 1] = {NULL};

    of_call = *state;
    assert_true(call(PLUGIN, allocate_all_kinds, p));
    for (int i = 0; i < KINDS; i++)
        assert_true(is_mine(of_call, p[i]));
    assert_string_equal((char *)p[4], "text");
    assert_string_equal((char *)p[5], "te");
    assert_string_equal((char *)p[6], "42 and more");
    assert_string_equal((char *)p[7], "a line\n");
    assert_string_equal((char *)p[8], "/");
    for (int i = 0; i < KINDS; i++)
        free(p[i]); /* the host does */
}

static void outside_of_calls_nothing_is(void **state)
{
    void *p[KINDS + 1] = {NULL};

    recover_use_heap(*state);
    allocate_all_kinds(p);
    for (int i = 0; i < KINDS; i++) {
        assert_false(region_has(p[i]));
        free(p[i]);
    }
}

static void without_a_heap_libc_serves(void **state)
{
    void *p[KINDS + 1] = {NULL};

    (void)state;
    of_call = NULL;
    assert_null(heap_create(SHARED, 0, &uses));
    assert_true(call(SHARED, allocate_all_kinds, p));
    for (int i = 0; i < KINDS; i++) {
        assert_false(region_has(p[i]));
        free(p[i]);
    }
}

static void open_stream(void *arg)
{
    *(FILE **)arg = fopen("/dev/null", "w");
    fputs("buffer", *(FILE **)arg);
}

static void what_libc_keeps_is_libcs(void **state)
{
    FILE *f = NULL;

    of_call = *state;
    assert_true(call(PLUGIN, open_stream, &f));
    assert_false(region_has(f));
    assert_int_equal(of_call->bytes, 0);
    fclose(f);
}

static void resize_and_free(void *arg)
{
    void **p = arg;

    p[0] = realloc(p[0], 5000); /* libc's: stays there */
    free(p[1]);                 /* libc's */
    p[2] = realloc(p[2], 5000); /* another plugin's: as well */
}

static void a_block_stays_in_its_heap(void **state)
{
    struct heap *other = new_heap(OTHER);
    void *p[3] = {malloc(100), malloc(100), heap_alloc(other, 100)};

    of_call = *state;
    assert_true(call(PLUGIN, resize_and_free, p));
    assert_false(region_has(p[0]));
    assert_true(is_mine(other, p[2]));
    assert_int_equal(of_call->bytes, 0);
    free(p[0]);
    free(p[2]);
    heap_destroy(&other);
}

/* ---- misuse, and faults inside ---- */

static void free_twice(void *arg)
{
    char *volatile p = malloc(*(size_t *)arg), *volatile again = p;

    free(malloc(*(size_t *)arg));
    free(p);
    free(again); /* NOLINT */
}

static void free_the_middle(void *arg)
{
    char *volatile p = malloc(*(size_t *)arg);

    /* cppcheck-suppress invalidFree */
    free(p + 16); /* NOLINT */
    /* cppcheck-suppress memleak */
}

static void what_is_no_block_is_a_crash_of_the_call(void **state)
{
    static size_t sizes[] = {10, 1000, 20000, 2000000};

    of_call = *state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i] < 1000000) { /* a huge one has gone: no trace of it is left */
            assert_false(call(PLUGIN, free_twice, &sizes[i]));
            assert_int_equal(recover_self.fault.signo, SIGABRT);
        }
        assert_false(call(PLUGIN, free_the_middle, &sizes[i]));
        assert_int_equal(recover_self.fault.signo, SIGABRT);
    }
    assert_false(of_call->is_dead); /* nothing in there was wrong */
    assert_non_null(heap_alloc(of_call, 100));
}

static void allocate_some(void *arg)
{
    for (int i = 0; i < 300; i++)
        ((void **)arg)[i] = malloc(40);
}

static void a_fault_inside_condemns_the_heap_alone(void **state)
{
    struct heap *other = new_heap(OTHER);
    void *p = heap_alloc(other, 100);
    char *q;

    of_call = *state;
    q = heap_alloc(of_call, 4000);
    of_call->bin[2] = (void *)0x4141414141414141; /* a wild pointer of the plugin's did that */
    assert_false(call(PLUGIN, allocate_some, q));
    assert_int_equal(recover_self.fault.signo, SIGSEGV);
    assert_string_equal(recovering_record(shm)->reason,
                        "fault inside the plugin's own heap, which is given up");
    assert_true(of_call->is_dead);
    assert_null(recover_self.in_heap);
    assert_null(heap_alloc(of_call, 10));
    free(q); /* nothing happens */
    assert_false(other->is_dead);
    assert_non_null(heap_alloc(other, 10));
    free(p);
    heap_destroy(&other);
    assert_false(eject_is_out(PLUGIN));
}

static void free_it(void *arg)
{
    free(arg);
}

static void ruin_tables(void *arg)
{
    char **p = arg;

    memset((char *)((uintptr_t)p[0] & ~(REGION_SLOT - 1)) + 256, 0x41, 16384 - 256);
    free(p[7]);
}

/* They are where no block's overflow reaches them: this is a wild pointer. */
static void ruined_tables_are_not_believed(void **state)
{
    char *p[300];

    of_call = *state;
    assert_true(call(PLUGIN, allocate_some, p));
    assert_false(call(PLUGIN, ruin_tables, p));
    assert_int_equal(recover_self.fault.signo, SIGABRT);
}

static void whoever_ruins_another_ones_heap_costs_that_one_its_place(void **state)
{
    struct heap *other = new_heap(OTHER);
    char *p = heap_alloc(other, 100);
    uintptr_t span = ((uintptr_t)p & ~(REGION_SLOT - 1)) + ((uintptr_t)p >> 12 & 255) * 64;

    for (int i = 0; i < 40; i++)
        heap_alloc(other, 100); /* a span that is full is listed when a block of it is freed */
    other->bin[6] = (void *)0x4141414141414141;
    *(uint16_t *)(span + 48) = 0;
    of_call = *state;
    assert_false(call(PLUGIN, free_it, p));
    assert_true(other->is_dead);
    assert_true(eject_is_out(OTHER));
    assert_false(eject_is_out(PLUGIN));
    assert_false(of_call->is_dead);
    heap_destroy(&other);
}

static volatile int never; /* which no compiler knows */

__attribute__((noinline)) static int deeper(int depth)
{
    char *volatile p = malloc(3000);

    free(p);
    return never ? depth : deeper(depth + 1) + never;
}

static void exhaust_stack(void *arg)
{
    *(volatile int *)&never = deeper(arg != NULL);
}

static void a_stack_overflow_inside_is_recovered(void **state)
{
    of_call = *state;
    for (int i = 0; i < 20; i++) {
        assert_false(call(PLUGIN, exhaust_stack, (void *)(uintptr_t)i));
        assert_int_equal(recover_self.fault.signo, SIGSEGV);
        if (of_call->is_dead) {
            heap_destroy(&of_call);
            of_call = *state = new_heap(PLUGIN);
        }
    }
}

/* ---- what is left ---- */

static void *keeper;

static void one_that_nothing_names_goes(void **state)
{
    struct heap *h = *state;

    uses = 1;
    assert_non_null(heap_alloc(h, 100));
    remains_keep(h);
    assert_int_equal(remains_count(), 1);
    *state = NULL;
    remains_sweep(false);
    assert_int_equal(remains_count(), 0);
}

static void one_that_a_static_variable_names_stays(void **state)
{
    struct heap *h = *state;
    Dl_info info;

    uses = 1;
    assert_int_not_equal(dladdr(&keeper, &info), 0);
    h->object_base = (uintptr_t)info.dli_fbase;
    keeper = (char *)heap_alloc(h, 100) + 50; /* somewhere inside counts */
    *state = NULL;
    remains_keep(h);
    remains_sweep(true);
    assert_int_equal(remains_count(), 1);
    keeper = NULL;
    remains_sweep(false); /* it was looked at */
    assert_int_equal(remains_count(), 1);
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
}

static void one_that_its_successor_names_stays(void **state)
{
    struct heap *h = *state, *next = new_heap(PLUGIN);
    void **node = heap_alloc(next, 100);

    uses = 1;
    *node = heap_alloc(h, 100);
    *state = NULL;
    remains_keep(h);
    remains_sweep(true);
    assert_int_equal(remains_count(), 1);
    uses = 0; /* a fresh copy of the object has taken over */
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
    heap_destroy(&next);
}

static void one_that_is_pinned_stays_and_younger_ones_too(void **state)
{
    struct heap *h = *state, *younger = new_heap(PLUGIN);

    *state = NULL;
    heap_alloc(younger, 10);
    heap_pin(h);
    remains_keep(h);
    remains_keep(younger);
    remains_sweep(true);
    assert_int_equal(remains_count(), 2);
    heap_unpin(h);
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
}

static void one_that_is_specific_to_this_thread_stays(void **state)
{
    struct heap *h = *state;
    pthread_key_t key;

    uses = 1;
    pthread_key_create(&key, NULL);
    pthread_setspecific(key, heap_alloc(h, 10));
    *state = NULL;
    remains_keep(h);
    remains_sweep(true);
    assert_int_equal(remains_count(), 1);
    pthread_setspecific(key, NULL);
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
    pthread_key_delete(key);
}

static struct heap *used_heap(void)
{
    struct heap *h = new_heap(PLUGIN);

    assert_non_null(heap_alloc(h, 10));
    return h;
}

static void one_that_was_never_used_goes_at_once(void **state)
{
    struct heap *h = *state;

    *state = NULL;
    uses = 1;
    remains_keep(h);
    assert_int_equal(remains_count(), 0);
}

static void one_that_was_never_used_waits_for_its_guests(void **state)
{
    struct heap *h = *state;

    *state = NULL;
    uses = 1;
    heap_pin(h);
    remains_keep(h);
    remains_sweep(true);
    assert_int_equal(remains_count(), 1);
    heap_unpin(h);
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
}

static void sweeps_are_due_when_there_are_many_or_much_is_held(void **state)
{
    struct heap *h;

    heap_destroy((struct heap **)state);
    uses = 1;
    for (int i = 1; i < REMAINS_BATCH; i++)
        remains_keep(used_heap());
    assert_false(remains_are_many);
    remains_settle();
    assert_int_equal(remains_count(), REMAINS_BATCH - 1);
    remains_keep(used_heap());
    assert_true(remains_are_many);
    remains_settle();
    assert_false(remains_are_many);
    assert_int_equal(remains_count(), 0);

    h = new_heap(PLUGIN);
    assert_non_null(heap_alloc(h, REMAINS_BYTES));
    remains_keep(h);
    remains_settle();
    assert_int_equal(remains_count(), 0);

    h = new_heap(LIMITED); /* more than half of what it may have */
    heap_alloc(h, LIMIT * 3 / 5);
    remains_keep(h);
    remains_settle();
    assert_int_equal(remains_count(), 0);
}

/* One may name the other: the second look finds it. */
static void chains_of_heaps_stay_as_long_as_their_first_is_named(void **state)
{
    struct heap *h = *state, *holder = NULL;
    Dl_info info;
    void **node, *target;

    uses = 1;
    *state = NULL;
    assert_int_not_equal(dladdr(&keeper, &info), 0);
    target = heap_alloc(h, 100);
    h->object_base = (uintptr_t)info.dli_fbase;
    remains_keep(h);
    for (int i = 0; i < 5; i++) {
        holder = new_heap(PLUGIN);
        holder->object_base = (uintptr_t)info.dli_fbase;
        node = heap_alloc(holder, i % 2 == 0 ? 100 : 3000000);
        node[7] = target;
        target = node;
        remains_keep(holder);
    }
    keeper = target;
    target = NULL, node = NULL;
    remains_sweep(true);
    assert_int_equal(remains_count(), 6);
    keeper = NULL;
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
}

static _Atomic bool is_over;

static _Atomic int n_rounds;

static void *grow_and_shrink(void *arg)
{
    for (; !is_over; n_rounds++) { /* slots come and go */
        void *p = heap_alloc(arg, 3000000), *q = heap_alloc(arg, 200000);

        sched_yield();
        heap_free(p);
        heap_free(q);
    }
    return NULL;
}

static void what_threads_give_back_meanwhile_is_not_read(void **state)
{
    struct heap *busy = new_heap(PLUGIN);
    pthread_t thread;

    uses = 1;
    heap_destroy((struct heap **)state);
    is_over = false;
    n_rounds = 0;
    pthread_create(&thread, NULL, grow_and_shrink, busy);
    while (n_rounds < 100) {
        remains_keep(used_heap());
        remains_sweep(true);
        assert_int_equal(remains_count(), 0);
    }
    is_over = true;
    pthread_join(thread, NULL);
    heap_destroy(&busy);
}

static void heaps_that_name_each_other_alone_go(void **state)
{
    struct heap *a = *state, *b = new_heap(PLUGIN);
    void **of_a = heap_alloc(a, 100), **of_b = heap_alloc(b, 100);

    uses = 1;
    *state = NULL;
    *of_a = of_b;
    *of_b = of_a;
    remains_keep(a);
    remains_keep(b);
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
}

/* ---- one after the other ---- */

/* Each filled with what would look like addresses, if it stayed. */
static void wear_out(int n, char **last)
{
    for (int i = 0; i < n; i++) {
        struct heap *h = new_heap(PLUGIN);

        for (size_t size = 10; size < 20000; size *= 3) {
            uintptr_t *p = heap_alloc(h, size);

            for (size_t k = 0; k < heap_usable_size(p) / sizeof *p; k++)
                p[k] = (uintptr_t)p;
            *last = (char *)p;
        }
        remains_keep(h);
        remains_settle();
    }
}

static void in_a_hurry_the_same_addresses_serve_again_and_are_clean(void **state)
{
    struct heap *h;
    char *last, *p;

    heap_destroy((struct heap **)state);
    uses = 1;
    wear_out(4 * REMAINS_BATCH, &last);
    assert_int_equal(remains_count(), 0);
    assert_true(is_accessible(last)); /* kept, and nobody's */
    assert_null(region_slot_of(last)->owner);
    h = new_heap(PLUGIN);
    for (size_t size = 10; size < 20000; size *= 3) {
        p = heap_alloc(h, size);
        for (size_t k = 0; k < heap_usable_size(p); k++)
            assert_int_equal(p[k], 0);
    }
    heap_destroy(&h);
}

static void what_was_kept_in_a_hurry_is_given_back_later(void **state)
{
    char *last;

    heap_destroy((struct heap **)state);
    uses = 1;
    wear_out(4 * REMAINS_BATCH, &last);
    assert_true(is_accessible(last));
    remains_sweep(true); /* since when nobody wants them */
    remains_sweep(true);
    assert_false(is_accessible(last));
}

static void without_a_hurry_addresses_rest(void **state)
{
    char *last;

    heap_destroy((struct heap **)state);
    uses = 1;
    remains_sweep(true);
    remains_sweep(true); /* nothing is kept of earlier tests */
    wear_out(7, &last);
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
    assert_false(is_accessible(last));
}

static void a_heap_that_crashed_inside_is_not_used_again(void **state)
{
    struct heap *h = *state;
    char *p = heap_alloc(h, 100);

    *state = NULL;
    atomic_store(&h->is_dead, true);
    heap_reuse(&h);
    assert_false(is_accessible(p));
}

static void nor_is_one_that_is_large(void **state)
{
    struct heap *h = *state;
    char *small = heap_alloc(h, 100), *large = heap_alloc(h, 200000);
    char *huge = heap_alloc(h, 500000);

    *state = NULL;
    heap_reuse(&h);
    assert_false(is_accessible(small) || is_accessible(large) || is_accessible(huge));
}

static void too_many_that_stay_end_in_ejection(void **state)
{
    struct heap *h = *state;

    *state = NULL;
    heap_pin(h);
    remains_keep(h);
    for (int i = 1; i < REMAINS_MAX; i++)
        remains_keep(used_heap());
    assert_false(eject_is_out(PLUGIN));
    remains_keep(used_heap());
    assert_true(eject_is_out(PLUGIN));
    heap_unpin(h);
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
}

/* ---- beside others ---- */

static void *churn(void *arg)
{
    while (!is_over)
        heap_free(heap_alloc(arg, 100));
    return NULL;
}

static void a_forked_child_can_allocate(void **state)
{
    pthread_t thread;

    is_over = false;
    pthread_create(&thread, NULL, churn, *state);
    for (int i = 0; i < 200; i++) {
        pid_t pid = fork();
        int status = -1;

        if (pid == 0) {
            alarm(5);
            heap_free(heap_alloc(*state, 100));
            syscall(231, 0); /* exit_group */
        }
        waitpid(pid, &status, 0);
        assert_int_equal(status, 0);
    }
    is_over = true;
    pthread_join(thread, NULL);
}

static void leak_and_crash(void *arg)
{
    /* cppcheck-suppress leakNoVarFunctionCall */
    memset(malloc(4096), 1, 4096);
    *(volatile int *)arg = 1; /* NOLINT: that it leaks is the point */
}

static long resident_kib(void)
{
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (fscanf(f, "%ld %ld", &pages, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * 4;
}

static void ten_thousand_crashes_that_leak_grow_nothing(void **state)
{
    long before = 0;

    heap_destroy((struct heap **)state);
    for (int i = 0; i < 11000; i++) {
        if (i == 1000)
            before = resident_kib();
        of_call = new_heap(PLUGIN);
        assert_false(call(PLUGIN, leak_and_crash, NULL));
        remains_keep(of_call);
        remains_settle();
        assert_in_range(remains_count(), 0, REMAINS_BATCH);
    }
    assert_in_range(resident_kib(), 0, before + 512);
    remains_sweep(true);
    assert_int_equal(remains_count(), 0);
}
#endif

#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_size_is_usable_and_told_apart),
        TEST(little_is_wasted),
        TEST(alignment_is_kept),
        TEST(what_was_freed_is_used_again),
        TEST(a_block_can_grow_and_shrink),
        TEST(a_million_operations_do_not_mix_blocks_up),
        TEST(any_thread_frees_what_another_allocated),
        TEST(destroying_a_heap_gives_all_of_it_back),
        TEST(addresses_come_back_only_after_others),
        TEST(the_page_behind_a_heaps_last_one_is_not_accessible),
        TEST(beyond_the_limit_there_is_no_memory),
        TEST(the_limit_is_for_all_heaps_of_a_plugin),
        TEST(whoever_asks_in_vain_again_and_again_is_ejected),
#ifndef BULKHEAD_SANITIZE
        TEST(freeing_what_has_gone_does_nothing),
        TEST(what_a_plugin_allocates_in_a_call_is_its_own),
        TEST(outside_of_calls_nothing_is),
        TEST(without_a_heap_libc_serves),
        TEST(what_libc_keeps_is_libcs),
        TEST(a_block_stays_in_its_heap),
        TEST(what_is_no_block_is_a_crash_of_the_call),
        TEST(ruined_tables_are_not_believed),
        TEST(a_fault_inside_condemns_the_heap_alone),
        TEST(whoever_ruins_another_ones_heap_costs_that_one_its_place),
        TEST(a_stack_overflow_inside_is_recovered),
        TEST(one_that_nothing_names_goes),
        TEST(one_that_a_static_variable_names_stays),
        TEST(one_that_its_successor_names_stays),
        TEST(one_that_is_pinned_stays_and_younger_ones_too),
        TEST(one_that_is_specific_to_this_thread_stays),
        TEST(one_that_was_never_used_goes_at_once),
        TEST(one_that_was_never_used_waits_for_its_guests),
        TEST(sweeps_are_due_when_there_are_many_or_much_is_held),
        TEST(chains_of_heaps_stay_as_long_as_their_first_is_named),
        TEST(what_threads_give_back_meanwhile_is_not_read),
        TEST(heaps_that_name_each_other_alone_go),
        TEST(in_a_hurry_the_same_addresses_serve_again_and_are_clean),
        TEST(what_was_kept_in_a_hurry_is_given_back_later),
        TEST(without_a_hurry_addresses_rest),
        TEST(a_heap_that_crashed_inside_is_not_used_again),
        TEST(nor_is_one_that_is_large),
        TEST(too_many_that_stay_end_in_ejection),
        TEST(a_forked_child_can_allocate),
        TEST(ten_thousand_crashes_that_leak_grow_nothing),
#endif
    };

    return cmocka_run_group_tests_name("heap", tests, group_set_up, NULL);
}
