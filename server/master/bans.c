/*
 * bans.c - objects that are quarantined: kept.h.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/text.h"
#include "conf/config.h"
#include "master/kept.h"
#include "master/kept_internal.h"
#include "obs/log.h"

static void copy_text(const json_t *json, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(json, key));

    text_printable(out, size, text != NULL ? text : "");
}

static void add(struct bans *b, const struct ban *ban)
{
    if (b->n == BANS_MAX)
        memmove(&b->ban[0], &b->ban[1], (size_t)--b->n * sizeof b->ban[0]);
    b->ban[b->n++] = *ban;
}

void bans_load(const struct config *cfg, struct bans *out)
{
    char path[PATH_MAX];
    const json_t *item;
    json_t *json;
    size_t i;

    out->n = 0;
    if (snprintf(path, sizeof path, "%s/quarantine.json", cfg->state.dir) >= (int)sizeof path ||
        (json = kept_read(path)) == NULL)
        return;
    json_array_foreach(json_object_get(json, "objects"), i, item)
    {
        struct ban ban = {.sha256 = ""};

        copy_text(item, "sha256", ban.sha256, sizeof ban.sha256);
        copy_text(item, "plugin", ban.plugin, sizeof ban.plugin);
        copy_text(item, "version", ban.version, sizeof ban.version);
        copy_text(item, "when", ban.when, sizeof ban.when);
        copy_text(item, "why", ban.why, sizeof ban.why);
        if (strlen(ban.sha256) == DIGEST_TEXT - 1)
            add(out, &ban);
    }
    json_decref(json);
}

const struct ban *bans_find(const struct bans *b, const char *sha256)
{
    for (int i = b->n - 1; i >= 0; i--)
        if (strcmp(b->ban[i].sha256, sha256) == 0)
            return &b->ban[i];
    return NULL;
}

static void drop(struct bans *b, const char *sha256)
{
    int n = 0;

    for (int i = 0; i < b->n; i++)
        if (strcmp(b->ban[i].sha256, sha256) != 0)
            b->ban[n++] = b->ban[i];
    b->n = n;
}

static int save(const struct config *cfg, const struct bans *b)
{
    json_t *list = json_array(), *json;
    char path[PATH_MAX], *text;
    int r = -ENOMEM;

    for (int i = 0; i < b->n; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:s}", "sha256", b->ban[i].sha256,
                                        "plugin", b->ban[i].plugin, "version", b->ban[i].version,
                                        "when", b->ban[i].when, "why", b->ban[i].why));
    json = json_pack("{s:i, s:o}", "version", 1, "objects", list);
    text = json != NULL ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    if (snprintf(path, sizeof path, "%s/quarantine.json", cfg->state.dir) >= (int)sizeof path)
        r = -ENAMETOOLONG;
    else if (text != NULL)
        r = fd_make_dirs(cfg->state.dir, 0700);
    if (r == 0)
        r = kept_write(path, text);
    free(text);
    if (r < 0)
        log_error(
            "the quarantine cannot be written to %s: %s; it holds as long as this server runs "
            "(state.dir)",
            cfg->state.dir, strerror(-r));
    return r;
}

/* What another server with the same folder has added. */
static void merge(const struct config *cfg, struct bans *b)
{
    struct bans *there = calloc(1, sizeof *there);

    if (there == NULL)
        return;
    bans_load(cfg, there);
    for (int i = 0; i < there->n; i++)
        if (bans_find(b, there->ban[i].sha256) == NULL)
            add(b, &there->ban[i]);
    free(there);
}

int bans_add(const struct config *cfg, struct bans *b, const struct ban *ban)
{
    merge(cfg, b);
    drop(b, ban->sha256);
    add(b, ban);
    return save(cfg, b);
}

int bans_lift(const struct config *cfg, struct bans *b, const char *sha256)
{
    merge(cfg, b);
    if (bans_find(b, sha256) == NULL)
        return 0;
    drop(b, sha256);
    return save(cfg, b);
}
