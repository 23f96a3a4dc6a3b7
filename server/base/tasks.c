#include "base/tasks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int tasks_count(pid_t pid)
{
    char path[32];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return stat(path, &st) == 0 ? (int)st.st_nlink - 2 : -1; /* the folder has two of its own */
}

/* "PID (NAME) STATE ...", where the name may be anything. */
static bool is_ready(pid_t pid)
{
    char path[32], text[256];
    const char *end;
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (f == NULL)
        return false;
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' && end[2] == 'R';
}

int tasks_time(pid_t pid, struct tasks_time *out)
{
    int64_t ran_ns, waited_ns;
    char path[40];
    FILE *f;
    int n;

    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    n = fscanf(f, "%" SCNd64 " %" SCNd64, &ran_ns, &waited_ns);
    fclose(f);
    if (n != 2)
        return -EINVAL;
    *out = (struct tasks_time){
        .ran_ms = ran_ns / 1000000, .waited_ms = waited_ns / 1000000, .is_ready = is_ready(pid)};
    return 0;
}
