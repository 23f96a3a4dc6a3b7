/*
 * test_objects.c - plugin objects that cannot be loaded: each is refused with a message of its own,
 * by `bulkhead check`, by `bulkhead run` and by `bulkhead inspect`, and none of their code runs.
 */
#include "harness.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char good[] =
    "#include <bulkhead.h>\n"
    "static bh_rc hello(void *self, bh_req *req, void *ctx)\n"
    "{ return bh_reply(req, 200, \"text/plain\", \"hello\\n\"); }\n"
    "BH_PLUGIN(\"x\", \"1.2.3\", .summary = \"Greets\", .on_request = hello)\n";

/* Leaves a file behind when the object is loaded. */
static const char constructor[] = "#include <fcntl.h>\n"
                                  "__attribute__((constructor)) static void ran(void)\n"
                                  "{ open(\"constructor-ran\", O_CREAT | O_WRONLY, 0600); }\n";

static char *dir;
static char object[512];

static int set_up(void **state)
{
    (void)state;
    dir = tmp_dir();
    snprintf(object, sizeof object, "%s/x.so", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(dir);
    return 0;
}

static void build(const char *before, const char *after)
{
    char source[4096];

    snprintf(source, sizeof source, "%s%s%s", before, good, after);
    free(plugin_build(dir, "x", source));
}

static int command(const char *verb, char **said)
{
    char config[512];

    snprintf(config, sizeof config, "%s/c.yaml", dir);
    file_write(config,
               "version: 1\n"
               "server: {workers: 1}\n"
               "listeners: [{name: l, address: \"unix:%s/sock\"}]\n"
               "plugins:\n"
               "  p: {module: %s}\n"
               "routes: [{match: {path: /**}, chain: [p]}]\n"
               "crash: {dir: %s/crashes}\n",
               dir, object, dir);
    return run_command(said, "cd %s && timeout 20 \"$BULKHEAD\" %s -c c.yaml", dir, verb);
}

static void expect_says(const char *what, const char *said, const char *message)
{
    if (strstr(said, message) == NULL)
        harness_fail(__FILE__, __LINE__, "%s does not say \"%s\" but:\n%s", what, message, said);
}

static void assert_refused(const char *message)
{
    char ran[512];
    char *said;

    assert_int_equal(command("check", &said), 2);
    expect_says("check", said, message);
    expect_says("check", said, "c.yaml:5:");
    free(said);
    assert_int_not_equal(command("run", &said), 0);
    expect_says("run", said, message);
    free(said);
    assert_int_equal(run_command(&said, "cd %s && \"$BULKHEAD\" inspect x.so", dir), 2);
    expect_says("inspect", said, message);
    free(said);
    snprintf(ran, sizeof ran, "%s/constructor-ran", dir);
    assert_int_not_equal(access(ran, F_OK), 0);
}

static void a_good_one_is_sound_and_inspected_without_running(void **state)
{
    char ran[512];
    char *said;

    (void)state;
    build(constructor, "");
    assert_int_equal(run_command(&said, "cd %s && \"$BULKHEAD\" inspect x.so", dir), 0);
    expect_says("inspect", said, "1.2.3");
    expect_says("inspect", said, "Greets");
    expect_says("inspect", said, "on_request");
    free(said);
    assert_int_equal(command("check", &said), 0);
    free(said);
    snprintf(ran, sizeof ran, "%s/constructor-ran", dir);
    assert_int_not_equal(access(ran, F_OK), 0);
}

static void another_abi_major_is_refused(void **state)
{
    (void)state;
    /* The macro is used when BH_PLUGIN() is expanded, in the last line. */
    build(constructor, "");
    {
        char source[4096];

        snprintf(source, sizeof source,
                 "%s#include <bulkhead.h>\n#undef BH_ABI_MAJOR\n#define BH_ABI_MAJOR 2\n%s",
                 constructor, good);
        free(plugin_build(dir, "x", source));
    }
    assert_refused("is built for plugin ABI 2.1");
}

static void a_plugin_that_needs_a_newer_minor_is_refused(void **state)
{
    char source[4096];

    (void)state;
    snprintf(source, sizeof source,
             "%s#include <bulkhead.h>\n#undef BH_TARGET_MINOR\n#define BH_TARGET_MINOR 9\n%s",
             constructor, good);
    free(plugin_build(dir, "x", source));
    assert_refused("needs plugin ABI 1.9 at least");
}

static void an_object_without_a_note_is_refused(void **state)
{
    (void)state;
    free(plugin_build(dir, "x", "int bh_plugin_v1 = 1;\n"));
    assert_refused("has no Bulkhead ABI note");
}

static void a_missing_entry_point_is_refused(void **state)
{
    char source[4096];

    (void)state;
    snprintf(source, sizeof source,
             "%s#include <bulkhead.h>\n#undef BH_EXPORT\n"
             "#define BH_EXPORT __attribute__((visibility(\"hidden\")))\n%s",
             constructor, good);
    free(plugin_build(dir, "x", source));
    assert_refused("has no entry point bh_plugin_v1");
}

static void an_undefined_symbol_is_named(void **state)
{
    (void)state;
    build(constructor,
          "void nobody_has_this(void); void f(void); void f(void) { nobody_has_this(); }\n");
    assert_refused("undefined symbol: nobody_has_this");
}

static void a_truncated_object_is_refused_wherever_it_ends(void **state)
{
    static const long ends[] = {40, 64, 100, 500, 2000, 5000, 9000};
    struct stat st;

    (void)state;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        build(constructor, "");
        assert_int_equal(stat(object, &st), 0);
        if (ends[i] >= st.st_size)
            continue;
        assert_int_equal(truncate(object, ends[i]), 0);
        assert_refused("is truncated");
    }
    build(constructor, "");
    assert_int_equal(stat(object, &st), 0);
    assert_int_equal(truncate(object, st.st_size - 1), 0);
    assert_refused("is truncated");
}

static void an_empty_file_is_no_elf_file(void **state)
{
    (void)state;
    file_write(object, "%s", "");
    assert_refused("is not an ELF file");
}

static void a_text_file_is_no_elf_file(void **state)
{
    (void)state;
    file_write(object,
               "#!/bin/sh\necho this is not a plugin, whatever its name says, not at all\n");
    assert_refused("is not an ELF file");
}

static void a_folder_is_refused(void **state)
{
    char *said;

    (void)state;
    assert_int_equal(mkdir(object, 0755), 0);
    assert_int_equal(command("check", &said), 2);
    expect_says("check", said, "c.yaml:5:15: error: plugins.p.module: ");
    expect_says("check", said, "x.so is a folder, not an object\n");
    free(said);
    assert_int_equal(run_command(&said, "\"$BULKHEAD\" inspect %s", object), 2);
    expect_says("inspect", said, "Is a directory");
    free(said);
}

/* Asked for by name, in modules.path: "there is no module 'x', did you mean 'x'?" helps nobody. */
static void what_stands_there_and_is_no_object_is_named(void **state)
{
    static const struct {
        const char *make, *says;
    } rows[] = {
        {"mkdir x.so", "x.so is a folder, not an object\n"},
        {"mkdir f && ln -s f x.so", "x.so leads to a folder, not to an object\n"},
        {"ln -s nowhere x.so",
         "x.so is a symbolic link that cannot be followed: No such file or directory\n"},
        {"ln -s x.so x.so",
         "x.so is a symbolic link that cannot be followed: Too many levels of symbolic links\n"},
        {"mkfifo x.so", "x.so: is empty, and so is not an ELF file\n"},
    };
    char config[512], *said;

    (void)state;
    snprintf(config, sizeof config, "%s/c.yaml", dir);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(run_command(NULL, "cd %s && rm -rf x.so f && %s", dir, rows[i].make), 0);
        file_write(config,
                   "version: 1\n"
                   "listeners: [{name: l, address: \"unix:%s/sock\"}]\n"
                   "modules: {path: [.]}\n"
                   "plugins: {p: {module: x}}\n"
                   "routes: [{chain: [p]}]\n",
                   dir);
        assert_int_equal(
            run_command(&said, "cd %s && timeout 20 \"$BULKHEAD\" check -c c.yaml", dir), 2);
        expect_says("check", said, "c.yaml:4:23: error: plugins.p.module: ");
        expect_says("check", said, rows[i].says);
        free(said);
    }
}

static void a_missing_file_is_refused(void **state)
{
    char *said;

    (void)state;
    assert_int_equal(command("check", &said), 2);
    expect_says("check", said, "c.yaml:5:15: error: plugins.p.module: there is no module");
    free(said);
    assert_int_equal(run_command(&said, "\"$BULKHEAD\" inspect %s", object), 2);
    expect_says("inspect", said, "No such file");
    free(said);
}

/* Overwrites bytes of the object. */
static void patch(long at, const void *p, size_t n)
{
    int fd = open(object, O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, p, n, at), n);
    close(fd);
}

static void another_machine_is_refused(void **state)
{
    const Elf64_Half arm = EM_AARCH64;

    (void)state;
    build(constructor, "");
    patch(offsetof(Elf64_Ehdr, e_machine), &arm, sizeof arm);
    assert_refused("is built for another machine");
}

static void a_32_bit_object_is_refused(void **state)
{
    const char class = ELFCLASS32;

    (void)state;
    build(constructor, "");
    patch(EI_CLASS, &class, 1);
    assert_refused("is a 32-bit object");
}

static void a_program_is_refused(void **state)
{
    char *said;

    (void)state;
    assert_int_equal(
        run_command(&said, "cd %s && echo 'int main(void){return 0;}' > m.c && cc m.c -o x.so",
                    dir),
        0);
    free(said);
    {
        char *out;

        assert_int_equal(command("check", &out), 2);
        free(out);
    }
}

static void what_the_loader_makes_of_it_is_told(void **state)
{
    static const char odd[] =
        "#include <bulkhead.h>\n"
        "static __thread char tls[200] __attribute__((tls_model(\"initial-exec\")));\n"
        "__asm__(\".type unique, @gnu_unique_object\\n.globl unique\\n\"\n"
        "        \".data\\nunique: .long 1\\n.size unique, 4\\n.text\\n\");\n"
        "static bh_rc answer(void *self, bh_req *req, void *ctx)\n"
        "{ (void)self; (void)ctx; tls[0]++; return bh_reply(req, 200, NULL, tls); }\n"
        "BH_PLUGIN(\"x\", \"1\", .on_request = answer)\n";
    char *out;

    (void)state;
    free(plugin_build(dir, "x", odd));
    assert_int_equal(run_command(&out, "cd %s && \"$BULKHEAD\" inspect ./x.so", dir), 0);
    assert_non_null(strstr(out, "defines 1 unique symbol (unique)"));
    assert_non_null(strstr(out, "needs static TLS"));
    assert_null(strstr(out, "never unmapped"));
    free(out);
    assert_int_equal(
        run_command(NULL, "cd %s && cc -shared -fPIC -w -Wl,-z,nodelete -I%s/include x.c -o x.so",
                    dir, getenv("BULKHEAD_SDK")),
        0);
    assert_int_equal(run_command(&out, "cd %s && \"$BULKHEAD\" inspect ./x.so", dir), 0);
    assert_non_null(strstr(out, "never unmapped (NODELETE)"));
    free(out);
}

/* Whatever byte is wrong, nothing crashes and nothing hangs. */
static void damaged_objects_are_refused_or_sound(void **state)
{
    struct stat st;
    unsigned seed = 1;

    (void)state;
    build("", "");
    assert_int_equal(stat(object, &st), 0);
    for (int i = 0; i < 60; i++) {
        char junk[8];
        char *said;
        int code;

        if (i % 4 == 0)
            build("", "");
        for (size_t k = 0; k < sizeof junk; k++)
            junk[k] = (char)(seed = seed * 1103515245 + 12345);
        patch((long)((seed >> 8) % (unsigned)(i % 2 ? 1024 : st.st_size - 8)), junk, sizeof junk);
        code = run_command(&said, "timeout 20 \"$BULKHEAD\" inspect %s", object);
        if (code != 0 && code != 2)
            harness_fail(__FILE__, __LINE__, "round %d: inspect ended with %d:\n%s", i, code, said);
        free(said);
    }
}

int main(void)
{
#define T(NAME) cmocka_unit_test_setup_teardown(NAME, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_good_one_is_sound_and_inspected_without_running),
        T(what_the_loader_makes_of_it_is_told),
        T(another_abi_major_is_refused),
        T(a_plugin_that_needs_a_newer_minor_is_refused),
        T(an_object_without_a_note_is_refused),
        T(a_missing_entry_point_is_refused),
        T(an_undefined_symbol_is_named),
        T(a_truncated_object_is_refused_wherever_it_ends),
        T(an_empty_file_is_no_elf_file),
        T(a_text_file_is_no_elf_file),
        T(a_folder_is_refused),
        T(what_stands_there_and_is_no_object_is_named),
        T(a_missing_file_is_refused),
        T(another_machine_is_refused),
        T(a_32_bit_object_is_refused),
        T(a_program_is_refused),
        T(damaged_objects_are_refused_or_sound),
    };

    return cmocka_run_group_tests_name("objects", tests, NULL, NULL);
}
