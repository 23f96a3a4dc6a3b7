/*
 * fuzz_shm.c - any bytes in the memory that workers share with the master, the recorder, the exporter and
 * the admin process, and all who read there.
 *
 * libFuzzer. An input is a list of writes: where (32 bits, modulo), how long and how often (8 bits each), and
 * the bytes. What readers print must be what it claims to be.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "ipc/shm.h"
#include "obs/metrics_text.h"
#include "obs/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define WORKERS 2
#define PLUGINS 3

static struct shm *shm;

static void put(char *p, size_t size, uint32_t where, const uint8_t *bytes, size_t n, size_t times)
{
    for (size_t at = where % size; n > 0 && times-- > 0 && at + n <= size; at += n)
        memcpy(p + at, bytes, n);
}

/* Regions by the top bits of `where`, so that small ones are met as often as large ones. */
static void write_some(uint32_t where, const uint8_t *bytes, size_t n, size_t times)
{
    struct shm_worker *w = &shm->worker[where & 1];
    uint32_t at = where >> 4;

    switch (where >> 1 & 7) {
    case 0: put((char *)&w->metrics, sizeof w->metrics, at, bytes, n, times); break;
    case 1: put((char *)&w->crash[0], sizeof w->crash[0], at, bytes, n, times); break;
    case 2: put((char *)&w->ring, sizeof w->ring, at, bytes, n, times); break;
    case 3: put((char *)shm->plugin, PLUGINS * sizeof *shm->plugin, at, bytes, n, times); break;
    case 4:
        put((char *)&shm->series.def[at % 8], sizeof shm->series.def[0], at >> 3, bytes, n, times);
        break;
    case 5:
        put((char *)&shm->series.series[at % 8], sizeof shm->series.series[0], at >> 3, bytes, n,
            times);
        break;
    case 6: put((char *)shm->alert, sizeof shm->alert, at, bytes, n, times); break;
    default:
        put((char *)shm->listener_name, sizeof shm->listener_name + sizeof shm->rollout, at, bytes,
            n, times);
        break;
    }
}

static void begin(void)
{
    if (shm == NULL && shm_create(WORKERS, PLUGINS, &shm) < 0)
        abort();
    for (uint32_t i = 0; i < WORKERS; i++) {
        memset((void *)&shm->worker[i].metrics, 0, sizeof shm->worker[i].metrics);
        memset((void *)&shm->worker[i].crash[0], 0, sizeof shm->worker[i].crash[0]);
        memset((void *)&shm->worker[i].ring, 0, offsetof(struct shm_ring, data) + 4096);
        metrics_begin(shm, i);
        atomic_store(&shm->worker[i].metrics.is_serving, 1);
    }
    memset((void *)shm->plugin, 0, PLUGINS * sizeof *shm->plugin);
    memset((void *)shm->alert, 0, sizeof shm->alert);
    memset((void *)&shm->listener_name, 0, sizeof shm->listener_name);
    memset((void *)&shm->series.def, 0, 8 * sizeof shm->series.def[0]);
    memset((void *)&shm->series.series, 0, 8 * sizeof shm->series.series[0]);
    for (uint32_t i = 0; i < PLUGINS; i++) {
        strcpy(shm->plugin[i].name, "p");
        atomic_store(&shm->plugin[i].is_shown, 1);
    }
    for (uint32_t i = 0; i < 8; i++) { /* places in use, as far as their keys say */
        atomic_store(&shm->series.def_key[i], 7 + i);
        atomic_store(&shm->series.series_key[i], 7 + i);
    }
}

static void read_metrics(enum metrics_format format)
{
    /* Kept: sanitizers give large pieces back to the kernel each time, which takes longer than the rest. */
    static struct buffer out;

    out.n = 0;
    if (metrics_text(shm, format, 1000, &out) == 0 &&
        (out.n < 6 ||
         (format == METRICS_OPENMETRICS && memcmp(out.p + out.n - 6, "# EOF\n", 6) != 0)))
        abort();
}

static void read_record(uint32_t worker)
{
    static struct shm_crash copy;
    const struct recorder_plugin plugin[1] = {
        {.instance = "p", .module = "m", .object = "/o", .place = 1}};
    struct record_source src = {
        .crash = &copy, .plugin = plugin, .n_plugins = 1, .trace_missing = "none"};
    json_t *json;
    char *text;

    memcpy(&copy, &shm->worker[worker].crash[0], sizeof copy);
    record_clean(&copy, worker, 0);
    if (!record_id_is_valid(copy.id))
        abort();
    json = record_to_json(&src);
    text = json != NULL ? json_dumps(json, 0) : NULL;
    if (text == NULL)
        abort();
    free(text);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static char line[SHM_LINE_MAX + 1];
    struct series_reading reading;
    struct shm_alert alert;
    uint32_t sink, last = n > 0 ? data[n - 1] : 0;

    begin();
    while (n >= 8) {
        uint32_t where, len = data[4] % 64u, times = 1u + data[5] * 16u;

        memcpy(&where, data, sizeof where);
        data += 6;
        n -= 6;
        if (len > n)
            len = (uint32_t)n;
        write_some(where, data, len, times);
        data += len;
        n -= len;
    }
    read_metrics((last & 1) != 0 ? METRICS_OPENMETRICS : METRICS_PROMETHEUS);
    for (uint32_t i = 0; i < WORKERS; i++) {
        read_record(i);
        for (int k = 0; k < 100 && shm_ring_read(&shm->worker[i].ring, &sink, line) >= 0; k++)
            ;
    }
    for (uint32_t i = 0; i < SHM_ALERTS; i++)
        (void)shm_alert_read(shm, i, &alert);
    for (uint32_t i = 0; i < PLUGINS; i++) {
        (void)series_read(shm, i, "a", &reading);
        series_forget(shm, i);
    }
    return 0;
}
