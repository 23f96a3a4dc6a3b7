/* link: -Wl,--undefined=boundary_hook -Wl,--wrap=getopt_long */
/*
 * What every command says to --help has the form that completions and manual pages are made from.
 */
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/help_page.h"

static struct help_page page;

static void parse(const char *name, const char *text)
{
    const struct cli_command c = {.name = name, .summary = "does it"};

    help_page_parse(&c, strdup(text), &page);
}

/* One without a name when there is none. */
static const struct help_option *option(const char *name)
{
    static const struct help_option none;

    for (int i = 0; i < page.n_options; i++)
        if (strcmp(page.option[i].name, name) == 0)
            return &page.option[i];
    return &none;
}

static void options_are_found_with_their_texts(void **state)
{
    (void)state;
    parse("x", "usage: bulkhead x list|show ID [-c FILE | --dir DIR] [--json]\n"
               "       bulkhead x watch [--quick N]\n"
               "\n"
               "Prose, with --json in it.\n"
               "\n"
               "  -c, --config FILE   the config; default:\n"
               "                      this one\n"
               "      --dir DIR       a folder\n"
               "      --json          print JSON\n"
               "\n"
               "Exit status: 0 done.\n");
    assert_int_equal(page.n_subcommands, 3);
    assert_string_equal(page.subcommand[0], "list");
    assert_string_equal(page.subcommand[1], "show");
    assert_string_equal(page.subcommand[2], "watch");
    assert_true(page.takes_ids);
    assert_false(page.takes_files);
    assert_int_equal(page.n_options, 5);
    assert_int_equal(option("config")->letter, 'c');
    assert_string_equal(option("config")->arg, "FILE");
    assert_string_equal(option("config")->text, "the config; default: this one");
    assert_string_equal(option("dir")->arg, "DIR");
    assert_string_equal(option("json")->arg, "");
    assert_string_equal(option("quick")->arg, "N");
    assert_string_equal(page.option[4].name, "help");
    help_page_fini(&page);
}

/* Every command, those of later versions, too. */
static void every_command_says_what_it_takes(void **state)
{
    (void)state;
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        char usage[64];

        if (c->run == cli_help)
            continue;
        assert_int_equal(help_page_read(c, &page), 0);
        snprintf(usage, sizeof usage, "usage: bulkhead %s", c->name);
        if (strncmp(page.text, usage, strlen(usage)) != 0 || strstr(page.text, "\n\n") == NULL)
            fail_msg("bulkhead %s --help does not begin with \"%s\" and a paragraph", c->name,
                     usage);
        if (strlen(c->summary) < 5 || c->summary[strlen(c->summary) - 1] == '.')
            fail_msg("the summary of bulkhead %s: '%s'", c->name, c->summary);
        /* What stands in the text as an option is one. */
        for (const char *s = strstr(page.text, "\n  "); s != NULL; s = strstr(s + 1, "\n  ")) {
            const char *at = s + 1 + strspn(s + 1, " -");
            char name[HELP_WORD];

            if (at[-1] != '-' || at[-2] != '-')
                continue;
            snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " \n,"), at);
            if (option(name)->name[0] == '\0')
                fail_msg("bulkhead %s --help: --%s was not found", c->name, name);
            if (option(name)->text[0] == '\0')
                fail_msg("bulkhead %s --help: --%s has no text", c->name, name);
        }
        assert_true(page.n_options < HELP_OPTIONS);
        help_page_fini(&page);
    }
}

/* What commands give to getopt_long(), which is all that they take. */
static const struct option *taken;
static const char *taken_letters;

int __real_getopt_long(int argc, char *const *argv, const char *letters,
                       const struct option *options, int *index);
int __wrap_getopt_long(int argc, char *const *argv, const char *letters,
                       const struct option *options, int *index);

int __wrap_getopt_long(int argc, char *const *argv, const char *letters,
                       const struct option *options, int *index)
{
    taken = options;
    taken_letters = letters;
    return __real_getopt_long(argc, argv, letters, options, index);
}

static bool has_letter(char letter)
{
    for (int i = 0; i < page.n_options; i++)
        if (page.option[i].letter == letter)
            return true;
    return false;
}

/* Else neither completions nor the manual page would know it. */
static void every_option_that_a_command_takes_is_described(void **state)
{
    (void)state;
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        if (c->run == cli_help)
            continue;
        taken = NULL;
        assert_int_equal(help_page_read(c, &page), 0);
        if (taken == NULL)
            fail_msg("bulkhead %s: does not use getopt_long()", c->name);
        for (const struct option *o = taken; o != NULL && o->name != NULL; o++) {
            const struct help_option *told = option(o->name);

            if (told->name[0] == '\0')
                fail_msg("bulkhead %s --help: --%s is not described", c->name, o->name);
            if (told->text[0] == '\0' && strcmp(o->name, "help") != 0)
                fail_msg("bulkhead %s --help: --%s has no text", c->name, o->name);
            if ((told->arg[0] != '\0') != (o->has_arg != no_argument))
                fail_msg("bulkhead %s --help: does --%s take a value?", c->name, o->name);
        }
        for (const char *p = taken_letters; *p != '\0'; p++)
            if (*p != ':' && *p != '+' && !has_letter(*p))
                fail_msg("bulkhead %s --help: -%c is not described", c->name, *p);
        help_page_fini(&page);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_found_with_their_texts),
        cmocka_unit_test(every_command_says_what_it_takes),
        cmocka_unit_test(every_option_that_a_command_takes_is_described),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
