/*
 * inspect.c - `bulkhead inspect`: what a plugin object says about itself. Runs none of its code.
 */
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "cli/cli.h"
#include "conf/config.h"
#include "conf/schema.h"
#include "plugin/manifest.h"
#include "plugin/options.h"

static const char help[] =
    "usage: bulkhead inspect [--json] FILE.so|NAME...\n"
    "\n"
    "Shows what a plugin object says about itself: versions, hooks, options, libraries. NAME: a\n"
    "module that comes with Bulkhead. The object is only read, none of its code runs.\n"
    "\n"
    "      --json   print an object, or with several files an array\n"
    "\n"
    "Exit status: 0 all are sound, 2 one of them is not.\n";

#define HOOK(member)                         \
    {                                        \
#member, offsetof(bh_plugin, member) \
    }
static const struct hook_member {
    const char *name;
    size_t off;
} hooks[] = {
    HOOK(validate),
    HOOK(open),
    HOOK(restore),
    HOOK(start),
    HOOK(drain),
    HOOK(save),
    HOOK(close),
    HOOK(on_request),
    HOOK(on_request_body),
    HOOK(on_response),
    HOOK(on_response_body),
    HOOK(on_error),
    HOOK(on_log),
    HOOK(on_health),
};
#define N_HOOKS (sizeof hooks / sizeof hooks[0])

static const struct flag_name {
    uint32_t flag;
    const char *name;
} flags[] = {{BH_F_SERIAL, "serial"}, {BH_F_PINNED, "pinned"}, {BH_F_OWN_PROC, "own_process"}};
#define N_FLAGS (sizeof flags / sizeof flags[0])

static bool has_hook(const bh_plugin *desc, const struct hook_member *hook)
{
    void *fn;

    memcpy(&fn, (const char *)desc + hook->off, sizeof fn);
    return fn != NULL;
}

/* What a value may be: a range, the choices, or nothing. */
static void print_limits(const bh_opt *o, char *buf, size_t size)
{
    char min[40], max[40];

    buf[0] = '\0';
    if (o->type == BH_T_ENUM) {
        schema_print_choices(o->choices, " or ", buf, size);
    } else if (o->min != 0 || o->max != 0) {
        options_print_number(o, o->min, min, sizeof min);
        options_print_number(o, o->max, max, sizeof max);
        snprintf(buf, size, "%s to %s", min, max);
    }
}

static void print_option(const bh_opt *o)
{
    char limits[200];

    print_limits(o, limits, sizeof limits);
    printf("  %s: %s", o->name, options_type_name(o->type));
    if (limits[0] != '\0')
        printf(", %s", limits);
    if (o->flags & BH_O_REQUIRED)
        printf(", required");
    else if (o->def != NULL && o->type != BH_T_SECRET)
        printf(", default %s%s%s", o->def[0] != '\0' ? "" : "\"", o->def,
               o->def[0] != '\0' ? "" : "\"");
    if (o->flags & BH_O_DEPRECATED)
        printf(", deprecated");
    printf("\n");
    if (o->help != NULL)
        printf("      %s\n", o->help);
}

static void print_text(const struct manifest *m)
{
    const bh_plugin *d = m->desc;
    char trait[320];

    printf("%s %s%s%s\n", d->name, d->version, d->summary != NULL ? " - " : "",
           d->summary != NULL ? d->summary : "");
    printf("object:    %s\n", m->path);
    printf("build id:  %s\n", m->build_id[0] != '\0' ? m->build_id : "none");
    printf("ABI:       %u.%u, runs on %u.%u and later\n", m->abi_major, m->abi_minor, m->abi_major,
           m->min_minor);
    printf("hooks:    ");
    for (size_t i = 0; i < N_HOOKS; i++)
        if (has_hook(d, &hooks[i]))
            printf(" %s", hooks[i].name);
    printf("\nflags:    ");
    for (size_t i = 0; i < N_FLAGS; i++)
        if (d->flags & flags[i].flag)
            printf(" %s", flags[i].name);
    printf("%s\n", d->flags == 0 ? " none" : "");
    printf("caps:      %s\n", d->caps != NULL && d->caps[0] != '\0' ? d->caps : "none");
    printf("libraries:");
    for (int i = 0; m->needed[i] != NULL; i++)
        printf(" %s", m->needed[i]);
    printf("%s\n", m->needed[0] == NULL ? " none" : "");
    for (int i = 0; manifest_trait(m, i, trait, sizeof trait); i++)
        printf("%s%s\n", i == 0 ? "loader:    it " : "           it ", trait);
    printf("memory:    %zu bytes of config, %zu bytes a request\n", d->cfg_size, d->ctx_size);
    printf("options:%s\n", d->options == NULL || d->options[0].name == NULL ? " none" : "");
    for (const bh_opt *o = d->options; o != NULL && o->name != NULL; o++)
        print_option(o);
}

static json_t *manifest_json(const struct manifest *m)
{
    const bh_plugin *d = m->desc;
    json_t *hook_list = json_array(), *flag_list = json_array(), *libraries = json_array();
    json_t *traits = json_array();
    char trait[320];

    for (int i = 0; manifest_trait(m, i, trait, sizeof trait); i++)
        json_array_append_new(traits, json_string(trait));

    for (size_t i = 0; i < N_HOOKS; i++)
        if (has_hook(d, &hooks[i]))
            json_array_append_new(hook_list, json_string(hooks[i].name));
    for (size_t i = 0; i < N_FLAGS; i++)
        if (d->flags & flags[i].flag)
            json_array_append_new(flag_list, json_string(flags[i].name));
    for (int i = 0; m->needed[i] != NULL; i++)
        json_array_append_new(libraries, json_string(m->needed[i]));
    return json_pack(
        "{s:s, s:s, s:s, s:s?, s:s, s:{s:i, s:i, s:i}, s:o, s:o, s:s, s:o, s:I, s:I, s:o, s:o}",
        "file", m->path, "name", d->name, "version", d->version, "summary", d->summary, "build_id",
        m->build_id, "abi", "major", m->abi_major, "minor", m->abi_minor, "min_minor", m->min_minor,
        "hooks", hook_list, "flags", flag_list, "caps", d->caps != NULL ? d->caps : "", "libraries",
        libraries, "config_size", (json_int_t)d->cfg_size, "request_size", (json_int_t)d->ctx_size,
        "options", options_schema(d), "loader", traits);
}

/* A path as it is; a bare word is a module of the installation, unless a file has that name. */
static void find_object(const char *word, char *path, size_t size)
{
    const char *dirs[CONFIG_MAX_DEFAULT_DIRS], *dot = strrchr(word, '.');
    struct arena arena;

    snprintf(path, size, "%s", word);
    if (strchr(word, '/') != NULL || (dot != NULL && strcmp(dot, ".so") == 0))
        return;
    arena_init(&arena, 64u << 10);
    manifest_find(word, dirs, config_default_module_dirs(&arena, dirs), path, size);
    arena_fini(&arena);
}

/* Prints it, or adds it to list. CLI_OK or CLI_BAD_INPUT. */
static int inspect(const char *word, bool is_first, json_t *list)
{
    char path[PATH_MAX];
    struct manifest *m = NULL;
    struct diag diag;
    int r;

    find_object(word, path, sizeof path);
    diag_init(&diag);
    r = manifest_read(path, NULL, &diag, &m);
    if (r < 0 && list != NULL)
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "file", path, "errors", cli_diag_json(&diag)));
    else if (r < 0)
        diag_print(&diag, stderr);
    else if (list != NULL)
        json_array_append_new(list, manifest_json(m));
    else
        print_text((is_first ? 0 : putchar('\n'), m));
    diag_fini(&diag);
    manifest_destroy(&m);
    return r < 0 ? CLI_BAD_INPUT : CLI_OK;
}

int cli_inspect(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    json_t *list = NULL;
    int c, status = CLI_OK, r;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == 'h')
            return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        if (c != 'j')
            return cli_usage_error(argv);
        if (list == NULL)
            list = json_array();
    }
    if (optind == argc) {
        json_decref(list);
        return cli_usage_error(argv);
    }
    for (int i = optind; i < argc; i++) {
        r = inspect(argv[i], i == optind, list);
        status = r != CLI_OK ? r : status;
    }
    if (list == NULL)
        return status;
    if (argc - optind == 1) {
        json_t *only = json_incref(json_array_get(list, 0));

        json_decref(list);
        list = only;
    }
    return cli_print_json(list) == CLI_OK ? status : CLI_FAILED;
}
