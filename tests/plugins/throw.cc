/*
 * throw.cc - a plugin in C++ that throws, and lets its exceptions get away.
 *
 * Row 8 of the crash matrix. `what: nothing` is there to show that caught ones are no business of
 * the host, and `cerr` that neither is what the plugin itself writes; `terminate` that a destructor which throws is like any other way to std::terminate().
 */
#include <bulkhead.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

namespace
{

enum {
    AT_REQUEST,
    AT_REQUEST_BODY,
    AT_RESPONSE,
    AT_RESPONSE_BODY,
    AT_ERROR,
    AT_LOG,
    AT_DEFER,
    AT_OPEN,
    AT_VALIDATE,
    AT_CLOSE,
    AT_OFFLOAD,
    AT_POST,
    AT_THREAD
};

enum { WHAT_STD, WHAT_INT, WHAT_NOEXCEPT, WHAT_TERMINATE, WHAT_NOTHING, WHAT_CERR };

struct config {
    uint8_t at, what, reply;
};

struct instance {
    const config *cfg;
    bh_inst *inst;
    std::string greeting = "ok\n";
};

const bh_opt options[] = {
    BH_ENUM(config, at, "on_request",
            "on_request|on_request_body|on_response|on_response_body|on_error|on_log|defer|open|"
            "validate|close|offload|post|thread",
            "Where to throw"),
    BH_ENUM(config, what, "std", "std|int|noexcept|terminate|nothing|cerr", "What to throw"),
    BH_BOOL(config, reply, "true", "Answer 200 \"ok\"; false: let requests pass"),
    BH_OPT_END,
};

__attribute__((noinline)) void throw_std()
{
    throw std::runtime_error("thrown by a plugin");
}

__attribute__((noinline)) void throw_int()
{
    throw 42;
}

__attribute__((noinline)) void throw_noexcept() noexcept
{
    throw_std();
}

__attribute__((noinline)) void throw_and_terminate()
{
    std::terminate();
}

__attribute__((noinline)) void throw_and_catch()
{
    try {
        throw_std();
    } catch (const std::exception &) {
    }
}

void commit(uint8_t what)
{
    switch (what) {
    case WHAT_STD: return throw_std();
    case WHAT_INT: return throw_int();
    case WHAT_NOEXCEPT: return throw_noexcept();
    case WHAT_TERMINATE: return throw_and_terminate();
    case WHAT_CERR:
        std::cerr << "said by the "
                  << "plugin\n";
        return;
    default: return throw_and_catch();
    }
}

void commit_at(const void *self, uint8_t at)
{
    const config *cfg = static_cast<const instance *>(self)->cfg;

    if (cfg->at == at)
        commit(cfg->what);
}

bh_rc validate(const void *cfg, bh_errs *)
{
    const config *c = static_cast<const config *>(cfg);

    if (c->at == AT_VALIDATE)
        commit(c->what);
    return BH_OK;
}

bh_rc open_instance(bh_inst *inst, const void *cfg, void **self)
{
    auto made = std::make_unique<instance>();

    made->cfg = static_cast<const config *>(cfg);
    made->inst = inst;
    commit_at(made.get(), AT_OPEN);
    *self = made.release();
    return BH_OK;
}

void close_instance(void *self)
{
    commit_at(self, AT_CLOSE);
    delete static_cast<instance *>(self);
}

void deferred(void *self)
{
    commit_at(self, AT_DEFER);
}

int32_t offloaded(void *self)
{
    commit_at(self, AT_OFFLOAD);
    return BH_DONE;
}

void posted(void *self, void *)
{
    commit_at(self, AT_POST);
}

bh_rc answer(const instance *self, bh_req *req)
{
    if (!self->cfg->reply)
        return BH_CONTINUE;
    return bh_reply(req, 200, "text/plain; charset=utf-8", self->greeting.c_str());
}

bh_rc on_request(void *self_, bh_req *req, void *)
{
    auto *self = static_cast<instance *>(self_);
    std::string lost_when_thrown_over(100, 'x');

    commit_at(self, AT_REQUEST);
    if (self->cfg->at == AT_REQUEST_BODY)
        return BH_CONTINUE;
    if (self->cfg->at == AT_DEFER)
        bh_defer(req, deferred, self);
    if (self->cfg->at == AT_POST)
        bh_post(self->inst, posted, nullptr);
    if (self->cfg->at == AT_THREAD)
        std::thread([self] { commit_at(self, AT_THREAD); }).detach();
    if (self->cfg->at == AT_OFFLOAD && answer(self, req) == BH_DONE)
        return bh_offload(req, offloaded, self);
    return answer(self, req);
}

bh_rc on_request_body(void *self, bh_req *req, void *, bh_str, int32_t end)
{
    commit_at(self, AT_REQUEST_BODY);
    return end ? answer(static_cast<instance *>(self), req) : BH_CONTINUE;
}

bh_rc on_response(void *self, bh_req *, void *)
{
    commit_at(self, AT_RESPONSE);
    return BH_CONTINUE;
}

bh_rc on_response_body(void *self, bh_req *, void *, bh_str, int32_t)
{
    commit_at(self, AT_RESPONSE_BODY);
    return BH_CONTINUE;
}

bh_rc on_error(void *self, bh_req *, void *, const bh_error *)
{
    commit_at(self, AT_ERROR);
    return BH_CONTINUE;
}

void on_log(void *self, bh_req *, void *)
{
    commit_at(self, AT_LOG);
}

} // namespace

BH_PLUGIN("throw", "1.0.0", .summary = "Throws C++ exceptions at its host", .options = options,
          .cfg_size = sizeof(config), .validate = validate, .open = open_instance,
          .close = close_instance, .on_request = on_request, .on_request_body = on_request_body,
          .on_response = on_response, .on_response_body = on_response_body, .on_error = on_error,
          .on_log = on_log)
