/*
 * test_packaging.c - the Debian package, installed in a machine that runs a real systemd, and is thrown
 * away: tests/machine. Skipped, with the reason, where that is not to be had.
 *
 * The tests follow one another: the server that one has installed is the next one's.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[400]; /* of the sources */
static char *machine;  /* handle of tests/machine; NULL: there is none */
static char *reason;

static int start(void **state)
{
    char *out, *newline;

    (void)state;
    snprintf(root, sizeof root, "%s/..", getenv("BULKHEAD_SDK"));
    if (harness_is_sanitized()) {
        reason = strdup("a sanitized build is not packaged");
        return 0;
    }
    if (run_command(NULL, "ls %s/build/deb/bulkhead_*.deb", root) != 0) {
        reason = strdup("there is no build/deb/*.deb (apt-get install dpkg-dev)");
        return 0;
    }
    machine = tmp_dir();
    if (run_command(&out, "%s/tests/machine start %s %s", root, machine, root) == 0) {
        free(out);
        return 0;
    }
    newline = strchr(out, '\n');
    if (newline != NULL)
        *newline = '\0';
    reason = out;
    free(machine);
    machine = NULL;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (machine != NULL)
        run_command(NULL, "%s/tests/machine stop %s", root, machine);
    free(machine);
    free(reason);
    return 0;
}

static void needs_machine(void)
{
    if (machine != NULL)
        return;
    print_message("skipped: %s\n", reason);
    skip();
}

static void needs(const char *program, const char *package)
{
    if (run_command(NULL, "command -v %s >/dev/null", program) == 0)
        return;
    print_message("skipped: there is no %s here (apt-get install %s)\n", program, package);
    skip();
}

static void journal(void)
{
    char *out;

    run_command(&out, "%s/tests/machine run %s 'journalctl --no-pager -n 40'", root, machine);
    print_message("the journal:\n%.8000s\n", out);
    free(out);
}

/* The output of a command there, which ends with that status; freed by the caller. */
static char *output_of(int status, const char *command)
{
    char *out, *quoted = malloc(2 * strlen(command) + 3), *q = quoted;
    int r;

    assert_non_null(quoted);
    for (const char *c = command; *c != '\0'; c++) {
        if (strchr("\\\"$`", *c) != NULL)
            *q++ = '\\';
        *q++ = *c;
    }
    *q = '\0';
    r = run_command(&out, "%s/tests/machine run %s \"%s\"", root, machine, quoted);
    free(quoted);
    if (r != status) {
        journal();
        harness_fail(__FILE__, __LINE__, "status %d of %s:\n%.3000s", r, command, out);
    }
    return out;
}

static void wants(int status, const char *command, const char *text)
{
    char *out = output_of(status, command);

    if (strstr(out, text) == NULL) {
        journal();
        harness_fail(__FILE__, __LINE__, "no \"%s\" in the output of %s:\n%.3000s", text, command,
                     out);
    }
    free(out);
}

static void run(const char *command)
{
    free(output_of(0, command));
}

/* Polls there until the command succeeds. */
#define becomes_true(command) \
    eventually(run_command(NULL, "%s/tests/machine run %s '%s'", root, machine, command) == 0)

#define MAIN_PID  "$(systemctl show -p MainPID --value bulkhead)"
#define CURL      "curl -sS --max-time 20 "
#define CONFIG    "/etc/bulkhead/bulkhead.yaml"
#define DEB       "/given/build/deb/bulkhead_*.deb"
#define DEV_DEB   "/given/build/deb/bulkhead-dev_*.deb"
#define DEBUG_DEB "/given/build/deb/bulkhead-dbgsym_*.deb"

static void unit_exposes_little(void **state)
{
    char *out;
    double score = 10;
    const char *at;

    (void)state;
    needs("systemd-analyze", "systemd");
    assert_int_equal(run_command(&out,
                                 "systemd-analyze security --offline=true --no-pager "
                                 "%s/packaging/bulkhead.service",
                                 root),
                     0);
    at = strstr(out, "exposure level for bulkhead.service: ");
    if (at != NULL)
        score = strtod(strchr(at, ':') + 1, NULL);
    if (!(score > 0 && score < 3))
        harness_fail(__FILE__, __LINE__, "exposure %.1f, not below 3.0:\n%.6000s", score, out);
    free(out);
}

static void lintian_is_content(void **state)
{
    char *out;

    (void)state;
    needs("lintian", "lintian");
    if (machine == NULL) /* a build of this commit may be missing */
        needs_machine();
    if (run_command(&out, "lintian --allow-root --fail-on error,warning %s/build/deb/*.deb",
                    root) != 0)
        harness_fail(__FILE__, __LINE__, "lintian:\n%.3000s", out);
    free(out);
}

static void package_is_installed_and_serves(void **state)
{
    (void)state;
    needs_machine();
    run("dpkg -i " DEB);
    wants(0, "systemctl is-active bulkhead", "active");
    wants(0, "systemctl is-enabled bulkhead", "enabled");
    wants(0, CURL "-i http://127.0.0.1:8080/", "HTTP/1.1 200 OK");
    wants(0, "ps -o user= -p " MAIN_PID, "bulkhead");
    wants(0, "bulkhead status", "serving");
    wants(0, "bulkhead check -c /given/packaging/docker.yaml", "ok");
    wants(0, "systemd-analyze verify bulkhead.service 2>&1 | grep -c bulkhead.service: || true",
          "0\n");
    wants(0, "stat -c %U:%a /var/lib/bulkhead/crashes", "bulkhead:750");
    becomes_true("grep -q \"GET / HTTP\" /var/log/bulkhead/access.log");
}

/* Has the fault plugin in front of the site at /crash. */
#define ADD_FAULT                                                                                  \
    "sed -i -e 's|^  site:|  crash: {module: fault, breaker: {crashes: 0}, config: "               \
    "{from_request: true}}\\n&|' -e 's|^routes:.*|&\\n  - {match: {path: /crash}, chain: [front, " \
    "crash]}|' " CONFIG

static void reload_tells_whether_it_succeeded(void **state)
{
    (void)state;
    needs_machine();
    run("cp " CONFIG " /tmp/sound.yaml && " ADD_FAULT " && echo 'bogus: 1' >> " CONFIG);
    wants(1, "systemctl reload bulkhead 2>&1", "failed");
    wants(0, "journalctl -u bulkhead -o cat", "unknown key 'bogus'");
    wants(0, CURL "http://127.0.0.1:8080/", "Bulkhead serves");
    run("sed -i /bogus/d " CONFIG " && systemctl reload bulkhead");
    wants(0, CURL "-o /dev/null -w '%{http_code}' 'http://127.0.0.1:8080/crash?fault=segv'", "500");
    becomes_true("bulkhead crashes show --last | grep -q \"fault_segv_null() in fault.so\"");
}

static void admin_interface_works_within_the_sandbox(void **state)
{
    (void)state;
    needs_machine();
    run("sed -i 's/^# admin:/admin:/' " CONFIG " && systemctl restart bulkhead");
    wants(0, CURL "http://127.0.0.1:9900/healthz", "ok");
    wants(0,
          CURL "-H \"Authorization: Bearer $(cat /var/lib/bulkhead/admin.token)\" "
               "http://127.0.0.1:9900/metrics",
          "bulkhead_build_info");
}

static void debug_symbols_name_lines(void **state)
{
    (void)state;
    needs_machine();
    run("dpkg -i " DEBUG_DEB);
    run("systemctl reload bulkhead"); /* a recorder that has not looked for them yet */
    run(CURL "-o /dev/null 'http://127.0.0.1:8080/crash?fault=fpe'");
    becomes_true("bulkhead crashes show --last | grep -q \"at kinds.c:\"");
}

/* Asks on a connection that is kept, does something, and asks on it again. */
static void keeps_connection_over(const char *command, const char *text)
{
    char *script = NULL;

    assert_true(
        asprintf(
            &script,
            "cat > /tmp/keep.sh <<'END'\n"
            "exec 3<>/dev/tcp/127.0.0.1/8080\n"
            "ask() { printf 'GET /%%s HTTP/1.1\\r\\nHost: a\\r\\n%%s\\r\\n' \"$1\" \"$2\" >&3; }\n"
            "ask first ''\n"
            "IFS= read -r line <&3; echo \"$line\"\n"
            "%s\n"
            "ask second $'Connection: close\\r\\n'\n"
            "timeout 10 cat <&3\n"
            "END\n"
            "bash /tmp/keep.sh 2>&1 | tee /tmp/keep.out; grep -c HTTP/1.1.404 /tmp/keep.out",
            command) > 0);
    wants(0, script, text);
    wants(0, "grep -c HTTP/1.1.404 /tmp/keep.out", "2\n");
    free(script);
}

static void connections_of_a_broken_worker_are_taken_over_within_the_sandbox(void **state)
{
    (void)state;
    needs_machine();
    /* Several times: it is either worker's turn. */
    keeps_connection_over("for i in 1 2 3 4 5 6 7 8; do curl -s -o /dev/null -w '%{http_code}\\n' "
                          "'http://127.0.0.1:8080/crash?fault=stdio_lock'; sleep 0.2; done",
                          "500");
    wants(0, "journalctl -u bulkhead -o cat", "1 idle connections move");
    wants(0, "journalctl -u bulkhead -o cat | grep -c 'may not take over' || true", "0\n");
}

static void upgrade_keeps_connections_and_the_configuration(void **state)
{
    (void)state;
    needs_machine();
    run("md5sum " CONFIG " > /tmp/config.md5; echo " MAIN_PID " > /tmp/main");
    keeps_connection_over("dpkg -i " DEB, "Setting up bulkhead");
    run("md5sum -c /tmp/config.md5");
    run("test " MAIN_PID " -ne $(cat /tmp/main)");
    wants(0, "systemctl show -p NRestarts -p ActiveState bulkhead",
          "NRestarts=0\nActiveState=active");
}

static void death_of_the_new_main_process_is_noticed(void **state)
{
    (void)state;
    needs_machine();
    run("kill -KILL " MAIN_PID);
    becomes_true("systemctl show -p NRestarts bulkhead | grep -q =1");
    becomes_true("curl -s http://127.0.0.1:8080/ | grep -q serves");
}

static void logs_are_rotated(void **state)
{
    (void)state;
    needs_machine();
    needs("logrotate", "logrotate");
    run("logrotate -f /etc/logrotate.d/bulkhead");
    run("test -s /var/log/bulkhead/access.log.1");
    run(CURL "http://127.0.0.1:8080/after");
    becomes_true("grep -q \"GET /after\" /var/log/bulkhead/access.log");
    wants(0, "stat -c %U /var/log/bulkhead/access.log", "bulkhead");
}

static void watchdog_restarts_what_stands_still(void **state)
{
    (void)state;
    needs_machine();
    run("mkdir -p /run/systemd/system/bulkhead.service.d && printf '[Service]\\nWatchdogSec=3s\\n' > "
        "/run/systemd/system/bulkhead.service.d/test.conf && systemctl daemon-reload && "
        "systemctl restart bulkhead");
    /* One worker is the master's own business: see the number of restarts at the end. */
    run("kill -STOP $(pgrep -x 'bh-worker 0'); sleep 4; kill -CONT $(pgrep -x 'bh-worker 0')");
    wants(0, "systemctl show -p NRestarts bulkhead", "NRestarts=0");
    run("kill -STOP $(pgrep bh-worker)");
    becomes_true("systemctl show -p NRestarts bulkhead | grep -q =1");
    wants(0, "journalctl -u bulkhead -o cat", "no worker's loop has turned");
    wants(0, "journalctl -u bulkhead -o cat", "Watchdog timeout");
    becomes_true("curl -s http://127.0.0.1:8080/ | grep -q serves");
    run("rm -r /run/systemd/system/bulkhead.service.d && systemctl daemon-reload");
}

static void plugin_is_built_with_the_dev_package(void **state)
{
    (void)state;
    needs_machine();
    run("dpkg -i " DEV_DEB);
    run("cd /tmp && bulkhead new greet && make -C greet >/dev/null");
    wants(0, "bulkhead inspect /tmp/greet/greet.so", "greet");
    run("dpkg --purge bulkhead-dev && ! ls /usr/include/bulkhead.h 2>/dev/null");
}

static void purge_leaves_nothing_but_the_user(void **state)
{
    (void)state;
    needs_machine();
    run("dpkg --remove bulkhead-dbgsym bulkhead");
    wants(3, "systemctl is-active bulkhead", "inactive");
    run("test -f " CONFIG " && test -d /var/lib/bulkhead");
    run("dpkg --purge bulkhead");
    /* man's cache is man's. */
    wants(1,
          "find /etc /usr/lib /usr/bin /usr/share /var /run -name '*bulkhead*' | "
          "grep -v ^/var/cache/man",
          "");
    wants(7, "curl -s http://127.0.0.1:8080/", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unit_exposes_little),
        cmocka_unit_test(lintian_is_content),
        cmocka_unit_test(package_is_installed_and_serves),
        cmocka_unit_test(reload_tells_whether_it_succeeded),
        cmocka_unit_test(admin_interface_works_within_the_sandbox),
        cmocka_unit_test(debug_symbols_name_lines),
        cmocka_unit_test(connections_of_a_broken_worker_are_taken_over_within_the_sandbox),
        cmocka_unit_test(upgrade_keeps_connections_and_the_configuration),
        cmocka_unit_test(death_of_the_new_main_process_is_noticed),
        cmocka_unit_test(logs_are_rotated),
        cmocka_unit_test(watchdog_restarts_what_stands_still),
        cmocka_unit_test(plugin_is_built_with_the_dev_package),
        cmocka_unit_test(purge_leaves_nothing_but_the_user),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
