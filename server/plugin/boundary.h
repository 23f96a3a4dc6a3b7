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

#include "plugin/hook.h"

typedef bh_rc hook_fn(void *self, bh_req *req, void *ctx);
typedef bh_rc hook_body_fn(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end);
typedef bh_rc hook_error_fn(void *self, bh_req *req, void *ctx, const bh_error *err);
typedef void hook_log_fn(void *self, bh_req *req, void *ctx);

bool boundary_hook(uint32_t plugin, enum hook hook, hook_fn *fn, void *self, bh_req *req, void *ctx,
                   bh_rc *out);
bool boundary_body(uint32_t plugin, enum hook hook, hook_body_fn *fn, void *self, bh_req *req,
                   void *ctx, bh_str chunk, int32_t end, bh_rc *out);
bool boundary_error(uint32_t plugin, hook_error_fn *fn, void *self, bh_req *req, void *ctx,
                    const bh_error *err, bh_rc *out);
bool boundary_log(uint32_t plugin, hook_log_fn *fn, void *self, bh_req *req, void *ctx);

bool boundary_validate(uint32_t plugin, const bh_plugin *desc, const void *cfg, bh_errs *errs,
                       bh_rc *out);
bool boundary_open(uint32_t plugin, const bh_plugin *desc, bh_inst *inst, const void *cfg,
                   void **self, bh_rc *out);
/* start, drain */
bool boundary_self(uint32_t plugin, enum hook hook, bh_rc (*fn)(void *), void *self, bh_rc *out);
/* close, deferred functions */
bool boundary_void(uint32_t plugin, enum hook hook, void (*fn)(void *), void *arg);
bool boundary_work(uint32_t plugin, int32_t (*fn)(void *), void *arg, int32_t *out);
/* All of a thread that the plugin started. */
bool boundary_thread(uint32_t plugin, void *(*fn)(void *), void *arg, void **out);
bool boundary_post(uint32_t plugin, void (*fn)(void *, void *), void *self, void *arg);
bool boundary_timer(uint32_t plugin, void (*fn)(void *, void *), void *self, void *arg);

#endif
