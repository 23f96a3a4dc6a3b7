/*
 * boundary.c - the frames that a crash lands in.
 *
 * Every function here has the same body around one call. __builtin_setjmp() stores three words and
 * no signal mask. What a newcomer would get wrong: after the second return nothing that lived in a
 * register before is valid, so the landing branch uses no local variable and no argument.
 */
#include "plugin/boundary.h"

#include "plugin/recover.h"

#define GUARDED(PLUGIN, HOOK, CALL)              \
    do {                                         \
        struct recover_frame frame;              \
        if (__builtin_setjmp(frame.jump) != 0) { \
            recover_landed();                    \
            return false;                        \
        }                                        \
        recover_arm(&frame, PLUGIN, HOOK);       \
        CALL;                                    \
        recover_disarm(&frame);                  \
        return true;                             \
    } while (0)

/* Not inlined: the frame must be the function's own, and live as long as the call. No stack guard:
 * it would cost a seventh of the whole. The section tells recover.c a sound landing place. */
#define BOUNDARY __attribute__((noinline, no_stack_protector, section("boundary_text"))) bool

BOUNDARY boundary_hook(uint32_t plugin, enum hook hook, hook_fn *fn, void *self, bh_req *req,
                       void *ctx, bh_rc *out)
{
    GUARDED(plugin, hook, *out = fn(self, req, ctx));
}

BOUNDARY boundary_body(uint32_t plugin, enum hook hook, hook_body_fn *fn, void *self, bh_req *req,
                       void *ctx, bh_str chunk, int32_t end, bh_rc *out)
{
    GUARDED(plugin, hook, *out = fn(self, req, ctx, chunk, end));
}

BOUNDARY boundary_error(uint32_t plugin, hook_error_fn *fn, void *self, bh_req *req, void *ctx,
                        const bh_error *err, bh_rc *out)
{
    GUARDED(plugin, HOOK_ERROR, *out = fn(self, req, ctx, err));
}

BOUNDARY boundary_log(uint32_t plugin, hook_log_fn *fn, void *self, bh_req *req, void *ctx)
{
    GUARDED(plugin, HOOK_LOG, fn(self, req, ctx));
}

BOUNDARY boundary_validate(uint32_t plugin, const bh_plugin *desc, const void *cfg, bh_errs *errs,
                           bh_rc *out)
{
    GUARDED(plugin, HOOK_VALIDATE, *out = desc->validate(cfg, errs));
}

BOUNDARY boundary_open(uint32_t plugin, const bh_plugin *desc, bh_inst *inst, const void *cfg,
                       void **self, bh_rc *out)
{
    GUARDED(plugin, HOOK_OPEN, *out = desc->open(inst, cfg, self));
}

BOUNDARY boundary_self(uint32_t plugin, enum hook hook, bh_rc (*fn)(void *), void *self, bh_rc *out)
{
    GUARDED(plugin, hook, *out = fn(self));
}

BOUNDARY boundary_void(uint32_t plugin, enum hook hook, void (*fn)(void *), void *arg)
{
    GUARDED(plugin, hook, fn(arg));
}

BOUNDARY boundary_work(uint32_t plugin, int32_t (*fn)(void *), void *arg, int32_t *out)
{
    GUARDED(plugin, HOOK_OFFLOAD, *out = fn(arg));
}

BOUNDARY boundary_post(uint32_t plugin, void (*fn)(void *, void *), void *self, void *arg)
{
    GUARDED(plugin, HOOK_POST, fn(self, arg));
}

BOUNDARY boundary_timer(uint32_t plugin, void (*fn)(void *, void *), void *self, void *arg)
{
    GUARDED(plugin, HOOK_TIMER, fn(self, arg));
}

BOUNDARY boundary_thread(uint32_t plugin, void *(*fn)(void *), void *arg, void **out)
{
    GUARDED(plugin, HOOK_THREAD, *out = fn(arg));
}
