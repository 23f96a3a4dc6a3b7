/*
 * markdown.c - the table of keys as the reference part of docs/configuration.md.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "conf/schema.h"
#include "conf/yaml.h"

/* '|' would end a cell. */
static void print_cell(const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '|')
            putchar('\\');
        putchar(*s);
    }
}

static void put_range(const struct schema *s, char *buf, size_t size)
{
    char min[32], max[32];

    if (s->min == 0 && s->max == 0)
        return;
    if (s->kind == SCHEMA_DURATION) {
        value_print_duration((unsigned long long)s->min, min, sizeof min);
        value_print_duration((unsigned long long)s->max, max, sizeof max);
    } else if (s->kind == SCHEMA_SIZE) {
        value_print_size((unsigned long long)s->min, min, sizeof min);
        value_print_size((unsigned long long)s->max, max, sizeof max);
    } else {
        snprintf(min, sizeof min, "%lld", s->min);
        snprintf(max, sizeof max, "%lld", s->max);
    }
    if (s->min == s->max)
        snprintf(buf, size, ": %s", min);
    else
        snprintf(buf, size, ", %s to %s", min, max);
}

void cli_describe_type(const struct schema *s, char *buf, size_t size)
{
    static const char *const names[] = {
        [SCHEMA_INT] = "number",
        [SCHEMA_SIZE] = "size",
        [SCHEMA_DURATION] = "duration",
        [SCHEMA_STRINGS] = "list of words",
        [SCHEMA_NODE] = "mapping",
        [SCHEMA_LIST] = "list of mappings",
        [SCHEMA_NAMED] = "mapping by name",
        [SCHEMA_MAP] = "mapping",
        [SCHEMA_ABSENT] = NULL,
    };
    const char *name = names[s->kind];
    size_t n;

    if (s->kind == SCHEMA_ENUM) {
        schema_print_choices(s->form, " or ", buf, size);
        return;
    }
    snprintf(buf, size, "%s", name != NULL ? name : s->form != NULL ? s->form : "text");
    n = strlen(buf);
    if (s->kind == SCHEMA_INT || s->kind == SCHEMA_SIZE || s->kind == SCHEMA_DURATION)
        put_range(s, buf + n, size - n);
}

static void print_keys(const struct schema *keys, const char *path)
{
    char sub[128], type[256];

    printf("\n### %s\n\n| Key | Value | Default | |\n|---|---|---|---|\n",
           path[0] != '\0' ? path : "Top level");
    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        if (s->kind == SCHEMA_ABSENT)
            continue;
        printf("| `%s` | ", s->key);
        cli_describe_type(s, type, sizeof type);
        print_cell(type);
        printf(" | %s%s%s | ", s->def != NULL ? "`" : "",
               s->def != NULL   ? s->def
               : s->is_required ? "*required*"
                                : "",
               s->def != NULL ? "`" : "");
        print_cell(s->help);
        printf(" |\n");
    }
    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        const char *suffix = s->kind == SCHEMA_LIST ? "[]" : s->kind == SCHEMA_NAMED ? ".NAME" : "";

        if (s->kind == SCHEMA_ABSENT || s->keys == NULL || s->keys[0].key[0] == '\0')
            continue;
        snprintf(sub, sizeof sub, "%s%s%s%s", path, path[0] != '\0' ? "." : "", s->key, suffix);
        print_keys(s->keys, sub);
    }
}

static void print_absent(const struct schema *keys, const char *path)
{
    char sub[128];

    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        snprintf(sub, sizeof sub, "%s%s%s", path, path[0] != '\0' ? "." : "", s->key);
        if (s->kind == SCHEMA_ABSENT)
            printf("- `%s`: %s\n", sub, s->help);
        else if (s->keys != NULL && s->keys[0].key[0] != '\0')
            print_absent(s->keys, sub);
    }
}

void cli_print_markdown(void)
{
    printf("<!-- Made by `bulkhead schema --markdown`: do not edit. -->\n");
    print_keys(config_keys, "");
    printf("\n### Not in this version\n\nThese keys are refused:\n\n");
    print_absent(config_keys, "");
}
