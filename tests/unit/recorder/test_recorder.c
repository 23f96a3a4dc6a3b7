#include "recorder/recorder.h"

#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "obs/record_dir.h"

static char dir[] = "/tmp/bulkhead-recorder-XXXXXX";
static char crash_dir[64], log_path[64], sink_path[64];
static struct config cfg;
static const struct recorder_plugin boom = {
    .instance = "boom", .module = "boom", .object = "/p/boom.so"};
static struct recorder_plugin plugin;
static struct shm *shm;
static pid_t recorder;
static char text[1 << 20];

/* ---- set-up ---- */

/* As the master does: signals that come before it listens wait for it. */
static void start_recorder(void)
{
    sigset_t mine, blocked;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, &mine);
    recorder = fork();
    if (recorder == 0)
        _exit(recorder_run(&cfg, shm, &plugin, 1, 0));
    sigprocmask(SIG_SETMASK, &mine, NULL);
    assert_true(recorder > 0);
}

static int stop_recorder(int signo)
{
    int status = -1;

    kill(recorder, signo);
    waitpid(recorder, &status, 0);
    recorder = 0;
    return status;
}

static int set_up(void **state)
{
    (void)state;
    memset(dir + strlen(dir) - 6, 'X', 6);
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(crash_dir, sizeof crash_dir, "%s/crashes", dir);
    snprintf(log_path, sizeof log_path, "%s/error.log", dir);
    snprintf(sink_path, sizeof sink_path, "%s/access.log", dir);
    plugin = boom;
    cfg.crash.dir = crash_dir;
    cfg.crash.keep = 100;
    if (log_open(log_path, LOG_INFO, false) < 0 || shm_create(2, 1, &shm) < 0)
        return -1;
    atomic_store(&shm->worker[0].pid, getpid());
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    if (recorder != 0)
        stop_recorder(SIGKILL);
    log_open("-", LOG_INFO, false);
    shm_destroy(&shm);
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

/* ---- looking at what it did, without hurry ---- */

static int64_t deadline_ms(void)
{
    const char *scale = getenv("BULKHEAD_TEST_SCALE");

    return clock_mono_ms() + 10000 * (scale != NULL ? atoi(scale) : 1);
}

#define eventually(cond)                                \
    do {                                                \
        int64_t end_ms_ = deadline_ms();                \
                                                        \
        while (!(cond)) {                               \
            if (clock_mono_ms() > end_ms_)              \
                fail_msg("never came true: %s", #cond); \
            usleep(5000);                               \
        }                                               \
    } while (0)

static const char *content(const char *path)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static int n_records(void)
{
    struct record_file *list = NULL;
    int n = record_dir_list(crash_dir, &list);

    free(list);
    return n > 0 ? n : 0;
}

static json_t *read_record(const char *id)
{
    json_t *record = NULL;

    eventually(record_dir_read(crash_dir, id, &record) == 0);
    return record;
}

static int n_repeats(const char *id)
{
    json_t *record = NULL;
    int n = -1;

    if (record_dir_read(crash_dir, id, &record) == 0)
        n = (int)json_integer_value(json_object_get(json_object_get(record, "repeats"), "count"));
    json_decref(record);
    return n;
}

/* ---- being a worker ---- */

static uint32_t open_sink(const char *path)
{
    uint32_t sink = 0;

    assert_int_equal(shm_sink_open(shm, path, &sink), 0);
    return sink;
}

static void put(uint32_t sink, const char *line)
{
    assert_int_equal(shm_ring_write(shm, &shm->worker[0], sink, line, strlen(line)), 0);
}

static struct shm_crash *fill_slot(int slot, const char *id, pid_t pid)
{
    struct shm_crash *c = &shm->worker[0].crash[slot];

    atomic_store(&c->state, SHM_CRASH_FILLING);
    snprintf(c->id, sizeof c->id, "%s", id);
    c->time_ns = clock_real_ns();
    c->pid = c->tid = pid;
    c->plugin = 1;
    c->signo = SIGSEGV;
    c->verdict = SHM_RECOVERED;
    strcpy(c->kind, "signal");
    c->reg[SHM_RIP] = 0x1000;
    c->n_modules = 1;
    c->module[0] = (struct shm_module){.start = 0x1000, .end = 0x2000, .path = "/p/boom.so"};
    return c;
}

static void complete(struct shm_crash *c)
{
    atomic_store(&c->state, SHM_CRASH_FULL);
    shm_kick(shm);
}

static pid_t dead_process(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    return pid;
}

/* ---- the promises ---- */

static void lines_reach_their_files(void **state)
{
    uint32_t sink = open_sink(sink_path);

    (void)state;
    start_recorder();
    put(sink, "one");
    put(sink, "two");
    eventually(strcmp(content(sink_path), "one\ntwo\n") == 0);
    eventually(atomic_load(&shm->asleep) == SHM_ASLEEP);
    put(sink, "three"); /* wakes it */
    eventually(strcmp(content(sink_path), "one\ntwo\nthree\n") == 0);
    assert_int_equal(stop_recorder(SIGTERM), 0);
}

static void sigterm_writes_what_is_left(void **state)
{
    uint32_t sink = open_sink(sink_path);
    char line[32];
    size_t n = 0;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        snprintf(line, sizeof line, "line %d", i);
        put(sink, line);
    }
    fill_slot(0, "half", getpid()); /* nobody is going to complete it any more */
    start_recorder();
    assert_int_equal(stop_recorder(SIGTERM), 0);
    for (const char *p = content(sink_path); (p = strchr(p, '\n')) != NULL; p++)
        n++;
    assert_int_equal(n, 20000);
    assert_int_equal(n_records(), 1);
}

static void a_successor_carries_on(void **state)
{
    uint32_t sink = open_sink(sink_path);

    (void)state;
    start_recorder();
    put(sink, "one");
    eventually(strcmp(content(sink_path), "one\n") == 0);
    stop_recorder(SIGKILL);
    put(sink, "two");
    complete(fill_slot(0, "a", getpid()));
    start_recorder();
    eventually(strcmp(content(sink_path), "one\ntwo\n") == 0);
    json_decref(read_record("a"));
}

static void sigusr1_follows_a_rotation(void **state)
{
    uint32_t sink = open_sink(sink_path);
    char old[sizeof sink_path + 2];

    (void)state;
    snprintf(old, sizeof old, "%s.1", sink_path);
    start_recorder();
    put(sink, "one");
    eventually(strcmp(content(sink_path), "one\n") == 0);
    assert_int_equal(rename(sink_path, old), 0);
    kill(recorder, SIGUSR1);
    eventually((put(sink, "two"), usleep(50000), access(sink_path, F_OK)) == 0);
    eventually(strncmp(content(sink_path), "two\n", 4) == 0);
    assert_memory_equal(content(old), "one\n", 4);
}

static void a_full_disk_is_told_once_and_costs_only_its_lines(void **state)
{
    uint32_t full = open_sink("/dev/full"), good = open_sink(sink_path);
    const char *first;

    (void)state;
    start_recorder();
    for (int i = 0; i < 5; i++) {
        put(full, "lost");
        put(good, "kept");
        eventually(atomic_load(&shm->worker[0].ring.tail) ==
                   atomic_load(&shm->worker[0].ring.head));
        usleep(120000);
    }
    assert_int_equal(stop_recorder(SIGTERM), 0);
    assert_string_equal(content(sink_path), "kept\nkept\nkept\nkept\nkept\n");
    first = strstr(content(log_path), "No space left");
    assert_non_null(first);
    assert_null(first != NULL ? strstr(first + 1, "No space left") : NULL);
}

static void a_pipe_that_nobody_reads_does_not_stop_it(void **state)
{
    int fds[2];
    char path[64];
    static char line[30000];
    uint32_t sink;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), fds[1]);
    memset(line, 'x', sizeof line - 1);
    sink = open_sink(path);
    start_recorder();
    for (int i = 0; i < 10; i++)
        put(sink, line);
    complete(fill_slot(0, "a", getpid()));
    json_decref(read_record("a"));
    assert_int_equal(stop_recorder(SIGTERM), 0);
    close(fds[0]);
    close(fds[1]);
}

/* It has that description in common with others, and cannot make it non-blocking. */
static void standard_output_that_nobody_reads_does_not_stop_it(void **state)
{
    int before = dup(STDOUT_FILENO), fds[2];
    static char
        line[6144]; /* with its end, a page and a half: the pipe is full in the middle of one */
    uint32_t sink = open_sink("-");

    (void)state;
    assert_int_equal(pipe(fds), 0);
    memset(line, 'x', sizeof line - 1);
    fflush(stdout);
    dup2(fds[1], STDOUT_FILENO);
    for (int i = 0; i < 12; i++)
        put(sink, line);
    start_recorder();
    dup2(before, STDOUT_FILENO);
    for (int i = 0; i < 10; i++) {
        put(sink, line);
        eventually(atomic_load(&shm->worker[0].ring.tail) ==
                   atomic_load(&shm->worker[0].ring.head));
    }
    complete(fill_slot(0, "a", getpid()));
    json_decref(read_record("a"));
    assert_int_equal(stop_recorder(SIGTERM), 0);
    close(before);
    close(fds[0]);
    close(fds[1]);
}

static void dropped_lines_are_told(void **state)
{
    (void)state;
    atomic_store(&shm->worker[1].ring.dropped, 7);
    start_recorder();
    eventually(strstr(content(log_path), "7 access log lines of worker 1 were dropped") != NULL);
}

static void nonsense_in_a_ring_is_survived(void **state)
{
    uint32_t sink = open_sink(sink_path);

    (void)state;
    memset(shm->worker[0].ring.data, 0xff, 100000);
    atomic_store(&shm->worker[0].ring.head, 100000);
    start_recorder();
    eventually(strstr(content(log_path), "did not make sense") != NULL);
    eventually(atomic_load(&shm->worker[0].ring.tail) == atomic_load(&shm->worker[0].ring.head));
    put(sink, "after");
    eventually(strcmp(content(sink_path), "after\n") == 0);
}

static void a_complete_slot_becomes_a_file_and_is_free_again(void **state)
{
    struct shm_crash *c;
    json_t *record;

    (void)state;
    start_recorder();
    c = fill_slot(3, "20261123T210000-w0-000001", getpid());
    usleep(150000);
    assert_int_equal(n_records(), 0); /* its worker is still at it */
    complete(c);
    record = read_record("20261123T210000-w0-000001");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(record, "plugin"), "instance")), "boom");
    assert_int_equal(json_array_size(json_object_get(record, "backtrace")), 1);
    json_decref(record);
    eventually(atomic_load(&c->state) == SHM_CRASH_FREE);
}

static void what_a_dead_worker_left_is_taken_as_it_is(void **state)
{
    (void)state;
    atomic_store(&shm->worker[0].pid, 0);
    fill_slot(0, "left-by-the-dead", dead_process());
    start_recorder();
    json_decref(read_record("left-by-the-dead"));
}

static void a_bad_id_does_not_leave_the_folder(void **state)
{
    (void)state;
    complete(fill_slot(0, "../../escaped", getpid()));
    start_recorder();
    eventually(n_records() == 1);
    assert_int_equal(access(dir, F_OK), 0);
}

static void a_slot_that_killed_the_recorder_loses_its_backtrace(void **state)
{
    struct shm_crash *c = fill_slot(0, "a", getpid());
    json_t *record;

    (void)state;
    c->n_tries = 1; /* as a recorder leaves it that died in the symboliser */
    complete(c);
    start_recorder();
    record = read_record("a");
    assert_int_equal(json_array_size(json_object_get(record, "backtrace")), 0);
    assert_string_equal(json_string_value(json_object_get(record, "backtrace_missing")),
                        "the recorder died over it");
    json_decref(record);
    eventually(atomic_load(&c->state) == SHM_CRASH_FREE && c->n_tries == 0);
}

/* What an old one says of a version that it does not know would be wrong. */
static void a_crash_of_a_later_generation_is_left_to_the_successor(void **state)
{
    struct shm_crash *later = fill_slot(0, "later", getpid());
    json_t *record;

    (void)state;
    later->module[0].plugin = 1;
    strcpy(later->module[0].path, "/copies/7-boom.so");
    complete(later);
    start_recorder();
    complete(fill_slot(1, "now", getpid()));
    json_decref(read_record("now")); /* it came later, and has been taken */
    assert_int_equal(atomic_load(&later->state), SHM_CRASH_FULL);
    stop_recorder(SIGUSR2);
    plugin.copy = "/copies/7-boom.so";
    plugin.version = "7.0";
    start_recorder();
    record = read_record("later");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(record, "plugin"), "version")), "7.0");
    json_decref(record);
}

static void a_successor_that_does_not_come_is_not_waited_for(void **state)
{
    struct shm_crash *later = fill_slot(0, "later", getpid());

    (void)state;
    later->module[0].plugin = 1;
    strcpy(later->module[0].path, "/copies/7-boom.so");
    later->time_ns -= INT64_C(6000000000);
    complete(later);
    start_recorder();
    json_decref(read_record("later"));
}

static void repeats_are_added_up(void **state)
{
    struct shm_fold *fold = &shm->worker[0].fold[5];

    (void)state;
    start_recorder();
    complete(fill_slot(0, "a", getpid()));
    json_decref(read_record("a"));
    strcpy(fold->id, "a");
    atomic_store(&fold->fp, 1234);
    for (int i = 0; i < 1000; i++) {
        atomic_store(&fold->last_ns, clock_real_ns());
        atomic_fetch_add(&fold->count, 1);
        shm_kick(shm);
    }
    eventually(n_repeats("a") == 1000);
    eventually(atomic_load(&shm->asleep) ==
               SHM_ASLEEP); /* a record that is gone is not waited for */
    strcpy(fold->id, "gone");
    atomic_fetch_add(&fold->count, 1);
    shm_kick(shm);
    eventually(atomic_load(&shm->asleep) == SHM_ASLEEP && fold->written == 1001);
}

static void only_so_many_records_are_kept(void **state)
{
    char id[8];

    (void)state;
    cfg.crash.keep = 3;
    start_recorder();
    for (int i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "r%d", i);
        complete(fill_slot(0, id, getpid()));
        eventually(atomic_load(&shm->worker[0].crash[0].state) == SHM_CRASH_FREE);
    }
    assert_int_equal(n_records(), 3);
    json_decref(read_record("r7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(lines_reach_their_files),
        TEST(sigterm_writes_what_is_left),
        TEST(a_successor_carries_on),
        TEST(sigusr1_follows_a_rotation),
        TEST(a_full_disk_is_told_once_and_costs_only_its_lines),
        TEST(a_pipe_that_nobody_reads_does_not_stop_it),
        TEST(standard_output_that_nobody_reads_does_not_stop_it),
        TEST(dropped_lines_are_told),
        TEST(nonsense_in_a_ring_is_survived),
        TEST(a_complete_slot_becomes_a_file_and_is_free_again),
        TEST(what_a_dead_worker_left_is_taken_as_it_is),
        TEST(a_bad_id_does_not_leave_the_folder),
        TEST(a_slot_that_killed_the_recorder_loses_its_backtrace),
        TEST(a_crash_of_a_later_generation_is_left_to_the_successor),
        TEST(a_successor_that_does_not_come_is_not_waited_for),
        TEST(repeats_are_added_up),
        TEST(only_so_many_records_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
