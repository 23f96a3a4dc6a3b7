#include "base/tasks.h"

#include <stdio.h>
#include <sys/stat.h>

int tasks_count(pid_t pid)
{
    char path[32];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return stat(path, &st) == 0 ? (int)st.st_nlink - 2 : -1; /* the folder has two of its own */
}
