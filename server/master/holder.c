#include "master/holder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_INODES 16

struct inodes { /* of the sockets that listen at the port */
    unsigned long inode[MAX_INODES];
    int n;
};

static void read_table(const char *path, int port, struct inodes *found)
{
    FILE *f = fopen(path, "re");
    char line[512];

    if (f == NULL)
        return;
    while (found->n < MAX_INODES && fgets(line, sizeof line, f) != NULL) {
        unsigned long inode;
        unsigned local, state;

        /* slot: address:port peer:port state queues timer retransmits uid timeout inode */
        if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %*d %*d %lu", &local,
                   &state, &inode) != 3)
            continue;
        if (local == (unsigned)port && state == 0x0A) /* TCP_LISTEN */
            found->inode[found->n++] = inode;
    }
    fclose(f);
}

static bool holds_one(const char *fd_dir, const struct inodes *wanted)
{
    DIR *dir = opendir(fd_dir);
    const struct dirent *entry;
    bool found = false;

    if (dir == NULL)
        return false;
    while (!found && (entry = readdir(dir)) != NULL) {
        char target[64];
        unsigned long inode;
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);

        if (n <= 0)
            continue;
        target[n] = '\0';
        if (sscanf(target, "socket:[%lu]", &inode) != 1)
            continue;
        for (int i = 0; i < wanted->n; i++)
            found = found || wanted->inode[i] == inode;
    }
    closedir(dir);
    return found;
}

static void describe(const char *pid, char *buf, size_t size)
{
    char path[64], name[32] = "";
    FILE *f;

    snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
    f = fopen(path, "re");
    if (f != NULL) {
        if (fgets(name, sizeof name, f) == NULL)
            name[0] = '\0';
        fclose(f);
    }
    name[strcspn(name, "\n")] = '\0';
    for (char *p = name; *p != '\0'; p++) {
        if (!isprint((unsigned char)*p))
            *p = '?'; /* a process chooses its own name */
    }
    snprintf(buf, size, "%s (pid %.20s)", name[0] != '\0' ? name : "a process", pid);
}

int holder_find(int port, char *buf, size_t size)
{
    struct inodes wanted = {.n = 0};
    const struct dirent *entry;
    int r = -ENOENT;
    DIR *dir;

    read_table("/proc/net/tcp", port, &wanted);
    read_table("/proc/net/tcp6", port, &wanted);
    if (wanted.n == 0)
        return -ENOENT;
    dir = opendir("/proc");
    if (dir == NULL)
        return -ENOENT;
    while (r < 0 && (entry = readdir(dir)) != NULL) {
        char path[64];

        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/fd", entry->d_name);
        if (holds_one(path, &wanted)) {
            describe(entry->d_name, buf, size);
            r = 0;
        }
    }
    closedir(dir);
    return r;
}
