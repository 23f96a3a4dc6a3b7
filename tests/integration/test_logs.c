/*
 * test_logs.c - the error log of the real binary: formats that nothing can break, levels that change
 * while it runs, repeats, journald.
 */
#include "harness.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct server *start(const char *error_log)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: 2}\n"
        "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "logs: {error: %s}\n"
        "plugins:\n"
        "  talk: {module: logger, config: {sink: lines.log}}\n"
        "  quiet: {module: logger, log_level: error}\n"
        "  access: {module: access_log, config: {path: access.log, format: json}}\n"
        "routes:\n"
        "  - {match: {path: /quiet}, chain: [quiet]}\n"
        "  - {chain: [access, talk]}\n",
        error_log);
    struct response *res = server_get(srv, "/quiet"); /* from then on it can be asked */

    response_free(&res);
    return srv;
}

static void ask(struct server *srv, const char *target, const char *answer)
{
    struct response *res = server_get(srv, target);

    assert_int_equal(res->status, 200);
    if (answer != NULL)
        assert_string_equal(res->body, answer);
    response_free(&res);
}

static char *read_in(const struct server *srv, const char *name)
{
    char path[512];
    char *text;

    snprintf(path, sizeof path, "%s/%s", srv->dir, name);
    text = file_read(path);
    return text != NULL ? text : strdup("");
}

static bool stands_in(const struct server *srv, const char *name, const char *text)
{
    char *all = read_in(srv, name);
    bool is_there = strstr(all, text) != NULL;

    free(all);
    return is_there;
}

static int count_in(const struct server *srv, const char *name, const char *text)
{
    char *all = read_in(srv, name);
    int n = 0;

    for (const char *p = all; (p = strstr(p, text)) != NULL; p++)
        n++;
    free(all);
    return n;
}

static int loglevel(const struct server *srv, char **out, const char *arguments)
{
    char *said;
    int status = run_command(&said, "RUNTIME_DIRECTORY=%s %s loglevel %s -c %s", srv->dir,
                             getenv("BULKHEAD"), arguments, srv->config);

    if (status == 1)
        harness_fail(__FILE__, __LINE__, "loglevel %s: %s", arguments, said);
    if (out != NULL)
        *out = said;
    else
        free(said);
    return status;
}

/* ---- formats ---- */

static void every_line_is_json_whatever_a_plugin_says(void **state)
{
    struct server *srv = start("{path: error.log, format: json, level: debug}");
    char *text, *line, *rest;
    int n = 0, n_talk = 0;

    (void)state;
    ask(srv, "/?hostile=1&level=1", "on\n");
    ask(srv, "/%80%ff%22%0d%0a%1b[2J?say=the+last", NULL);
    /* Another worker may have said the last, and lines of two workers come in any order. */
    eventually(stands_in(srv, "error.log", "the last") &&
               count_in(srv, "error.log", "\"plugin\":\"talk\"") >= 12);
    text = read_in(srv, "error.log");
    for (line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest), n++) {
        json_error_t error;
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        const char *plugin;

        if (json == NULL)
            fail_msg("line %d: %s: %.200s", n + 1, error.text, line);
        assert_non_null(json_object_get(json, "message"));
        assert_null(json_object_get(json, "forged"));
        plugin = json_string_value(json_object_get(json, "plugin"));
        n_talk += plugin != NULL && strcmp(plugin, "talk") == 0;
        json_decref(json);
    }
    free(text);
    assert_int_equal(n_talk, 12);
    /* Another parser, and the access log, whose fields a client chooses. */
    eventually(count_in(srv, "access.log", "\n") == 2);
    assert_int_equal(
        run_command(NULL,
                    "cd %s && python3 -c 'import json\nfor f in \"error.log\", \"access.log\":\n"
                    " for l in open(f, encoding=\"utf-8\", newline=\"\\n\"): json.loads(l)'",
                    srv->dir),
        0);
    assert_int_equal(server_stop(&srv), 0);
}

static void every_line_of_text_is_one_line(void **state)
{
    struct server *srv = start("{path: error.log, format: text}");
    char *text, *line, *rest;
    int n_talk = 0;

    (void)state;
    ask(srv, "/?hostile=1&level=1", "on\n");
    ask(srv, "/?say=the+last", NULL);
    eventually(stands_in(srv, "error.log", "the last") &&
               count_in(srv, "error.log", ": plugin talk: ") >= 12);
    text = read_in(srv, "error.log");
    for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        assert_true(strlen(line) < 4096);
        assert_int_equal(strspn(line, "0123456789-T:.Z"), 24); /* begins with its time */
        for (const char *p = line; *p != '\0'; p++)
            assert_true((unsigned char)*p >= 0x20 || *p == '\t');
        n_talk += strstr(line, ": plugin talk: ") != NULL;
    }
    free(text);
    assert_int_equal(n_talk, 12);
    /* Lines of an access log are the plugin's own, but control characters do not get in. */
    eventually(count_in(srv, "lines.log", "\n") == 11);
    assert_int_equal(run_command(NULL, "LC_ALL=C grep -q '[[:cntrl:]]' %s/lines.log", srv->dir), 1);
    assert_int_equal(server_stop(&srv), 0);
}

/* So that the logs of all hops can be asked for one request, or one moment. */
static void lines_of_a_request_tell_its_id_and_time(void **state)
{
    struct server *srv = server_start("version: 1\n"
                                      "server: {workers: 1}\n"
                                      "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                                      "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                                      "logs: {error: {path: error.log, format: json}}\n"
                                      "plugins:\n"
                                      "  ids: {module: request_id}\n"
                                      "  early: {module: logger, config: {sink: a.log}}\n"
                                      "  time: {module: trace_time}\n"
                                      "  talk: {module: fault, config: {from_request: true}}\n"
                                      "routes:\n"
                                      "  - {match: {path: /early}, chain: [ids, early]}\n"
                                      "  - {chain: [ids, time, talk]}\n"
                                      "crash: {dir: @DIR@/crashes}\n");
    struct response *res = server_request(srv, "GET", "/early?say=hello",
                                          "X-Request-Id: request-0001\r\n", NULL, 0);
    char time[64];

    (void)state;
    assert_int_equal(res->status, 200);
    response_free(&res);
    eventually(stands_in(srv, "error.log",
                         "\"plugin\":\"early\",\"id\":\"request-0001\",\"message\":\"hello\""));
    res = server_request(srv, "GET", "/?fault=segv", "X-Request-Id: request-0002\r\n", NULL, 0);
    assert_int_equal(res->status, 500);
    snprintf(time, sizeof time, "\"id\":\"request-0002\",\"trace_time_anchor\":\"%s\",\"message\"",
             response_header(res, "X-Trace-Time"));
    response_free(&res);
    eventually(stands_in(srv, "error.log", time));
    assert_int_equal(server_stop(&srv), 0);
}

static void auto_is_json_where_no_person_reads(void **state)
{
    struct server *srv = start("{format: auto}");

    (void)state;
    ask(srv, "/?say=hello", NULL);
    server_wait_log(srv, "\"plugin\":\"talk\",\"message\":\"hello\"}");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_terminal_gets_colours(void **state)
{
    char *out, *dir = tmp_dir(), path[512];

    (void)state;
    if (run_command(NULL, "command -v script >/dev/null") != 0)
        skip();
    snprintf(path, sizeof path, "%s/x.yaml", dir);
    file_write(path,
               "version: 1\n"
               "listeners: [{name: a, address: \"unix:%s/sock\"}]\n"
               "control: {socket: off}\n"
               "modules: {path: [%s]}\n"
               "logs: {error: {format: auto, level: debug}}\n"
               "plugins: {hello: {module: respond}}\n"
               "routes: [{chain: [hello]}]\n",
               dir, getenv("BULKHEAD_PLUGINS"));
    run_command(&out, "TERM=xterm script -qec 'timeout 1 %s run -c %s' /dev/null",
                getenv("BULKHEAD"), path);
    assert_non_null(strstr(out, "\033[32minfo master: \033[0mSIGTERM: stopping"));
    free(out);
    free(dir);
}

static void the_journal_gets_priorities(void **state)
{
    char *out, *dir = tmp_dir(), path[512];

    (void)state;
    snprintf(path, sizeof path, "%s/x.yaml", dir);
    file_write(path,
               "version: 1\n"
               "listeners: [{name: a, address: \"unix:%s/sock\"}]\n"
               "control: {socket: off}\n"
               "modules: {path: [%s]}\n"
               "plugins: {hello: {module: respond}}\n"
               "routes: [{chain: [hello]}]\n",
               dir, getenv("BULKHEAD_PLUGINS"));
    /* As systemd does: a stream, and its device and inode in the environment. */
    assert_int_equal(run_command(&out,
                                 ": >%s/journal; JOURNAL_STREAM=$(stat -c %%d:%%i %s/journal) "
                                 "timeout 1 %s run -c %s 2>>%s/journal; cat %s/journal",
                                 dir, dir, getenv("BULKHEAD"), path, dir, dir),
                     0);
    assert_non_null(strstr(out, "<6>bulkhead "));
    assert_non_null(strstr(out, "<6>info master: SIGTERM: stopping\n"));
    free(out);
    /* Inherited by a process whose stderr is something else: no priorities. */
    run_command(&out, "JOURNAL_STREAM=1:2 timeout 1 %s run -c %s 2>&1", getenv("BULKHEAD"), path);
    assert_null(strstr(out, "<6>"));
    free(out);
    free(dir);
}

/* ---- levels ---- */

static void levels_change_while_it_runs_in_all_workers(void **state)
{
    struct server *srv = start("{path: error.log}");
    char *out;

    (void)state;
    ask(srv, "/?level=4", "off\n");
    assert_int_equal(loglevel(srv, &out, "debug"), 0);
    assert_string_equal(out, "");
    free(out);
    for (int i = 0; i < 8; i++) /* some of both workers */
        ask(srv, "/?level=4", "on\n");
    ask(srv, "/quiet?level=2", "off\n"); /* it has its own */
    assert_int_equal(loglevel(srv, NULL, "quiet debug"), 0);
    ask(srv, "/quiet?level=4&say=no+longer", "on\n");
    eventually(stands_in(srv, "error.log", "no longer"));
    eventually(stands_in(srv, "error.log", "the log level of plugin 'quiet' is debug (was error)"));

    assert_int_equal(loglevel(srv, NULL, "warn"), 0);
    ask(srv, "/?level=3", "off\n");
    ask(srv, "/quiet?level=4", "on\n");
    assert_int_equal(loglevel(srv, NULL, "quiet default"), 0);
    ask(srv, "/quiet?level=2", "off\n");
    assert_int_equal(loglevel(srv, &out, "default --json"), 0);
    assert_non_null(strstr(out, "\"level\": \"info\""));
    free(out);
    ask(srv, "/?level=3", "on\n");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugin_may_log_more_than_the_server(void **state)
{
    struct server *srv = start("{path: error.log, level: warn}");

    (void)state;
    assert_int_equal(loglevel(srv, NULL, "talk debug"), 0);
    ask(srv, "/?level=4&say=in+detail", "on\n");
    eventually(stands_in(srv, "error.log", "in detail"));
    assert_int_equal(server_stop(&srv), 0);
}

static void what_is_no_level_or_plugin_is_told(void **state)
{
    struct server *srv = start("{path: error.log}");
    char *out;

    (void)state;
    assert_int_equal(loglevel(srv, &out, "loud"), 2);
    assert_non_null(strstr(out, "'loud' is no level: error, warn, info, debug or default"));
    free(out);
    assert_int_equal(loglevel(srv, &out, "nobody info"), 2);
    assert_non_null(strstr(out, "no plugin 'nobody' there"));
    free(out);
    assert_int_equal(loglevel(srv, &out, ""), 0);
    assert_non_null(strstr(out, "quiet"));
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- events of plugins ---- */

static json_t *events_of(const struct server *srv)
{
    json_t *list = json_array(), *one;
    char *out, *line, *rest;

    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s events --json -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    for (line = strtok_r(out, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        one = json_loads(line, 0, NULL);
        assert_non_null(one);
        if (json_object_get(one, "name") != NULL)
            json_array_append(list, one);
        json_decref(one);
    }
    free(out);
    return list;
}

static const char *last_event(const struct server *srv, const char *member)
{
    static char text[512];
    json_t *list = events_of(srv);
    const char *s = json_string_value(
        json_object_get(json_array_get(list, json_array_size(list) - 1), member));

    snprintf(text, sizeof text, "%s", s != NULL ? s : "");
    json_decref(list);
    return text;
}

static void what_a_plugin_tells_is_an_event(void **state)
{
    struct server *srv = start("{path: error.log}");
    char *out;

    (void)state;
    ask(srv, "/?event=key_expired&say=all+of+them", "0 0\n");
    eventually(strcmp(last_event(srv, "text"), "all of them") == 0);
    assert_string_equal(last_event(srv, "kind"), "plugin");
    assert_string_equal(last_event(srv, "name"), "key_expired");
    assert_string_equal(last_event(srv, "plugin"), "talk");
    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s events -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    assert_non_null(strstr(out, "talk: key_expired: all of them\n"));
    free(out);
    for (size_t i = 0; i < 4; i++) {
        static const char *const bad[] = {"", "Key", "a%20b", "x%0ay"};
        char target[64];

        snprintf(target, sizeof target, "/?event=%s&say=x", bad[i]);
        ask(srv, target, "-3 -3\n");
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void no_text_of_an_event_breaks_a_format(void **state)
{
    struct server *srv = start("{path: error.log}");

    (void)state;
    ask(srv, "/?event=x&say=%22,%22kind%22:%22reloaded%22%7d%0a%7b%1b%5b2J%ff%e2%80%a8%00z",
        "0 0\n");
    eventually(strcmp(last_event(srv, "text"), "\",\"kind\":\"reloaded\"}?{?[2J????") == 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_flood_of_events_is_counted(void **state)
{
    struct server *srv = start("{path: error.log}");
    json_t *list;

    (void)state;
    for (int i = 0; i < 4; i++)
        ask(srv, "/?event=flood&say=again&times=1000", NULL);
    eventually(strcmp(last_event(srv, "name"), "flood") == 0);
    /* Six seconds later one may come again, which tells how many did not. */
    eventually((ask(srv, "/?event=flood&say=late", NULL),
                strstr(last_event(srv, "text"), "before it were left out)") != NULL));
    list = events_of(srv);
    assert_true(json_array_size(list) <= 2 * 13); /* two workers */
    json_decref(list);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- repeats, rotation ---- */

static void equal_lines_are_counted(void **state)
{
    struct server *srv = start("{path: error.log, repeats: 3}");

    (void)state;
    ask(srv, "/?say=again&times=1000", NULL);
    ask(srv, "/?say=another&times=2", NULL);
    /* Said by one worker each, perhaps. */
    eventually(count_in(srv, "error.log", "talk: again") == 3 &&
               count_in(srv, "error.log", "talk: another") == 2);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    assert_int_equal(server_wait_exit(srv), 0);
    assert_int_equal(count_in(srv, "error.log", "(repeated 997 times) plugin talk: again"), 1);
    server_stop(&srv);
}

/* libstdc++ writes it in pieces; and what a plugin writes by itself stays as it is. */
static void uncaught_exception_is_a_line_of_the_log(void **state)
{
    static const char text[] = "terminate called after throwing an instance of "
                               "'std::runtime_error', what(): thrown by a plugin";
    struct server *srv;
    struct response *res;
    char *log, *record;

    (void)state;
    if (harness_is_sanitized()) {
        print_message("skipped: stdio is not seen under a sanitizer\n");
        skip();
    }
    srv = server_start("version: 1\n"
                       "server: {workers: 1}\n"
                       "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                       "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                       "logs: {error: {path: \"-\", format: json}}\n"
                       "plugins:\n"
                       "  thrower: {module: throw}\n"
                       "  talker: {module: throw, config: {what: cerr}}\n"
                       "routes:\n"
                       "  - {match: {path: /talk}, chain: [talker]}\n"
                       "  - {chain: [thrower]}\n"
                       "crash: {dir: @DIR@/crashes}\n");
    server_wait_log(srv, "serving on"); /* a line of the master's would come in between */
    ask(srv, "/talk", "ok\n");
    server_wait_log(srv, "said by the plugin\n");
    res = server_get(srv, "/");
    assert_int_equal(res->status, 500);
    response_free(&res);
    server_wait_log(srv, "plugin 'thrower': terminate called");
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, text));
    free(record);
    log = server_log(srv);
    assert_non_null(strstr(log, text));
    assert_null(strstr(log, "\nterminate called"));
    assert_null(strstr(log, "what():  "));
    free(log);
    assert_int_equal(server_stop(&srv), 0);
}

static void all_logs_follow_a_rotation(void **state)
{
    struct server *srv = start("{path: error.log}");
    char path[2][512];

    (void)state;
    ask(srv, "/?say=before", NULL);
    eventually(stands_in(srv, "error.log", "before"));
    snprintf(path[0], sizeof path[0], "%s/error.log", srv->dir);
    snprintf(path[1], sizeof path[1], "%s/error.log.1", srv->dir);
    assert_int_equal(rename(path[0], path[1]), 0);
    assert_int_equal(kill(srv->pid, SIGUSR1), 0);
    eventually(access(path[0], F_OK) == 0);
    eventually((ask(srv, "/?say=after", NULL), stands_in(srv, "error.log", "after")));
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_is_json_whatever_a_plugin_says),
        cmocka_unit_test(every_line_of_text_is_one_line),
        cmocka_unit_test(lines_of_a_request_tell_its_id_and_time),
        cmocka_unit_test(auto_is_json_where_no_person_reads),
        cmocka_unit_test(a_terminal_gets_colours),
        cmocka_unit_test(the_journal_gets_priorities),
        cmocka_unit_test(levels_change_while_it_runs_in_all_workers),
        cmocka_unit_test(a_plugin_may_log_more_than_the_server),
        cmocka_unit_test(what_is_no_level_or_plugin_is_told),
        cmocka_unit_test(what_a_plugin_tells_is_an_event),
        cmocka_unit_test(no_text_of_an_event_breaks_a_format),
        cmocka_unit_test(a_flood_of_events_is_counted),
        cmocka_unit_test(equal_lines_are_counted),
        cmocka_unit_test(uncaught_exception_is_a_line_of_the_log),
        cmocka_unit_test(all_logs_follow_a_rotation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
