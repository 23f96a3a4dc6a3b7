/*
 * fuzz_span.c - any bytes as a span that a worker left in its ring, up to the JSON that is sent.
 *
 * libFuzzer. What comes out, if anything does, is JSON.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "conf/config.h"
#include "exporter/otlp.h"
#include "ipc/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config_tracing cfg = {.service = "fuzz"};
    struct otlp_source source = {.version = "0", .instance = "i"};
    struct buffer out = {0};
    json_t *json;

    if (n > SPAN_MAX)
        return 0;
    otlp_begin(&out, &cfg, &source);
    (void)otlp_add(&out, (const char *)data, n, 0);
    otlp_end(&out);
    if (!out.has_failed) {
        json = json_loadb(out.p, out.n, 0, NULL);
        if (json == NULL)
            abort();
        json_decref(json);
    }
    buffer_fini(&out);
    return 0;
}
