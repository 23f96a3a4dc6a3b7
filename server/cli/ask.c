#include "cli/ask.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "cli/cli.h"
#include "conf/config.h"
#include "conf/yaml.h"

#define PATIENCE_MS 5000

struct socket_of { /* the socket that a config names; or what its usual name is made of */
    char named[CONTROL_PATH_MAX];
    char dir[PATH_MAX], base[NAME_MAX + 1];
    bool is_off;
};

#define ARENA_LIMIT (16u << 20)

/* control.socket as it is written in a file that has mistakes elsewhere. */
static void read_socket_key(const char *path, struct socket_of *out)
{
    const struct yaml_node *root = NULL, *node;
    char path_of[2 * PATH_MAX] = "";
    struct arena arena;
    struct diag diag;

    diag_init(&diag);
    arena_init(&arena, ARENA_LIMIT);
    yaml_load(path, &arena, &diag, &root);
    node = root != NULL ? yaml_get(yaml_get(root, "control"), "socket") : NULL;
    if (node != NULL && node->kind == YAML_SCALAR && node->len > 0) {
        out->is_off = strcmp(node->text, "off") == 0;
        if (!out->is_off)
            snprintf(path_of, sizeof path_of, "%s%s%s", node->text[0] == '/' ? "" : out->dir,
                     node->text[0] == '/' ? "" : "/", node->text);
    }
    if (strlen(path_of) < sizeof out->named)
        memcpy(out->named, path_of, strlen(path_of) + 1);
    arena_fini(&arena);
    diag_fini(&diag);
}

/* A config that has mistakes by now may be that of a server that runs: its place is enough. */
static int read_config(const char *path, struct socket_of *out)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    struct config *cfg;
    struct diag diag;
    int r;

    snprintf(out->base, sizeof out->base, "%s", slash != NULL ? slash + 1 : path);
    snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - path + 1) : 1,
             slash != NULL ? path : ".");
    if (realpath(folder, out->dir) == NULL)
        return -errno;
    diag_init(&diag);
    r = config_load(path, &diag, &cfg);
    diag_fini(&diag);
    if (r == -ENOENT)
        return r;
    if (r < 0) {
        read_socket_key(path, out);
        return 0;
    }
    if (cfg->control.socket != NULL)
        out->is_off = strcmp(cfg->control.socket, "off") == 0;
    if (cfg->control.socket != NULL && !out->is_off)
        snprintf(out->named, sizeof out->named, "%s", cfg->control.socket);
    config_destroy(&cfg);
    return 0;
}

/* Of several reasons, the one that says most: somebody is there, but not for us. */
static bool is_telling(int r)
{
    return r != -ENOENT && r != -ECONNREFUSED && r != -ENOTDIR;
}

static int ask_at(const struct ask *ask, const char *path, enum control_command command,
                  int argument, struct control_reply *reply, char **text)
{
    if (ask->stream != NULL)
        return control_follow(path, PATIENCE_MS, ask->stream, reply, text);
    return control_ask(path, command, argument, ask->said, PATIENCE_MS, reply, text, NULL);
}

/* -errno of the place that had most to say, whose path is in `where` then. */
static int find_and_ask(const struct ask *ask, const struct socket_of *s,
                        enum control_command command, int argument, struct control_reply *reply,
                        char **text, char where[CONTROL_PATH_MAX])
{
    char path[CONTROL_PATH_MAX];
    int result = -ENOENT, r;

    if (ask->socket != NULL || s->named[0] != '\0') {
        snprintf(where, CONTROL_PATH_MAX, "%s", ask->socket != NULL ? ask->socket : s->named);
        return ask_at(ask, where, command, argument, reply, text);
    }
    for (int i = 0; (r = control_path(s->dir, s->base, i, path)) != -ENOENT; i++) {
        if (r < 0)
            continue;
        r = ask_at(ask, path, command, argument, reply, text);
        if (r == 0 || where[0] == '\0' || (is_telling(r) && !is_telling(result))) {
            snprintf(where, CONTROL_PATH_MAX, "%s", path);
            result = r;
        }
        if (r == 0)
            break;
    }
    return result;
}

static void say_why(const struct ask *ask, const char *config, const char *path, int r)
{
    const char *c = ask->command;

    switch (r) {
    case -ENOENT:
    case -ENOTDIR:
    case -ECONNREFUSED:
        if (ask->socket != NULL)
            fprintf(stderr, "%s: no server listens at %s\n", c, path);
        else
            fprintf(stderr,
                    "%s: no server runs with %s, or it is another user's (looked for %s); start it "
                    "with: bulkhead run -c %s\n",
                    c, config, path, config);
        break;
    case -EACCES:
    case -EPERM:
        fprintf(stderr, "%s: %s: permission denied; ask as root, or as who runs the server\n", c,
                path);
        break;
    case -ETIMEDOUT:
        fprintf(stderr, "%s: the server at %s does not answer: is its master stopped?\n", c, path);
        break;
    case -EPROTO:
        fprintf(stderr,
                "%s: the server at %s turned us away, or is of another version: ask as root or as "
                "who runs it, with the bulkhead that it runs\n",
                c, path);
        break;
    default: fprintf(stderr, "%s: %s: %s\n", c, path, strerror(-r)); break;
    }
}

int ask_server(const struct ask *ask, enum control_command command, int argument, int *result,
               char **text)
{
    const char *config = ask->config != NULL ? ask->config : cli_default_config();
    struct control_reply reply = {.result = 0};
    char where[CONTROL_PATH_MAX] = "";
    struct socket_of s = {.named = ""};
    int r;

    *text = NULL;
    if (ask->socket == NULL) {
        r = read_config(config, &s);
        if (r < 0) {
            fprintf(stderr,
                    "%s: %s: %s; name the config with -c FILE, or the socket with --socket\n",
                    ask->command, config, strerror(-r));
            return r;
        }
        if (s.is_off) {
            fprintf(stderr, "%s: %s has control.socket: off\n", ask->command, config);
            return -EOPNOTSUPP;
        }
    }
    r = find_and_ask(ask, &s, command, argument, &reply, text, where);
    if (r < 0) {
        if (r != -ETIMEDOUT || !ask->is_patient)
            say_why(ask, config, where, r);
        return r;
    }
    *result = reply.result;
    return 0;
}

bool ask_options(int argc, char **argv, const char *help, struct ask *ask, bool *is_json,
                 int *status)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"socket", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int c;

    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (c) {
        case 'c': ask->config = optarg; break;
        case 's': ask->socket = optarg; break;
        case 'j': *is_json = true; break;
        case 'h': *status = fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK; return false;
        default: *status = cli_usage_error(argv); return false;
        }
    }
    if (ask->config != NULL && ask->socket != NULL) {
        *status = cli_usage_error(argv);
        return false;
    }
    return true;
}
