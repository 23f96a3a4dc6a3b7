/*
 * boundary.h - calls into plugin code, one function per signature.
 *
 * Each returns true when the call came back, with its result in *out, and false when it crashed:
 * recover_self.fault says how. plugin: index + 1 in the config.
 */
#ifndef PLUGIN_BOUNDARY_H
#define PLUGIN_BOUNDARY_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

#include "plugin/hook.h"

typedef bh_rc hook_fn(void *self, bh_req *req, void *ctx);
typedef bh_rc hook_body_fn(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end);
typedef bh_rc hook_error_fn(void *self, bh_req *req, void *ctx, const bh_error *err);
typedef void hook_log_fn(void *self, bh_req *req, void *ctx);

/* ---- the call that all of them make ---- */

struct boundary_result { /* in two registers */
    uint64_t value;      /* as wide as the function's result is; above that, anything */
    uint64_t came_back;
};

typedef void boundary_fn(void); /* of any type */

struct boundary_result boundary_call(uint64_t who, boundary_fn *fn, const void *a, const void *b,
                                     const void *c, const void *d)
    __attribute__((visibility("hidden")));

/* As struct shm_call has it: plugin, then hook. */
static inline uint64_t boundary_who(uint32_t plugin, enum hook hook)
{
    return plugin | (uint64_t)hook << 32;
}

static inline bool boundary_rc(struct boundary_result r, bh_rc *out)
{
    if (r.came_back == 0)
        return false;
    *out = (bh_rc)r.value;
    return true;
}

/* ---- by signature ---- */

static inline bool boundary_hook(uint32_t plugin, enum hook hook, hook_fn *fn, void *self,
                                 bh_req *req, void *ctx, bh_rc *out)
{
    return boundary_rc(
        boundary_call(boundary_who(plugin, hook), (boundary_fn *)fn, self, req, ctx, NULL), out);
}

bool boundary_body(uint32_t plugin, enum hook hook, hook_body_fn *fn, void *self, bh_req *req,
                   void *ctx, bh_str chunk, int32_t end, bh_rc *out);

static inline bool boundary_error(uint32_t plugin, hook_error_fn *fn, void *self, bh_req *req,
                                  void *ctx, const bh_error *err, bh_rc *out)
{
    return boundary_rc(
        boundary_call(boundary_who(plugin, HOOK_ERROR), (boundary_fn *)fn, self, req, ctx, err),
        out);
}

static inline bool boundary_log(uint32_t plugin, hook_log_fn *fn, void *self, bh_req *req,
                                void *ctx)
{
    return boundary_call(boundary_who(plugin, HOOK_LOG), (boundary_fn *)fn, self, req, ctx, NULL)
               .came_back != 0;
}

static inline bool boundary_validate(uint32_t plugin, const bh_plugin *desc, const void *cfg,
                                     bh_errs *errs, bh_rc *out)
{
    return boundary_rc(boundary_call(boundary_who(plugin, HOOK_VALIDATE),
                                     (boundary_fn *)desc->validate, cfg, errs, NULL, NULL),
                       out);
}

static inline bool boundary_open(uint32_t plugin, const bh_plugin *desc, bh_inst *inst,
                                 const void *cfg, void **self, bh_rc *out)
{
    return boundary_rc(boundary_call(boundary_who(plugin, HOOK_OPEN), (boundary_fn *)desc->open,
                                     inst, cfg, self, NULL),
                       out);
}

/* start, drain */
static inline bool boundary_self(uint32_t plugin, enum hook hook, bh_rc (*fn)(void *), void *self,
                                 bh_rc *out)
{
    return boundary_rc(
        boundary_call(boundary_who(plugin, hook), (boundary_fn *)fn, self, NULL, NULL, NULL), out);
}

static inline bool boundary_save(uint32_t plugin, const bh_plugin *desc, void *self, void *buf,
                                 size_t *n, bh_rc *out)
{
    return boundary_rc(boundary_call(boundary_who(plugin, HOOK_SAVE), (boundary_fn *)desc->save,
                                     self, buf, n, NULL),
                       out);
}

static inline bool boundary_restore(uint32_t plugin, const bh_plugin *desc, void *self,
                                    uint32_t from_version, const void *p, size_t n, bh_rc *out)
{
    return boundary_rc(boundary_call(boundary_who(plugin, HOOK_RESTORE),
                                     (boundary_fn *)desc->restore, self,
                                     (const void *)(uintptr_t)from_version, p, (const void *)n),
                       out);
}

/* close, deferred functions */
static inline bool boundary_void(uint32_t plugin, enum hook hook, void (*fn)(void *), void *arg)
{
    return boundary_call(boundary_who(plugin, hook), (boundary_fn *)fn, arg, NULL, NULL, NULL)
               .came_back != 0;
}

static inline bool boundary_work(uint32_t plugin, int32_t (*fn)(void *), void *arg, int32_t *out)
{
    return boundary_rc(
        boundary_call(boundary_who(plugin, HOOK_OFFLOAD), (boundary_fn *)fn, arg, NULL, NULL, NULL),
        out);
}

/* All of a thread that the plugin started. */
static inline bool boundary_thread(uint32_t plugin, void *(*fn)(void *), void *arg, void **out)
{
    struct boundary_result r = boundary_call(boundary_who(plugin, HOOK_THREAD), (boundary_fn *)fn,
                                             arg, NULL, NULL, NULL);

    if (r.came_back == 0)
        return false;
    *out = (void *)(uintptr_t)r.value;
    return true;
}

static inline bool boundary_post(uint32_t plugin, void (*fn)(void *, void *), void *self, void *arg)
{
    return boundary_call(boundary_who(plugin, HOOK_POST), (boundary_fn *)fn, self, arg, NULL, NULL)
               .came_back != 0;
}

static inline bool boundary_timer(uint32_t plugin, void (*fn)(void *, void *), void *self,
                                  void *arg)
{
    return boundary_call(boundary_who(plugin, HOOK_TIMER), (boundary_fn *)fn, self, arg, NULL, NULL)
               .came_back != 0;
}

#endif
