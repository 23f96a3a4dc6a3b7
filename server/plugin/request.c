#include "plugin/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "plugin/hostfd.h"
#include "plugin/instance.h"
#include "plugin/stream.h"

#define FIELDS_FIRST 16

bh_req *incarnation_request;

void request_init(struct bh_req *req)
{
    struct arena arena = req->arena;

    memset(req, 0, sizeof *req);
    req->arena = arena;
    req->magic = REQUEST_MAGIC;
    req->reply.fd = -1;
}

void reply_dispose(struct reply *reply)
{
    if (reply->kind == REPLY_FILE && reply->fd >= 0) {
        hostfd_remove(reply->fd); /* a plugin's call may be running */
        close(reply->fd);
    }
    if (reply->kind == REPLY_STREAM)
        stream_put(&reply->stream);
    memset(reply, 0, sizeof *reply);
    reply->fd = -1;
}

static bool owns_same(const struct reply *a, const struct reply *b)
{
    return a->kind == b->kind && a->fd == b->fd && a->stream == b->stream;
}

/* The call that u belongs to came back well: what it replaced is dropped. */
static void commit(struct bh_req *req)
{
    struct undo *u = &req->undo;

    if (u->call != 0 && !owns_same(&u->reply, &req->reply))
        reply_dispose(&u->reply);
    u->call = 0;
}

void request_reset(struct bh_req *req)
{
    if (incarnation_request == req)
        incarnation_request = NULL;
    commit(req);
    reply_dispose(&req->reply);
    for (int i = 0; i < 2; i++) {
        free(req->scratch[i]);
        req->scratch[i] = NULL;
        req->scratch_cap[i] = 0;
    }
    arena_reset(&req->arena);
    req->magic = 0;
}

static bool grow(struct arena *a, struct fields *f)
{
    uint32_t cap = f->cap == 0 ? FIELDS_FIRST : f->cap * 2;
    struct field *v = arena_alloc(a, cap * sizeof *v);

    if (v == NULL)
        return false;
    if (f->n > 0)
        memcpy(v, f->v, f->n * sizeof *v);
    f->v = v;
    f->cap = cap;
    return true;
}

bool fields_append(struct arena *a, struct fields *f, bh_str name, bh_str value)
{
    if (f->n == f->cap && !grow(a, f))
        return false;
    f->v[f->n++] = (struct field){name, value};
    return true;
}

const struct field *fields_find(const struct fields *f, const char *name, size_t len, size_t nth)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (f->v[i].name.n == len && f->v[i].name.p != NULL &&
            strncasecmp(f->v[i].name.p, name, len) == 0 && nth-- == 0)
            return &f->v[i];
    return NULL;
}

void request_touch(struct bh_req *req)
{
    struct undo *u = &req->undo;

    if (u->call == req->call)
        return;
    commit(req);
    u->call = req->call;
    u->n = 0;
    u->reply = req->reply;
    u->vars = req->vars;
    u->path = req->path;
    u->body[0] = req->body[0];
    u->body[1] = req->body[1];
}

static bool remember(struct bh_req *req, struct fields *f, uint32_t index, struct field old)
{
    struct undo *u = &req->undo;

    request_touch(req);
    if (u->n == u->cap) {
        uint32_t cap = u->cap == 0 ? 16 : u->cap * 2;
        struct journal_entry *v = arena_alloc(&req->arena, cap * sizeof *v);

        if (v == NULL)
            return false;
        if (u->n > 0)
            memcpy(v, u->v, u->n * sizeof *v);
        u->v = v;
        u->cap = cap;
    }
    u->v[u->n++] = (struct journal_entry){f, index, old};
    return true;
}

void request_set_reply(struct bh_req *req, const struct reply *reply)
{
    request_touch(req);
    if (!owns_same(&req->reply, &req->undo.reply))
        reply_dispose(&req->reply);
    if (reply->kind == REPLY_FILE)
        hostfd_add(reply->fd);
    req->reply = *reply;
}

void request_undo(struct bh_req *req)
{
    struct undo *u = &req->undo;

    if (u->call != req->call)
        return;
    while (u->n > 0) {
        const struct journal_entry *e = &u->v[--u->n];

        e->fields->v[e->index] = e->old;
    }
    if (!owns_same(&req->reply, &u->reply))
        reply_dispose(&req->reply);
    req->reply = u->reply;
    req->vars = u->vars;
    req->path = u->path;
    req->body[0] = u->body[0];
    req->body[1] = u->body[1];
    u->call = 0;
}

static bool delete_fields(struct bh_req *req, struct fields *f, bh_str name, uint32_t *first)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < f->n; i++) {
        if (f->v[i].name.p == NULL || f->v[i].name.n != name.n ||
            strncasecmp(f->v[i].name.p, name.p, name.n) != 0)
            continue;
        if (!remember(req, f, i, f->v[i]))
            return false;
        f->v[i].name.p = NULL;
        if (found++ == 0)
            *first = i;
    }
    return true;
}

bh_rc request_set_field(struct bh_req *req, int side, bh_str name, bh_str value, bool replace)
{
    struct fields *f = &req->hdr[side];
    uint32_t at = UINT32_MAX;
    struct field new;

    new.name.p = arena_strndup(&req->arena, name.p, name.n);
    new.name.n = name.n;
    new.value.p = arena_strndup(&req->arena, value.p, value.n);
    new.value.n = value.n;
    if (new.name.p == NULL || new.value.p == NULL)
        return BH_ENOMEM;
    if (replace && !delete_fields(req, f, name, &at))
        return BH_ENOMEM;
    if (at == UINT32_MAX) {
        if (!fields_append(&req->arena, f, (bh_str){NULL, 0}, new.value))
            return BH_ENOMEM;
        at = f->n - 1;
        if (!remember(req, f, at, f->v[at])) /* undone: a deleted field */
            return BH_ENOMEM;
    }
    f->v[at] = new;
    return BH_OK;
}

bh_rc request_delete_field(struct bh_req *req, int side, bh_str name)
{
    uint32_t first = UINT32_MAX;

    if (!delete_fields(req, &req->hdr[side], name, &first))
        return BH_ENOMEM;
    return first == UINT32_MAX ? BH_ENOENT : BH_OK;
}

/* ---- what its log lines say of it ---- */

const struct var *request_var(const struct bh_req *req, const char *name)
{
    for (const struct var *v = req->vars; v != NULL; v = v->next)
        if (strcmp(v->name.p, name) == 0)
            return v;
    return NULL;
}

bh_str request_id(const struct bh_req *req)
{
    const struct var *v = request_var(req, "request_id");
    const struct field *f;

    if (v != NULL)
        return v->value;
    f = fields_find(&req->hdr[BH_REQ], "x-request-id", 12, 0);
    return f != NULL ? f->value : (bh_str){NULL, 0};
}

struct log_subject request_subject(const struct bh_req *req)
{
    const struct var *time = request_var(req, "trace_time_anchor");
    bh_str id = request_id(req);
    struct log_subject about = {.id = {id.p, id.n}};

    if (time != NULL)
        about.trace_time = (struct log_word){time->value.p, time->value.n};
    return about;
}

void request_log(const struct bh_req *req, int level, const char *fmt, ...)
{
    struct log_subject about = {0};
    char text[4096];
    va_list ap;

    if (!log_is_on(level))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (req != NULL)
        about = request_subject(req);
    log_write_about(level, &about, "%s", text);
}
