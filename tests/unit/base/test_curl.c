#include "base/curl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void its_functions_work(void **state)
{
    static const char text[] = "hello";
    char path[] = "/tmp/bulkhead-curl-XXXXXX", why[256] = "", url[64];
    const struct curl *curl = NULL, *again = NULL;
    CURLcode result;
    CURL *easy;
    int fd = mkstemp(path);

    (void)state;
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    if (curl_load(&curl, why, sizeof why) < 0)
        fail_msg("%s", why);
    assert_int_equal(curl_load(&again, why, sizeof why), 0);
    assert_ptr_equal(curl, again);
    assert_non_null(strstr(curl->version_info(CURLVERSION_NOW)->ssl_version, "GnuTLS"));

    easy = curl->easy_init();
    assert_non_null(easy);
    snprintf(url, sizeof url, "file://%s", path);
    curl->easy_setopt(easy, CURLOPT_URL, url);
    curl->easy_setopt(easy, CURLOPT_NOBODY, 1L);
    result = curl->easy_perform(easy);
    assert_string_equal(curl->easy_strerror(result), curl->easy_strerror(CURLE_OK));
    curl->easy_cleanup(easy);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_functions_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
