/*
 * manual.c - `bulkhead manual`: bulkhead(1), from the table of commands and what each says to --help,
 * and bulkhead.yaml(5), from the table of keys. In mdoc(7).
 */
#include "cli/manual.h"

#include <ctype.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/help_page.h"

static const char help[] =
    "usage: bulkhead manual 1|5\n"
    "\n"
    "Prints a manual page in mdoc(7): 1 is bulkhead(1), the commands, 5 is bulkhead.yaml(5), the\n"
    "config file. To read one: `bulkhead manual 5 | man -l -`.\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 no such page.\n";

#define LINE_WIDTH 76

/* ---- text ---- */

/* A line of the source is to end here: a new sentence begins, or the next word would make it too long. */
static bool breaks_line(const char *s, size_t i, size_t n, size_t column)
{
    size_t word = 0;

    if (s[i] == '\n')
        return true;
    if (s[i] != ' ' || i == 0 || i + 1 >= n)
        return false;
    if (strchr(".:?", s[i - 1]) != NULL && isupper((unsigned char)s[i + 1]))
        return true;
    for (size_t k = i + 1; k < n && s[k] != ' ' && s[k] != '\n'; k++)
        word += s[k] == '-' || s[k] == '`' ? 3 : 1;
    return column + 1 + word > LINE_WIDTH;
}

void manual_text(const char *s, size_t n)
{
    bool in_code = false;
    size_t column = 0;

    for (size_t i = 0; i < n; i++) {
        if (s[i] == '`') {
            column += (size_t)printf(in_code ? "\\fR" : "\\fB");
            in_code = !in_code;
        } else if (s[i] == '\\' || s[i] == '-') {
            column += (size_t)printf(s[i] == '-' ? "\\-" : "\\e");
        } else if (breaks_line(s, i, n, column)) {
            if (i + 1 < n)
                putchar('\n');
            column = 0;
        } else if (column == 0 && (s[i] == '.' || s[i] == '\'')) {
            column += (size_t)printf("\\&%c", s[i]);
        } else if (s[i] == '(' && i > 0 && isalnum((unsigned char)s[i - 1])) {
            column += (size_t)printf("\\&("); /* "malloc()" is no reference to a page */
        } else {
            putchar(s[i]);
            column++;
        }
    }
    fputs(in_code ? "\\fR\n" : "\n", stdout);
}

void manual_heading(const char *name, const char *section, const char *what)
{
    char upper[64];

    snprintf(upper, sizeof upper, "%s", name);
    for (char *at = upper; *at != '\0'; at++)
        *at = (char)toupper((unsigned char)*at);
    printf(".\\\" Made by `bulkhead manual %s`: do not edit.\n"
           ".Dd " MANUAL_DATE "\n.Dt %s %s\n.Os\n"
           ".Sh NAME\n.Nm %s\n.Nd %s\n",
           section, upper, section, name, what);
}

/* ---- a command ---- */

static void print_option(const struct help_option *o)
{
    printf(".It");
    if (o->letter != '\0')
        printf(" Fl %c", o->letter);
    if (o->name[0] != '\0')
        printf("%s Fl \\-%s", o->letter != '\0' ? " ," : "", o->name);
    if (o->arg[0] != '\0')
        printf(" Ar %s", o->arg);
    putchar('\n');
    if (o->text[0] != '\0')
        manual_text(o->text, strlen(o->text));
}

static void print_options(const struct help_page *p)
{
    int n = 0;

    for (int i = 0; i + 1 < p->n_options; i++) { /* the last is --help */
        if (p->option[i].text[0] == '\0')
            continue;
        if (n++ == 0)
            printf(".Bl -tag -width Ds\n");
        print_option(&p->option[i]);
    }
    if (n > 0)
        printf(".El\n");
}

static void print_literal(const char *s, size_t n)
{
    printf(".Bd -literal -offset indent\n");
    for (size_t i = 0; i < n; i++) {
        if ((i == 0 || s[i - 1] == '\n') && (s[i] == '.' || s[i] == '\''))
            fputs("\\&", stdout);
        if (s[i] == '\\')
            fputs("\\e", stdout);
        else if (s[i] == '-')
            fputs("\\-", stdout);
        else
            putchar(s[i]);
    }
    printf("%s.Ed\n", n > 0 && s[n - 1] != '\n' ? "\n" : "");
}

/* All lines are seven characters in: "usage: ". */
static void print_usage(const char *s, size_t n)
{
    char text[2048];
    size_t k = 0;

    for (size_t i = 0, column = 0; i < n && k < sizeof text; i++, column++) {
        if (column >= strlen("usage: ") || s[i] == '\n')
            text[k++] = s[i];
        if (s[i] == '\n')
            column = (size_t)-1;
    }
    print_literal(text, k);
}

static bool is_option_block(const char *s)
{
    s += strspn(s, " ");
    return s[0] == '-';
}

/* The paragraphs: usage, prose, blocks of options, other indented lines. */
static void print_body(const struct help_page *p)
{
    bool is_usage = true, has_options = false;

    for (const char *s = p->text; *s != '\0';) {
        const char *end = strstr(s, "\n\n");
        size_t n = end != NULL ? (size_t)(end - s) : strlen(s);

        while (n > 0 && s[n - 1] == '\n')
            n--;
        if (is_usage) {
            print_usage(s, n);
        } else if (s[0] == ' ' && is_option_block(s)) {
            if (!has_options)
                print_options(p);
            has_options = true;
        } else if (s[0] == ' ') {
            print_literal(s, n);
            has_options = true; /* such a block describes them in its own way */
        } else {
            printf(".Pp\n");
            manual_text(s, n);
        }
        is_usage = false;
        if (end == NULL)
            break;
        s = end + 2;
    }
}

/* ---- bulkhead(1) ---- */

static const char synopsis[] =
    ".Sh SYNOPSIS\n"
    ".Nm\n"
    ".Ar command\n"
    ".Op Ar option ...\n"
    ".Sh DESCRIPTION\n"
    ".Nm\n"
    "serves each request through a chain of plugins, which a YAML file defines.\n"
    "A plugin is a shared object in the server's own process.\n"
    "Every call into one runs inside a recovery boundary, so that a plugin that\n"
    "crashes costs the request that it was working on, not the server.\n"
    ".Pp\n"
    "Every command has\n"
    ".Fl \\-help .\n"
    "The commands are:\n";

static const char rest[] = ".Sh SIGNALS\n"
                           "To the master, the process that\n"
                           ".Ic run\n"
                           "was started as:\n"
                           ".Bl -tag -width \"SIGTERM, SIGINT\"\n"
                           ".It Dv SIGTERM , SIGINT\n"
                           "no new connections; requests in flight end.\n"
                           "A second one ends at once.\n"
                           ".It Dv SIGQUIT\n"
                           "ends at once.\n"
                           ".It Dv SIGHUP\n"
                           "loads config, plugins and certificates anew.\n"
                           ".It Dv SIGUSR1\n"
                           "opens log files anew.\n"
                           ".It Dv SIGUSR2\n"
                           "runs the executable again, which takes over sockets and connections.\n"
                           ".El\n"
                           ".Sh ENVIRONMENT\n"
                           ".Bl -tag -width Ds\n"
                           ".It Ev TMPDIR\n"
                           "where private copies of plugins go; default:\n"
                           ".Pa /tmp .\n"
                           ".It Ev RUNTIME_DIRECTORY , XDG_RUNTIME_DIR\n"
                           "where the control socket is, unless the config names one.\n"
                           ".It Ev NOTIFY_SOCKET , WATCHDOG_USEC , LISTEN_FDS\n"
                           "what\n"
                           ".Xr systemd 1\n"
                           "says to services.\n"
                           ".El\n"
                           ".Pp\n"
                           "The config file may refer to any variable.\n"
                           ".Sh FILES\n"
                           ".Bl -tag -width Ds\n"
                           ".It Pa /etc/bulkhead/bulkhead.yaml\n"
                           "the config file, when\n"
                           ".Fl c\n"
                           "is not given; where it does not exist,\n"
                           ".Pa config/bulkhead.yaml .\n"
                           ".It Pa /run/bulkhead\n"
                           "the control socket of a server that root has started, or systemd.\n"
                           ".El\n"
                           ".Sh EXIT STATUS\n"
                           "0: done.\n"
                           "1: it could not be done.\n"
                           "2: the config, an argument or an object is wrong.\n"
                           "Commands that have more say so above.\n"
                           ".Sh EXAMPLES\n"
                           ".Bd -literal -offset indent\n"
                           "bulkhead check \\-c site.yaml\n"
                           "bulkhead run \\-c site.yaml\n"
                           "bulkhead status \\-c site.yaml\n"
                           "bulkhead crashes show \\-\\-last \\-c site.yaml\n"
                           "bulkhead reload \\-\\-wait \\-c site.yaml\n"
                           ".Ed\n"
                           ".Sh SEE ALSO\n"
                           ".Xr bulkhead.yaml 5\n";

static int print_commands_page(void)
{
    manual_heading("bulkhead", "1", "web server whose plugins may crash");
    fputs(synopsis, stdout);
    printf(".Bl -tag -width completion -compact\n");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        printf(".It Ic %s\n", c->name);
        manual_text(c->summary, strlen(c->summary));
    }
    printf(".El\n.Sh COMMANDS\n");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        static struct help_page page;

        if (c->run == cli_help)
            continue;
        if (help_page_read(c, &page) < 0)
            return CLI_FAILED;
        printf(".Ss bulkhead %s\n", c->name);
        print_body(&page);
        help_page_fini(&page);
    }
    fputs(rest, stdout);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

/* ---- the command ---- */

int cli_manual(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c != 'h')
            return cli_usage_error(argv);
        return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
    }
    if (optind + 1 == argc && strcmp(argv[optind], "1") == 0)
        return print_commands_page();
    if (optind + 1 == argc && strcmp(argv[optind], "5") == 0)
        return manual_print_config_page();
    return cli_usage_error(argv);
}
