#include "ipc/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static int fd;

static int begin(void **state)
{
    (void)state;
    fd = state_create();
    return fd >= 0 ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    return close(fd);
}

static void what_is_put_is_found_by_its_name(void **state)
{
    const struct state_record *r;
    const void *bytes;
    const char *map;
    size_t size;

    (void)state;
    assert_int_equal(state_put(fd, "a", 1, "xyz", 3), 0);
    assert_int_equal(state_put(fd, "b", 7, "", 0), 0);
    assert_int_equal(state_put(fd, "c", 9, "12345678", 8), 0);
    assert_int_equal(state_map(fd, &map, &size), 0);
    r = state_find(map, size, "a", &bytes);
    assert_non_null(r);
    assert_int_equal(r->len, 3);
    assert_memory_equal(bytes, "xyz", 3);
    r = state_find(map, size, "c", &bytes);
    assert_non_null(r);
    assert_int_equal(r->version, 9);
    assert_memory_equal(bytes, "12345678", 8);
    assert_int_equal((uintptr_t)bytes % 8, 0);
    assert_non_null(state_find(map, size, "b", &bytes));
    assert_null(state_find(map, size, "d", &bytes));
    munmap((void *)(uintptr_t)map, size);
}

static void nothing_put_is_nothing_to_map(void **state)
{
    const char *map;
    size_t size;

    (void)state;
    assert_int_equal(state_map(fd, &map, &size), -ENODATA);
}

static void there_is_an_end_to_it(void **state)
{
    char *big = calloc(1, STATE_MAX);

    (void)state;
    assert_non_null(big);
    assert_int_equal(state_put(fd, "a", 1, big, STATE_MAX), -ENOSPC);
    assert_int_equal(state_put(fd, "a", 1, big, STATE_MAX - 1000), 0);
    assert_int_equal(state_put(fd, "b", 1, big, 1000), -ENOSPC);
    free(big);
}

/* The writer runs plugins. */
/* A writer that cuts the file would make its reader die of SIGBUS. */
static void what_is_mapped_stays_as_it_is(void **state)
{
    const char *map;
    size_t size;

    (void)state;
    assert_int_equal(state_put(fd, "a", 1, "xyz", 3), 0);
    assert_int_equal(state_map(fd, &map, &size), 0);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(pwrite(fd, "?", 1, 0), -1);
    assert_int_equal(munmap((void *)(uintptr_t)map, size), 0);
}

static void lengths_that_lie_lead_nowhere(void **state)
{
    struct state_record lie = {.len = UINT32_MAX};
    const void *bytes;
    const char *map;
    size_t size;

    (void)state;
    assert_int_equal(state_put(fd, "a", 1, "xyz", 3), 0);
    assert_int_equal(state_map(fd, &map, &size), 0);
    memcpy(&lie.magic, map, sizeof lie.magic);
    munmap((void *)(uintptr_t)map, size);
    strcpy(lie.name, "a");
    assert_null(state_find((const char *)&lie, sizeof lie, "a", &bytes));
    lie.len = 0;
    memset(lie.name, 'a', sizeof lie.name);
    assert_null(state_find((const char *)&lie, sizeof lie, "a", &bytes));
    assert_null(state_find((const char *)&lie, 10, "a", &bytes));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(what_is_put_is_found_by_its_name),
        TEST(nothing_put_is_nothing_to_map),
        TEST(there_is_an_end_to_it),
        TEST(what_is_mapped_stays_as_it_is),
        TEST(lengths_that_lie_lead_nowhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
