/* link: -lgnutls */
#include "tls/set.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/diag.h"
#include "base/fd.h"
#include "conf/config.h"
#include "tls/bundle.h"

static char dir[] = "/tmp/test-tls-XXXXXX";
static struct config *cfg;
static struct diag diag, warnings;

/* NAME.pem and NAME.key; expired when days < 0. */
static void make_cert(const char *name, const char *more)
{
    char command[1024];

    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=%s "
             "-out %s/%s.pem -keyout %s/%s.key %s 2>/dev/null",
             name, dir, name, dir, name, more);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test */
}

static int make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    make_cert("a", "-days 30");
    make_cert("b", "-days 30");
    make_cert("brief", "-days 2");
    return 0;
}

static int remove_dir(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command); /* NOLINT(cert-env33-c): a test */
}

static int begin(void **state)
{
    (void)state;
    diag_init(&diag);
    diag_init(&warnings);
    return 0;
}

static int end(void **state)
{
    (void)state;
    diag_fini(&diag);
    diag_fini(&warnings);
    config_destroy(&cfg);
    return 0;
}

/* A listener with that `tls:`; what tls_check() says. */
static int check(const char *tls)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof path, "%s/c.yaml", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "version: 1\nlisteners:\n"
            "  - {name: s, address: \"127.0.0.1:8443\", tls: {%s}}\n"
            "plugins: {p: {module: m}}\nroutes: [{chain: [p]}]\n",
            tls);
    fclose(f);
    if (config_load(path, &diag, &cfg) < 0)
        return -EBADMSG;
    return tls_check(cfg, &diag, &warnings);
}

static void assert_mistake(const char *tls, int column, const char *what, const char *hint)
{
    assert_true(check(tls) < 0);
    assert_int_equal(diag.n, 1);
    assert_int_equal(diag.item[0].line, 3);
    assert_int_equal(diag.item[0].column, column);
    if (strstr(diag.item[0].what, what) == NULL ||
        (hint != NULL && (diag.item[0].hint == NULL || strstr(diag.item[0].hint, hint) == NULL)))
        fail_msg("%s (%s)", diag.item[0].what, diag.item[0].hint);
}

static void a_pair_that_fits_is_fine(void **state)
{
    (void)state;
    assert_int_equal(check("cert: a.pem, key: a.key, client_auth: optional, client_ca: b.pem, "
                           "certificates: [{cert: b.pem, key: b.key}], hsts: 365d"),
                     0);
    assert_int_equal(diag.n, 0);
    assert_int_equal(warnings.n, 0);
    assert_int_equal(cfg->listener[0].tls.n_certificates, 2);
    assert_true(cfg->listener[0].tls.hsts.max_age_ms == 365ull * 86400000);
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    assert_mistake("cert: a.pem, key: none.key", 66, "none.key: No such file",
                   "folder of the config");
}

static void keys_of_another_certificate_are_refused(void **state)
{
    (void)state;
    assert_mistake("cert: a.pem, key: b.key", 66, "does not belong to the certificate in",
                   "renewed");
}

static void swapped_files_are_recognised(void **state)
{
    (void)state;
    assert_true(check("cert: a.key, key: a.pem") < 0);
    assert_int_equal(diag.n, 2);
    assert_non_null(strstr(diag.item[0].hint, "swapped"));
    assert_non_null(strstr(diag.item[1].hint, "swapped"));
}

static void a_passphrase_is_recognised(void **state)
{
    char command[512];

    (void)state;
    snprintf(command, sizeof command,
             "openssl pkey -in %s/a.key -aes256 -passout pass:x -out %s/locked.key", dir, dir);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test */
    assert_mistake("cert: a.pem, key: locked.key", 66, "locked.key", "passphrase");
}

static void an_end_that_is_near_is_a_warning(void **state)
{
    (void)state;
    assert_int_equal(check("cert: brief.pem, key: brief.key"), 0);
    assert_int_equal(diag.n, 0);
    assert_int_equal(warnings.n, 1);
    assert_non_null(strstr(warnings.item[0].what, "expires on"));
}

static void a_bad_priority_string_is_shown(void **state)
{
    (void)state;
    assert_mistake("cert: a.pem, key: a.key, priority: \"NORMAL:+NONSENSE\"", 83, "+NONSENSE",
                   "gnutls-cli");
}

static void cert_and_key_are_needed(void **state)
{
    (void)state;
    assert_mistake("cert: a.pem", 47, "key is missing", NULL);
}

static void client_auth_needs_a_ca(void **state)
{
    (void)state;
    assert_mistake("cert: a.pem, key: a.key, client_auth: required", 86, "needs client_ca", NULL);
}

static void no_version_before_1_2_can_be_chosen(void **state)
{
    (void)state;
    assert_mistake("cert: a.pem, key: a.key, min_version: \"1.1\"", 86, "1.2 or 1.3", NULL);
}

static void a_star_is_one_label(void **state)
{
    (void)state;
    assert_true(tls_name_covers("a.test", "a.test"));
    assert_false(tls_name_covers("a.test", "b.test"));
    assert_true(tls_name_covers("*.test", "a.test"));
    assert_false(tls_name_covers("*.test", "b.a.test"));
    assert_false(tls_name_covers("*.test", "test"));
    assert_false(tls_name_covers("*.test", ".test"));
    assert_false(tls_name_covers("*", "test"));
}

static void a_bundle_cannot_be_changed(void **state)
{
    static const unsigned char secret[BUNDLE_SECRET];
    struct tls_set *set = NULL;
    int fd;

    (void)state;
    assert_int_equal(check("cert: a.pem, key: a.key"), 0);
    assert_int_equal(bundle_create(cfg, secret, &diag, &fd), 0);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(tls_set_load(cfg, fd, &diag, NULL, &set), 0);
    tls_set_put(&set);
    assert_null(set);
    close(fd);
}

/* What a worker is sent is the master's; but should it be cut short, that is an error and no fault. */
static void a_bundle_that_is_cut_short_is_an_error(void **state)
{
    static const unsigned char secret[BUNDLE_SECRET];
    char *whole = malloc(1 << 20), path[256];
    struct tls_set *set = NULL;
    ssize_t n;
    int fd;

    (void)state;
    assert_int_equal(check("cert: a.pem, key: a.key"), 0);
    assert_int_equal(bundle_create(cfg, secret, &diag, &fd), 0);
    n = pread(fd, whole, 1 << 20, 0);
    assert_true(n > 200);
    close(fd);
    snprintf(path, sizeof path, "%s/cut", dir);
    for (ssize_t len = 1; len < n; len += len < 100 ? 1 : 97) {
        FILE *f = fopen(path, "w+");

        fwrite(whole, 1, (size_t)len, f);
        fflush(f);
        assert_true(tls_set_load(cfg, fileno(f), NULL, NULL, &set) < 0);
        fclose(f);
    }
    free(whole);
}

static void a_changed_file_changes_the_signature(void **state)
{
    char path[256];
    uint64_t before;

    (void)state;
    assert_int_equal(check("cert: a.pem, key: a.key"), 0);
    before = bundle_signature(cfg);
    assert_true(bundle_signature(cfg) == before);
    snprintf(path, sizeof path, "%s/a.key", dir);
    assert_int_equal(utimensat(0, path, (struct timespec[2]){{1, 0}, {1, 0}}, 0), 0);
    assert_true(bundle_signature(cfg) != before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_pair_that_fits_is_fine),
        TEST(a_file_that_is_not_there_is_named),
        TEST(keys_of_another_certificate_are_refused),
        TEST(swapped_files_are_recognised),
        TEST(a_passphrase_is_recognised),
        TEST(an_end_that_is_near_is_a_warning),
        TEST(a_bad_priority_string_is_shown),
        TEST(cert_and_key_are_needed),
        TEST(client_auth_needs_a_ca),
        TEST(no_version_before_1_2_can_be_chosen),
        TEST(a_star_is_one_label),
        TEST(a_bundle_cannot_be_changed),
        TEST(a_bundle_that_is_cut_short_is_an_error),
        TEST(a_changed_file_changes_the_signature),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
