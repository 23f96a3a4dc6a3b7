/*
 * metrics.c - GET /metrics, for Prometheus and its like. Made from shared memory alone: the master is
 * not asked.
 */
#include <stddef.h>

#include "admin/internal.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "obs/metrics_text.h"

void get_metrics(struct request *req)
{
    enum metrics_format format = metrics_format_for(request_header(req, "Accept"));
    struct buffer out = {0};

    if (metrics_text(req->admin->shm, format, clock_mono_ms(), &out) < 0) {
        buffer_fini(&out);
        reply_problem(req, 503, "Service Unavailable", "there is no memory for the text");
        return;
    }
    reply_text(req, 200, metrics_content_type(format), out.p, out.n);
    reply_header(req, "Vary", "Accept");
}
