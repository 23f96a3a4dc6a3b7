/*
 * status.c - `bulkhead status`: how the running server is.
 */
#include <getopt.h> /* optind */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/table.h"

static const char help[] =
    "usage: bulkhead status [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Shows how the running server is: its workers, its plugins and their breakers, what ended and\n"
    "why. Asks the master through its control socket; root may, and who runs the server.\n"
    "\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "      --json          print all of it as JSON\n"
    "\n"
    "Exit status: 0 all is well, 1 no server answers, 2 the arguments are wrong, 3 it serves, but\n"
    "something is amiss: a breaker that is not closed, a route that is blocked, a worker that is\n"
    "missing, a server that is starting or stopping, a plugin that runs otherwise than the config\n"
    "says (it was rolled back, or promoted with --module: docs/rollout.md).\n";

enum { DEGRADED = 3 };

static long long number_of(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

static const char *print_duration(long long s, char *buf, size_t size)
{
    if (s >= 86400)
        snprintf(buf, size, "%lldd %lldh", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        snprintf(buf, size, "%lldh %lldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(buf, size, "%lldm %llds", s / 60, s % 60);
    else
        snprintf(buf, size, "%llds", s);
    return buf;
}

/* ---- the tables ---- */

void cli_show_workers(const json_t *workers)
{
    const json_t *w;
    struct table t;
    size_t i;

    table_init(&t, 9);
    table_row(&t, "WORKER", "PID", "STATE", "GEN", "UP", "REQUESTS", "CONNECTIONS", "MEMORY", "IN");
    json_array_foreach(workers, i, w)
    {
        char slot[32], pid[32], gen[32], up[32], requests[32], connections[32], memory[32] = "-";

        snprintf(slot, sizeof slot, "%lld", number_of(w, "slot"));
        snprintf(pid, sizeof pid, "%lld", number_of(w, "pid"));
        snprintf(gen, sizeof gen, "%lld", number_of(w, "generation"));
        snprintf(requests, sizeof requests, "%lld", number_of(w, "requests"));
        snprintf(connections, sizeof connections, "%lld", number_of(w, "connections"));
        if (json_is_integer(json_object_get(w, "memory_kib")))
            snprintf(memory, sizeof memory, "%.1f MiB", (double)number_of(w, "memory_kib") / 1024);
        table_row(&t, slot, pid, cli_text_of(w, "state"), gen,
                  print_duration(number_of(w, "uptime_s"), up, sizeof up), requests, connections,
                  memory, cli_text_of(w, "in"));
    }
    table_print(&t, stdout);
}

/* open: what to call it, "open" or "blocked". */
static void describe_breaker(const json_t *b, const char *open, char *buf, size_t size)
{
    const char *state = cli_text_of(b, "state");
    long long left_ms = number_of(b, "left_ms");
    char left[32];

    if (strcmp(state, "open") == 0)
        snprintf(buf, size, "%s, trials in %s", open,
                 print_duration((left_ms + 999) / 1000, left, sizeof left));
    else if (strcmp(state, "half-open") == 0)
        snprintf(buf, size, "half-open, %lld passed", number_of(b, "trials_passed"));
    else
        snprintf(buf, size, "%s", state);
}

static void show_plugins(const json_t *status)
{
    const json_t *plugins = json_object_get(status, "plugins"), *p, *block;
    static const char *const counters[] = {"crashes",       "deadlines", "failures",
                                           "worker_deaths", "renewals",  "copies"};
    enum { N = sizeof counters / sizeof counters[0] };
    struct table t;
    size_t i, k;

    table_init(&t, 5 + N);
    table_row(&t, "PLUGIN", "MODULE", "BREAKER", "CRASHES", "DEADLINES", "FAILURES", "DEATHS",
              "RENEWED", "COPIES", "MEMORY", "OPEN");
    json_array_foreach(plugins, i, p)
    {
        char breaker[64], number[N][32], memory[32] = "-", open[32];

        describe_breaker(json_object_get(p, "breaker"), "open", breaker, sizeof breaker);
        for (k = 0; k < N; k++)
            snprintf(number[k], sizeof number[k], "%lld", number_of(p, counters[k]));
        if (json_is_integer(json_object_get(p, "memory_kib")))
            snprintf(memory, sizeof memory, "%.1f MiB", (double)number_of(p, "memory_kib") / 1024);
        snprintf(open, sizeof open, "%lld", number_of(p, "descriptors"));
        table_row(&t, cli_text_of(p, "name"), cli_text_of(p, "module"), breaker, number[0],
                  number[1], number[2], number[3], number[4], number[5], memory, open);
        json_array_foreach(json_object_get(p, "blocked_routes"), k, block)
        {
            char name[128];

            snprintf(name, sizeof name, "  route '%.100s'", cli_text_of(block, "route"));
            describe_breaker(block, "blocked", breaker, sizeof breaker);
            table_row(&t, name, "", breaker, "", "", "", "", "", "", "", "");
        }
    }
    table_print(&t, stdout);
}

static void show_ends(const json_t *status)
{
    const json_t *ended = json_object_get(status, "ended_workers");
    const json_t *last = json_object_get(ended, "last"), *e;
    size_t i;

    if (json_array_size(last) == 0)
        return;
    printf("\nworkers that ended: %lld; the last ones:\n", number_of(ended, "count"));
    json_array_foreach(last, i, e)
    {
        printf("  %s  worker %lld (pid %lld) %s\n", cli_text_of(e, "time"), number_of(e, "slot"),
               number_of(e, "pid"), cli_text_of(e, "why"));
    }
}

/* Since the server was started. */
static void show_times(const json_t *status)
{
    const json_t *listeners = json_object_get(status, "listeners"), *l;
    size_t i;

    json_array_foreach(listeners, i, l)
    {
        const json_t *d = json_object_get(l, "duration");

        if (json_is_real(json_object_get(d, "p50_us")))
            printf("listener '%s': p50 %.3g ms, p99 %.3g ms, p99.9 %.3g ms\n",
                   cli_text_of(l, "name"), json_real_value(json_object_get(d, "p50_us")) / 1000,
                   json_real_value(json_object_get(d, "p99_us")) / 1000,
                   json_real_value(json_object_get(d, "p999_us")) / 1000);
    }
}

/* Those that did anything. */
static void show_counts(json_t *counts, const char *title)
{
    const char *name;
    json_t *n;
    int shown = 0;

    json_object_foreach(counts, name, n)
    {
        if (json_integer_value(n) > 0)
            printf("%s%s %lld", shown++ == 0 ? title : ", ", name,
                   (long long)json_integer_value(n));
    }
    if (shown > 0)
        putchar('\n');
}

static void show_store(const json_t *store)
{
    if (number_of(store, "entries") == 0 && number_of(store, "refused") == 0)
        return;
    printf("\nstore: %lld entries, %.1f of %.1f MiB", number_of(store, "entries"),
           (double)number_of(store, "used") / (1 << 20),
           (double)number_of(store, "size") / (1 << 20));
    if (number_of(store, "refused") > 0)
        printf("; %lld were refused, for want of room or quota", number_of(store, "refused"));
    putchar('\n');
}

static void show_rollout(const json_t *r)
{
    if (strcmp(cli_text_of(r, "phase"), "idle") == 0 || !json_is_object(r))
        return;
    printf("rollout of plugin '%s', %s -> %s: %s %s, step %lld of %zu%s\n",
           cli_text_of(r, "plugin"), cli_text_of(json_object_get(r, "stable"), "version"),
           cli_text_of(json_object_get(r, "candidate"), "version"), cli_text_of(r, "mode"),
           cli_text_of(r, "weight"), number_of(r, "step"),
           json_array_size(json_object_get(r, "steps")),
           json_is_true(json_object_get(r, "paused")) ? ", paused" : "");
}

/* The processes beside the master, but for workers that serve. The config may want no admin or exporter. */
static void show_helpers(const json_t *status)
{
    static const char *const names[] = {"recorder", "admin", "exporter"};
    const json_t *workers = json_object_get(status, "workers"), *w;
    const char *comma = "";
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        const json_t *helper = json_object_get(status, names[i]);

        if (!json_is_object(helper))
            continue;
        if (json_is_true(json_object_get(helper, "running")))
            printf("%s%s pid %lld", comma, names[i], number_of(helper, "pid"));
        else
            printf("%s%s not running", comma, names[i]);
        comma = ", ";
    }
    json_array_foreach(workers, i, w)
    {
        if (strcmp(cli_text_of(w, "state"), "standby") == 0) {
            printf("%sstandby pid %lld", comma, number_of(w, "pid"));
            comma = ", ";
        }
    }
    putchar('\n');
}

static void show(const json_t *status)
{
    const json_t *problems = json_object_get(status, "problems"), *problem;
    char up[32];
    size_t i;

    printf("bulkhead %s, pid %lld, %s, up %s, %lld requests\nconfig %s, generation %lld\n",
           cli_text_of(status, "version"), number_of(status, "pid"), cli_text_of(status, "state"),
           print_duration(number_of(status, "uptime_s"), up, sizeof up),
           number_of(status, "requests"), cli_text_of(status, "config"),
           number_of(status, "generation"));
    show_helpers(status);
    show_times(status);
    show_rollout(json_object_get(status, "rollout"));
    json_array_foreach(problems, i, problem)
    {
        printf("%s%s\n", i == 0 ? "\namiss: " : "       ", json_string_value(problem));
    }
    putchar('\n');
    cli_show_workers(json_object_get(status, "workers"));
    if (json_array_size(json_object_get(status, "plugins")) > 0) {
        putchar('\n');
        show_plugins(status);
    }
    show_counts(json_object_get(status, "limits"), "\nended or refused, by limit: ");
    show_counts(json_object_get(status, "refusals"),
                "\nrequests that were malformed or too large: ");
    show_counts(json_object_get(json_object_get(status, "admin"), "refusals"),
                "\nthe same, of the admin interface: ");
    show_store(json_object_get(status, "store"));
    show_ends(status);
}

/* ---- the command ---- */

static int run(const struct ask *ask, bool as_json)
{
    json_t *status;
    int result, r;
    bool is_well;
    char *text;

    if (ask_server(ask, CONTROL_STATUS, 0, &result, &text) < 0)
        return CLI_FAILED;
    status = result == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (status == NULL) {
        fprintf(stderr, "%s: the server could not tell: %s\n", ask->command,
                result < 0 ? strerror(-result) : "its answer makes no sense");
        return CLI_FAILED;
    }
    is_well = json_array_size(json_object_get(status, "problems")) == 0;
    if (as_json) {
        r = cli_print_json(status);
    } else {
        show(status);
        json_decref(status);
        r = fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
    }
    return r != CLI_OK ? r : is_well ? CLI_OK : DEGRADED;
}

int cli_status(int argc, char **argv)
{
    struct ask ask = {.command = argv[0]};
    bool as_json = false;
    int r;

    if (!ask_options(argc, argv, help, &ask, &as_json, &r))
        return r;
    if (optind < argc)
        return cli_usage_error(argv);
    return run(&ask, as_json);
}
