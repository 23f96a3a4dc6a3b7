#include "plugin/hook.h"

#include <string.h>

static const char *const names[HOOK_N] = {
    [HOOK_NONE] = "none",
    [HOOK_LOAD] = "load",
    [HOOK_VALIDATE] = "validate",
    [HOOK_OPEN] = "open",
    [HOOK_START] = "start",
    [HOOK_DRAIN] = "drain",
    [HOOK_CLOSE] = "close",
    [HOOK_REQUEST] = "on_request",
    [HOOK_REQUEST_BODY] = "on_request_body",
    [HOOK_RESPONSE] = "on_response",
    [HOOK_RESPONSE_BODY] = "on_response_body",
    [HOOK_ERROR] = "on_error",
    [HOOK_LOG] = "on_log",
    [HOOK_DEFER] = "defer",
    [HOOK_OFFLOAD] = "offload",
    [HOOK_POST] = "post",
    [HOOK_TIMER] = "timer",
    [HOOK_WRITABLE] = "on_writable",
    [HOOK_SAVE] = "save",
    [HOOK_RESTORE] = "restore",
    [HOOK_THREAD] = "thread",
};

const char *hook_name(unsigned hook)
{
    return hook < HOOK_N ? names[hook] : "?";
}

enum hook hook_find(const char *name)
{
    for (int i = 0; i < HOOK_N; i++)
        if (strcmp(names[i], name) == 0)
            return (enum hook)i;
    return HOOK_NONE;
}
