/*
 * replay.c - the requests that another worker may run again, left by one that dies.
 *
 * Runs in a fault handler, on data that may be damaged: calls nothing that allocates or locks, walks
 * no list further than there can be entries, and looks at lengths before it copies. A pointer that
 * leads nowhere is the caller's to survive. MHD_get_connection_values_n() is a plain walk through the
 * head as it was received, without what plugins changed of it.
 */
#include <string.h>

#include "http/internal.h"
#include "ipc/shm.h"

#define FIELDS_MAX 4096

struct text {
    char *p;
    size_t n, size;
    int n_fields;
    bool is_bad;
};

/* A line end within a field would make another request of it. */
static void put(struct text *t, const char *p, size_t n)
{
    if (t->is_bad || n > t->size - t->n) {
        t->is_bad = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\r' || p[i] == '\n' || p[i] == '\0')
            t->is_bad = true;
        t->p[t->n + i] = p[i];
    }
    t->n += n;
}

static void put_end(struct text *t)
{
    if (t->size - t->n < 2) {
        t->is_bad = true;
        return;
    }
    t->p[t->n++] = '\r';
    t->p[t->n++] = '\n';
}

/* No space after the colon: the text must not be longer than what was received. */
static enum MHD_Result put_field(void *arg, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    struct text *t = arg;

    (void)kind;
    put(t, name, name_len);
    put(t, ":", 1);
    if (value != NULL)
        put(t, value, value_len);
    put_end(t);
    return ++t->n_fields < FIELDS_MAX && !t->is_bad ? MHD_YES : MHD_NO;
}

static bool is_replayable(const struct conn *c, int crashed_fd)
{
    const uint32_t mask = SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_SENT | SHM_CONN_AGAIN |
                          SHM_CONN_TLS | SHM_CONN_READING;

    return (c->flags & mask) == (SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_AGAIN) &&
           c->fd != crashed_fd && c->x != NULL && c->x->conn == c &&
           c->x->req.magic == REQUEST_MAGIC && c->mhd != NULL && c->x->mhd == c->mhd;
}

static bool put_request(struct text *t, const struct conn *c)
{
    const struct bh_req *req = &c->x->req;

    put(t, req->method.p, req->method.n);
    put(t, " ", 1);
    put(t, req->target.p, req->target.n);
    put(t, " ", 1);
    put(t, req->protocol.p, req->protocol.n);
    put_end(t);
    if (!t->is_bad)
        MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, put_field, t);
    put_end(t);
    return !t->is_bad && t->n_fields < FIELDS_MAX;
}

size_t front_note_replays(const struct front *f, const struct shm *shm, uint32_t slot)
{
    char *area = shm_replay(shm, slot);
    const struct list *node;
    size_t used = 0, n = 0, visited = 0;
    int crashed_fd;

    if (area == NULL)
        return 0;
    crashed_fd = atomic_load_explicit(&shm->worker[slot].call.fd, memory_order_relaxed);
    for (node = f->conns.next; node != &f->conns && visited++ < SHM_FDS; node = node->next) {
        const struct conn *c = list_entry(node, struct conn, node);
        struct shm_conn *shared = shm_conn(shm, slot, c->fd);
        struct text t = {.p = area + used, .size = SHM_REPLAY_SIZE - used};

        if (shared == NULL || shared != c->shared || !is_replayable(c, crashed_fd) ||
            !put_request(&t, c))
            continue;
        shared->replay_at = (uint32_t)used;
        shared->replay_len = (uint32_t)t.n;
        used += t.n;
        n++;
    }
    return n;
}
