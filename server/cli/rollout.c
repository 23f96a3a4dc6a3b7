/*
 * rollout.c - `bulkhead rollout`: another version of a plugin, step by step.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/diag.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "conf/yaml.h"
#include "plugin/options.h"

#define POLL_MS     50
#define PATIENCE_MS 120000 /* for the start */
#define ARENA_LIMIT (16u << 20)

enum { ROLLED_BACK = 3 };

static const char help[] =
    "usage: bulkhead rollout start PLUGIN [--module FILE|NAME] [--options FILE] [--set KEY=VALUE]...\n"
    "                        [--steps STEPS] [--key KEY] [--samples N] [--manual] [--force] [--wait]\n"
    "       bulkhead rollout status|pause|resume|step|promote|abort|rollback\n"
    "       all: [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Runs another version of a plugin beside the one that serves, gives it a growing share of the\n"
    "requests, and takes it back when it crashes, fails or is slow more often than the other.\n"
    "\n"
    "  start     the object that the config names, as it is now, or:\n"
    "    --module FILE|NAME   another object\n"
    "    --options FILE       other options, YAML, in place of the plugin's `config:`\n"
    "    --set KEY=VALUE      another value of one option; may be repeated\n"
    "    --steps STEPS        e.g. shadow=0.1%:10m:500,canary=5%:10m:500 (share, time, requests)\n"
    "                         (a shadow's files, calls and messages are not undone: docs/rollout.md)\n"
    "    --key KEY            who gets which: client (default), header:NAME, cookie:NAME, request\n"
    "    --samples N          requests in the new version before it is judged (default 500)\n"
    "    --manual             steps are taken by hand\n"
    "    --force              though the object is quarantined\n"
    "    --wait               until it has ended\n"
    "  status    how it goes, or how the last one went\n"
    "  pause     keeps the share as it is; resume: goes on\n"
    "  step      takes the next step now; promote: all requests to the new version, now\n"
    "  abort     back to the old version; rollback: the same, and the new object is quarantined;\n"
    "            after the promotion, too, as long as the server has not been restarted\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 the plugin, object or an argument is wrong,\n"
    "3 (start --wait) it was rolled back or aborted.\n";

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text != NULL ? text : "";
}

static long long number_of(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

/* ---- asking ---- */

/* The answer's object; NULL: it has been said why. */
static json_t *ask(const struct ask *who, enum control_command command, int argument)
{
    json_t *json;
    char *text;
    int result;

    if (ask_server(who, command, argument, &result, &text) < 0)
        return NULL;
    json = json_loads(text != NULL ? text : "", JSON_DECODE_ANY, NULL);
    free(text);
    if (result == 0 && json != NULL)
        return json;
    json_decref(json);
    fprintf(stderr, "%s: %s\n", who->command,
            result == -ENOSYS ? "the server is of an earlier version" : strerror(-result));
    return NULL;
}

/* An answer with an error in it. -1: it has none. */
static int fail_of(const struct ask *who, const json_t *answer, bool as_json)
{
    const char *error = json_string_value(json_object_get(answer, "error"));

    if (error == NULL)
        return -1;
    if (as_json)
        cli_print_json(json_incref((json_t *)(uintptr_t)answer));
    else
        fprintf(stderr, "%s: %s\n", who->command, error);
    return json_is_true(json_object_get(answer, "is_input")) ? CLI_BAD_INPUT : CLI_FAILED;
}

static void nap(void)
{
    struct timespec pause = {0, POLL_MS * 1000000L};

    nanosleep(&pause, NULL);
}

/* ---- showing ---- */

static void show_arm(struct table *t, const char *name, const json_t *arm)
{
    char requests[32], errors[32], p50[32] = "-", p99[32] = "-", sha[16];

    snprintf(requests, sizeof requests, "%lld", number_of(arm, "requests"));
    snprintf(errors, sizeof errors, "%lld", number_of(arm, "errors"));
    if (json_is_number(json_object_get(arm, "p50_ms")))
        snprintf(p50, sizeof p50, "%.3g ms", json_number_value(json_object_get(arm, "p50_ms")));
    if (json_is_number(json_object_get(arm, "p99_ms")))
        snprintf(p99, sizeof p99, "%.3g ms", json_number_value(json_object_get(arm, "p99_ms")));
    snprintf(sha, sizeof sha, "%.12s", text_of(arm, "sha256"));
    table_row(t, name, text_of(arm, "version"), requests, errors, p50, p99, sha,
              text_of(arm, "module"));
}

static int show_status(json_t *status, bool as_json)
{
    const json_t *steps, *step;
    struct table t;
    size_t i;

    if (as_json)
        return cli_print_json(status);
    if (json_is_null(status)) {
        puts("no rollout since the server has started");
        json_decref(status);
        return CLI_OK;
    }
    printf("rollout %lld of plugin '%s': %s%s%s%s\n", number_of(status, "number"),
           text_of(status, "plugin"), text_of(status, "result"),
           json_is_true(json_object_get(status, "paused")) ? ", paused" : "",
           text_of(status, "why")[0] != '\0' ? ": " : "", text_of(status, "why"));
    printf("began %s by %s", text_of(status, "began"), text_of(status, "by"));
    if (text_of(status, "ended")[0] != '\0')
        printf(", ended %s", text_of(status, "ended"));
    putchar('\n');
    steps = json_object_get(status, "steps");
    json_array_foreach(steps, i, step)
    {
        bool is_now = (long long)i + 1 == number_of(status, "step");

        printf("%s step %zu: %s %s, at least %.6g s and %lld requests\n", is_now ? "->" : "  ",
               i + 1, text_of(step, "mode"), text_of(step, "weight"),
               (double)number_of(step, "for_ms") / 1000, number_of(step, "samples"));
    }
    if (text_of(status, "waits_for")[0] != '\0')
        printf("%s\n", text_of(status, "waits_for"));
    putchar('\n');
    table_init(&t, 8);
    table_row(&t, "ARM", "VERSION", "REQUESTS", "ERRORS", "P50", "P99", "SHA256", "MODULE");
    show_arm(&t, "stable", json_object_get(status, "stable"));
    show_arm(&t, "candidate", json_object_get(status, "candidate"));
    table_print(&t, stdout);
    json_decref(status);
    return CLI_OK;
}

/* ---- start ---- */

struct wish {
    json_t *request, *plan;
    bool waits;
};

static int bad(const char *command, const char *what, const char *text)
{
    fprintf(stderr, "%s: %s: '%s'; see %s --help\n", command, what, text, command);
    return -EINVAL;
}

/* "shadow=0.1%:10m:500,canary=5%" */
static int read_steps(const char *command, const char *text, json_t *plan)
{
    char *copy = strdup(text), *rest = copy, *one;
    json_t *steps = json_array();

    while ((one = strsep(&rest, ",")) != NULL) {
        char *value = strchr(one, '='), *wait, *samples;
        json_t *step;

        if (value == NULL) {
            bad(command, "a step is shadow=SHARE:TIME:REQUESTS or canary=...", one);
            free(copy);
            json_decref(steps);
            return -EINVAL;
        }
        *value++ = '\0';
        wait = strchr(value, ':');
        if (wait != NULL)
            *wait++ = '\0';
        samples = wait != NULL ? strchr(wait, ':') : NULL;
        if (samples != NULL)
            *samples++ = '\0';
        step = json_pack("{s:s}", one, value);
        if (wait != NULL && wait[0] != '\0')
            json_object_set_new(step, "for", json_string(wait));
        if (samples != NULL)
            json_object_set_new(step, "samples", json_string(samples));
        json_array_append_new(steps, step);
    }
    free(copy);
    json_object_set_new(plan, "steps", steps);
    return 0;
}

static json_t *map_of(const char *command, const char *name, const char *text, size_t n)
{
    const struct yaml_node *node = NULL;
    struct arena arena;
    struct diag diag;
    json_t *json = NULL;
    bh_str options;

    diag_init(&diag);
    arena_init(&arena, ARENA_LIMIT);
    if (yaml_parse(text, n, name, true, &arena, &diag, &node) == 0 && node != NULL &&
        node->kind == YAML_MAP) {
        options = options_json(node, &arena);
        json = options.p != NULL ? json_loads(options.p, 0, NULL) : NULL;
    } else if (diag.n == 0) {
        fprintf(stderr, "%s: %s: a mapping of options is expected\n", command, name);
    }
    diag_print(&diag, stderr);
    arena_fini(&arena);
    diag_fini(&diag);
    return json;
}

static int read_options(const char *command, const char *path, json_t *request)
{
    FILE *f = fopen(path, "re");
    char *text = NULL;
    size_t size = 0;
    ssize_t n;
    json_t *json;

    if (f == NULL) {
        fprintf(stderr, "%s: %s: %s\n", command, path, strerror(errno));
        return -errno;
    }
    n = getdelim(&text, &size, '\0', f);
    fclose(f);
    json = map_of(command, path, n > 0 ? text : "{}", n > 0 ? (size_t)n : 2);
    free(text);
    if (json == NULL)
        return -EINVAL;
    json_object_set_new(request, "config", json);
    return 0;
}

static int read_set(const char *command, const char *text, json_t *request)
{
    const char *eq = strchr(text, '=');
    json_t *set = json_object_get(request, "set"), *one;
    char *line;

    if (eq == NULL || eq == text)
        return bad(command, "--set wants KEY=VALUE", text);
    if (asprintf(&line, "%.*s: %s", (int)(eq - text), text, eq + 1) < 0)
        return -ENOMEM;
    one = map_of(command, "--set", line, strlen(line));
    free(line);
    if (one == NULL)
        return -EINVAL;
    if (set == NULL) {
        set = json_object();
        json_object_set_new(request, "set", set);
    }
    json_object_update(set, one);
    json_decref(one);
    return 0;
}

/* A relative path is meant from here, not from the config's folder. */
static int read_module(const char *command, const char *text, json_t *request)
{
    char path[PATH_MAX];

    if (strchr(text, '/') != NULL && realpath(text, path) == NULL)
        return bad(command, strerror(errno), text);
    json_object_set_new(request, "module", json_string(strchr(text, '/') != NULL ? path : text));
    return 0;
}

static json_t *who(void)
{
    const struct passwd *pw = getpwuid(getuid());

    return json_string(pw != NULL ? pw->pw_name : "?");
}

/* Until the reload that begins it is over. Its exit status; CLI_OK: the rollout runs. */
static int wait_for_start(const struct ask *a, int id)
{
    int64_t end_ms = clock_mono_ms() + PATIENCE_MS;

    while (clock_mono_ms() < end_ms) {
        json_t *json = ask(a, CONTROL_RELOAD_RESULT, id);
        const char *state = text_of(json, "state");
        const json_t *errors = json_object_get(json, "errors"), *line;
        size_t i;

        if (json == NULL)
            return CLI_FAILED;
        if (strcmp(state, "running") != 0) {
            bool has_failed = strcmp(state, "failed") == 0;

            if (has_failed)
                fprintf(stderr, "%s: not started (%s); nothing was changed\n", a->command,
                        text_of(json, "stage"));
            json_array_foreach(errors, i, line)
            {
                fprintf(stderr, "%s\n", json_string_value(line));
            }
            json_decref(json);
            return has_failed ? CLI_BAD_INPUT : CLI_OK;
        }
        json_decref(json);
        nap();
    }
    fprintf(stderr, "%s: no result within %d s\n", a->command, PATIENCE_MS / 1000);
    return CLI_FAILED;
}

static int wait_for_end(const struct ask *a, bool as_json)
{
    for (;;) {
        json_t *status = ask(a, CONTROL_ROLLOUT_STATUS, 0);
        bool is_over = strcmp(text_of(status, "phase"), "idle") == 0;
        bool has_won = strcmp(text_of(status, "result"), "promoted") == 0;

        if (status == NULL)
            return CLI_FAILED;
        if (is_over) {
            int r = show_status(status, as_json);

            return r != CLI_OK ? r : has_won ? CLI_OK : ROLLED_BACK;
        }
        json_decref(status);
        nap();
    }
}

static int start(struct ask *a, struct wish *w, bool as_json)
{
    char *text;
    json_t *answer, *status;
    int r, id;

    json_object_set_new(w->request, "by", who());
    if (json_object_size(w->plan) > 0)
        json_object_set(w->request, "rollout", w->plan);
    text = json_dumps(w->request, JSON_COMPACT);
    a->said = text;
    answer = ask(a, CONTROL_ROLLOUT_START, 0);
    a->said = NULL;
    free(text);
    if (answer == NULL)
        return CLI_FAILED;
    r = fail_of(a, answer, as_json);
    id = (int)number_of(answer, "id");
    json_decref(answer);
    if (r < 0)
        r = wait_for_start(a, id);
    if (r != CLI_OK)
        return r;
    if (w->waits)
        return wait_for_end(a, as_json);
    status = ask(a, CONTROL_ROLLOUT_STATUS, 0);
    return status != NULL ? show_status(status, as_json) : CLI_FAILED;
}

static int act(struct ask *a, const char *verb, bool as_json)
{
    static const struct {
        const char *name;
        enum control_rollout what;
    } verbs[] = {{"pause", CONTROL_ROLLOUT_PAUSE}, {"resume", CONTROL_ROLLOUT_RESUME},
                 {"step", CONTROL_ROLLOUT_STEP},   {"promote", CONTROL_ROLLOUT_PROMOTE},
                 {"abort", CONTROL_ROLLOUT_ABORT}, {"rollback", CONTROL_ROLLOUT_BACK}};
    json_t *by = who(), *answer = NULL;
    int r;

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verb, verbs[i].name) == 0) {
            a->said = json_string_value(by);
            answer = ask(a, CONTROL_ROLLOUT_DO, verbs[i].what);
            a->said = NULL;
        }
    json_decref(by);
    if (answer == NULL)
        return CLI_FAILED;
    r = fail_of(a, answer, as_json);
    if (r < 0 && as_json)
        return cli_print_json(answer);
    if (r < 0)
        puts(text_of(answer, "says"));
    json_decref(answer);
    return r < 0 ? CLI_OK : r;
}

static bool is_verb(const char *s)
{
    static const char *const all[] = {"start", "status",  "pause", "resume",
                                      "step",  "promote", "abort", "rollback"};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(s, all[i]) == 0)
            return true;
    return false;
}

int cli_rollout(int argc, char **argv)
{
    enum { MODULE = 256, OPTIONS, SET, STEPS, KEY, SAMPLES, MANUAL, FORCE };
    static const struct option options[] = {{"module", required_argument, NULL, MODULE},
                                            {"options", required_argument, NULL, OPTIONS},
                                            {"set", required_argument, NULL, SET},
                                            {"steps", required_argument, NULL, STEPS},
                                            {"key", required_argument, NULL, KEY},
                                            {"samples", required_argument, NULL, SAMPLES},
                                            {"manual", no_argument, NULL, MANUAL},
                                            {"force", no_argument, NULL, FORCE},
                                            {"wait", no_argument, NULL, 'w'},
                                            {"config", required_argument, NULL, 'c'},
                                            {"socket", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct wish w = {json_object(), json_object(), false};
    struct ask a = {.command = argv[0]};
    bool as_json = false, is_start;
    int c, r = 0;

    while (r == 0 && (c = getopt_long(argc, argv, "wc:h", options, NULL)) != -1) {
        switch (c) {
        case MODULE: r = read_module(argv[0], optarg, w.request); break;
        case OPTIONS: r = read_options(argv[0], optarg, w.request); break;
        case SET: r = read_set(argv[0], optarg, w.request); break;
        case STEPS: r = read_steps(argv[0], optarg, w.plan); break;
        case KEY: json_object_set_new(w.plan, "key", json_string(optarg)); break;
        case SAMPLES: json_object_set_new(w.plan, "samples", json_string(optarg)); break;
        case MANUAL: json_object_set_new(w.plan, "promote", json_string("manual")); break;
        case FORCE: json_object_set_new(w.request, "force", json_true()); break;
        case 'w': w.waits = true; break;
        case 'c': a.config = optarg; break;
        case 's': a.socket = optarg; break;
        case 'j': as_json = true; break;
        case 'h':
            json_decref(w.request);
            json_decref(w.plan);
            return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: r = cli_usage_error(argv); break;
        }
    }
    is_start = optind < argc && strcmp(argv[optind], "start") == 0;
    if (r != 0) {
        r = CLI_BAD_INPUT;
    } else if (optind >= argc || !is_verb(argv[optind]) || argc - optind != 1 + is_start ||
               (a.config != NULL && a.socket != NULL) ||
               (!is_start &&
                (json_object_size(w.request) > 0 || json_object_size(w.plan) > 0 || w.waits))) {
        r = cli_usage_error(argv);
    } else if (is_start) {
        json_object_set_new(w.request, "plugin", json_string(argv[optind + 1]));
        r = start(&a, &w, as_json);
    } else if (strcmp(argv[optind], "status") == 0) {
        json_t *status = ask(&a, CONTROL_ROLLOUT_STATUS, 0);

        r = status != NULL ? show_status(status, as_json) : CLI_FAILED;
    } else {
        r = act(&a, argv[optind], as_json);
    }
    json_decref(w.request);
    json_decref(w.plan);
    return r;
}
