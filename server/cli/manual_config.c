/*
 * manual_config.c - bulkhead.yaml(5), from the table of keys. markdown.c makes the same of it for
 * docs/configuration.md.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/manual.h"
#include "conf/schema.h"
#include "conf/yaml.h"

static const char about[] =
    ".Sh DESCRIPTION\n"
    "One YAML file says what\n"
    ".Xr bulkhead 1\n"
    "serves.\n"
    ".Ic bulkhead check\n"
    "says what is wrong with one: every mistake at once, each with its place and\n"
    "what would work.\n"
    ".Pp\n"
    "The smallest file that serves something:\n"
    ".Bd -literal -offset indent\n"
    "version: 1\n"
    "listeners:\n"
    "  \\- {name: public, address: \"127.0.0.1:8080\"}\n"
    "plugins:\n"
    "  hello: {module: respond, config: {body: \"hello\\en\"}}\n"
    "routes:\n"
    "  \\- {chain: [hello]}\n"
    ".Ed\n"
    ".Pp\n"
    "Unknown keys are errors.\n"
    "Relative paths start at the folder of the file.\n"
    ".Bl -tag -width Ds\n"
    ".It sizes\n"
    "have units: 512, 8KiB, 1MiB, 1GiB (powers of 1024), 10kB, 5MB (powers of 1000).\n"
    ".It durations\n"
    "have units: 50ms, 10s, 5m, 1h, 1d; only 0 needs none.\n"
    ".It variables\n"
    "of the environment are ${NAME} and ${NAME:\\-default}, in plain and\n"
    "double\\-quoted values; $${ is a literal ${.\n"
    ".El\n"
    ".Pp\n"
    "Options of a plugin, its\n"
    ".Ic config ,\n"
    "are shown by\n"
    ".Ic bulkhead inspect Ar NAME .\n";

static void print_text(const char *s)
{
    manual_text(s, strlen(s));
}

static void print_keys(const struct schema *keys, const char *path)
{
    char sub[128], type[256];

    printf(".%s %s\\&\n.Bl -tag -width Ds\n", path[0] != '\0' ? "Ss" : "Sh",
           path[0] != '\0' ? path : "KEYS");
    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        if (s->kind == SCHEMA_ABSENT)
            continue;
        cli_describe_type(s, type, sizeof type);
        printf(".It Ic %s\n", s->key[0] != '\0' ? s->key : "(the value itself)");
        print_text(s->help);
        printf(".br\n");
        print_text(type);
        if (s->def != NULL) {
            printf(".br\ndefault: ");
            print_text(s->def);
        } else if (s->is_required) {
            printf(".br\nrequired\n");
        }
    }
    printf(".El\n");
    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        const char *suffix = s->kind == SCHEMA_LIST ? "[]" : s->kind == SCHEMA_NAMED ? ".NAME" : "";

        if (s->kind == SCHEMA_ABSENT || s->keys == NULL || s->keys[0].key[0] == '\0')
            continue;
        snprintf(sub, sizeof sub, "%s%s%s%s", path, path[0] != '\0' ? "." : "", s->key, suffix);
        print_keys(s->keys, sub);
    }
}

int manual_print_config_page(void)
{
    manual_heading("bulkhead.yaml", "5", "config file of the Bulkhead web server");
    fputs(about, stdout);
    print_keys(config_keys, "");
    printf(".Sh FILES\n.Bl -tag -width Ds\n.It Pa /etc/bulkhead/bulkhead.yaml\n"
           "the file that is taken when none is named.\n.El\n"
           ".Sh SEE ALSO\n.Xr bulkhead 1\n");
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}
