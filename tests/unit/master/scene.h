/*
 * scene.h - what the tests of the master share: deadlines, listeners made by hand.
 */
#ifndef TESTS_MASTER_SCENE_H
#define TESTS_MASTER_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "conf/config.h"

/* Sanitizers and valgrind are slow: the Makefile says how slow. */
static inline int64_t scene_deadline(int64_t ms)
{
    const char *scale = getenv("BULKHEAD_TEST_SCALE");
    long factor = scale != NULL ? strtol(scale, NULL, 10) : 1;

    return clock_mono_ms() + ms * (factor > 0 ? factor : 1);
}

static inline void scene_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

#define eventually(cond)                             \
    do {                                             \
        int64_t end_ = scene_deadline(10000);        \
                                                     \
        while (!(cond)) {                            \
            if (clock_mono_ms() > end_)              \
                fail_msg("never came true: " #cond); \
            scene_pause();                           \
        }                                            \
    } while (0)

/* Port 0: the kernel chooses a free one. */
static inline void scene_listener_tcp(struct config_listener *cl, uint32_t host, int port)
{
    *cl = (struct config_listener){.name = "test", .address = "127.0.0.1:port", .pos = {7, 3}};
    cl->addr.in.sin_family = AF_INET;
    cl->addr.in.sin_addr.s_addr = htonl(host);
    cl->addr.in.sin_port = htons((uint16_t)port);
    cl->addr_len = sizeof cl->addr.in;
}

static inline void scene_listener_unix(struct config_listener *cl, const char *path)
{
    *cl = (struct config_listener){.name = "local", .address = path, .pos = {8, 3}, .mode = 0660};
    cl->addr.un.sun_family = AF_UNIX;
    snprintf(cl->addr.un.sun_path, sizeof cl->addr.un.sun_path, "%s", path);
    cl->addr_len = sizeof cl->addr.un;
}

/* A connected socket, or -1. */
static inline int scene_connect(const struct config_listener *cl)
{
    int fd = socket(cl->addr.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, &cl->addr.sa, cl->addr_len) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

#endif
