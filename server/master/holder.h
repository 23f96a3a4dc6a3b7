/*
 * holder.h - which process listens at a TCP port: for the message "address in use".
 */
#ifndef MASTER_HOLDER_H
#define MASTER_HOLDER_H

#include <stddef.h>

/* "nginx (pid 123)" in buf; or -ENOENT: nobody, or nobody that this user may see. */
int holder_find(int port, char *buf, size_t size);

#endif
