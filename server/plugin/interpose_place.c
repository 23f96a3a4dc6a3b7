/*
 * interpose_place.c - notes that a plugin changes the process's working directory or file mode mask.
 *
 * Both are put back after a crash, and a system call for each would be a tenth of what a crash costs;
 * so that is done only where one of these functions was called. landing.c tells how the rest (raw
 * system calls, functions of libc that change the directory by themselves) is put right.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/interpose.h"
#include "plugin/landing.h"

static void note(void)
{
    if (recover_is_armed())
        atomic_store_explicit(&landing_place_was_moved, true, memory_order_relaxed);
}

mode_t umask(mode_t mask)
{
    INTERPOSE_REAL(umask);
    note();
    return real(mask);
}

int chdir(const char *path)
{
    INTERPOSE_REAL(chdir);
    note();
    return real(path);
}

int fchdir(int fd)
{
    INTERPOSE_REAL(fchdir);
    note();
    return real(fd);
}
