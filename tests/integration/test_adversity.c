/*
 * test_adversity.c - reloads, rollouts and crashes where the machine does not help: a full disk, one that
 * cannot be written to, a clock that jumps, files that change while they are read.
 */
#include "reload_scene.h"
#include "rollout_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a small file system ---- */

/* This process, and all that it starts, has mounts of its own. */
static bool may_mount(void)
{
    static int may = -1;

    if (may < 0)
        may = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
              mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    return may == 1;
}

/* DIR/small, of 256 KiB. */
/* A sanitized plugin has 200 KiB, its copy must fit. */
static char *small_disk(const char *dir)
{
    char path[512];

    snprintf(path, sizeof path, "%s/small", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(mount("tmpfs", path, "tmpfs", 0, "size=2m,mode=755"), 0);
    return strdup(path);
}

static void fill_up(const char *disk)
{
    run_command(NULL, "dd if=/dev/zero of=%s/filler bs=4096 count=1000 2>/dev/null", disk);
    assert_int_not_equal(run_command(NULL, "echo x > %s/more 2>/dev/null", disk), 0);
}

static void make_room(const char *disk)
{
    assert_int_equal(run_command(NULL, "rm -f %s/filler %s/more", disk, disk), 0);
}

static void set_read_only(const char *disk)
{
    assert_int_equal(mount(NULL, disk, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
}

static void leave_disk(char *disk)
{
    umount2(disk, MNT_DETACH);
    free(disk);
}

static void check_says(struct server *srv, const char *text)
{
    struct response *res = server_get(srv, "/");

    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, text);
    response_free(&res);
}

static int times_in_log(const struct server *srv, const char *what)
{
    char *log = server_log(srv);
    int n = 0;

    for (const char *at = log; (at = strstr(at, what)) != NULL; at++)
        n++;
    free(log);
    return n;
}

/* A server whose state is on a small disk of its own. */
static void on_a_small_disk(void (*check)(struct server *, const char *disk))
{
    struct server *srv;
    char *dir, *disk;

    if (!may_mount())
        skip();
    dir = tmp_dir();
    disk = small_disk(dir);
    rollout_make(dir, "v", "1", "");
    srv = server_start_in(dir, ROLLOUT_CONFIG, "", "state: {dir: @DIR@/small/state}\n");
    server_wait_log(srv, "serving on");
    check(srv, disk);
    assert_int_equal(server_stop(&srv), 0);
    leave_disk(disk);
    free(dir);
}

static void check_rollout_without_a_disk(struct server *srv, const char *why)
{
    char said[256];

    rollout_make(srv->dir, "v", "2", "");
    snprintf(said, sizeof said, "%s (state.dir in the config)", why);
    rollout_expect(srv, 1, said, "rollout start v --manual --steps canary=50%");
    rollout_expect(srv, 0, "no rollout since", "rollout status");
    check_says(srv, "1 one");
    rollout_expect(srv, 0, NULL, "reload --wait"); /* what needs no disk goes on */
    check_says(srv, "2 one");
}

static void check_rollouts_on_a_full_disk(struct server *srv, const char *disk)
{
    fill_up(disk);
    check_rollout_without_a_disk(srv, "No space left on device");
    make_room(disk);
    rollout_make(srv->dir, "v", "3", "");
    rollout_expect(srv, 0, "step 1", "rollout start v --manual --steps canary=50%");
    /* In the midst of it: that it is over cannot be noted, and is so nevertheless. */
    fill_up(disk);
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    check_says(srv, "3 one");
}

static void a_rollout_that_cannot_be_kept_is_refused_and_nothing_changes(void **state)
{
    (void)state;
    on_a_small_disk(check_rollouts_on_a_full_disk);
}

static void check_read_only(struct server *srv, const char *disk)
{
    set_read_only(disk);
    check_rollout_without_a_disk(srv, "Read-only file system");
}

static void a_state_folder_that_is_read_only_is_told(void **state)
{
    (void)state;
    on_a_small_disk(check_read_only);
}

static void check_quarantine(struct server *srv, const char *disk)
{
    fill_up(disk);
    free(reload_make(srv->dir, "v", "2", "", "abort();"));
    rollout_expect(srv, 2, "open() crashed with SIGABRT", "reload --wait");
    server_wait_log(srv, "the quarantine cannot be written to");
    server_wait_log(srv, "No space left on device; it holds as long as this server runs");
    rollout_expect(srv, 2, "is in quarantine since", "reload --wait");
    check_says(srv, "1 one");
}

static void a_quarantine_holds_without_a_disk(void **state)
{
    (void)state;
    on_a_small_disk(check_quarantine);
}

static void copies_that_do_not_fit_leave_what_serves(void **state)
{
    const char *usual = getenv("TMPDIR");
    char *dir, *disk, *before = NULL;
    struct server *srv;

    (void)state;
    if (!may_mount())
        skip();
    if (usual != NULL)
        before = strdup(usual);
    dir = tmp_dir();
    disk = small_disk(dir);
    rollout_make(dir, "v", "1", "");
    setenv("TMPDIR", disk, 1);
    srv = server_start_in(dir, ROLLOUT_CONFIG, "", "");
    if (before != NULL)
        setenv("TMPDIR", before, 1);
    else
        unsetenv("TMPDIR");
    server_wait_log(srv, "serving on");
    fill_up(disk);
    rollout_make(dir, "v", "2", "");
    rollout_expect(srv, 2, "No space left on device", "reload --wait");
    rollout_expect(srv, 2, "TMPDIR names where private copies go", "reload --wait");
    check_says(srv, "1 one");
    make_room(disk);
    rollout_expect(srv, 0, NULL, "reload --wait");
    check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
    leave_disk(disk);
    free(before);
    free(dir);
}

static void crashes_are_answered_without_a_disk_and_that_is_told_once(void **state)
{
    char *disk, *dir;
    struct server *srv;

    (void)state;
    if (!may_mount())
        skip();
    dir = tmp_dir();
    disk = small_disk(dir);
    srv = server_start_in(
        dir,
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@]}\n"
        "plugins: {f: {module: fault, config: {from_request: true}}, ok: {module: respond, config: {body: ok}}}\n"
        "breaker: {crashes: 64}\n"
        "routes: [{match: {path: /crash/**}, chain: [f]}, {chain: [ok]}]\n"
        "crash: {dir: @DIR@/small/crashes}\n");
    server_wait_log(srv, "serving on");
    fill_up(disk);
    for (int i = 0; i < 3; i++) {
        struct response *res = server_get(srv, "/crash/x?fault=segv");

        assert_int_equal(res->status, 500);
        response_free(&res);
    }
    server_wait_log(srv, "No space left on device; crash records are lost until this ends");
    check_says(srv, "ok");
    assert_int_equal(times_in_log(srv, "crash records are lost"), 1);
    make_room(disk);
    eventually((response_free(&(struct response *){server_get(srv, "/crash/x?fault=fpe")}),
                run_command(NULL, "ls %s/crashes/*.json >/dev/null 2>&1", disk) == 0));
    assert_int_equal(server_stop(&srv), 0);
    leave_disk(disk);
    free(dir);
}

/* ---- two servers ---- */

/* They can have one config: its address is a variable. */
static void a_state_folder_is_of_one_server_and_the_other_is_told_which(void **state)
{
    struct server *srv = rollout_start("", "control: {socket: \"${CONTROL:-control}\"}\n");
    char said[128], *out;
    int other;

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    /* Without anything kept they do not mind each other. The other one has another port. */
    assert_int_equal(
        run_command(NULL,
                    "cd %s && sed 's/127.0.0.1:%d/${AT:-127.0.0.1:%d}/' bulkhead.yaml > "
                    "next && cp next bulkhead.yaml",
                    srv->dir, srv->port[0], srv->port[0]),
        0);
    assert_int_equal(
        run_command(
            &out,
            "cd %s && AT=unix:%s/two.sock CONTROL=two %s run -c bulkhead.yaml > two.log 2>&1 & "
            "echo $!",
            srv->dir, srv->dir, getenv("BULKHEAD")),
        0);
    other = atoi(out);
    free(out);
    eventually(run_command(NULL, "grep -q 'serving on' %s/two.log", srv->dir) == 0);
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    snprintf(said, sizeof said, "another server, pid %d, runs with this config", (int)srv->pid);
    assert_int_equal(run_command(&out, "cd %s && %s rollout start v --manual --socket %s/two",
                                 srv->dir, getenv("BULKHEAD"), srv->dir),
                     1);
    assert_non_null(strstr(out, said));
    free(out);
    kill(other, SIGTERM);
    eventually(kill(other, 0) < 0);
    /* Now something is kept. */
    assert_int_equal(run_command(&out,
                                 "cd %s && AT=unix:%s/two.sock CONTROL=two %s run -c bulkhead.yaml",
                                 srv->dir, srv->dir, getenv("BULKHEAD")),
                     1);
    assert_non_null(strstr(out, said));
    free(out);
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
}

/* Whoever writes there next might be another server, if nobody had the lock meanwhile. */
static void an_upgrade_hands_the_state_folder_over(void **state)
{
    struct server *srv = rollout_start("", "");
    struct flock lock;
    char *out, *at;
    char command[512];
    pid_t heir;
    int fd;

    (void)state;
    rollout_make(srv->dir, "w", "2", "");
    snprintf(command, sizeof command, "rollout start v --manual --module %s/w.so", srv->dir);
    rollout_expect(srv, 0, NULL, command);
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    kill(srv->pid, SIGUSR2);
    server_wait_log(srv, "the old master is gone");
    assert_int_equal(server_wait_exit(srv), 0);
    out = server_log(srv);
    at = strstr(out, "the new master (pid ");
    assert_non_null(at);
    heir = (pid_t)strtol(strchr(at, '(') + strlen("(pid "), NULL, 10);
    free(out);
    assert_true(heir > 0);
    assert_int_equal(run_command(&out, "find %s -name lock", srv->dir), 0);
    *strchrnul(out, '\n') = '\0';
    fd = open(out, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    free(out);
    eventually((lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET},
                fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid == heir));
    close(fd);
    check_says(srv, "2 one");
    kill(heir, SIGTERM);
    eventually(kill(heir, 0) < 0);
    server_stop(&srv);
}

/* ---- files that change ---- */

/* "2 sha256:0123...", as a reload has told it, is of the bytes of that version, and that is what answers. */
static void what_is_loaded_is_what_was_looked_at(void **state)
{
    struct server *srv = reload_start("");
    char *two = reload_make(srv->dir, "two", "2", "", ""),
         *three = reload_make(srv->dir, "three", "3", "", ""), *out, *swapper;
    int n_seen[4] = {0};

    (void)state;
    assert_int_equal(
        run_command(&swapper,
                    "cd %s; (while [ -e two.so ]; do for i in two three; do cp $i.so "
                    "next.so && mv next.so v.so; done; done) >/dev/null 2>&1 & echo $!",
                    srv->dir),
        0);
    for (int i = 0; i < 40; i++) {
        const char *at;
        char sum[16], version[8];

        assert_int_equal(reload_ask(srv, "reload --wait", &out), 0);
        at = strstr(out, " sha256:");
        at = at != NULL ? strstr(at + 1, "-> ") : NULL;
        if (at != NULL && sscanf(at, "-> %7s sha256:%12[0-9a-f]", version, sum) == 2) {
            char says[16];

            if (run_command(NULL, "sha256sum %s/%s.so | grep -q ^%s", srv->dir,
                            version[0] == '2' ? "two" : "three", sum) != 0)
                harness_fail(__FILE__, __LINE__, "the bytes are of another version:\n%s", out);
            snprintf(says, sizeof says, "%c one", version[0]);
            reload_check_says(srv, says);
            n_seen[version[0] - '0']++;
        }
        free(out);
    }
    assert_true(n_seen[2] > 0 && n_seen[3] > 0);
    remove(two);
    free(two);
    free(three);
    free(swapper);
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- a clock that jumps ---- */

/* Seconds in DIR/offset are added to the wall clock, as when somebody sets it. */
static const char clock_source[] =
    "#define _GNU_SOURCE\n"
    "#include <dlfcn.h>\n#include <fcntl.h>\n#include <stdlib.h>\n#include <time.h>\n#include <unistd.h>\n"
    "int clock_gettime(clockid_t which, struct timespec *t)\n"
    "{\n"
    "    static int (*real)(clockid_t, struct timespec *);\n"
    "    char text[32] = \"\";\n"
    "    int fd, r;\n"
    "    if (real == NULL)\n"
    "        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, \"clock_gettime\");\n"
    "    r = real(which, t);\n"
    "    if (which != CLOCK_REALTIME || getenv(\"JUMP\") == NULL)\n"
    "        return r;\n"
    "    fd = open(getenv(\"JUMP\"), O_RDONLY | O_CLOEXEC);\n"
    "    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)\n"
    "        t->tv_sec += atol(text);\n"
    "    if (fd >= 0)\n"
    "        close(fd);\n"
    "    return r;\n"
    "}\n";

static int64_t step_ms(const struct server *srv)
{
    json_t *json = rollout_look(srv);
    int64_t ms = json_integer_value(json_object_get(json, "step_ms"));

    json_decref(json);
    return ms;
}

static void steps_take_their_time_whatever_the_wall_clock_says(void **state)
{
    char *dir = tmp_dir(), *shim = plugin_build(dir, "jump", clock_source);
    int n_asked = 0;
    char offset[512];
    struct server *srv;
    struct conn *conn;
    int64_t began_ms, ms;

    (void)state;
    if (harness_is_sanitized())
        skip(); /* its runtime has to be the first library */
    snprintf(offset, sizeof offset, "%s/offset", dir);
    file_write(offset, "0");
    rollout_make(dir, "v", "1", "");
    setenv("LD_PRELOAD", shim, 1);
    setenv("JUMP", offset, 1);
    srv = server_start_in(dir, ROLLOUT_CONFIG, "", "");
    unsetenv("LD_PRELOAD");
    unsetenv("JUMP");
    server_wait_log(srv, "serving on");
    rollout_make(dir, "v", "2", "");
    began_ms = harness_now_ms();
    rollout_expect(
        srv, 0, NULL,
        "rollout start v --key header:x-user --samples 1 --steps canary=50%:4s:1,canary=60%:1h:1");
    file_write(offset, "%d", 100 * 86400);
    server_wait_log(srv, "step 1 of 2");
    conn = conn_open(srv->port[0]);
    for (int i = 0; i < 40; i++)
        assert_int_not_equal(rollout_version_for(conn, i), 'x');
    ms = step_ms(srv); /* of the first step, or of the second: no day has gone by */
    assert_in_range(ms, 0, harness_now_ms() - began_ms);
    rollout_expect(srv, 0, NULL, "events");
    file_write(offset, "%d", -100 * 86400);
    eventually(rollout_version_for(conn, n_asked++ % 40) != 'x' &&
               times_in_log(srv, "step 2 of 2") == 1);
    assert_true(harness_now_ms() - began_ms >= 4000);
    assert_in_range(step_ms(srv), 0, harness_now_ms() - began_ms);
    /* A reload and a quarantine with a clock that has just gone back. */
    rollout_expect(srv, 0, NULL, "rollout rollback");
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_expect(srv, 2, "is in quarantine", "rollout start v");
    file_write(offset, "0");
    rollout_expect(srv, 0, NULL, "reload --wait"); /* which keeps what was rolled back to */
    check_says(srv, "1 one");
    rollout_expect(srv, 0, NULL, "reload --wait --force");
    check_says(srv, "2 one");
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
    free(shim);
    free(dir);
}

/* ---- workers that end ---- */

/* Two on one route block that; the third, on another, opens the breaker. */
static void breakers_that_deaths_of_workers_open_are_events(void **state)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins: {fatal: {module: inside}, ok: {module: respond, config: {body: ok}}}\n"
        "breaker: {crashes: 2, window: 60s, open: 60s}\n"
        "routes:\n"
        "  - {match: {path: /a}, chain: [fatal]}\n"
        "  - {match: {path: /b}, chain: [fatal]}\n"
        "  - {match: {path: /c}, chain: [fatal]}\n"
        "  - {chain: [ok]}\n"
        "crash: {dir: @DIR@/crashes}\n");
    static const char *const paths[] = {"/a", "/a", "/b", "/b", "/c", "/c"};
    char *out = NULL, target[32];

    (void)state;
    server_wait_log(srv, "serving on");
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        pid_t before = 0, after = 0;
        struct response *res;

        server_wait_standby(srv);
        assert_int_equal(server_children(srv, "bh-worker", &before, 1), 1);
        snprintf(target, sizeof target, "%s?at=gone", paths[i]);
        res = server_get(srv, target);
        assert_true(res->status >= 500);
        response_free(&res);
        eventually(server_children(srv, "bh-worker", &after, 1) == 1 && after != before);
    }
    eventually((free(out), reload_ask(srv, "events", &out) == 0) &&
               strstr(out, "fatal: route 'route 1' is blocked") != NULL &&
               strstr(out, "fatal: its breaker is open: it is not called") != NULL &&
               strstr(out, "worker_ended") != NULL);
    assert_int_equal(reload_ask(srv, "breaker reset fatal", NULL), 0);
    eventually((free(out), reload_ask(srv, "events", &out) == 0) &&
               strstr(out, "fatal: reset by an operator") != NULL);
    assert_null(strstr(out, "is let in again")); /* that is the same, and told once */
    free(out);
    check_says(srv, "ok");
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rollout_that_cannot_be_kept_is_refused_and_nothing_changes),
        cmocka_unit_test(a_state_folder_that_is_read_only_is_told),
        cmocka_unit_test(a_quarantine_holds_without_a_disk),
        cmocka_unit_test(copies_that_do_not_fit_leave_what_serves),
        cmocka_unit_test(crashes_are_answered_without_a_disk_and_that_is_told_once),
        cmocka_unit_test(a_state_folder_is_of_one_server_and_the_other_is_told_which),
        cmocka_unit_test(an_upgrade_hands_the_state_folder_over),
        cmocka_unit_test(what_is_loaded_is_what_was_looked_at),
        cmocka_unit_test(steps_take_their_time_whatever_the_wall_clock_says),
        cmocka_unit_test(breakers_that_deaths_of_workers_open_are_events),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand */
    return cmocka_run_group_tests_name("adversity", tests, NULL, NULL);
}
