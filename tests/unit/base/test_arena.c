#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define CHUNK 4096

static void takes_no_memory_before_the_first_allocation(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 1 << 20);
    assert_int_equal(a.total, 0);
    arena_fini(&a);
}

static void allocations_are_aligned_and_apart(void **state)
{
    struct arena a;
    char *p[100];

    (void)state;
    arena_init(&a, 1 << 20);
    for (int i = 0; i < 100; i++) {
        size_t align = (size_t)1 << (i % 8);

        p[i] = arena_alloc_aligned(&a, 37, align);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % align, 0);
        memset(p[i], i, 37);
    }
    for (int i = 0; i < 100; i++)
        for (int j = 0; j < 37; j++)
            assert_int_equal(p[i][j], i);
    arena_fini(&a);
}

static void past_the_limit_answers_null_and_goes_on(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 2 * CHUNK);
    assert_null(arena_alloc(&a, 2 * CHUNK));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 64));
    assert_non_null(arena_alloc(&a, CHUNK / 2));
    assert_non_null(arena_alloc(&a, CHUNK / 4));
    assert_true(a.total <= 2 * CHUNK);
    arena_fini(&a);
}

static void reset_keeps_one_usual_chunk(void **state)
{
    struct arena a;
    char *first;

    (void)state;
    arena_init(&a, 1 << 20);
    first = arena_alloc(&a, 100);
    for (int i = 0; i < 20; i++)
        assert_non_null(arena_alloc(&a, 3000));
    assert_non_null(arena_alloc(&a, 100000));
    arena_reset(&a);
    assert_int_equal(a.total, CHUNK);
    assert_non_null(first);
    assert_non_null(arena_alloc(&a, 100));
    assert_int_equal(a.total, CHUNK);
    arena_fini(&a);
}

static void large_blocks_get_chunks_of_their_own(void **state)
{
    struct arena a;
    char *p;

    (void)state;
    arena_init(&a, 1 << 20);
    p = arena_alloc(&a, 500000);
    assert_non_null(p);
    memset(p, 1, 500000);
    assert_non_null(arena_alloc(&a, 500000));
    assert_null(arena_alloc(&a, 500000));
    arena_fini(&a);
}

static void strings_end_with_a_nul(void **state)
{
    struct arena a;
    char *s;

    (void)state;
    arena_init(&a, 1 << 20);
    s = arena_strndup(&a, "hello", 3);
    assert_string_equal(s, "hel");
    assert_string_equal(arena_printf(&a, "%s-%d", s, 7), "hel-7");
    assert_string_equal(arena_strndup(&a, "", 0), "");
    arena_fini(&a);
}

static void zalloc_is_zeroed_after_a_reset_too(void **state)
{
    struct arena a;
    char *p;

    (void)state;
    arena_init(&a, 1 << 20);
    memset(arena_alloc(&a, 1000), 0xff, 1000);
    arena_reset(&a);
    p = arena_zalloc(&a, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(p[i], 0);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_no_memory_before_the_first_allocation),
        cmocka_unit_test(allocations_are_aligned_and_apart),
        cmocka_unit_test(past_the_limit_answers_null_and_goes_on),
        cmocka_unit_test(reset_keeps_one_usual_chunk),
        cmocka_unit_test(large_blocks_get_chunks_of_their_own),
        cmocka_unit_test(strings_end_with_a_nul),
        cmocka_unit_test(zalloc_is_zeroed_after_a_reset_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
