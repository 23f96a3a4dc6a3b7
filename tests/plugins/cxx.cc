/*
 * cxx.cc - a plugin as one would write it in C++20: objects that own, a range, a lambda, exceptions
 * of its own that it catches, and ?throw for one that it does not. ?keep=BYTES keeps a string that long.
 */
#include <bulkhead.h>

#include <algorithm>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace
{

struct instance {
    std::vector<std::string> seen;
    std::unique_ptr<std::string> kept;
    ~instance()
    {
        seen.clear();
    }
};

std::string_view view(bh_str s)
{
    return s.p != nullptr ? std::string_view(s.p, s.n) : std::string_view();
}

void forget(void *last)
{
    static_cast<std::string *>(last)->~basic_string();
}

bh_rc open_instance(bh_inst *, const void *, void **self)
{
    *self = std::make_unique<instance>().release();
    return BH_OK;
}

void close_instance(void *self)
{
    delete static_cast<instance *>(self);
}

[[noreturn]] void fail_loudly(std::string_view why)
{
    throw std::invalid_argument(std::string(why));
}

bh_rc on_request(void *self_, bh_req *req, void *)
{
    auto &self = *static_cast<instance *>(self_);
    std::string text;

    if (bh_query(req, "throw").p != nullptr)
        fail_loudly("nobody catches this");
    try {
        if (view(bh_query(req, "caught")) == "yes")
            fail_loudly("caught");
        text = "none";
    } catch (const std::invalid_argument &e) {
        text = e.what();
    }
    /* What must be destroyed even when this call crashes later lives in the request. */
    if (bh_str n = bh_query(req, "keep"); n.p != nullptr)
        self.kept = std::make_unique<std::string>(std::stoul(std::string(view(n))), 'x');
    auto *last = new (bh_alloc(req, sizeof(std::string))) std::string(view(bh_attr(req, "path")));
    bh_defer(req, forget, last);
    self.seen.push_back(*last);
    std::ranges::sort(self.seen);
    for (const auto &s : std::span(self.seen))
        text += " " + s;
    return bh_reply_n(req, 200, "text/plain", text.data(), text.size());
}

} // namespace

BH_PLUGIN("cxx", "1.0.0", .summary = "C++ at work", .open = open_instance, .close = close_instance,
          .on_request = on_request)
