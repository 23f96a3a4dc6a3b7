/*
 * test_alerts.c - alerts, from a crash in the real binary to those who are told: a webhook and a robot
 * of WeCom that are played by a script, and a real Alertmanager, where it is installed.
 */
#include "harness.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONFIG                                                                              \
    "version: 1\n"                                                                          \
    "server: {workers: 2}\n"                                                                \
    "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"                               \
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"                                             \
    "breaker: {crashes: 0}\n"                                                               \
    "plugins:\n"                                                                            \
    "  boom: {module: fault, config: {fault: segv}}\n"                                      \
    "  site: {module: respond}\n"                                                           \
    "routes:\n"                                                                             \
    "  - {match: {path: /boom}, chain: [boom, site]}\n"                                     \
    "  - {chain: [site]}\n"                                                                 \
    "alerts:\n"                                                                             \
    "  rules:\n"                                                                            \
    "    - name: crashing\n"                                                                \
    "      metric: bulkhead_plugin_crashes_total\n"                                         \
    "      match: {plugin: boom, kind: SIGSEGV}\n"                                          \
    "      over: %s\n"                                                                      \
    "      when: \"> 2\"\n"                                                                 \
    "      labels: {severity: page}\n"                                                      \
    "      annotations: {summary: it crashes}\n"                                            \
    "    - {name: typo, metric: no_such_metric, when: \"> 0\"}\n"                           \
    "    - {name: slow, metric: bulkhead_request_duration_seconds_p99, when: \"> 3600\"}\n" \
    "%s"

static struct server *start(const char *over, const char *receivers)
{
    struct server *srv = server_start(CONFIG, over, receivers);
    struct response *res = server_get(srv, "/");

    assert_int_equal(res->status, 200);
    response_free(&res);
    return srv;
}

static int alerts(const struct server *srv, char **out, const char *arguments)
{
    return run_command(out, "RUNTIME_DIRECTORY=%s %s alerts %s -c %s", srv->dir, getenv("BULKHEAD"),
                       arguments, srv->config);
}

static bool shows(const struct server *srv, const char *text)
{
    char *out;
    bool is_there;

    alerts(srv, &out, "");
    is_there = strstr(out, text) != NULL;
    free(out);
    return is_there;
}

/* Once the exporter has looked at the counter: what was before is not growth. */
static void crash_thrice(struct server *srv)
{
    eventually(shows(srv, "crashing  inactive"));
    for (int i = 0; i < 3; i++) {
        struct response *res = server_get(srv, "/boom");

        assert_int_equal(res->status, 500);
        response_free(&res);
    }
    eventually(shows(srv, "crashing  firing"));
}

static void needs(const char *program, const char *package)
{
    if (run_command(NULL, "command -v %s >/dev/null", program) == 0)
        return;
    print_message("skipped: there is no %s here (apt-get install %s)\n", program, package);
    skip();
}

static void receivers_are_told_when_it_fires_and_when_it_is_over(void **state)
{
    struct server *srv;
    char *out, *log;
    int status;

    (void)state;
    needs("node", "nodejs");
    srv = start(
        "3s",
        "  receivers:\n"
        "    - {name: ops, url: \"http://127.0.0.1:@PORT1@/hook?key=s3cret\", headers: {X-Team: ops}}\n"
        "    - {name: wx, type: wecom, url: \"http://127.0.0.1:@PORT1@/wecom?key=s3cret\"}\n");
    eventually(shows(srv, "crashing  inactive"));
    status = run_command(&out, "node %s/../tests/clients/alerts.mjs %d %d", getenv("BULKHEAD_SDK"),
                         srv->port[0], srv->port[1]);
    if (status != 0)
        harness_fail(__FILE__, __LINE__, "status %d:\n%.3000s", status, out);
    free(out);
    server_wait_log(srv, "alert 'crashing' fires: bulkhead_plugin_crashes_total is 3 (> 2)");
    server_wait_log(srv, "alert 'crashing' is over");
    server_wait_log(srv, "errcode 93000: invalid webhook url: dropped");
    eventually(shows(srv, "ops: arrived, wx: not arrived"));
    assert_true(shows(srv, "receiver 'wx' is not reached: status 200: errcode 93000"));
    log = server_log(srv);
    assert_null(strstr(log, "s3cret")); /* a key of WeCom's stands in the URL */
    free(log);
    assert_int_equal(server_stop(&srv), 0);
}

static void the_command_shows_what_holds_and_what_has_no_data(void **state)
{
    struct server *srv = start("1h", "");
    char *out;

    (void)state;
    eventually(shows(srv, "slow      inactive"));
    assert_true(shows(srv, "typo      no data"));
    assert_int_equal(alerts(srv, NULL, ""), 0);
    crash_thrice(srv);
    assert_int_equal(alerts(srv, &out, "--json"), 3);
    assert_non_null(strstr(out, "\"state\": \"firing\""));
    assert_non_null(strstr(out, "\"plugin\": \"boom\""));
    free(out);
    run_command(&out, "RUNTIME_DIRECTORY=%s %s status -c %s", srv->dir, getenv("BULKHEAD"),
                srv->config);
    assert_non_null(strstr(out, "alert 'crashing' is firing"));
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static bool event_says(const struct server *srv, const char *text)
{
    return run_command(NULL, "RUNTIME_DIRECTORY=%s %s events -c %s | grep -qF -- \"%s\"", srv->dir,
                       getenv("BULKHEAD"), srv->config, text) == 0;
}

static void firing_and_its_end_are_events(void **state)
{
    struct server *srv = start("3s", "");

    (void)state;
    crash_thrice(srv);
    eventually(event_says(srv, "alert_firing         boom: alert 'crashing' fires: "
                               "bulkhead_plugin_crashes_total > 2, plugin="));
    eventually(event_says(srv, "alert_resolved       boom: alert 'crashing' is over"));
    assert_int_equal(server_stop(&srv), 0);
}

/* Who could not be reached, and who is new, is told by the exporter that comes next; nobody else. */
static void a_receiver_that_is_new_is_told_and_others_not_again(void **state)
{
    static const char *const receivers[] = {
        "  receivers: [{name: old, url: \"http://127.0.0.1:@PORT@/\"}]\n",
        "  receivers:\n"
        "    - {name: new, url: \"http://127.0.0.1:@PORT@/\"}\n"
        "    - {name: gone, url: \"http://127.0.0.1:1/\"}\n"
        "    - {name: old, url: \"http://127.0.0.1:@PORT@/\"}\n"};
    struct server *srv = start("1h", receivers[0]); /* the server itself takes them: 200 */
    char *out;

    (void)state;
    crash_thrice(srv);
    eventually(shows(srv, "old: arrived"));
    server_rewrite_config(srv, CONFIG, "1h", receivers[1]);
    assert_int_equal(kill(srv->pid, SIGHUP), 0);
    eventually(shows(srv, "new: arrived, gone: on its way, old: arrived"));
    assert_true(shows(srv, "receiver 'gone' is not reached"));
    alerts(srv, &out, "--json");
    assert_non_null(
        strstr(out, "\"name\": \"old\",\n      \"type\": \"webhook\",\n      \"arrived\": 0"));
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void the_example_is_sound_and_its_key_is_not_shown(void **state)
{
    char *out;

    (void)state;
    assert_int_equal(run_command(&out,
                                 "cd %s && WECOM_URL='https://h/send?key=s3cret' %s check -c "
                                 "%s/../config/example-alerts.yaml",
                                 getenv("BULKHEAD_SDK"), getenv("BULKHEAD"),
                                 getenv("BULKHEAD_SDK")),
                     0);
    assert_null(strstr(out, "s3cret"));
    free(out);
}

static void a_diff_shows_no_keys(void **state)
{
    struct server *srv = start(
        "1h", "  receivers: [{name: a, url: \"http://127.0.0.1:1/?key=s3cret\"}]\n");
    char *out;

    (void)state;
    server_rewrite_config(
        srv, CONFIG, "1h",
        "  receivers: [{name: a, url: \"http://127.0.0.1:1/?key=s3cr3t\", headers: {X-K: s3cret}}]\n");
    run_command(&out, "RUNTIME_DIRECTORY=%s %s diff -c %s", srv->dir, getenv("BULKHEAD"),
                srv->config);
    assert_non_null(strstr(out, "alerts.receivers[a].url"));
    assert_null(strstr(out, "s3cr"));
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_fires_goes_on_over_a_reload_and_a_killed_exporter(void **state)
{
    struct server *srv = start("1h", "");
    pid_t pid = 0, next = 0;
    char *log;

    (void)state;
    crash_thrice(srv);
    assert_int_equal(server_children(srv, "bh-exporter", &pid, 1), 1);
    assert_int_equal(kill(srv->pid, SIGHUP), 0);
    eventually(server_children(srv, "bh-exporter", &next, 1) == 1 && next != pid);
    assert_true(shows(srv, "crashing  firing"));
    pid = next;
    assert_int_equal(kill(pid, SIGKILL), 0);
    eventually(server_children(srv, "bh-exporter", &next, 1) == 1 && next != pid);
    server_wait_log(srv, "the exporter is started again");
    eventually(shows(srv, "slow      inactive")); /* it has looked */
    assert_true(shows(srv, "crashing  firing"));
    log = server_log(srv);
    assert_null(strstr(strstr(log, "' fires") + 1, "' fires")); /* it was told once */
    free(log);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- a real Alertmanager ---- */

/* Debian's looks for its templates in one place only; where the package was unpacked and not installed,
 * they are put there for that process alone. */
#define TEMPLATES "/usr/share/prometheus/alertmanager"

static void needs_templates(void)
{
    if (access(TEMPLATES, R_OK) == 0 ||
        run_command(NULL, "unshare --mount %s true", geteuid() != 0 ? "--map-root-user" : "") == 0)
        return;
    print_message("%s is not there, and cannot be put there for one process\n", TEMPLATES);
    skip();
}

static bool put_templates_in_place(void)
{
    char unpacked[4096];

    snprintf(unpacked, sizeof unpacked, "%s/../build/unpacked/usr/share", getenv("BULKHEAD_SDK"));
    return access(TEMPLATES, R_OK) == 0 ||
           (unshare(CLONE_NEWNS | (geteuid() != 0 ? CLONE_NEWUSER : 0)) == 0 &&
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
            mount(unpacked, "/usr/share", NULL, MS_BIND, NULL) == 0);
}

static pid_t start_alertmanager(const struct server *srv)
{
    char config[512], listen[64], storage[512];
    pid_t parent = getpid(), pid;

    snprintf(config, sizeof config, "%s/am.yml", srv->dir);
    snprintf(storage, sizeof storage, "--storage.path=%s/am", srv->dir);
    snprintf(listen, sizeof listen, "--web.listen-address=127.0.0.1:%d", srv->port[1]);
    file_write(config, "route: {receiver: none}\nreceivers: [{name: none}]\n");
    pid = fork();
    if (pid == 0) {
        char argument[600], log[512];

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        snprintf(argument, sizeof argument, "--config.file=%s", config);
        snprintf(log, sizeof log, "%s/am.log", srv->dir);
        if (freopen(log, "w", stderr) == NULL || freopen(log, "a", stdout) == NULL)
            _exit(1);
        if (!put_templates_in_place()) {
            perror(TEMPLATES);
            _exit(126);
        }
        execlp("prometheus-alertmanager", "prometheus-alertmanager", argument, storage, listen,
               "--cluster.listen-address=", (char *)NULL);
        _exit(127);
    }
    assert_true(pid > 0);
    return pid;
}

static bool alertmanager_has(const struct server *srv, const char *filter, int n)
{
    return run_command(
               NULL,
               "test \"$(curl -s -m 5 '127.0.0.1:%d/api/v2/alerts?%s' | python3 -c 'import json, "
               "sys; print(len(json.load(sys.stdin)))')\" = %d",
               srv->port[1], filter, n) == 0;
}

static void a_real_alertmanager_takes_them(void **state)
{
    struct server *srv;
    pid_t pid;

    (void)state;
    needs("prometheus-alertmanager", "prometheus-alertmanager");
    needs("curl", "curl");
    needs_templates();
    srv = start("3s", "  receivers:\n"
                      "    - {name: am, type: alertmanager, url: \"http://127.0.0.1:@PORT1@\"}\n");
    pid = start_alertmanager(srv);
    eventually(alertmanager_has(srv, "", 0));
    crash_thrice(srv);
    eventually(alertmanager_has(
        srv, "filter=alertname=crashing&filter=plugin=boom&filter=severity=page&active=true", 1));
    eventually(shows(srv, "crashing  resolved"));
    eventually(alertmanager_has(srv, "filter=alertname=crashing", 0));
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receivers_are_told_when_it_fires_and_when_it_is_over),
        cmocka_unit_test(the_command_shows_what_holds_and_what_has_no_data),
        cmocka_unit_test(firing_and_its_end_are_events),
        cmocka_unit_test(a_receiver_that_is_new_is_told_and_others_not_again),
        cmocka_unit_test(the_example_is_sound_and_its_key_is_not_shown),
        cmocka_unit_test(a_diff_shows_no_keys),
        cmocka_unit_test(what_fires_goes_on_over_a_reload_and_a_killed_exporter),
        cmocka_unit_test(a_real_alertmanager_takes_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
