/*
 * redis_protocol.h - Redis' protocol: hiredis' reader of answers, and commands as bytes.
 *
 * hiredis is loaded when it is needed for the first time, like libcurl (base/curl.h): most servers keep
 * their state in memory. Only for the files that ask Redis; without its header there is nothing in here.
 */
#ifndef STORE_REDIS_PROTOCOL_H
#define STORE_REDIS_PROTOCOL_H

#if __has_include(<hiredis/hiredis.h>)

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#include "store/redis.h"

extern struct redis_hi {
    redisReader *(*create)(void);
    void (*destroy)(redisReader *);
    int (*feed)(redisReader *, const char *, size_t);
    int (*reply)(redisReader *, void **);
    void (*free_reply)(void *);
} redis_hi;

/* 0, or -ENOSYS and a text in why. */
int redis_protocol_load(char *why, size_t size);

/* One that takes small arrays only. NULL: no memory. */
redisReader *redis_reader_open(void);

/* A command as the protocol has it: an array of counted strings. false: no memory; nothing was added. */
bool redis_format(char **buf, size_t *n, size_t *cap, const struct redis_arg *args, int n_args);

#endif

#endif
