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

static void print_range(const struct schema *s)
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
        printf(": %s", min);
    else
        printf(", %s to %s", min, max);
}

static void print_type(const struct schema *s)
{
    char choices[256];

    switch (s->kind) {
    case SCHEMA_INT: printf("number"), print_range(s); break;
    case SCHEMA_SIZE: printf("size"), print_range(s); break;
    case SCHEMA_DURATION: printf("duration"), print_range(s); break;
    case SCHEMA_ENUM:
        schema_print_choices(s->form, " or ", choices, sizeof choices);
        print_cell(choices);
        break;
    case SCHEMA_STRINGS: printf("list of words"); break;
    case SCHEMA_NODE: printf("mapping"); break;
    case SCHEMA_LIST: printf("list of mappings"); break;
    case SCHEMA_NAMED: printf("mapping by name"); break;
    case SCHEMA_MAP: printf("mapping"); break;
    default: print_cell(s->form != NULL ? s->form : "text"); break;
    }
}

static void print_keys(const struct schema *keys, const char *path)
{
    char sub[128];

    printf("\n### %s\n\n| Key | Value | Default | |\n|---|---|---|---|\n",
           path[0] != '\0' ? path : "Top level");
    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        if (s->kind == SCHEMA_ABSENT)
            continue;
        printf("| `%s` | ", s->key);
        print_type(s);
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
