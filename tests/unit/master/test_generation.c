#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "conf/config.h"
#include "master/internal.h"

static void a_listener_is_found_by_its_address_and_what_it_speaks(void **state)
{
    struct config_listener before[] = {{.address = "127.0.0.1:80"},
                                       {.address = "127.0.0.1:81"},
                                       {.address = "127.0.0.1:82", .tls.is_on = true},
                                       {.address = "127.0.0.1:83"}};
    struct config_listener after[] = {{.address = "127.0.0.1:82", .tls.is_on = true},
                                      {.address = "127.0.0.1:83", .tls.is_on = true},
                                      {.address = "127.0.0.1:80"}};
    struct config old = {.listener = before, .n_listeners = 4};
    struct config now = {.listener = after, .n_listeners = 3};

    (void)state;
    assert_int_equal(generation_map_listener(&old, &old, 1), 1);
    assert_int_equal(generation_map_listener(&old, &now, 0), 2);
    assert_int_equal(generation_map_listener(&old, &now, 1), -1); /* gone */
    assert_int_equal(generation_map_listener(&old, &now, 2), 0);
    assert_int_equal(generation_map_listener(&old, &now, 3), -1); /* speaks TLS now */
    assert_int_equal(generation_map_listener(&old, &now, 4), -1); /* never was */
    assert_int_equal(generation_map_listener(&old, &now, -1), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_is_found_by_its_address_and_what_it_speaks),
    };

    return cmocka_run_group_tests_name("generation", tests, NULL, NULL);
}
