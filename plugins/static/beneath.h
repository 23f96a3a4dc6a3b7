/*
 * beneath.h - opens files below a folder, and never anywhere else.
 */
#ifndef STATIC_BENEATH_H
#define STATIC_BENEATH_H

#include <stdbool.h>

/* A descriptor for reading (never blocking, close-on-exec), or -errno. path: relative, without a
 * leading slash; "" is the folder itself. -EXDEV, -ELOOP: it would lead outside. walk: don't ask
 * the kernel for openat2(2). */
int beneath_open(int dir_fd, const char *path, bool walk);

/* openat2(2) is there and allowed (older kernels, and sandboxes, answer ENOSYS or EPERM). */
bool beneath_has_openat2(int dir_fd);

#endif
