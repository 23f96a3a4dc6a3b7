#include "store/redis_protocol.h"

#if __has_include(<hiredis/hiredis.h>)

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

#define ELEMENTS_MAX 64

/* ---- hiredis ---- */

#define STRING_OF(x)  #x
#define STRING_OF2(x) STRING_OF(x)

struct redis_hi redis_hi;

int redis_protocol_load(char *why, size_t size)
{
    static const char soname[] = "libhiredis.so." STRING_OF2(HIREDIS_SONAME);
    void *lib;

    if (redis_hi.free_reply != NULL)
        return 0;
    lib = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (lib != NULL) {
        redis_hi.create = (redisReader * (*)(void)) dlsym(lib, "redisReaderCreate");
        redis_hi.destroy = (void (*)(redisReader *))dlsym(lib, "redisReaderFree");
        redis_hi.feed = (int (*)(redisReader *, const char *, size_t))dlsym(lib, "redisReaderFeed");
        redis_hi.reply = (int (*)(redisReader *, void **))dlsym(lib, "redisReaderGetReply");
        redis_hi.free_reply = (void (*)(void *))dlsym(lib, "freeReplyObject");
    }
    if (lib == NULL || redis_hi.create == NULL || redis_hi.destroy == NULL ||
        redis_hi.feed == NULL || redis_hi.reply == NULL || redis_hi.free_reply == NULL) {
        redis_hi.free_reply = NULL;
        snprintf(why, size, "cannot load %s (install Debian's libhiredis0.14): %s", soname,
                 lib == NULL ? dlerror() : "functions are missing");
        return -ENOSYS;
    }
    return 0;
}

#if HIREDIS_MAJOR >= 1
typedef size_t count;
#else
typedef int count;
#endif

static void *(*create_array)(const redisReadTask *, count);

/* The library's takes any number: 10^9 elements are 8 GB, and seconds to free. */
static void *create_small_array(const redisReadTask *task, count n)
{
    return n <= ELEMENTS_MAX ? create_array(task, n) : NULL;
}

redisReader *redis_reader_open(void)
{
    static redisReplyObjectFunctions functions;
    redisReader *reader = redis_hi.create();

    if (reader == NULL)
        return NULL;
    if (create_array == NULL) {
        functions = *reader->fn;
        create_array = functions.createArray;
        functions.createArray = create_small_array;
    }
    reader->fn = &functions;
    return reader;
}

/* ---- bytes out ---- */

bool redis_format(char **buf, size_t *n, size_t *cap, const struct redis_arg *args, int n_args)
{
    size_t before = *n;
    char head[32];
    int len = snprintf(head, sizeof head, "*%d\r\n", n_args);
    bool ok = buffer_append_to(buf, n, cap, head, (size_t)len);

    for (int i = 0; ok && i < n_args; i++) {
        len = snprintf(head, sizeof head, "$%zu\r\n", args[i].n);
        ok = buffer_append_to(buf, n, cap, head, (size_t)len) &&
             buffer_append_to(buf, n, cap, args[i].p, args[i].n) &&
             buffer_append_to(buf, n, cap, "\r\n", 2);
    }
    if (!ok)
        *n = before;
    return ok;
}

#endif
