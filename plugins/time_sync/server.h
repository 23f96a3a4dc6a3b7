/*
 * server.h - the TIME service (RFC 868) over UDP and TCP, on a thread of its own.
 */
#ifndef TIME_SYNC_SERVER_H
#define TIME_SYNC_SERVER_H

#include <stddef.h>
#include <stdint.h>

#define LISTEN_MAX 8

struct time_server;

/* "udp://0.0.0.0:37", "tcp://[::]:37": NULL, or what is wrong with it. */
const char *time_server_check(const char *address);

/*
 * Listens at n addresses and answers with now(arg), nanoseconds since 1970, until it is stopped. NULL
 * when it cannot; the reason is in why.
 */
struct time_server *time_server_start(const char *const *address, size_t n, int64_t (*now)(void *),
                                      void *arg, char *why, size_t size);
void time_server_stop(struct time_server **sp);

#endif
