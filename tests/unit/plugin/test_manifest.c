/*
 * Objects are compiled here, with the compiler that built the server, so that the reader meets what
 * tool chains really emit.
 */
#include "plugin/manifest.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/diag.h"
#include "base/fd.h"

static char dir[] = "/tmp/test-manifest-XXXXXX";
static struct diag diag;
static struct manifest *manifest;

static const char good[] =
    "#include <bulkhead.h>\n"
    "struct c { int n; const char *s; bh_strlist l; uint32_t t; };\n"
    "static const bh_opt o[] = {\n"
    "    BH_INT(struct c, n, \"5\", 1, 10, \"a number\"), BH_STR(struct c, s, NULL, \"text\"),\n"
    "    BH_STRLIST(struct c, l, \"[a, b]\", \"list\"),\n"
    "    BH_DURATION(struct c, t, \"5s\", 0, 60000, \"time\"), BH_OPT_END};\n"
    "static bh_rc f(void *s, bh_req *r, void *x) { return bh_reply(r, 200, NULL, \"x\"); }\n"
    "static bh_rc op(bh_inst *i, const void *c, void **s) { return BH_OK; }\n"
    "BH_PLUGIN(\"good\", \"1.2.3\", .summary = \"does good\", .caps = \"body\", .options = o,\n"
    "          .cfg_size = sizeof(struct c), .ctx_size = 8, .open = op, .on_request = f)\n";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[PATH_MAX];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static int begin(void **state)
{
    (void)state;
    diag_init(&diag);
    manifest = NULL;
    return 0;
}

static int end(void **state)
{
    (void)state;
    diag_fini(&diag);
    manifest_destroy(&manifest);
    return 0;
}

/* Compiles source with these arguments to DIR/x.so; false when the tool chain cannot do that. */
static const char *build(const char *source, const char *args)
{
    static char path[PATH_MAX];
    const char *sdk = getenv("BULKHEAD_SDK");
    char command[2 * PATH_MAX];
    FILE *f;

    snprintf(path, sizeof path, "%s/x.c", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(source, f);
    fclose(f);
    snprintf(path, sizeof path, "%s/x.so", dir);
    snprintf(command, sizeof command, "cc -w -fPIC -I'%s/include' '%s/x.c' -o '%s' %s 2>/dev/null",
             sdk != NULL ? sdk : "sdk", dir, path, args);
    unlink(path);
    return system(command) == 0 ? path : NULL;
}

static void assert_refused(const char *source, const char *args, const char *what)
{
    const char *path = build(source, args);

    assert_non_null(path);
    assert_true(manifest_read(path, NULL, &diag, &manifest) < 0);
    assert_null(manifest);
    assert_int_equal(diag.n_errors, 1);
    assert_string_equal(diag.item[0].file, path);
    if (strstr(diag.item[0].what, what) == NULL)
        fail_msg("'%s' does not say '%s'", diag.item[0].what, what);
    diag_fini(&diag);
}

static void check_good(const struct manifest *m)
{
    const bh_plugin *d = m->desc;

    assert_int_equal(m->abi_major, 1);
    assert_string_equal(d->name, "good");
    assert_string_equal(d->version, "1.2.3");
    assert_string_equal(d->summary, "does good");
    assert_string_equal(d->caps, "body");
    assert_int_equal(d->ctx_size, 8);
    assert_true(d->open != NULL && d->on_request != NULL);
    assert_true(d->close == NULL && d->on_log == NULL);
    assert_string_equal(d->options[0].name, "n");
    assert_string_equal(d->options[0].def, "5");
    assert_true(d->options[0].max == 10);
    assert_string_equal(d->options[2].help, "list");
    assert_null(d->options[4].name);
}

static void every_way_to_link_is_read(void **state)
{
    static const char *const ways[] = {
        "-shared",
        "-shared -O2 -g -Wl,--build-id",
        "-shared -s",
        "-shared -Wl,--hash-style=sysv",
        "-shared -Wl,--hash-style=gnu",
        "-shared -Wl,-z,pack-relative-relocs",
        "-shared -Wl,-z,now,-z,relro -Wl,-z,separate-code",
        "-shared -Wl,-z,noseparate-code",
        "-shared -fuse-ld=gold",
        "-shared -fuse-ld=lld",
        "-shared -flto -O2",
        "-shared -fvisibility=hidden -fno-plt",
        "-shared -ffunction-sections -fdata-sections -Wl,--gc-sections",
    };
    int n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        const char *path = build(good, ways[i]);

        if (path == NULL) /* a linker that is not installed */
            continue;
        n++;
        if (manifest_read(path, NULL, &diag, &manifest) < 0)
            fail_msg("%s: %s", ways[i], diag.item[0].what);
        check_good(manifest);
        if (strstr(ways[i], "build-id") != NULL)
            assert_int_equal(strlen(manifest->build_id), 40);
        manifest_destroy(&manifest);
    }
    assert_true(n >= 5);
}

static void libraries_are_listed(void **state)
{
    (void)state;
    assert_int_equal(
        manifest_read(build(good, "-shared -Wl,--no-as-needed -lm"), NULL, &diag, &manifest), 0);
    assert_string_equal(manifest->needed[0], "libm.so.6");
    assert_string_equal(manifest->needed[1], "libc.so.6");
    assert_null(manifest->needed[2]);
}

static void what_is_no_plugin_is_told_apart(void **state)
{
    static const char renamed[] = "#include <bulkhead.h>\n"
                                  "#define bh_plugin_v1 other_entry\n"
                                  "BH_PLUGIN(\"x\", \"1\")\n";
    static const char hidden[] = "#include <bulkhead.h>\n"
                                 "#define bh_plugin_v1_descriptor other_descriptor\n"
                                 "BH_PLUGIN(\"x\", \"1\")\n";

    (void)state;
    assert_refused("int x;", "-shared", "no Bulkhead ABI note");
    assert_refused("int main(void) { return 0; }", "-pie", "is a program");
    assert_refused("int main(void) { return 0; }", "-no-pie", "not a shared object");
    assert_refused(good, "-c", "not a shared object");
    assert_refused(renamed, "-shared", "no entry point bh_plugin_v1");
    assert_refused(hidden, "-shared", "no descriptor bh_plugin_v1_descriptor");
}

static void wrong_abi_says_which_is_wanted(void **state)
{
    static const char major[] = "#include <bulkhead.h>\n"
                                "#undef BH_ABI_MAJOR\n#define BH_ABI_MAJOR 2\n"
                                "BH_PLUGIN(\"x\", \"1\")\n";
    static const char minor[] = "#define BH_TARGET_MINOR 9\n#include <bulkhead.h>\n"
                                "BH_PLUGIN(\"x\", \"1\")\n";

    (void)state;
    assert_refused(major, "-shared", "is built for plugin ABI 2.1; this server has 1.1");
    assert_refused(minor, "-shared", "needs plugin ABI 1.9 at least; this server has 1.1");
}

#define PLUGIN(options, more)                                              \
    "#include <bulkhead.h>\nstruct c { int n; const char *s; char b; };\n" \
    "static const bh_opt o[] = {" options "};\n"                           \
    "BH_PLUGIN(\"x\", \"1\", .options = o, .cfg_size = sizeof(struct c)" more ")\n"

static void malformed_descriptors_are_refused(void **state)
{
    (void)state;
    assert_refused(PLUGIN("BH_INT(struct c, n, \"5\", 9, 1, \"\"), BH_OPT_END", ""), "-shared",
                   "impossible range");
    assert_refused(PLUGIN("BH_INT(struct c, n, \"50\", 1, 9, \"\"), BH_OPT_END", ""), "-shared",
                   "its own default '50' is refused: must be from 1 to 9");
    assert_refused(PLUGIN("{\"n\", BH_T_INT, 0, 400, 0, 0, 0, 0, 0, 4}, BH_OPT_END", ""), "-shared",
                   "outside of the config struct");
    assert_refused(PLUGIN("{\"n\", BH_T_INT, 0, 0, 0, 0, 0, 0, 0, 3}, BH_OPT_END", ""), "-shared",
                   "cannot hold a int");
    assert_refused(PLUGIN("{\"n\", 99, 0, 0, 0, 0, 0, 0, 0, 4}, BH_OPT_END", ""), "-shared",
                   "unknown type");
    assert_refused(PLUGIN("BH_STR(struct c, b, 0, \"\"), BH_OPT_END", ""), "-shared",
                   "1 bytes cannot hold a string");
    assert_refused(PLUGIN("BH_ENUM(struct c, n, 0, 0, \"\"), BH_OPT_END", ""), "-shared",
                   "without choices");
    assert_refused(PLUGIN("BH_INT(struct c, n, 0, 0, 0, 0), BH_INT(struct c, n, 0, 0, 0, 0), "
                          "BH_OPT_END",
                          ""),
                   "-shared", "that of another");
    assert_refused(PLUGIN("BH_OPT_END", ", .struct_size = 16"), "-shared", "struct_size is 16");
    assert_refused(PLUGIN("BH_OPT_END", ", .name = (char *)0x7fffffffffff"), "-shared",
                   "the name lies outside");
    assert_refused(PLUGIN("BH_OPT_END", ", .name = \"a\\nb\""), "-shared", "not plain UTF-8");
    assert_refused(PLUGIN("BH_OPT_END", ", .name = 0"), "-shared", "no name");
    assert_refused(PLUGIN("BH_OPT_END", ", .on_request = (void *)o"), "-shared",
                   "not a function of this object");
    assert_refused(PLUGIN("BH_OPT_END", ", .cfg_size = 1ul << 40"), "-shared", "over 1 MiB");
}

static void undefined_symbols_are_named(void **state)
{
    static const char source[] =
        "#include <bulkhead.h>\n#include <math.h>\n"
        "int nobody_has_this(void); double also_missing; extern int weak_one(void) "
        "__attribute__((weak));\n"
        "static bh_rc f(void *s, bh_req *r, void *x) { return nobody_has_this() + (weak_one ? 1 : 0)"
        " + (strlen((char *)s) > 3); }\n"
        "BH_PLUGIN(\"x\", \"1\", .on_request = f)\n";

    (void)state;
    assert_refused(source, "-shared", "undefined symbol: nobody_has_this");
}

static void symbols_of_needed_libraries_are_found(void **state)
{
    static const char source[] =
        "#include <bulkhead.h>\n"
        "int elf_version(unsigned); void *mpz_no;\n"
        "static bh_rc f(void *s, bh_req *r, void *x) { return elf_version(1); }\n"
        "BH_PLUGIN(\"x\", \"1\", .on_request = f)\n";
    const char *path = build(source, "-shared -Wl,--no-as-needed -lelf");

    (void)state;
    if (path == NULL)
        skip();
    assert_int_equal(manifest_read(path, NULL, &diag, &manifest), 0);
    manifest_destroy(&manifest);
    assert_refused(source, "-shared", "undefined symbol: elf_version");
}

static void unknown_libraries_keep_it_quiet(void **state)
{
    char args[PATH_MAX + 100];

    (void)state;
    assert_non_null(
        build("int only_there(void) { return 1; }", "-shared -Wl,-soname,libgone.so.1"));
    snprintf(args, sizeof args, "cp '%s/x.so' '%s/libgone.so'", dir, dir);
    assert_int_equal(system(args), 0);
    snprintf(args, sizeof args, "-shared -L'%s' -lgone", dir);
    assert_int_equal(
        manifest_read(build("#include <bulkhead.h>\nint only_there(void), not_there(void);\n"
                            "static bh_rc f(void *s, bh_req *r, void *x) { return only_there() + "
                            "not_there(); }\n"
                            "BH_PLUGIN(\"x\", \"1\", .on_request = f)\n",
                            args),
                      NULL, &diag, &manifest),
        0);
}

/* A reload would read megabytes of libraries for it each time. */
static void what_is_known_to_be_good_is_not_looked_for_again(void **state)
{
    static const char source[] =
        "#include <bulkhead.h>\n"
        "int not_there(void);\n"
        "static bh_rc f(void *s, bh_req *r, void *x) { return not_there(); }\n"
        "BH_PLUGIN(\"x\", \"1\", .on_request = f)\n";
    const char *path = build(source, "-shared");
    char known[DIGEST_TEXT];

    (void)state;
    assert_int_equal(digest_file(path, known), 0);
    assert_int_equal(manifest_read(path, known, &diag, &manifest), 0);
    assert_string_equal(manifest->sha256, known);
    manifest_destroy(&manifest);
    known[0] = known[0] == '0' ? '1' : '0'; /* of other bytes */
    assert_true(manifest_read(path, known, &diag, &manifest) < 0);
}

static void unreadable_files_say_why(void **state)
{
    (void)state;
    assert_int_equal(manifest_read("/nonexistent.so", NULL, &diag, &manifest), -ENOENT);
    assert_string_equal(diag.item[0].what, "cannot be read: No such file or directory");
    assert_int_equal(manifest_read("/", NULL, &diag, &manifest), -EISDIR);
    assert_true(manifest_read("/etc/passwd", NULL, &diag, &manifest) < 0);
    assert_string_equal(diag.item[2].what, "is not an ELF file");
}

static void read_good(char **file, size_t *n)
{
    const char *path = build(good, "-shared");

    assert_non_null(path);
    assert_int_equal(fd_read_file(path, 1 << 20, file, n), 0);
}

static void other_machines_are_refused(void **state)
{
    char *file;
    size_t n;

    (void)state;
    read_good(&file, &n);
    file[offsetof(Elf64_Ehdr, e_machine)] = (char)EM_AARCH64;
    assert_true(manifest_parse(file, n, "t", NULL, &diag, &manifest) < 0);
    assert_non_null(strstr(diag.item[0].what, "another machine"));
    file[EI_CLASS] = ELFCLASS32;
    assert_true(manifest_parse(file, n, "t", NULL, &diag, &manifest) < 0);
    assert_non_null(strstr(diag.item[1].what, "32-bit"));
    free(file);
}

static void every_truncation_is_called_that(void **state)
{
    char *file, *part;
    size_t n, step;

    (void)state;
    read_good(&file, &n);
    step = getenv("BULKHEAD_TEST_SCALE") != NULL ? 61 : 7;
    for (size_t len = 0; len < n; len += step) {
        /* An allocation of exactly this size: a byte too far is found. */
        part = malloc(len + (len == 0));
        memcpy(part, file, len);
        assert_true(manifest_parse(part, len, "t", NULL, &diag, &manifest) < 0);
        assert_null(manifest);
        if (strstr(diag.item[0].what, len < 4 ? "is not an ELF file" : "is truncated") == NULL)
            fail_msg("%zu of %zu bytes: %s", len, n, diag.item[0].what);
        free(part);
        diag_fini(&diag);
    }
    free(file);
}

/* xorshift: the same bytes on every run. */
static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void flipped_bytes_never_harm(void **state)
{
    const char *scale = getenv("BULKHEAD_TEST_SCALE");
    int rounds = scale != NULL && atoi(scale) > 10 ? 500 : 20000, n_good = 0;
    uint64_t x = 88172645463325252ull;
    char *file, *copy;
    size_t n;

    (void)state;
    read_good(&file, &n);
    copy = malloc(n);
    for (int i = 0; i < rounds; i++) {
        int flips = 1 + (int)(next_random(&x) % 4);

        memcpy(copy, file, n);
        while (flips-- > 0) {
            uint64_t where = next_random(&x);

            /* Half of them where the structure is: headers and the dynamic sections. */
            copy[where % (where >> 63 ? n : 4096)] = (char)next_random(&x);
        }
        if (manifest_parse(copy, n, "t", NULL, &diag, &manifest) == 0) {
            n_good++;
            assert_non_null(manifest->desc->name);
        }
        manifest_destroy(&manifest);
        diag_fini(&diag);
    }
    assert_true(n_good > 0 && n_good < rounds);
    free(copy);
    free(file);
}

static void modules_are_found_in_order(void **state)
{
    const char *dirs[] = {"/nonexistent", dir};
    char path[PATH_MAX], other[PATH_MAX];
    char **names;

    (void)state;
    assert_non_null(build(good, "-shared"));
    assert_int_equal(manifest_find("x", dirs, 2, path, sizeof path), 0);
    assert_int_equal(path[0], '/');
    assert_int_equal(manifest_find("y", dirs, 2, path, sizeof path), -ENOENT);
    snprintf(other, sizeof other, "%s/x.so", dir);
    assert_int_equal(manifest_find(other, NULL, 0, path, sizeof path), 0);
    assert_int_equal(manifest_find(dir, NULL, 0, path, sizeof path), -ENOENT);
    names = manifest_list(dirs, 2);
    assert_non_null(names);
    assert_string_equal(names[0], names[1] != NULL ? "libgone" : "x");
    manifest_list_free(&names);
    assert_null(names);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(every_way_to_link_is_read),
        TEST(libraries_are_listed),
        TEST(what_is_no_plugin_is_told_apart),
        TEST(wrong_abi_says_which_is_wanted),
        TEST(malformed_descriptors_are_refused),
        TEST(undefined_symbols_are_named),
        TEST(symbols_of_needed_libraries_are_found),
        TEST(unknown_libraries_keep_it_quiet),
        TEST(what_is_known_to_be_good_is_not_looked_for_again),
        TEST(unreadable_files_say_why),
        TEST(other_machines_are_refused),
        TEST(every_truncation_is_called_that),
        TEST(flipped_bytes_never_harm),
        TEST(modules_are_found_in_order),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
