/*
 * redis_store.h - the store on a Redis server: the same operations, but each is asked now and answered
 * later.
 *
 * A key is PREFIX + namespace + ":" + key, and a hash: v the value, c its version, or t the time at which
 * a bucket will be full, in microseconds. Each operation is one command or one script, so that others
 * never see half of one. Versions are random numbers: a value that was deleted and set again has another
 * one. Times to live and buckets run by the server's clock, so that several machines agree.
 */
#ifndef STORE_REDIS_STORE_H
#define STORE_REDIS_STORE_H

#include "store/redis.h"
#include "store/store.h"

extern const char *const redis_store_scripts[REDIS_SCRIPTS];

/* 0, and done is called later, never in here; -EAGAIN, -ENOTCONN, -ENOMEM: it is not. The operation and
 * what it points to are copied. prefix: of all keys. */
int redis_store_ask(struct redis *r, const char *prefix, const struct store_op *op,
                    store_answered *done, void *arg, int64_t now_ns);

#endif
