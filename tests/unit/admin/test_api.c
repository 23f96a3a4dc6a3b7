/*
 * test_api.c - the description of the API has all that there is.
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "admin/internal.h"

extern const char asset_openapi_begin[], asset_openapi_end[];

static const char *role_name(enum admin_role role)
{
    return role == ADMIN_OPERATOR ? "operator" : role == ADMIN_READER ? "reader" : "nobody";
}

static void every_path_is_described_with_its_role(void **state)
{
    json_t *doc = json_loadb(asset_openapi_begin,
                             (uintptr_t)asset_openapi_end - (uintptr_t)asset_openapi_begin, 0,
                             NULL);

    (void)state;
    assert_non_null(doc);
    for (const struct api_route *r = api_routes; r->method != NULL; r++) {
        const json_t *path = json_object_get(json_object_get(doc, "paths"), r->path);
        const json_t *operation;
        char method[16] = "";

        if (strcmp(r->path, "/") == 0 || strcmp(r->path, "/assets/{name}") == 0)
            continue; /* for browsers */
        for (size_t i = 0; r->method[i] != '\0'; i++)
            method[i] = (char)tolower(r->method[i]);
        operation = json_object_get(path, method);
        if (operation == NULL)
            fail_msg("%s %s is not in openapi.json", r->method, r->path);
        assert_string_equal(json_string_value(json_object_get(operation, "x-role")),
                            role_name(r->role));
    }
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_path_is_described_with_its_role)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
