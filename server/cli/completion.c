/*
 * completion.c - `bulkhead completion`: what shells offer after Tab, from the table of commands and
 * what each says to --help.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/help_page.h"

static const char help[] =
    "usage: bulkhead completion bash|zsh|fish\n"
    "\n"
    "Prints a completion script for a shell. `make install` and the Debian package put them where\n"
    "shells look. To try one: `source <(bulkhead completion bash)`.\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 no such shell.\n";

enum kind { NOTHING, FILES, FOLDERS, OTHER };

static enum kind kind_of(const struct help_option *o)
{
    if (o->arg[0] == '\0')
        return NOTHING;
    if (strncmp(o->arg, "FILE", 4) == 0 || strcmp(o->arg, "PATH") == 0)
        return FILES;
    return strcmp(o->arg, "DIR") == 0 ? FOLDERS : OTHER;
}

/* In single quotes; for zsh what ends a description is escaped. */
static void quote(const char *s, const char *to_escape)
{
    for (; *s != '\0'; s++) {
        if (*s == '\'') {
            fputs("'\\''", stdout);
            continue;
        }
        if (strchr(to_escape, *s) != NULL)
            putchar('\\');
        putchar(*s);
    }
}

/* One line of a description, without what the manual is for. */
static void print_summary(const struct help_option *o, const char *to_escape)
{
    char text[96];
    size_t n = strcspn(o->text, ";");

    if (n > 80)
        for (n = 80; n > 0 && o->text[n] != ' '; n--)
            continue;
    snprintf(text, sizeof text, "%.*s", (int)n, o->text);
    quote(text, to_escape);
}

/* ---- bash ---- */

static void bash_options(const struct help_page *p, const char *name, int kind)
{
    printf(" %s=' ", name);
    for (int i = 0; i < p->n_options; i++) {
        const struct help_option *o = &p->option[i];

        if (kind >= 0 && (int)kind_of(o) != kind)
            continue;
        if (o->letter != '\0')
            printf("-%c ", o->letter);
        if (o->name[0] != '\0')
            printf("--%s ", o->name);
    }
    printf("'");
}

static void bash_command(const struct help_page *p)
{
    printf("    %s)", p->name);
    bash_options(p, "options", -1);
    bash_options(p, "files", FILES);
    bash_options(p, "folders", FOLDERS);
    bash_options(p, "values", OTHER);
    printf(" subcommands='");
    for (int i = 0; i < p->n_subcommands; i++)
        printf("%s%s", i > 0 ? " " : "", p->subcommand[i]);
    printf("' rest=%s ;;\n", p->takes_ids ? "ids" : p->takes_files ? "files" : "");
}

static const char bash_begin[] =
    "# bash completion for bulkhead(1), made by `bulkhead completion bash`.\n"
    "_bulkhead()\n"
    "{\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
    "    local options files folders values subcommands rest i\n"
    "    local -a where=()\n"
    "    COMPREPLY=()\n";

static const char bash_end[] =
    "    *) return ;;\n"
    "    esac\n"
    "    if [[ $files == *\" $prev \"* ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); compopt -o filenames 2>/dev/null\n"
    "    elif [[ $folders == *\" $prev \"* ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); compopt -o filenames 2>/dev/null\n"
    "    elif [[ $values == *\" $prev \"* ]]; then\n"
    "        :\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
    "    elif ((COMP_CWORD == 2)) && [[ $subcommands ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$subcommands\" -- \"$cur\")\n"
    "    elif [[ $rest == ids ]]; then\n"
    "        for ((i = 2; i < COMP_CWORD - 1; i++)); do\n"
    "            case ${COMP_WORDS[i]} in -c | --config | --dir)\n"
    "                where+=(\"${COMP_WORDS[i]}\" \"${COMP_WORDS[i+1]}\") ;;\n"
    "            esac\n"
    "        done\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$(\"${COMP_WORDS[0]}\" crashes list \"${where[@]}\" 2>/dev/null |\n"
    "            sed -n '2,$s/^[^ ]*  *\\([^ ]*\\).*/\\1/p')\" -- \"$cur\")\n"
    "    elif [[ $rest == files ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); compopt -o filenames 2>/dev/null\n"
    "    fi\n"
    "} && complete -F _bulkhead bulkhead\n";

static void bash_names(void)
{
    printf("    if ((COMP_CWORD == 1)); then\n        mapfile -t COMPREPLY < <(compgen -W '");
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++)
        printf("%s ", c->name);
    printf(
        "--help --version' -- \"$cur\")\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
}

/* ---- zsh ---- */

static void zsh_option(const struct help_option *o)
{
    static const char *const actions[] = {
        [NOTHING] = "", [FILES] = ":_files", [FOLDERS] = ":_files -/", [OTHER] = ": "};

    printf(" \\\n        ");
    if (o->letter != '\0' && o->name[0] != '\0')
        printf("'(-%c --%s)'{-%c,--%s}'[", o->letter, o->name, o->letter, o->name);
    else if (o->letter != '\0')
        printf("'-%c[", o->letter);
    else
        printf("'--%s[", o->name);
    print_summary(o, "[]\\:");
    printf("]");
    if (kind_of(o) != NOTHING)
        printf(":%s%s", o->arg, actions[kind_of(o)]);
    printf("'");
}

static void zsh_command(const struct help_page *p)
{
    printf("    %s) _arguments", p->name);
    for (int i = 0; i < p->n_options; i++)
        zsh_option(&p->option[i]);
    if (p->n_subcommands > 0) {
        printf(" \\\n        '1:what:(");
        for (int i = 0; i < p->n_subcommands; i++)
            printf("%s%s", i > 0 ? " " : "", p->subcommand[i]);
        printf(")'");
    }
    if (p->takes_ids)
        printf(" \\\n        '*:id:_bulkhead_ids'");
    else if (p->takes_files)
        printf(" \\\n        '*:file:_files'");
    printf(" ;;\n");
}

static const char zsh_begin[] =
    "#compdef bulkhead\n"
    "# Made by `bulkhead completion zsh`.\n"
    "_bulkhead_ids() {\n"
    "    local -a ids\n"
    "    ids=(${(f)\"$(bulkhead crashes list 2>/dev/null | sed -n '2,$s/^[^ ]*  *\\([^ ]*\\).*/\\1/p')\"})\n"
    "    compadd -a ids\n"
    "}\n"
    "_bulkhead() {\n"
    "    local -a commands\n"
    "    commands=(\n";

static const char zsh_end[] = "    esac\n"
                              "}\n"
                              "if [[ $funcstack[1] == _bulkhead ]]; then\n"
                              "    _bulkhead \"$@\"\n"
                              "else\n"
                              "    compdef _bulkhead bulkhead\n"
                              "fi\n";

static void zsh_names(void)
{
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        printf("        '%s:", c->name);
        quote(c->summary, "\\:");
        printf("'\n");
    }
    printf(
        "    )\n    if ((CURRENT == 2)); then _describe command commands; return; fi\n"
        "    local command=$words[2]\n    shift words\n    ((CURRENT--))\n    case $command in\n");
}

/* ---- fish ---- */

static void fish_option(const struct help_page *p, const struct help_option *o)
{
    static const char *const actions[] = {[NOTHING] = "",
                                          [FILES] = " -r -F",
                                          [FOLDERS] = " -x -a '(__fish_complete_directories)'",
                                          [OTHER] = " -x"};

    printf("complete -c bulkhead -n '__fish_seen_subcommand_from %s'", p->name);
    if (o->letter != '\0')
        printf(" -s %c", o->letter);
    if (o->name[0] != '\0')
        printf(" -l %s", o->name);
    printf("%s -d '", actions[kind_of(o)]);
    print_summary(o, "\\");
    printf("'\n");
}

static void fish_command(const struct help_page *p)
{
    for (int i = 0; i < p->n_options; i++)
        fish_option(p, &p->option[i]);
    if (p->n_subcommands > 0) {
        char all[HELP_SUBCOMMANDS * HELP_WORD] = "";

        for (int i = 0; i < p->n_subcommands; i++) {
            strcat(all, i > 0 ? " " : "");
            strcat(all, p->subcommand[i]);
        }
        printf("complete -c bulkhead -n '__fish_seen_subcommand_from %s; and not "
               "__fish_seen_subcommand_from %s' -a '%s'\n",
               p->name, all, all);
    }
    if (p->takes_ids)
        printf("complete -c bulkhead -n '__fish_seen_subcommand_from %s' -a '(__bulkhead_ids)'\n",
               p->name);
    else if (p->takes_files)
        printf("complete -c bulkhead -n '__fish_seen_subcommand_from %s' -F\n", p->name);
}

static const char fish_begin[] =
    "# fish completion for bulkhead(1), made by `bulkhead completion fish`.\n"
    "function __bulkhead_ids\n"
    "    bulkhead crashes list 2>/dev/null | sed -n '2,$s/^[^ ]*  *\\([^ ]*\\).*/\\1/p'\n"
    "end\n"
    "complete -c bulkhead -f\n";

static void fish_names(void)
{
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        printf("complete -c bulkhead -n __fish_use_subcommand -a %s -d '", c->name);
        quote(c->summary, "\\");
        printf("'\n");
    }
}

/* ---- the command ---- */

static const struct shell {
    const char *name, *begin, *end;
    void (*names)(void);
    void (*command)(const struct help_page *p);
} shells[] = {
    {"bash", bash_begin, bash_end, bash_names, bash_command},
    {"zsh", zsh_begin, zsh_end, zsh_names, zsh_command},
    {"fish", fish_begin, "", fish_names, fish_command},
};

static int print(const struct shell *s)
{
    fputs(s->begin, stdout);
    s->names();
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        static struct help_page page; /* some 20 KiB */

        if (c->run == cli_help)
            continue;
        if (help_page_read(c, &page) < 0)
            return CLI_FAILED;
        s->command(&page);
        help_page_fini(&page);
    }
    fputs(s->end, stdout);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

int cli_completion(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c != 'h')
            return cli_usage_error(argv);
        return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
    }
    for (size_t i = 0; optind + 1 == argc && i < sizeof shells / sizeof shells[0]; i++)
        if (strcmp(argv[optind], shells[i].name) == 0)
            return print(&shells[i]);
    return cli_usage_error(argv);
}
