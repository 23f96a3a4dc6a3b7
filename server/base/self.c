#include "base/self.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int self_dir(char *buf, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", buf, size);
    char *slash;

    if (n < 0)
        return -errno;
    if ((size_t)n >= size)
        return -ENAMETOOLONG;
    buf[n] = '\0';
    slash = strrchr(buf, '/');
    if (slash == NULL)
        return -ENOENT;
    slash[slash == buf] = '\0';
    return 0;
}
