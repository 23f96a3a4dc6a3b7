/*
 * new.c - `bulkhead new`: a folder with a plugin to begin with, copied from the template.
 *
 * The template is found beside the executable: in the source tree for a build, in share/bulkhead
 * for an installation.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/self.h"
#include "cli/cli.h"

#define FILE_MAX  (1u << 20)
#define MAX_DEPTH 8

static const char help[] =
    "usage: bulkhead new NAME [DIR] [--template DIR] [--json]\n"
    "\n"
    "Makes DIR (default: NAME) with a new plugin, its test and its Makefile. NAME: a lower-case\n"
    "letter, then up to 30 lower-case letters, digits and '_'.\n"
    "\n"
    "      --template DIR   copy this folder; @NAME@ and @SDK@ are replaced in names and content.\n"
    "                       Default, seen from the executable: ../share/bulkhead/template,\n"
    "                       ../sdk/template or ../../sdk/template\n"
    "      --json           print JSON: plugin, folder, build and test, the commands to run there\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 bad name, or DIR exists.\n";

struct copy {
    const char *name; /* of the plugin: @NAME@ */
    const char *sdk;  /* the folder of the template: @SDK@ */
};

static bool is_good_name(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return n > 0 && n <= 31 && s[n] == '\0' && s[0] >= 'a' && s[0] <= 'z';
}

static int find_template(char out[PATH_MAX])
{
    static const char *const places[] = {"../share/bulkhead/template", "../sdk/template",
                                         "../../sdk/template"};
    char self[PATH_MAX], path[PATH_MAX];

    for (size_t i = 0; self_dir(self, sizeof self) == 0 && i < sizeof places / sizeof places[0];
         i++)
        if ((size_t)snprintf(path, sizeof path, "%s/%s", self, places[i]) < sizeof path &&
            access(path, R_OK | X_OK) == 0 && realpath(path, out) != NULL)
            return 0;
    return -ENOENT;
}

/* Writes text with its placeholders replaced. */
static int write_filled(const struct copy *copy, FILE *out, const char *text, size_t n)
{
    for (const char *end = text + n; text < end;) {
        const char *at = memchr(text, '@', (size_t)(end - text));
        size_t plain = at != NULL ? (size_t)(at - text) : (size_t)(end - text);
        const char *value = NULL;
        size_t skip = 1;

        fwrite(text, 1, plain, out);
        text += plain;
        if (at == NULL)
            break;
        if (end - at >= 6 && memcmp(at, "@NAME@", 6) == 0) {
            value = copy->name;
            skip = 6;
        } else if (end - at >= 5 && memcmp(at, "@SDK@", 5) == 0) {
            value = copy->sdk;
            skip = 5;
        }
        fputs(value != NULL ? value : "@", out);
        text += skip;
    }
    return ferror(out) ? -EIO : 0;
}

static int copy_file(const struct copy *copy, const char *from, const char *to, mode_t mode)
{
    char *text;
    FILE *out;
    size_t n;
    int r;

    r = fd_read_file(from, FILE_MAX, &text, &n);
    if (r < 0)
        return r;
    out = fopen(to, "wx");
    if (out == NULL) {
        r = -errno;
        free(text);
        return r;
    }
    r = write_filled(copy, out, text, n);
    free(text);
    if (fchmod(fileno(out), mode & 0777) < 0 && r == 0)
        r = -errno;
    if (fclose(out) != 0 && r == 0)
        r = -errno;
    return r;
}

/* DIR/NAME with placeholders in NAME replaced. */
static int fill_path(const struct copy *copy, const char *dir, const char *name, char *out,
                     size_t size)
{
    char *text = NULL;
    FILE *f;
    size_t n;
    int r;

    f = open_memstream(&text, &n);
    if (f == NULL)
        return -ENOMEM;
    fprintf(f, "%s/", dir);
    write_filled(copy, f, name, strlen(name));
    r = fclose(f) == 0 && (size_t)snprintf(out, size, "%s", text) < size ? 0 : -ENAMETOOLONG;
    free(text);
    return r;
}

static int copy_folder(const struct copy *copy, const char *from, const char *to, int depth)
{
    char source[PATH_MAX], target[PATH_MAX];
    const struct dirent *e;
    struct stat st;
    DIR *dir;
    int r = 0;

    if (depth > MAX_DEPTH)
        return -ELOOP;
    dir = opendir(from);
    if (dir == NULL || mkdir(to, 0777) < 0) {
        r = -errno;
        goto out;
    }
    while (r == 0 && (e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        r = fill_path(copy, to, e->d_name, target, sizeof target);
        if (r < 0 ||
            (size_t)snprintf(source, sizeof source, "%s/%s", from, e->d_name) >= sizeof source)
            break;
        if (stat(source, &st) < 0)
            r = -errno;
        else if (S_ISDIR(st.st_mode))
            r = copy_folder(copy, source, target, depth + 1);
        else if (S_ISREG(st.st_mode))
            r = copy_file(copy, source, target, st.st_mode);
        if (r < 0)
            fprintf(stderr, "bulkhead new: %s: %s\n", target, strerror(-r));
    }

out:
    if (dir != NULL)
        closedir(dir);
    return r;
}

/* In a source tree the plugin's Makefile must be told where bulkhead.h is; an installation is found
 * through pkg-config. */
static int print_next_steps(const struct copy *copy, const char *target, bool is_json)
{
    char header[PATH_MAX], where[PATH_MAX + 32] = "";

    if ((size_t)snprintf(header, sizeof header, "%s/include/bulkhead.h", copy->sdk) <
            sizeof header &&
        access(header, R_OK) == 0)
        snprintf(where, sizeof where, " BULKHEAD_SDK=%s", copy->sdk);
    if (is_json)
        return cli_print_json(json_pack("{s:s, s:s, s:o, s:o}", "plugin", copy->name, "folder",
                                        target, "build", json_sprintf("make%s", where), "test",
                                        json_sprintf("make%s test", where)));
    printf("%s: made plugin '%s'. Next:\n"
           "\n"
           "  cd %s\n"
           "  make%s\n"
           "  make%s test\n"
           "\n"
           "and in the server's config file:\n"
           "\n"
           "  plugins:\n"
           "    my_%s: {module: /path/to/%s.so}\n",
           target, copy->name, target, where, where, copy->name, copy->name);
    return CLI_OK;
}

static int make_plugin(const char *name, const char *target, const char *template, bool is_json)
{
    char sdk[PATH_MAX];
    struct copy copy = {name, sdk};
    struct stat st;
    char *slash;
    int r;

    if (!is_good_name(name)) {
        fprintf(stderr,
                "bulkhead new: '%s' cannot be a plugin's name: a lower-case letter, then up to 30 "
                "lower-case letters, digits and '_'\n",
                name);
        return CLI_BAD_INPUT;
    }
    if (lstat(target, &st) == 0) {
        fprintf(stderr, "bulkhead new: %s exists: give another folder\n", target);
        return CLI_BAD_INPUT;
    }
    snprintf(sdk, sizeof sdk, "%s", template);
    slash = strrchr(sdk, '/');
    if (slash != NULL)
        *slash = '\0';
    r = copy_folder(&copy, template, target, 0);
    if (r < 0) {
        fprintf(stderr, "bulkhead new: cannot copy %s to %s: %s\n", template, target, strerror(-r));
        return CLI_FAILED;
    }
    return print_next_steps(&copy, target, is_json);
}

int cli_new(int argc, char **argv)
{
    static const struct option options[] = {{"template", required_argument, NULL, 't'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    char found[PATH_MAX];
    const char *given = NULL;
    bool is_json = false;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == 'h')
            return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        if (c == 't')
            given = optarg;
        else if (c == 'j')
            is_json = true;
        else
            return cli_usage_error(argv);
    }
    if (argc - optind < 1 || argc - optind > 2)
        return cli_usage_error(argv);
    if (given != NULL ? realpath(given, found) == NULL : find_template(found) < 0) {
        fprintf(stderr, "bulkhead new: no template%s%s: give --template DIR\n",
                given != NULL ? " in " : "", given != NULL ? given : "");
        return CLI_FAILED;
    }
    return make_plugin(argv[optind], argc - optind == 2 ? argv[optind + 1] : argv[optind], found,
                       is_json);
}
