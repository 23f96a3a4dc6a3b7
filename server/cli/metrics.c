/*
 * metrics.c - `bulkhead metrics`: what a scraper gets, on the terminal.
 */
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "obs/metrics_text.h"
#include "obs/sample.h"

static const char help[] =
    "usage: bulkhead metrics [-c FILE | --socket PATH] [--openmetrics | --json]\n"
    "\n"
    "Prints the metrics of the running server, those that its plugins define included, in the text\n"
    "format of Prometheus. docs/metrics.md says what they mean. Asks the master through its control\n"
    "socket; root may, and who runs the server.\n"
    "\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "      --openmetrics   in the format of OpenMetrics 1.0\n"
    "      --json          print JSON: an array of families (name, type, help), each with its samples\n"
    "                      (name, labels, value; null where it is no finite number)\n"
    "\n"
    "Exit status: 0 done, 1 no server answers, 2 the arguments are wrong.\n";

/* What follows "# TYPE " or "# HELP " up to the end of that word; *rest: what comes after it. */
static json_t *word(const char *s, const char **rest)
{
    size_t n = strcspn(s, " ");

    *rest = s[n] == ' ' ? s + n + 1 : s + n;
    return json_stringn(s, n);
}

static json_t *sample_json(const struct sample *s)
{
    const char *at = s->labels, *end = s->labels + s->labels_n, *name;
    json_t *labels = json_object();
    char key[128], value[1024];
    size_t n;

    while (s->labels_n > 0 && sample_next_label(&at, end, &name, &n, value, sizeof value)) {
        snprintf(key, sizeof key, "%.*s", (int)n, name);
        json_object_set_new(labels, key, json_string(value));
    }
    return json_pack("{s:o, s:o, s:o}", "name", json_stringn(s->name, s->name_n), "labels", labels,
                     "value", isfinite(s->value) ? json_real(s->value) : json_null());
}

/* The text of Prometheus by families, each of which it begins with a TYPE and a HELP. */
static json_t *families_json(char *text)
{
    json_t *list = json_array(), *family = NULL;
    const char *rest;
    struct sample s;
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# TYPE ", 7) == 0) {
            json_t *name = word(line + 7, &rest);

            family = json_pack("{s:o, s:s, s:s, s:[]}", "name", name, "type", rest, "help", "",
                               "samples");
            json_array_append_new(list, family);
        } else if (strncmp(line, "# HELP ", 7) == 0 && family != NULL) {
            json_decref(word(line + 7, &rest));
            json_object_set_new(family, "help", json_string(rest));
        } else if (family != NULL && sample_read(line, &s)) {
            json_array_append_new(json_object_get(family, "samples"), sample_json(&s));
        }
    }
    return list;
}

static int run(const struct ask *ask, enum metrics_format format, bool is_json)
{
    char *text = NULL;
    int result, r;

    if (ask_server(ask, CONTROL_METRICS, (int)format, &result, &text) < 0)
        return CLI_FAILED;
    if (result < 0 || text == NULL) {
        fprintf(stderr, "%s: the server could not tell: %s\n", ask->command, strerror(-result));
        free(text);
        return CLI_FAILED;
    }
    if (is_json)
        r = cli_print_json(families_json(text));
    else
        r = fputs(text, stdout) < 0 || fflush(stdout) != 0 ? CLI_FAILED : CLI_OK;
    free(text);
    return r;
}

int cli_metrics(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"socket", required_argument, NULL, 's'},
        {"openmetrics", no_argument, NULL, 'o'},  {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {0}};
    struct ask ask = {.command = argv[0]};
    enum metrics_format format = METRICS_PROMETHEUS;
    bool is_json = false;
    int c;

    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (c) {
        case 'c': ask.config = optarg; break;
        case 's': ask.socket = optarg; break;
        case 'o': format = METRICS_OPENMETRICS; break;
        case 'j': is_json = true; break;
        case 'h': return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    if (optind < argc || (ask.config != NULL && ask.socket != NULL) ||
        (is_json && format != METRICS_PROMETHEUS))
        return cli_usage_error(argv);
    return run(&ask, format, is_json);
}
