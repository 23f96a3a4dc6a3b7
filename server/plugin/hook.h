/*
 * hook.h - the names of the calls that the host makes into a plugin. Known to conf/ and recorder/, too.
 */
#ifndef PLUGIN_HOOK_H
#define PLUGIN_HOOK_H

#include <stdbool.h>

enum hook {
    HOOK_NONE,
    HOOK_LOAD, /* dlopen: constructors */
    HOOK_VALIDATE,
    HOOK_OPEN,
    HOOK_START,
    HOOK_DRAIN,
    HOOK_CLOSE,
    HOOK_REQUEST,
    HOOK_REQUEST_BODY,
    HOOK_RESPONSE,
    HOOK_RESPONSE_BODY,
    HOOK_ERROR,
    HOOK_LOG,
    HOOK_DEFER,
    HOOK_OFFLOAD,
    HOOK_POST,
    HOOK_TIMER,    /* of bh_timer() */
    HOOK_WRITABLE, /* of bh_stream_on_writable() */
    HOOK_SAVE,
    HOOK_RESTORE,
    HOOK_THREAD, /* code of a plugin outside any call: a thread or timer of its own */
    HOOK_N
};

/* "on_request", ...; "?" when out of range. Async-signal-safe. */
const char *hook_name(unsigned hook);

/* By its name; HOOK_NONE: there is none of that name. */
enum hook hook_find(const char *name);

/* Is it a call for a request, made on the loop thread? */
static inline bool hook_is_for_request(unsigned hook)
{
    return (hook >= HOOK_REQUEST && hook <= HOOK_DEFER) || hook == HOOK_WRITABLE;
}

/* Is it a call that returns, and so can take too long? */
static inline bool hook_is_call(unsigned hook)
{
    return hook >= HOOK_VALIDATE && hook < HOOK_THREAD;
}

#endif
