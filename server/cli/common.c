/*
 * common.c - what several commands share.
 */
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "base/diag.h"
#include "cli/cli.h"
#include "conf/config.h"
#include "conf/overlay.h"
#include "master/kept.h"
#include "plugin/overlay.h"
#include "plugin/setup.h"
#include "tls/set.h"

const char *cli_default_config(void)
{
    static const char system_wide[] = "/etc/bulkhead/bulkhead.yaml",
                      local[] = "config/bulkhead.yaml";

    return access(system_wide, F_OK) == 0 || access(local, F_OK) != 0 ? system_wide : local;
}

/* What should be looked at goes to stderr: it is no reason not to serve. */
static int check_tls(const struct config *cfg, struct diag *diag)
{
    struct diag warnings;
    int r;

    diag_init(&warnings);
    r = tls_check(cfg, diag, &warnings);
    for (int i = 0; i < warnings.n; i++)
        fprintf(stderr, "%s:%d:%d: warning: %s\n", warnings.item[i].file, warnings.item[i].line,
                warnings.item[i].column, warnings.item[i].what);
    diag_fini(&warnings);
    return r;
}

int cli_load(const char *path, struct diag *diag, struct config **cfg, struct setup **setup)
{
    return cli_load_kept(path, diag, NULL, NULL, 0, cfg, setup);
}

int cli_load_kept(const char *path, struct diag *diag, struct overlay *overlay, char *interrupted,
                  size_t size, struct config **cfg, struct setup **setup)
{
    int r;

    r = config_load(path, diag, cfg);
    if (r < 0)
        return r;
    r = check_tls(*cfg, diag);
    if (r < 0) {
        config_destroy(cfg);
        return r;
    }
    if (overlay != NULL && interrupted != NULL) {
        kept_load(*cfg, overlay, interrupted, size);
        r = overlay_apply(*cfg, overlay, diag);
        if (r < 0) {
            overlay_fini(overlay);
            config_destroy(cfg);
            return r;
        }
    }
    r = setup_create(*cfg, NULL, diag, setup);
    if (r < 0)
        config_destroy(cfg);
    return r;
}

int cli_usage_error(char **argv)
{
    fprintf(stderr, "%s: bad arguments; see %s --help\n", argv[0], argv[0]);
    return CLI_BAD_INPUT;
}

const char *cli_text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text != NULL ? text : "-";
}

int cli_print_json(json_t *json)
{
    int r = json != NULL ? json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) : -1;

    json_decref(json);
    putchar('\n');
    return r == 0 && fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

json_t *cli_diag_json(const struct diag *diag)
{
    json_t *list = json_array();

    for (int i = 0; i < diag->n; i++) {
        const struct diag_item *item = &diag->item[i];
        json_t *json = json_pack("{s:s?, s:s, s:s?}", "file", item->file, "message", item->what,
                                 "hint", item->hint);

        if (json == NULL) /* what is not UTF-8 was cut in the middle of a character */
            json = json_pack("{s:s}", "message", "(not printable)");
        if (item->line > 0)
            json_object_set_new(json, "line", json_integer(item->line));
        if (item->line > 0)
            json_object_set_new(json, "column", json_integer(item->column));
        json_array_append_new(list, json);
    }
    return list;
}
