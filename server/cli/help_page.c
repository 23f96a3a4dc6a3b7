#include "cli/help_page.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

/* ---- words ---- */

static size_t word_length(const char *s)
{
    return strcspn(s, " \n[]|(),.");
}

static void copy_word(char *to, size_t size, const char *from, size_t n)
{
    if (n >= size)
        n = size - 1;
    memcpy(to, from, n);
    to[n] = '\0';
}

static bool is_lower_word(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) && s[i] != '-')
            return false;
    return n > 0 && s[0] != '-';
}

static bool is_upper_word(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isupper((unsigned char)s[i]) && s[i] != '=' && s[i] != '_')
            return false;
    return n > 0;
}

/* ---- options ---- */

static struct help_option *find_option(struct help_page *p, char letter, const char *name)
{
    for (int i = 0; i < p->n_options; i++) {
        struct help_option *o = &p->option[i];

        if ((name[0] != '\0' && strcmp(o->name, name) == 0) ||
            (letter != '\0' && o->letter == letter))
            return o;
    }
    return NULL;
}

static struct help_option *add_option(struct help_page *p, const struct help_option *o)
{
    struct help_option *known = find_option(p, o->letter, o->name);

    if (known == NULL && p->n_options < HELP_OPTIONS) {
        known = &p->option[p->n_options++];
        *known = *o;
    }
    return known;
}

/* "-c, --config FILE" or "--json"; *end: behind it. False: no option stands there. */
static bool read_option(const char *s, struct help_option *o, const char **end)
{
    size_t n;

    *o = (struct help_option){.letter = '\0'};
    if (s[0] == '-' && isalnum((unsigned char)s[1]) && !isalnum((unsigned char)s[2])) {
        o->letter = s[1];
        s += 2;
        if (strncmp(s, ", --", 4) == 0)
            s += 2;
    }
    if (strncmp(s, "--", 2) == 0 && islower((unsigned char)s[2])) {
        n = strspn(s + 2, "abcdefghijklmnopqrstuvwxyz-");
        copy_word(o->name, sizeof o->name, s + 2, n);
        s += 2 + n;
    }
    if (o->letter == '\0' && o->name[0] == '\0')
        return false;
    n = s[0] == ' ' ? strcspn(s + 1, " \n])") : 0;
    if (n > 0 && is_upper_word(s + 1, strcspn(s + 1, " \n])|.=") + 0)) {
        copy_word(o->arg, sizeof o->arg, s + 1, n);
        s += 1 + n;
    }
    *end = s;
    return true;
}

static void append(struct help_option *o, const char *s, size_t n)
{
    size_t used = strlen(o->text);

    while (n > 0 && *s == ' ') {
        s++;
        n--;
    }
    if (used > 0 && used + 1 < sizeof o->text)
        o->text[used++] = ' ';
    copy_word(o->text + used, sizeof o->text - used, s, n);
}

/* ---- the parts of a text ---- */

/* A positional argument. */
static void read_argument(struct help_page *p, const char *s)
{
    if (strncmp(s, "FILE", 4) == 0 || strncmp(s, "DIR", 3) == 0)
        p->takes_files = true;
    if (strncmp(s, "ID", 2) == 0 && !isalnum((unsigned char)s[2]))
        p->takes_ids = true;
}

static void read_subcommands(struct help_page *p, const char *s)
{
    for (size_t n = word_length(s); is_lower_word(s, n); n = word_length(s)) {
        bool is_known = false;

        for (int i = 0; i < p->n_subcommands; i++)
            is_known |= strlen(p->subcommand[i]) == n && strncmp(p->subcommand[i], s, n) == 0;
        if (!is_known && p->n_subcommands < HELP_SUBCOMMANDS)
            copy_word(p->subcommand[p->n_subcommands++], HELP_WORD, s, n);
        s += n;
        if (*s != '|')
            break;
        s++;
    }
}

static void read_usage(struct help_page *p, const char *line, size_t len)
{
    char name[64];
    size_t n = (size_t)snprintf(name, sizeof name, "bulkhead %s ", p->name);
    const char *end = line + len, *at = memmem(line, len, name, n), *after;
    struct help_option o;

    if (at != NULL)
        read_subcommands(p, at + n);
    for (const char *s = at != NULL ? at + n : line; s < end; s++) {
        bool begins = s == line || strchr(" [|(", s[-1]) != NULL;

        if (begins && *s == '-' && read_option(s, &o, &after) && after <= end) {
            add_option(p, &o);
            s = after - 1;
        } else if (begins && isupper((unsigned char)*s)) {
            read_argument(p, s);
        }
    }
}

void help_page_parse(const struct cli_command *c, char *text, struct help_page *out)
{
    struct help_option *current = NULL, o;
    size_t column = 0;
    bool in_usage = true;

    *out = (struct help_page){.name = c->name, .summary = c->summary, .text = text};
    for (const char *line = text, *next; *line != '\0'; line = next) {
        size_t len = strcspn(line, "\n"), indent = strspn(line, " ");
        const char *end;

        next = line + len + (line[len] == '\n');
        in_usage = in_usage && len > 0;
        if (in_usage) {
            read_usage(out, line, len);
        } else if (indent > 0 && indent < len && read_option(line + indent, &o, &end)) {
            current = add_option(out, &o);
            if (current == NULL)
                continue;
            if (current->arg[0] == '\0')
                snprintf(current->arg, sizeof current->arg, "%s", o.arg);
            if (current->letter == '\0')
                current->letter = o.letter;
            if (current->name[0] == '\0')
                snprintf(current->name, sizeof current->name, "%s", o.name);
            column = (size_t)(end - line) + strspn(end, " ");
            append(current, end, (size_t)(line + len - end));
        } else if (current != NULL && len > 0 && indent + 1 >= column) {
            append(current, line + indent, len - indent);
        } else {
            current = NULL;
        }
    }
    o = (struct help_option){.letter = 'h', .name = "help", .text = "prints this"};
    add_option(out, &o);
}

int help_page_read(const struct cli_command *c, struct help_page *out)
{
    char title[64], help[] = "--help", *argv[] = {title, help, NULL}, *text = NULL;
    FILE *real = stdout;
    size_t n;

    snprintf(title, sizeof title, "bulkhead %s", c->name);
    fflush(stdout);
    stdout = open_memstream(&text, &n);
    if (stdout == NULL) {
        stdout = real;
        return -ENOMEM;
    }
    optind = 0;
    c->run(2, argv);
    fclose(stdout);
    stdout = real;
    if (text == NULL)
        return -ENOMEM;
    help_page_parse(c, text, out);
    return 0;
}

void help_page_fini(struct help_page *p)
{
    free(p->text);
    p->text = NULL;
}
