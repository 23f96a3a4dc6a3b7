/*
 * test_give_way.c - who has how much of the CPU: less during a reload, and all as usual after it.
 */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "reload_scene.h"

#define MORE                                       \
    "escrow: {standby: 1}\n"                       \
    "admin: {listen: \"unix:@DIR@/admin.sock\"}\n" \
    "tracing: {endpoint: \"http://127.0.0.1:1/traces\"}\n"

static int usual;

/* All threads of the process. */
static bool is_usual(pid_t pid)
{
    char path[64];
    const struct dirent *entry;
    bool all = true;
    DIR *dir;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        pid_t tid = (pid_t)atoi(entry->d_name);
        int policy = tid > 0 ? sched_getscheduler(tid) : -1;

        if (policy >= 0)
            all = all && policy == SCHED_OTHER && getpriority(PRIO_PROCESS, (id_t)tid) == usual;
    }
    if (dir != NULL)
        closedir(dir);
    return all;
}

/* The master and its children, of which there are at least so many. */
static bool are_all_usual(const struct server *srv, int least)
{
    char path[64];
    bool all = is_usual(srv->pid);
    int pid, n = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)srv->pid, (int)srv->pid);
    f = fopen(path, "re");
    while (f != NULL && fscanf(f, "%d", &pid) == 1) {
        all = is_usual((pid_t)pid) && all;
        n++;
    }
    if (f != NULL)
        fclose(f);
    return all && n >= least;
}

static void after_a_reload_all_processes_have_their_share_again(void **state)
{
    struct server *srv = reload_start(MORE);

    (void)state;
    eventually(
        are_all_usual(srv, 6)); /* two workers, a standby, recorder, admin process, exporter */
    for (int i = 0; i < 3; i++) {
        kill(srv->pid, SIGHUP);
        server_wait_log(srv, i == 0   ? "SIGHUP: generation 2 serves"
                             : i == 1 ? "SIGHUP: generation 3 serves"
                                      : "SIGHUP: generation 4 serves");
    }
    eventually(are_all_usual(srv, 6));
    reload_check_says(srv, "1 one");
    assert_int_equal(server_stop(&srv), 0);
}

/* Who has no right to come back does not go. */
static bool may_come_back(void)
{
    return usual < 19 && setpriority(PRIO_PROCESS, 0, usual - 1) == 0 &&
           setpriority(PRIO_PROCESS, 0, usual) == 0;
}

/* While the preflight takes its time the master has less of the CPU; not any more when it is refused. */
static void the_master_gives_way_while_it_reloads(void **state)
{
    struct server *srv;
    char *object;

    (void)state;
    if (!may_come_back())
        skip();
    srv = reload_start(MORE);
    object = reload_make(srv->dir, "slow", "2", "", "usleep(300000); return BH_EINVAL;");
    eventually(are_all_usual(srv, 6));
    reload_put_object(srv, "mv", object);
    kill(srv->pid, SIGHUP);
    eventually(getpriority(PRIO_PROCESS, (id_t)srv->pid) > usual);
    server_wait_log(srv, "the reload failed");
    eventually(are_all_usual(srv, 6));
    free(object);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_reload_all_processes_have_their_share_again),
        cmocka_unit_test(the_master_gives_way_while_it_reloads),
    };

    usual = getpriority(PRIO_PROCESS, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
