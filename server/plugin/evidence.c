#include "plugin/evidence.h"

#include <string.h>

#include "ipc/shm.h"
#include "obs/redact.h"
#include "plugin/hook.h"
#include "plugin/instance.h"
#include "plugin/request.h"

#define FIELDS_MAX 4096
#define FIRST_ROOM 1024

/* ---- the body, as it comes ---- */

void evidence_begin(struct bh_req *req, uint32_t max)
{
    req->kept = arena_zalloc(&req->arena, sizeof *req->kept);
    if (req->kept != NULL)
        req->kept->max = max;
}

/* Room for n bytes, or for as many as there will be at most; doubled while nobody knows. */
static bool make_room(struct bh_req *req, uint32_t n, uint64_t length)
{
    struct kept_body *k = req->kept;
    uint64_t cap = length != UINT64_MAX ? length : k->cap > 0 ? 2 * (uint64_t)k->cap : FIRST_ROOM;
    char *p;

    if (n <= k->cap)
        return true;
    if (cap < n)
        cap = n;
    if (cap > k->max)
        cap = k->max;
    p = arena_alloc(&req->arena, cap);
    if (p == NULL)
        return false;
    if (k->n > 0)
        memcpy(p, k->p, k->n);
    k->p = p;
    k->cap = (uint32_t)cap;
    return true;
}

void evidence_body(struct bh_req *req, bh_str chunk, uint64_t length)
{
    struct kept_body *k = req->kept;
    /* No gap: what came after bytes that found no room is not kept either. */
    uint64_t room = k->seen == k->n ? k->max - k->n : 0;
    uint32_t n = chunk.n < room ? (uint32_t)chunk.n : (uint32_t)room;

    if (n > 0 && make_room(req, k->n + n, length)) {
        memcpy(k->p + k->n, chunk.p, n);
        k->n += n;
    }
    k->seen += chunk.n;
}

/* ---- the record ---- */

static void write_body(struct shm_crash *record, const struct kept_body *k)
{
    uint32_t n = k->n < sizeof record->body ? k->n : (uint32_t)sizeof record->body;

    if (n > 0)
        memcpy(record->body, k->p, n);
    record->body_len = n;
    record->body_seen = k->seen;
    record->has_body = 1;
}

void evidence_write(struct shm_crash *record, const struct bh_req *req)
{
    char *out = record->request;
    const size_t size = sizeof record->request;
    const struct fields *f = &req->hdr[BH_REQ];
    uint32_t n_fields = f->n < FIELDS_MAX ? f->n : FIELDS_MAX;
    size_t n;

    n = redact_request_line(out, size, req->method.p, req->target.p, req->target.n,
                            req->protocol.p);
    record->request_len = (uint32_t)n;
    for (uint32_t i = 0; i < n_fields; i++) {
        const struct field *field = &f->v[i];

        if (field->name.p == NULL)
            continue;
        n += redact_header(out + n, size - n, field->name.p, field->name.n, field->value.p,
                           field->value.n);
        record->request_len = (uint32_t)n;
    }
    if (req->kept != NULL)
        write_body(record, req->kept);
}

/* What the call that died had done to the fields: it will do so again. request_undo() would also close
 * and free. */
static void undo_fields(struct bh_req *req)
{
    struct undo *u = &req->undo;
    struct fields *f = &req->hdr[BH_REQ];

    if (u->call != req->call || u->n > FIELDS_MAX)
        return;
    while (u->n > 0) {
        const struct journal_entry *e = &u->v[--u->n];

        if (e->fields == f && e->index < f->n)
            f->v[e->index] = e->old;
    }
}

void evidence_write_last(struct shm_crash *record)
{
    bh_req *req = incarnation_request;

    if (!hook_is_for_request(record->hook) || !request_is(req))
        return;
    undo_fields(req);
    evidence_write(record, req);
}
