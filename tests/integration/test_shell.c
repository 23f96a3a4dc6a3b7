/*
 * test_shell.c - completions in the shells they are for, and manual pages in the tools that show them.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void needs(const char *program, const char *package)
{
    if (run_command(NULL, "command -v %s >/dev/null", program) == 0)
        return;
    print_message("skipped: there is no %s here (apt-get install %s)\n", program, package);
    skip();
}

static void wants(const char *out, const char *word)
{
    if (strstr(out, word) == NULL)
        harness_fail(__FILE__, __LINE__, "no \"%s\" in:\n%.3000s", word, out);
}

/* What bash offers after these words, separated by spaces; `words` are quoted for bash. */
static char *bash_offers(const char *words, int n, const char *folder)
{
    char *out;

    if (run_command(
            &out,
            "cd %s && bash -c '. <(\"$BULKHEAD\" completion bash) && COMP_WORDS=(\"$BULKHEAD\" "
            "%s) COMP_CWORD=%d && _bulkhead; echo \" ${COMPREPLY[*]} \"' 2>&1",
            folder, words, n) != 0)
        harness_fail(__FILE__, __LINE__, "bash: %s", out);
    return out;
}

static void check_bash(const char *words, int n, const char *offered)
{
    char *out = bash_offers(words, n, "/");

    wants(out, offered);
    free(out);
}

static void bash_completes(void **state)
{
    char *dir = tmp_dir(), *out, path[512];

    (void)state;
    needs("bash", "bash");
    check_bash("sta", 1, " status ");
    check_bash("crashes \"\"", 2, " list show watch ");
    check_bash("crashes s", 2, " show ");
    check_bash("reload --dr", 2, " --dry-run ");
    check_bash("nonsense \"\"", 2, "  ");
    /* Files where an option wants one, with spaces in their names. */
    snprintf(path, sizeof path, "%s/my site.yaml", dir);
    file_write(path, "x");
    out = bash_offers("check -c my", 3, dir);
    assert_string_equal(out, " my site.yaml \n");
    free(out);
    /* Ids of records, of the folder that was named. */
    snprintf(path, sizeof path, "%s/crashes", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/crashes/20260101T000000-w0-1.json", dir);
    file_write(path,
               "{\"schema\": \"bulkhead-crash/1\", \"id\": \"20260101T000000-w0-1\", \"time\": "
               "\"2026-01-01T00:00:00.000Z\"}");
    out = bash_offers("crashes show --dir crashes 2026", 5, dir);
    assert_string_equal(out, " 20260101T000000-w0-1 \n");
    free(out);
    free(dir);
}

/* All commands of `bulkhead --help`. */
static void check_all_commands(const char *offered)
{
    char *names, *save = NULL;

    assert_int_equal(run_command(&names, "$BULKHEAD --help | sed -n 's/^  \\([a-z]*\\) .*/\\1/p'"),
                     0);
    for (char *name = strtok_r(names, "\n", &save); name != NULL;
         name = strtok_r(NULL, "\n", &save))
        wants(offered, name);
    free(names);
}

static void every_shell_knows_every_command(void **state)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    char *out;

    (void)state;
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        assert_int_equal(run_command(&out, "$BULKHEAD completion %s", shells[i]), 0);
        check_all_commands(out);
        free(out);
    }
}

static void zsh_completes(void **state)
{
    char *dir = tmp_dir(), *out;

    (void)state;
    needs("zsh", "zsh");
    /* In a terminal of its own: what Tab makes of "bulkhead crashes w" and "bulkhead reload --dr". */
    assert_int_equal(
        run_command(
            &out,
            "cd %s && \"$BULKHEAD\" completion zsh > _bulkhead && zsh -n _bulkhead && cat > t.zsh <<'END'\n"
            "zmodload zsh/zpty\n"
            "zpty z zsh -f -i\n"
            "zpty -w z 'PS1=; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -d ./dump'\n"
            "zpty -w z 'bulkhead() { print -r -- \"<$*>\" }'\n"
            "zpty -n -w z $'bulkhead crashes w\\t\\n'\n"
            "zpty -n -w z $'bulkhead reload --dr\\t\\n'\n"
            "zpty -w z 'print the''end'\n"
            "while zpty -r z line; do print -r -- \"$line\"; [[ $line == theend* ]] && break; done\n"
            "END\n"
            "timeout 20 zsh -f t.zsh 2>&1",
            dir),
        0);
    wants(out, "<crashes watch>");
    wants(out, "<reload --dry-run>");
    free(out);
    free(dir);
}

static void check_fish(const char *typed, const char *offered)
{
    char *out;

    assert_int_equal(
        run_command(
            &out,
            "HOME=/nonexistent fish --no-config -c '\"$BULKHEAD\" completion fish | source; complete -C \"%s\"' 2>&1",
            typed),
        0);
    wants(out, offered);
    free(out);
}

static void fish_completes(void **state)
{
    (void)state;
    needs("fish", "fish");
    check_fish("bulkhead cra", "crashes\t");
    check_fish("bulkhead crashes w", "watch");
    check_fish("bulkhead reload --dr", "--dry-run\t");
}

static void check_manual(const char *section, const char *text)
{
    char *out, *dir = tmp_dir();

    assert_int_equal(run_command(NULL, "$BULKHEAD manual %s > %s/page", section, dir), 0);
    /* Whether pages that it refers to are installed is another matter. */
    run_command(
        &out, "mandoc -T lint %s/page 2>&1 | grep -v -e 'referenced manual not found' -e mandoc.db",
        dir);
    assert_string_equal(out, "");
    free(out);
    assert_int_equal(run_command(&out, "man -l --warnings %s/page 2>&1 >/dev/null", dir), 0);
    assert_string_equal(out, "");
    free(out);
    assert_int_equal(run_command(&out, "MANWIDTH=100 man -l %s/page | cat", dir), 0);
    wants(out, text);
    if (strcmp(section, "1") == 0)
        check_all_commands(out);
    free(out);
    free(dir);
}

static void manual_pages_are_sound(void **state)
{
    (void)state;
    needs("mandoc", "mandoc");
    needs("man", "man-db");
    check_manual("1", "-c, --config FILE");
    check_manual("5", "max_age");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bash_completes),         cmocka_unit_test(every_shell_knows_every_command),
        cmocka_unit_test(zsh_completes),          cmocka_unit_test(fish_completes),
        cmocka_unit_test(manual_pages_are_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
