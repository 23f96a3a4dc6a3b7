#include "base/urgency.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/tasks.h"

#define SHORT_SLICE_NS 100000    /* the shortest there is; the kernel's own is 1 to 3 ms */
#define LONG_SLICE_NS  100000000 /* the longest */

/* linux/sched/types.h, whose other names clash with those of <sched.h>. */
struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

#define MODEST_NICE 10 /* where one other wants all of the CPU, a tenth of it */

/* Of this process, and of those it makes, which know by it what they were made from. */
static struct {
    bool has_been, is_now;
    int usual; /* nice value, otherwise */
} modesty;

static int modest_nice(void)
{
    return modesty.usual + MODEST_NICE < 19 ? modesty.usual + MODEST_NICE : 19; /* the most */
}

static int usual_nice(void)
{
    return modesty.has_been ? modesty.usual : getpriority(PRIO_PROCESS, 0);
}

/* slice_ns: of the CPU at a time, 0: the kernel's own. Linux 6.12 or later heeds it: of two that want the
 * CPU, and of which neither has had more than the other, the one with the shorter slice goes first, and
 * takes it even from one that runs. */
static bool change(pid_t tid, int policy, uint64_t slice_ns)
{
    struct attr attr = {.size = sizeof attr};

    if (syscall(SYS_sched_getattr, tid, &attr, sizeof attr, 0) == 0) {
        attr.size = sizeof attr;
        attr.policy = (uint32_t)policy;
        attr.flags = 0;
        attr.runtime = slice_ns;
        if (syscall(SYS_sched_setattr, tid, &attr, 0) == 0)
            return true;
    }
    /* A filter of system calls may know only the older one. */
    return sched_setscheduler(tid, policy, &(struct sched_param){0}) == 0;
}

static bool has_yielded;

/* What it takes to come back is what it takes to have that nice value, or CAP_SYS_NICE. */
static rlim_t needed_limit(void)
{
    return (rlim_t)(20 - usual_nice());
}

void urgency_allow_return(void)
{
    struct rlimit limit = {.rlim_cur = needed_limit()}, now;

    if (getrlimit(RLIMIT_NICE, &now) < 0 || now.rlim_cur >= limit.rlim_cur)
        return;
    limit.rlim_max = now.rlim_max > limit.rlim_cur ? now.rlim_max : limit.rlim_cur;
    (void)setrlimit(RLIMIT_NICE, &limit);
}

/* A namespace may have taken the capability's worth away, so it is tried. */
static bool may_return(void)
{
    int nice = getpriority(PRIO_PROCESS, 0);
    struct rlimit limit;

    if (getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= needed_limit())
        return true;
    if (setpriority(PRIO_PROCESS, 0, nice - 1) < 0)
        return false;
    (void)setpriority(PRIO_PROCESS, 0, nice);
    return nice > -20;
}

void urgency_yield(void)
{
    if (sched_getscheduler(0) != SCHED_OTHER)
        return;
    has_yielded = may_return() ? change(0, SCHED_IDLE, 0) : change(0, SCHED_BATCH, LONG_SLICE_NS);
}

static void restore_thread(pid_t tid)
{
    int policy = sched_getscheduler(tid);

    if (policy == SCHED_IDLE || policy == SCHED_BATCH)
        (void)change(tid, SCHED_OTHER, 0);
    if (!modesty.is_now && modesty.has_been &&
        getpriority(PRIO_PROCESS, (id_t)tid) == modest_nice())
        (void)setpriority(PRIO_PROCESS, (id_t)tid, modesty.usual);
}

/* What a plugin has started. The kernel need not have that list; then those stay as they are. */
static void restore_children(pid_t pid, pid_t tid)
{
    char path[64];
    FILE *f;
    int child;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)tid);
    f = fopen(path, "re");
    if (f == NULL)
        return;
    while (fscanf(f, "%d", &child) == 1)
        restore_thread(child);
    fclose(f);
}

static void restore_all(pid_t pid)
{
    const struct dirent *entry;
    char path[32];
    DIR *dir;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        pid_t tid = (pid_t)atoi(entry->d_name);

        if (tid <= 0)
            continue;
        restore_thread(tid);
        restore_children(pid, tid);
    }
    if (dir != NULL)
        closedir(dir);
}

void urgency_restore(pid_t pid, int n_others)
{
    if (sched_getscheduler(0) != SCHED_OTHER)
        return; /* the whole server was started with that, and nobody yields */
    if (tasks_count(pid) != 1 + n_others) {
        restore_all(pid);
        return;
    }
    restore_thread(pid);
    restore_children(pid, pid);
}

bool urgency_has_yielded(void)
{
    return has_yielded;
}

static bool has_children(void)
{
    siginfo_t si;

    return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

void urgency_return(const pid_t *tid, int n, int n_others)
{
    if (!has_yielded && !modesty.is_now)
        return;
    has_yielded = modesty.is_now = false;
    restore_thread(0);
    for (int i = 0; i < n; i++)
        restore_thread(tid[i]);
    if (tasks_count(getpid()) != 1 + n + n_others || has_children())
        restore_all(getpid());
}

void urgency_wake_last(void)
{
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)change(0, SCHED_BATCH, 0);
}

void urgency_wake_first(void)
{
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)change(0, SCHED_OTHER, SHORT_SLICE_NS);
}

void urgency_be_modest(void)
{
    if (modesty.is_now || sched_getscheduler(0) != SCHED_OTHER || !may_return())
        return;
    modesty.usual = usual_nice();
    modesty.has_been = modesty.is_now = setpriority(PRIO_PROCESS, 0, modest_nice()) == 0;
}

void urgency_be_usual(void)
{
    if (modesty.is_now)
        urgency_thread_be_usual();
    modesty.is_now = false;
}

void urgency_thread_be_usual(void)
{
    if (modesty.has_been)
        (void)setpriority(PRIO_PROCESS, 0, modesty.usual);
}
