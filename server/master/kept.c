#include "master/kept.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "master/internal.h"
#include "master/kept_internal.h"
#include "obs/log.h"

#define FILE_MAX (4u << 20)

/* ---- files ---- */

/* Synchronised with the disk at each step: after a loss of power there is the old file, or the new one. */
int kept_write(const char *path, const char *text)
{
    char part[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int fd, dir, r;

    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return -ENAMETOOLONG;
    fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    r = fd_write_all(fd, text, strlen(text));
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    fd_close(&fd);
    if (r == 0 && rename(part, path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(part);
        return r;
    }
    snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
    dir = open(part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        fsync(dir);
    fd_close(&dir);
    return 0;
}

static void say(const char *text)
{
    fprintf(stderr, "bulkhead: %s\n", text);
    log_error("%s", text);
}

json_t *kept_read(const char *path)
{
    json_error_t error = {.text = ""};
    char aside[PATH_MAX], why[PATH_MAX + 512];
    json_t *json;
    char *text;
    size_t n;
    int r = fd_read_file(path, FILE_MAX, &text, &n);

    if (r == -ENOENT)
        return NULL;
    if (r < 0) {
        snprintf(why, sizeof why, "%s cannot be read: %s; going on without it", path, strerror(-r));
        say(why);
        return NULL;
    }
    json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (json_is_object(json) && json_integer_value(json_object_get(json, "version")) == 1)
        return json;
    snprintf(aside, sizeof aside, "%.4000s.bad", path);
    r = rename(path, aside);
    snprintf(why, sizeof why, "%s makes no sense (%s%s%d): %s; going on without it", path,
             json == NULL ? error.text : "not of this version", json == NULL ? ", line " : ", ",
             json == NULL ? error.line : 1,
             r == 0 ? "it is moved aside, to the same name with .bad"
                    : "and it cannot be moved aside");
    say(why);
    json_decref(json);
    return NULL;
}

/* Of the server with this config. what: "variants.json". */
int kept_path(const struct config *cfg, const char *what, char *path)
{
    char file[PATH_MAX + 256], hash[DIGEST_TEXT], name[40];
    const char *slash = strrchr(cfg->path, '/');

    config_file_path(cfg, file, sizeof file);
    if (digest_bytes(file, strlen(file), hash) < 0)
        return -ENOMEM;
    text_printable(name, sizeof name, slash != NULL ? slash + 1 : cfg->path);
    name[strcspn(name, ". ")] = '\0';
    return snprintf(path, PATH_MAX, "%s/%s-%.8s/%s", cfg->state.dir, name, hash, what) < PATH_MAX
               ? 0
               : -ENAMETOOLONG;
}

int kept_make_folder(const char *path)
{
    char dir[PATH_MAX];

    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
    return fd_make_dirs(dir, 0700);
}

/* ---- objects ---- */

static int copy(const char *from, const char *to)
{
    char part[PATH_MAX], *text;
    size_t n;
    int fd, r = fd_read_file(from, 256u << 20, &text, &n);

    if (r < 0)
        return r;
    if (snprintf(part, sizeof part, "%s.part", to) >= (int)sizeof part) {
        free(text);
        return -ENAMETOOLONG;
    }
    unlink(part); /* of one who was killed here: with this mode it cannot be written to once more */
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
    r = fd < 0 ? -errno : fd_write_all(fd, text, n);
    free(text);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    fd_close(&fd);
    if (r == 0 && rename(part, to) < 0)
        r = -errno;
    if (r < 0)
        unlink(part);
    return r;
}

int kept_object(const struct config *cfg, const char *from, const char *sha256, char **out)
{
    char what[sizeof "objects/.so" + DIGEST_TEXT], path[PATH_MAX], is[DIGEST_TEXT];
    int r;

    snprintf(what, sizeof what, "objects/%s.so", sha256);
    r = kept_path(cfg, what, path);
    if (r == 0)
        r = kept_make_folder(path);
    if (r == 0 && (digest_file(path, is) < 0 || strcmp(is, sha256) != 0))
        r = strcmp(from, path) == 0 ? -EIO : copy(from, path);
    if (r < 0)
        return r;
    *out = strdup(path);
    return *out != NULL ? 0 : -ENOMEM;
}

/* Objects that nobody needs any more. */
static void sweep(const struct config *cfg, const struct overlay *overlay, const char *other)
{
    char dir[PATH_MAX];
    const struct dirent *e;
    DIR *d;

    if (kept_path(cfg, "objects", dir) < 0 || (d = opendir(dir)) == NULL)
        return;
    while ((e = readdir(d)) != NULL) {
        bool is_used = e->d_name[0] == '.' || strncmp(e->d_name, other, 64) == 0;

        for (int i = 0; i < overlay->n && !is_used; i++)
            is_used = strncmp(e->d_name, overlay->variant[i].sha256, 64) == 0;
        if (overlay->rollout.number != 0)
            is_used |= strncmp(e->d_name, overlay->rollout.candidate.sha256, 64) == 0;
        if (!is_used)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

/* ---- variants ---- */

static json_t *text_or_null(const char *text)
{
    return text != NULL ? json_string(text) : json_null();
}

static char *print(const struct overlay *overlay, const char *rolling)
{
    json_t *list = json_array(), *json;
    char *text;

    for (int i = 0; i < overlay->n; i++) {
        const struct overlay_variant *v = &overlay->variant[i];

        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o, s:s, s:s, s:s}", "plugin",
                                              v->plugin, "module", text_or_null(v->module),
                                              "options", text_or_null(v->options), "object",
                                              text_or_null(v->object), "sha256", v->sha256,
                                              "version", v->version, "signature", v->signature));
    }
    json = json_pack("{s:i, s:o, s:o}", "version", 1, "variants", list, "rollout_of",
                     text_or_null(rolling));
    text = json != NULL ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    return text;
}

int kept_save(struct master *m, const struct overlay *overlay, const char *rolling)
{
    char path[PATH_MAX], *text;
    int r;

    if (overlay->n == 0 && rolling == NULL && m->kept == NULL)
        return 0; /* nothing is to be kept, and nothing was */
    text = print(overlay, rolling);
    r = text == NULL ? -ENOMEM : kept_claim(m, NULL);
    if (r == 0)
        r = kept_path(m->cfg, "variants.json", path);
    if (r == 0 && text_is_same(text, m->kept)) {
        free(text);
        return 0;
    }
    if (r == 0)
        r = kept_make_folder(path);
    if (r == 0)
        r = kept_write(path, text);
    if (r < 0) {
        log_error("what runs cannot be kept in %s: %s; after a restart it would be what the config "
                  "names (state.dir)",
                  m->cfg->state.dir, strerror(-r));
        free(text);
        return r;
    }
    free(m->kept);
    m->kept = text;
    sweep(m->cfg, overlay, m->rollout.number != 0 ? m->rollout.stable.sha256 : "-");
    return 0;
}

static char *copy_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));

    return text != NULL ? strdup(text) : NULL;
}

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));

    return text != NULL ? text : "";
}

/* One whose object is gone, or is not what it was, is of no use. */
static void take(const json_t *json, struct overlay *out)
{
    struct overlay_variant v = {.plugin = copy_of(json, "plugin"),
                                .module = copy_of(json, "module"),
                                .options = copy_of(json, "options"),
                                .object = copy_of(json, "object")};
    char is[DIGEST_TEXT] = "", why[512];

    snprintf(v.sha256, sizeof v.sha256, "%s", text_of(json, "sha256"));
    snprintf(v.version, sizeof v.version, "%s", text_of(json, "version"));
    snprintf(v.signature, sizeof v.signature, "%s", text_of(json, "signature"));
    if (v.plugin != NULL && v.object != NULL &&
        (digest_file(v.object, is) < 0 || strcmp(is, v.sha256) != 0)) {
        snprintf(
            why, sizeof why,
            "plugin '%s': the object of version %s, that is to run in place of the config's, is "
            "%s: %s; the config's runs",
            v.plugin, v.version, is[0] != '\0' ? "not what it was" : "gone", v.object);
        say(why);
    } else if (v.plugin != NULL && overlay_put(out, &v) == 0) {
        return;
    }
    overlay_variant_fini(&v);
}

void kept_load(const struct config *cfg, struct overlay *out, char *interrupted, size_t size)
{
    char path[PATH_MAX];
    const json_t *list, *item;
    json_t *json;
    size_t i;

    memset(out, 0, sizeof *out);
    interrupted[0] = '\0';
    if (kept_path(cfg, "variants.json", path) < 0 || (json = kept_read(path)) == NULL)
        return;
    list = json_object_get(json, "variants");
    json_array_foreach(list, i, item)
    {
        take(item, out);
    }
    text_printable(interrupted, size, text_of(json, "rollout_of"));
    json_decref(json);
}
