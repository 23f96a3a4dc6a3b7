/*
 * alerts.c - `bulkhead alerts`: what the rules of the running server have found.
 */
#include <errno.h>
#include <getopt.h> /* optind */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/table.h"

static const char help[] =
    "usage: bulkhead alerts [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Shows the alerts of the running server, one for each set of labels of a rule's metric: firing;\n"
    "pending (it holds, but not for long enough yet); resolved within the last 15 minutes; inactive;\n"
    "and rules whose metric nobody has: no data. TOLD says, by receiver, what has become of telling\n"
    "them of that; below the table stand receivers that are not reached.\n"
    "\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "      --json          print all of it as JSON\n"
    "\n"
    "Exit status: 0 none fires, 1 no server answers, 2 the arguments are wrong, 3 some fire.\n";

enum { FIRING = 3 };

static void print_labels(json_t *labels, char *buf, size_t size)
{
    const char *key, *text;
    json_t *value;
    size_t n = 0;

    buf[0] = '\0';
    json_object_foreach(labels, key, value)
    {
        text = json_string_value(value);
        if (n < size && text != NULL)
            n += (size_t)snprintf(buf + n, size - n, "%s%s=%s", n > 0 ? " " : "", key, text);
    }
}

/* "on_call: arrived, ops: on its way" */
static void print_told(json_t *told, char *buf, size_t size)
{
    const char *name;
    json_t *state;
    size_t n = 0;

    snprintf(buf, size, "-");
    json_object_foreach(told, name, state)
    {
        if (n < size && json_is_string(state))
            n += (size_t)snprintf(buf + n, size - n, "%s%s: %s", n > 0 ? ", " : "", name,
                                  json_string_value(state));
    }
}

/* n: that it stands for so many, with other labels; or NULL. */
static void add_alert(struct table *t, const json_t *a, const int *n)
{
    const json_t *number = json_object_get(a, "value");
    const char *state = cli_text_of(a, "state");
    char value[32] = "-", labels[512], condition[256], told[512];

    if (json_is_number(number) && n == NULL)
        snprintf(value, sizeof value, "%.6g", json_number_value(number));
    snprintf(condition, sizeof condition, "%s %s", cli_text_of(a, "metric"),
             cli_text_of(a, "when"));
    print_labels(json_object_get(a, "labels"), labels, sizeof labels);
    if (n != NULL)
        snprintf(labels, sizeof labels, "(%d sets of labels; --json has all)", *n);
    print_told(json_object_get(a, "told"), told, sizeof told);
    table_row(t, cli_text_of(a, "rule"), state,
              strcmp(state, "resolved") == 0 ? cli_text_of(a, "ended")
              : strcmp(state, "firing") == 0 ? cli_text_of(a, "began")
                                             : "-",
              value, condition, told, labels);
}

static int count_inactive(const json_t *alerts, const char *rule, size_t *first)
{
    const json_t *a;
    int n = 0;
    size_t i;

    json_array_foreach(alerts, i, a)
    {
        if (strcmp(cli_text_of(a, "state"), "inactive") != 0 ||
            strcmp(cli_text_of(a, "rule"), rule) != 0)
            continue;
        if (n++ == 0)
            *first = i;
    }
    return n;
}

/* What is to be looked at first; then what is well, one row for each rule. */
static void add_alerts(struct table *t, const json_t *alerts)
{
    static const char *const order[] = {"firing", "pending", "resolved", "inactive"};
    const json_t *a;
    size_t i, first = 0;

    for (size_t k = 0; k < sizeof order / sizeof order[0]; k++)
        json_array_foreach(alerts, i, a)
        {
            bool is_inactive = strcmp(order[k], "inactive") == 0;
            int n;

            if (strcmp(cli_text_of(a, "state"), order[k]) != 0)
                continue;
            n = is_inactive ? count_inactive(alerts, cli_text_of(a, "rule"), &first) : 1;
            if (n == 1)
                add_alert(t, a, NULL);
            else if (first == i)
                add_alert(t, a, &n);
        }
}

static bool has_alert(const json_t *alerts, const char *rule)
{
    const json_t *a;
    size_t i;

    json_array_foreach(alerts, i, a)
    {
        if (strcmp(cli_text_of(a, "rule"), rule) == 0)
            return true;
    }
    return false;
}

/* Of receivers that are not reached. */
static void print_trouble(const json_t *receivers)
{
    const json_t *r;
    size_t i;

    json_array_foreach(receivers, i, r)
    {
        if (json_is_string(json_object_get(r, "trouble")))
            printf("receiver '%s' is not reached: %s; %lld wait, %lld given up\n",
                   cli_text_of(r, "name"), cli_text_of(r, "trouble"),
                   (long long)json_integer_value(json_object_get(r, "waiting")),
                   (long long)json_integer_value(json_object_get(r, "dropped")));
    }
}

static void print_alerts(const json_t *json)
{
    const json_t *alerts = json_object_get(json, "alerts"), *item;
    char condition[256];
    struct table t;
    size_t i;

    if (json_array_size(json_object_get(json, "rules")) == 0) {
        puts("no rules: alerts.rules in the config");
        return;
    }
    if (!json_is_true(json_object_get(json, "running")))
        puts("the exporter is not running: nothing is judged just now");
    table_init(&t, 7);
    table_row(&t, "ALERT", "STATE", "SINCE", "VALUE", "RULE", "TOLD", "LABELS");
    add_alerts(&t, alerts);
    json_array_foreach(json_object_get(json, "rules"), i, item)
    {
        if (has_alert(alerts, cli_text_of(item, "name")))
            continue;
        snprintf(condition, sizeof condition, "%s %s", cli_text_of(item, "metric"),
                 cli_text_of(item, "when"));
        table_row(&t, cli_text_of(item, "name"), "no data", "-", "-", condition, "-", "");
    }
    table_print(&t, stdout);
    print_trouble(json_object_get(json, "receivers"));
}

static bool some_fire(const json_t *json)
{
    const json_t *a;
    size_t i;

    json_array_foreach(json_object_get(json, "alerts"), i, a)
    {
        if (strcmp(cli_text_of(a, "state"), "firing") == 0)
            return true;
    }
    return false;
}

/* NULL, and it has been said why. */
static json_t *ask_alerts(const struct ask *ask)
{
    json_t *json = NULL;
    char *text = NULL;
    int result = 0;

    if (ask_server(ask, CONTROL_ALERTS, 0, &result, &text) < 0)
        return NULL;
    if (result == 0 && text != NULL)
        json = json_loads(text, 0, NULL);
    free(text);
    if (json == NULL)
        fprintf(stderr, "%s: %s\n", ask->command,
                result == -ENOSYS ? "the server is of another version, and does not know this"
                                  : "the server's answer makes no sense");
    return json;
}

int cli_alerts(int argc, char **argv)
{
    struct ask ask = {.command = argv[0]};
    bool is_json = false, is_firing;
    json_t *json;
    int r;

    if (!ask_options(argc, argv, help, &ask, &is_json, &r))
        return r;
    if (argc != optind)
        return cli_usage_error(argv);
    json = ask_alerts(&ask);
    if (json == NULL)
        return CLI_FAILED;
    is_firing = some_fire(json);
    if (is_json) {
        r = cli_print_json(json);
        return r != CLI_OK ? r : is_firing ? FIRING : CLI_OK;
    }
    print_alerts(json);
    json_decref(json);
    return is_firing ? FIRING : CLI_OK;
}
