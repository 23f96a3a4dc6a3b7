/*
 * test_soak.c - chaos: `make soak`, 60 s in CI, `make soak SECONDS=600` on request.
 *
 * Storm: checked load; faults of all kinds in several plugins; workers, the recorder and the worker that
 * stands by get SIGKILL; workers are recycled; the binary is upgraded. Then drizzle: only faults that
 * must not cost a worker. At the end: no wrong answer, no failure that no outcome of the crash matrix
 * explains, the charges add up, nothing has grown, nothing is left.
 *
 * SEED=N repeats what is asked and what is done; not the moment at which each of it meets the other.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"
#include "soak.h"

#define N_GROUPS   2
#define GROUP_SIZE 24
#define WORKERS    2
#define MAX_VITALS 64

/* What may differ between two looks at the same process, or at its successor. */
#define SLACK_KIB 3072
#define SLACK_RECORDER_KIB \
    (64 * 1024) /* libdw's caches, which are bounded; it is restarted as well */
#define SLACK_FDS         0
#define SLACK_WORKER_FDS  2 /* clients' closes that are just being noticed */
#define SETTLE_MS         3000
#define BUSY_FDS          33 /* of two workers at rest are 32 or 33 */
#define BUSY_RECORDER_FDS 16
#define UPGRADE_EVERY_MS  20000

struct look {
    struct soak_vital v[MAX_VITALS];
    int n, connections;
};

struct charges {
    uint64_t crashes[N_VICTIMS], deaths[N_VICTIMS], ejections[N_VICTIMS];
};

static struct {
    struct server *srv;
    struct soak_group *group[N_GROUPS];
    uint64_t random;
    int n_kills, n_reloads, n_recycled, n_upgrades, n_recorder_kills, n_standby_kills;
    struct charges charges;
} soak;

/* ---- asking the server ---- */

static json_t *status_now(void)
{
    char *text;
    json_t *json;

    run_command(&text, "RUNTIME_DIRECTORY=%s %s status -c %s --json 2>/dev/null", soak.srv->dir,
                getenv("BULKHEAD"), soak.srv->config);
    json = json_loads(text, 0, NULL);
    free(text);
    return json;
}

static uint64_t number(const json_t *json, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(json, name));
}

/* The counters begin anew with each master: they are added up. */
static void add_charges(void)
{
    json_t *status = status_now();
    const json_t *plugin;
    size_t i;

    assert_non_null(status);
    json_array_foreach(json_object_get(status, "plugins"), i, plugin)
    {
        for (int v = 0; v < N_VICTIMS; v++) {
            if (strcmp(json_string_value(json_object_get(plugin, "name")), soak_victim_names[v]) !=
                0)
                continue;
            soak.charges.crashes[v] += number(plugin, "crashes");
            soak.charges.deaths[v] += number(plugin, "worker_deaths");
            soak.charges.ejections[v] += number(plugin, "ejections");
        }
    }
    json_decref(status);
}

static bool is_name(const struct soak_vital *v, const char *name)
{
    return strncmp(v->name, name, strlen(name)) == 0;
}

static int count(const struct look *l, const char *name)
{
    int n = 0;

    for (int i = 0; i < l->n; i++)
        n += is_name(&l->v[i], name);
    return n;
}

/* As many workers as configured, one that stands by, the recorder, nobody who leaves. */
static bool is_complete(void)
{
    json_t *status = status_now();
    const json_t *worker;
    int serving = 0, standby = 0, others = 0;
    size_t i;

    json_array_foreach(json_object_get(status, "workers"), i, worker)
    {
        const char *state = json_string_value(json_object_get(worker, "state"));
        bool is_serving = strcmp(state, "serving") == 0, stands_by = strcmp(state, "standby") == 0;

        serving += is_serving;
        standby += stands_by;
        others += !is_serving && !stands_by;
    }
    others += !json_is_true(json_object_get(json_object_get(status, "recorder"), "running"));
    json_decref(status);
    return serving == WORKERS && standby == 1 && others == 0;
}

/* ---- phases ---- */

static bool are_quiet(void)
{
    for (int i = 0; i < N_GROUPS; i++)
        if (!soak_group_is_quiet(soak.group[i]))
            return false;
    return true;
}

static bool are_faultless(void)
{
    for (int i = 0; i < N_GROUPS; i++)
        if (!soak_group_is_faultless(soak.group[i]))
            return false;
    return true;
}

#define wait_for(cond, seconds)                                              \
    do {                                                                     \
        int64_t wait_end_ = harness_deadline_ms((seconds)*1000);             \
                                                                             \
        while (!(cond))                                                      \
            if (!harness_pause(wait_end_))                                   \
                harness_fail(__FILE__, __LINE__, "never came true: " #cond); \
    } while (0)

/* All clients stop asking, but keep their connections; the server comes to rest. */
static void let_it_rain(int64_t ms)
{
    int64_t end = harness_now_ms() + ms;

    while (harness_now_ms() < end)
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}

/* Descriptors of workers that are no client's connection. */
static int count_others(struct look *l)
{
    int n = 0;

    l->connections = 0;
    for (int i = 0; i < N_GROUPS; i++)
        l->connections += soak_group_open(soak.group[i]);
    l->n = soak_vitals(soak.srv->pid, l->v, MAX_VITALS);
    for (int i = 0; i < l->n; i++)
        n += is_name(&l->v[i], "bh-worker") ? l->v[i].fds : 0;
    return n - l->connections;
}

/* The recorder has an open file for each module of the crash that it symbolises. */
static bool is_at_work(const struct look *l)
{
    for (int i = 0; i < l->n; i++)
        if (is_name(&l->v[i], "bh-recorder") && l->v[i].fds > BUSY_RECORDER_FDS)
            return true;
    return false;
}

/* All clients stop asking, but keep their connections; the server comes to rest: what clients have
 * closed, and the rests of answers that some did not want, are gone after SETTLE_MS at the latest. */
static void take_look(struct look *out)
{
    int64_t end;
    int n;

    atomic_store(&soak_is_paused, true);
    wait_for(are_quiet(), 30);
    wait_for(is_complete(), 30);
    end = harness_deadline_ms(SETTLE_MS);
    do {
        n = count_others(out);
        let_it_rain(100);
    } while (count_others(out) < n || out->n != WORKERS + 3 ||
             ((n > BUSY_FDS || is_at_work(out)) && harness_now_ms() < end));
    for (int i = 0; n > BUSY_FDS && i < out->n; i++) /* for whoever looks into it */
        if (is_name(&out->v[i], "bh-worker"))
            run_command(NULL, "ls -l /proc/%d/fd > %s/fds-%d", (int)out->v[i].pid, soak.srv->dir,
                        (int)out->v[i].pid);
    atomic_store(&soak_is_paused, false);
}

static void print_look(const char *when, const struct look *l)
{
    printf("%s, with %d connections:\n", when, l->connections);
    for (int i = 0; i < l->n; i++)
        printf("  %-14s pid %-7d %6ld KiB, %2d threads, %3d descriptors\n", l->v[i].name,
               (int)l->v[i].pid, l->v[i].rss_kib, l->v[i].threads, l->v[i].fds);
}

/* ---- mischief ---- */

static pid_t pick_child(const char *kind)
{
    pid_t pid[16];
    size_t n = server_children(soak.srv, kind, pid, 16);

    if (n == 0)
        return 0;
    return pid[soak_random(&soak.random) % (n < 16 ? n : 16)];
}

static void kill_one(const char *kind, int *counter)
{
    pid_t pid = pick_child(kind);

    if (pid > 0 && kill(pid, SIGKILL) == 0)
        (*counter)++;
}

static void recycle(const char *which)
{
    if (run_command(NULL, "RUNTIME_DIRECTORY=%s %s worker recycle %s -c %s", soak.srv->dir,
                    getenv("BULKHEAD"), which, soak.srv->config) == 0)
        soak.n_recycled++;
}

static pid_t find_heir(void)
{
    char *log = server_log(soak.srv), *at = log;
    pid_t pid = 0;

    while ((at = strstr(at, "the new master (pid ")) != NULL) {
        at += strlen("the new master (pid ");
        pid = (pid_t)strtol(at, NULL, 10);
    }
    free(log);
    return pid != soak.srv->pid ? pid : 0;
}

/* The old master's counters go with it: faults wait while it leaves. Load does not, nor do kills. */
static void upgrade(void)
{
    pid_t heir, before = find_heir();

    atomic_store(&soak_may_fault, false);
    wait_for(are_faultless(), 30);
    let_it_rain(300); /* what comes after an answer */
    add_charges();
    kill(soak.srv->pid, SIGUSR2);
    wait_for((heir = find_heir()) > 0 && heir != before, 30);
    kill_one("bh-worker", &soak.n_kills); /* of the old master's, which leave */
    wait_for(!server_is_running(soak.srv), 30);
    assert_int_equal(soak.srv->status, 0);
    soak.srv->pid = heir; /* a child of ours now: we are the subreaper */
    soak.n_upgrades++;
    atomic_store(&soak_may_fault, true);
}

static void do_mischief(void)
{
    switch (soak_random(&soak.random) % 16) {
    case 0:
    case 1:
    case 2: kill_one("bh-worker", &soak.n_kills); break;
    case 3: kill_one("bh-standby", &soak.n_standby_kills); break;
    case 4: kill_one("bh-recorder", &soak.n_recorder_kills); break;
    case 5:
    case 6: recycle("0"); break;
    case 7: recycle("all"); break;
    case 8: json_decref(status_now()); break;
    case 9: soak.n_reloads += kill(soak.srv->pid, SIGHUP) == 0; break;
    default: break; /* the faults have their turn */
    }
}

static void storm(int64_t ms, int64_t *next_upgrade_ms)
{
    int64_t end = harness_now_ms() + ms;

    while (harness_now_ms() < end) {
        let_it_rain(300 + (int64_t)(soak_random(&soak.random) % 700));
        if (!server_is_running(soak.srv))
            harness_fail(__FILE__, __LINE__, "the master has ended with %x", soak.srv->status);
        if (harness_now_ms() >= *next_upgrade_ms) {
            upgrade();
            *next_upgrade_ms = harness_now_ms() + UPGRADE_EVERY_MS;
        } else {
            do_mischief();
        }
    }
}

/* ---- nothing has grown ---- */

static int n_grown;

static void compare(const char *what, const char *name, long before, long after, long slack)
{
    if (after <= before + slack)
        return;
    printf("  GROWN: %s of %s: %ld, and %ld at the end\n", what, name, before, after);
    n_grown++;
}

/* The most that one of that name has. */
static struct soak_vital most(const struct look *l, const char *name)
{
    struct soak_vital m = {0};

    for (int i = 0; i < l->n; i++) {
        const struct soak_vital *v = &l->v[i];

        if (!is_name(v, name))
            continue;
        m.rss_kib = v->rss_kib > m.rss_kib ? v->rss_kib : m.rss_kib;
        m.threads = v->threads > m.threads ? v->threads : m.threads;
        m.fds += v->fds;
    }
    return m;
}

static void compare_kind(const char *name, const struct look *before, const struct look *after,
                         bool has_connections)
{
    struct soak_vital b = most(before, name), a = most(after, name);

    compare("memory (KiB)", name, b.rss_kib, a.rss_kib,
            strcmp(name, "bh-recorder") == 0 ? SLACK_RECORDER_KIB : SLACK_KIB);
    compare("threads", name, b.threads, a.threads, has_connections ? 4 : 0); /* the offload pool */
    compare("descriptors", name, b.fds - (has_connections ? before->connections : 0),
            a.fds - (has_connections ? after->connections : 0),
            has_connections ? SLACK_WORKER_FDS : SLACK_FDS);
}

static void compare_looks(const struct look *before, const struct look *after)
{
    static const char *const others[] = {"bulkhead", "bh-recorder", "bh-standby"};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(count(after, others[i]), 1);
        compare_kind(others[i], before, after, false);
    }
    assert_int_equal(count(after, "bh-worker"), WORKERS);
    compare_kind("bh-worker", before, after, true);
}

static void check_same_workers(const struct look *before, const struct look *after)
{
    int n = 0;

    for (int i = 0; i < before->n; i++)
        for (int k = 0; k < after->n; k++)
            n += is_name(&before->v[i], "bh-worker") && before->v[i].pid == after->v[k].pid;
    if (n != WORKERS)
        harness_fail(__FILE__, __LINE__,
                     "%d of %d workers have outlived faults that cost no worker", n, WORKERS);
}

/* ---- nothing is left ---- */

/* Prints what is in there. */
static int count_left(const char *dir, const char *with)
{
    DIR *d = opendir(dir);
    const struct dirent *entry;
    int n = 0;

    while (d != NULL && (entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            strstr(entry->d_name, with) == NULL)
            continue;
        printf("  LEFT: %s/%s\n", dir, entry->d_name);
        n++;
    }
    if (d != NULL)
        closedir(d);
    return n;
}

static int count_children_left(void)
{
    int n = 0, status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        continue; /* of masters that are gone, and ended in order */
    if (pid < 0 && errno == ECHILD)
        return 0;
    n++;
    return n;
}

/* ---- the charges add up ---- */

static int check_charges(const struct soak_bill bill[N_VICTIMS])
{
    int n_off = 0;

    for (int i = 0; i < N_VICTIMS; i++) {
        uint64_t n = soak.charges.crashes[i];
        bool is_off = n < bill[i].sure || n > bill[i].sure + bill[i].maybe;

        printf(
            "%s: %llu crashes charged; the clients know of %llu, and of %llu that may have been; "
            "%llu workers died in it, %llu were left without it%s\n",
            soak_victim_names[i], (unsigned long long)n, (unsigned long long)bill[i].sure,
            (unsigned long long)bill[i].maybe, (unsigned long long)soak.charges.deaths[i],
            (unsigned long long)soak.charges.ejections[i], is_off ? ": DOES NOT ADD UP" : "");
        n_off += is_off;
    }
    return n_off;
}

/* ---- the test ---- */

/* What the failures are to be held against; the harness shows only the end of it. */
static void keep_log(const char *log)
{
    FILE *f = fopen("build/tests/log/soak/server.log", "we");

    if (f == NULL)
        return;
    fputs(log, f);
    fclose(f);
    printf("the server's log: build/tests/log/soak/server.log\n");
}

static long from_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtol(text, NULL, 10) : otherwise;
}

static void write_site(const char *dir)
{
    static char bytes[SOAK_FILE_SIZE];
    char path[4096];
    FILE *f;

    snprintf(path, sizeof path, "%s/www", dir);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/www/file", dir);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/www/file/answer.bin", dir);
    answer_fill(SOAK_FILE_KEY, 0, bytes, sizeof bytes);
    f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, sizeof bytes, f), sizeof bytes);
    fclose(f);
}

static void start(char *tmp)
{
    char *dir = tmp_dir(), *config = soak_config();

    write_site(dir);
    setenv("TMPDIR", tmp, 1);
    soak.srv = server_start_in(dir,
                               "version: 1\n"
                               "server: {workers: %d}\n"
                               "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                               "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                               "limits: {timeouts: {idle: 120s, request: 60s, drain: 8s}}\n"
                               "logs: {error: {level: debug}}\n"
                               "crash: {dir: @DIR@/crashes, keep: 50}\n"
                               "respawn: {restarts: 1000}\n"
                               "%s",
                               WORKERS, config);
    free(config);
    free(dir);
    wait_for(is_complete(), 30);
}

static void print_story(const struct soak_story *story, const struct soak_totals *t)
{
    printf(
        "%llu requests on %llu connections, %llu right; connections were moved to another worker "
        "%llu times\n",
        (unsigned long long)t->n_asked, (unsigned long long)t->n_connections,
        (unsigned long long)t->n_right, (unsigned long long)t->n_moved);
    printf(
        "workers: %d parked (X), %d killed (%d by us), %d left in order, %d ejections; %d upgrades, %d reloads; "
        "recorder killed %d times, standby %d times\n",
        story->n_parked, story->n_killed, soak.n_kills, story->n_left, story->n_ejected,
        soak.n_upgrades, soak.n_reloads, soak.n_recorder_kills, soak.n_standby_kills);
}

/* What the test was for must have happened. */
static void check_it_was_a_storm(const struct soak_story *story, const struct soak_totals *t)
{
    assert_true(story->n_parked > 0);
    assert_true(story->n_killed > 0);
    assert_true(story->n_left > 0);
    assert_true(soak.n_upgrades > 0);
    assert_true(t->n_moved > 0);
    assert_true(t->n_right > 1000);
}

static void no_fault_costs_more_than_the_matrix_says(void **state)
{
    static struct look first, last, calm, calm_later;
    int64_t seconds = from_environment("BULKHEAD_SOAK_SECONDS", 60), ms = seconds * 1000;
    uint64_t seed = (uint64_t)from_environment("BULKHEAD_SOAK_SEED", (long)time(NULL));
    int64_t next_upgrade_ms = harness_now_ms() + ms / 3;
    struct soak_event *events = NULL;
    struct soak_totals totals = {0};
    struct soak_bill bill[N_VICTIMS];
    struct soak_story story;
    size_t n_events = 0;
    char *tmp = tmp_dir(), *log, path[4096];
    int n_wrong, n_off, n_left = 0;

    (void)state;
    printf("soak: %lld s, SEED=%llu\n", (long long)seconds, (unsigned long long)seed);
    soak.random = seed;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    start(tmp);
    atomic_store(&soak_may_fault, true);
    atomic_store(&soak_may_be_violent, true);
    for (int i = 0; i < N_GROUPS; i++)
        soak.group[i] = soak_group_start(soak.srv->port[0], soak_random(&soak.random), GROUP_SIZE);

    storm(ms / 6, &next_upgrade_ms);
    take_look(&first);
    storm(ms * 7 / 12, &next_upgrade_ms);
    atomic_store(&soak_may_be_violent, false);
    take_look(&last);
    let_it_rain(ms / 24);
    take_look(&calm);
    let_it_rain(ms * 5 / 24);
    take_look(&calm_later);

    atomic_store(&soak_may_fault, false);
    wait_for(are_faultless(), 30);
    atomic_store(&soak_is_paused, true);
    wait_for(are_quiet(), 30);
    let_it_rain(300);
    add_charges();
    n_left += soak_zombies(soak.srv->pid);
    if (n_left > 0)
        printf("  LEFT: %d zombies\n", n_left);
    atomic_store(&soak_is_over, true);
    for (int i = 0; i < N_GROUPS; i++)
        soak_group_join(soak.group[i], &totals, &events, &n_events);
    kill(soak.srv->pid, SIGTERM);
    assert_int_equal(server_wait_exit(soak.srv), 0);

    log = server_log(soak.srv);
    soak_story_read(log, &story);
    soak_story_date(&story, soak.group, N_GROUPS);
    print_story(&story, &totals);
    n_wrong = soak_judge(events, n_events, &story, bill);
    for (int i = 0; i < N_GROUPS; i++)
        soak_group_free(&soak.group[i]);
    n_off = check_charges(bill);
    if (n_wrong + n_off > 0)
        keep_log(log);
    free(log);
    print_look("warmed up", &first);
    print_look("after the storm", &last);
    print_look("in the drizzle", &calm);
    print_look("at its end", &calm_later);
    compare_looks(&first, &last);
    check_same_workers(&calm, &calm_later);
    compare_looks(&calm, &calm_later);
    wait_for(count_children_left() == 0, 10);
    n_left += count_left(tmp, "");
    snprintf(path, sizeof path, "%s/crashes", soak.srv->dir);
    n_left += count_left(path, ".tmp");
    n_left += count_left(soak.srv->dir, ".sock");

    check_it_was_a_storm(&story, &totals);
    soak_story_free(&story);
    free(events);
    free(tmp);
    if (n_wrong + n_off + n_grown + n_left > 0)
        harness_fail(__FILE__, __LINE__, "SEED=%llu: %d unexplained, %d charges, %d grown, %d left",
                     (unsigned long long)seed, n_wrong, n_off, n_grown, n_left);
    assert_int_equal(server_stop(&soak.srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_fault_costs_more_than_the_matrix_says)};

    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests_name("soak", tests, NULL, NULL);
}
