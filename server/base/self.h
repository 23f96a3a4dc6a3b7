/*
 * self.h - where the running program is, for what is installed beside it.
 */
#ifndef BASE_SELF_H
#define BASE_SELF_H

#include <stddef.h>

/* The absolute folder of the running executable, links resolved, without a slash at its end.
 * 0 or -errno. */
int self_dir(char *buf, size_t size);

#endif
