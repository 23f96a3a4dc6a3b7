/*
 * cli.h - the commands of the command line.
 *
 * Each gets argv with its own name first ("bulkhead run") and returns the exit status of the
 * process.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stddef.h>
#include <stdio.h>

struct config;
struct diag;
struct setup;

/* Exit statuses, as documented in `bulkhead help`. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,    /* it could not be done */
    CLI_BAD_INPUT = 2, /* config, arguments or object are wrong */
};

/* All commands, as `bulkhead --help`, completions and manual pages show them; ends with a NULL name. */
struct cli_command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};
extern const struct cli_command cli_commands[];
/* `bulkhead --help`. */
void cli_print_usage(FILE *out);

int cli_run(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_schema(int argc, char **argv);
int cli_crashes(int argc, char **argv);
int cli_replay(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_metrics(int argc, char **argv);
int cli_top(int argc, char **argv);
int cli_reload(int argc, char **argv); /* diff as well */
int cli_rollout(int argc, char **argv);
int cli_events(int argc, char **argv);
int cli_worker(int argc, char **argv);
int cli_loglevel(int argc, char **argv);
int cli_alerts(int argc, char **argv);
int cli_breaker(int argc, char **argv);
int cli_new(int argc, char **argv);
int cli_completion(int argc, char **argv);
int cli_manual(int argc, char **argv);
int cli_version(int argc, char **argv);
int cli_help(int argc, char **argv);

/* The config file to use when -c was not given: the first that exists. */
const char *cli_default_config(void);

/* config_load() and setup_create(), every mistake in diag. 0 or -errno; nothing to free then. */
int cli_load(const char *path, struct diag *diag, struct config **cfg, struct setup **setup);
/* The same, with what the last server has left of a rollout; the plugin it was about in interrupted. */
struct overlay;
int cli_load_kept(const char *path, struct diag *diag, struct overlay *overlay, char *interrupted,
                  size_t size, struct config **cfg, struct setup **setup);

/* "COMMAND: bad arguments; see COMMAND --help" on stderr; returns CLI_BAD_INPUT. */
int cli_usage_error(char **argv);

struct json_t;
/* Prints to stdout, indented, and drops the reference. CLI_OK or CLI_FAILED. */
int cli_print_json(struct json_t *json);
/* The text of that member; "-" when there is none. Borrowed. */
const char *cli_text_of(const struct json_t *json, const char *name);
/* The table of workers, from `workers` of the server's status. */
void cli_show_workers(const struct json_t *workers);
/* [{"file", "line", "column", "message", "hint"}] */
struct json_t *cli_diag_json(const struct diag *diag);

struct schema;
/* What may be written as a key's value: "size, 1KiB to 8GiB". */
void cli_describe_type(const struct schema *s, char *buf, size_t size);
/* The reference of the config file in Markdown. */
void cli_print_markdown(void);

#endif
