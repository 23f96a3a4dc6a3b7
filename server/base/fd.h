/*
 * fd.h - small helpers around file descriptors.
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>
#include <sys/types.h>

/* Closes *fd unless it is -1, and sets it to -1. Keeps errno. */
void fd_close(int *fd);

/* Writes all n bytes; 0 or -errno. Retries EINTR. */
int fd_write_all(int fd, const void *p, size_t n);

/* The whole file, NUL-terminated, malloc'd. -EFBIG when larger than max. Regular files and pipes. */
int fd_read_file(const char *path, size_t max, char **out, size_t *n);

/* mkdir -p with mode 0755 (the last part: mode). 0 or -errno. */
int fd_make_dirs(const char *path, mode_t mode);

#endif
