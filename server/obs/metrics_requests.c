/*
 * metrics_requests.c - metrics of requests and connections, by listener and by route.
 */
#include <string.h>

#include "obs/metrics_tell.h"

#define REQUEST_FIRST 14 /* 16 us; the last one ends at 69 s */

/* ---- by listener ---- */

static bool begin_listener(struct text *t, uint32_t i)
{
    const struct metrics_name *name = &t->shm->listener_name[i];

    t->e.n_labels = 0;
    if (atomic_load(&name->is_ready) == 0)
        return false;
    exposition_label_n(&t->e, "listener", name->text, strnlen(name->text, sizeof name->text));
    return true;
}

static uint64_t sum_listener(const struct text *t, uint32_t i, size_t offset)
{
    uint64_t n = 0;

    for (uint32_t k = 0; k < t->shm->n_workers; k++)
        if (worker_is_used(&t->shm->worker[k]))
            n += text_read_at(&t->shm->worker[k].metrics.listener[i], offset);
    return n;
}

/* Field of struct metrics_listener. */
void tell_listener(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < METRICS_LISTENERS; i++)
        if (begin_listener(t, i))
            exposition_uint(&t->e, sum_listener(t, i, offset));
    t->e.n_labels = 0;
}

/* Those that there were: of 40 combinations a listener sees a few. */
void tell_requests(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < METRICS_LISTENERS; i++)
        for (int m = 0; m < METRICS_METHODS; m++)
            for (int c = 0; c < METRICS_CODES && begin_listener(t, i); c++) {
                uint64_t n = sum_listener(
                    t, i, offset + sizeof(uint64_t) * (size_t)(m * METRICS_CODES + c));

                exposition_label(&t->e, "method", metrics_method_name((enum metrics_method)m));
                exposition_label(&t->e, "code", metrics_code_name((enum metrics_code)c));
                if (n > 0 || (m == METRICS_GET && c == METRICS_2XX))
                    exposition_uint(&t->e, n);
            }
    t->e.n_labels = 0;
}

void tell_handshakes(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < METRICS_LISTENERS; i++)
        for (int h = 0; h < METRICS_HANDSHAKES && begin_listener(t, i); h++) {
            uint64_t n = sum_listener(t, i, offset + sizeof(uint64_t) * (size_t)h);

            exposition_label(&t->e, "result", metrics_handshake_name((enum metrics_handshake)h));
            if (n > 0)
                exposition_uint(&t->e, n);
        }
    t->e.n_labels = 0;
}

void tell_listener_times(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < METRICS_LISTENERS; i++) {
        uint64_t count[HISTOGRAM_NS_SIZE] = {0}, sum_ns = 0;

        if (!begin_listener(t, i))
            continue;
        for (uint32_t k = 0; k < t->shm->n_workers; k++)
            if (worker_is_used(&t->shm->worker[k]))
                text_add_histogram(
                    (const void *)((const char *)&t->shm->worker[k].metrics.listener[i] + offset),
                    count, &sum_ns);
        exposition_histogram_ns(&t->e, count, sum_ns, REQUEST_FIRST);
    }
    t->e.n_labels = 0;
}

/* ---- by route ---- */

static bool begin_route(struct text *t, uint32_t i)
{
    const struct metrics_name *name = &t->shm->route_name[i];

    t->e.n_labels = 0;
    if (atomic_load(&name->is_ready) == 0)
        return false;
    exposition_label_n(&t->e, "route", name->text, strnlen(name->text, sizeof name->text));
    return true;
}

static uint64_t sum_route(const struct text *t, uint32_t i, int code)
{
    uint64_t n = 0;

    for (uint32_t k = 0; k < t->shm->n_workers; k++)
        if (worker_is_used(&t->shm->worker[k]))
            n += metrics_read(&t->shm->worker[k].metrics.route[i].requests[code]);
    return n;
}

static uint64_t sum_route_all(const struct text *t, uint32_t i)
{
    uint64_t n = 0;

    for (int c = 0; c < METRICS_CODES; c++)
        n += sum_route(t, i, c);
    return n;
}

void tell_route_requests(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < METRICS_ROUTES; i++)
        for (int c = 0; c < METRICS_CODES && begin_route(t, i); c++) {
            uint64_t n = sum_route(t, i, c);

            exposition_label(&t->e, "code", metrics_code_name((enum metrics_code)c));
            if (n > 0 || c == METRICS_2XX)
                exposition_uint(&t->e, n);
        }
    t->e.n_labels = 0;
}

/* Of those that there were requests for: a histogram that nobody has written to must not be read. */
void tell_route_times(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < METRICS_ROUTES; i++) {
        uint64_t count[HISTOGRAM_NS_SIZE] = {0}, sum_ns = 0;

        if (!begin_route(t, i) || sum_route_all(t, i) == 0)
            continue;
        for (uint32_t k = 0; k < t->shm->n_workers; k++)
            if (worker_is_used(&t->shm->worker[k]))
                text_add_histogram(&t->shm->worker[k].metrics.route[i].duration, count, &sum_ns);
        exposition_histogram_ns(&t->e, count, sum_ns, REQUEST_FIRST);
    }
    t->e.n_labels = 0;
}
