#include "soak.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int n = 0;

    if (dir == NULL)
        return -1;
    while ((entry = readdir(dir)) != NULL)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static long field(const char *text, const char *name)
{
    const char *at = text != NULL ? strstr(text, name) : NULL;

    return at != NULL ? strtol(at + strlen(name), NULL, 10) : -1;
}

/* False: it is gone. */
static bool look(pid_t pid, struct soak_vital *v)
{
    char path[64], *status;
    const char *name;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    status = file_read(path);
    if (status == NULL)
        return false;
    memset(v, 0, sizeof *v);
    v->pid = pid;
    name = strstr(status, "Name:\t");
    if (name != NULL)
        snprintf(v->name, sizeof v->name, "%.*s", (int)strcspn(name + 6, "\n"), name + 6);
    v->rss_kib = field(status, "RssAnon:");
    v->threads = (int)field(status, "Threads:");
    free(status);
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    v->fds = count_entries(path);
    return v->rss_kib >= 0 && v->fds >= 0;
}

/* Calls fn for each child of that process. */
static int for_children(pid_t parent, int (*fn)(pid_t pid, char state, void *arg), void *arg)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    int n = 0;

    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        char path[64], *stat, state;
        const char *end;
        int ppid;

        if (pid <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        stat = file_read(path);
        end = stat != NULL ? strrchr(stat, ')') : NULL;
        if (end != NULL && sscanf(end, ") %c %d", &state, &ppid) == 2 && ppid == parent)
            n += fn(pid, state, arg);
        free(stat);
    }
    if (proc != NULL)
        closedir(proc);
    return n;
}

struct list {
    struct soak_vital *v;
    int n, max;
};

static int add(pid_t pid, char state, void *arg)
{
    struct list *l = arg;

    if (state == 'Z' || l->n >= l->max || !look(pid, &l->v[l->n]))
        return 0;
    l->n++;
    return 1;
}

int soak_vitals(pid_t master, struct soak_vital *v, int max)
{
    struct list l = {.v = v, .max = max};

    if (max < 1 || !look(master, v))
        return 0;
    l.n = 1;
    for_children(master, add, &l);
    return l.n;
}

static int is_zombie(pid_t pid, char state, void *arg)
{
    (void)pid, (void)arg;
    return state == 'Z';
}

int soak_zombies(pid_t master)
{
    return for_children(master, is_zombie, NULL);
}
