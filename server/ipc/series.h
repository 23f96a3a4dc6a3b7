/*
 * series.h - metrics that plugins define, in shared memory.
 *
 * A definition is a name of one plugin, with a type and the names of its labels; a series is one set of
 * values of those labels. Both stand in tables that all workers share, found by a digest; the values
 * stand in each worker slot, and readers sum them up. A digest of 64 bits with a secret key is taken
 * for what it stands for. That is also why nothing can be left half done: an entry is claimed by its
 * digest, and whoever finds it claimed but not filled in fills it in with the same bytes.
 *
 * All tables are fixed in size. What finds no room, or is over its plugin's share, is counted where its
 * labels have the value "_overflow", so that sums stay true; what finds no place there either, or is
 * no number, is counted as dropped, by plugin.
 */
#ifndef IPC_SERIES_H
#define IPC_SERIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/histogram.h"

struct shm;

#define SERIES_DEFS       1024
#define SERIES_MAX        4096 /* entries; they are filled to three quarters */
#define SERIES_HISTOGRAMS 512
#define SERIES_LABELS     4
#define SERIES_NAME       64 /* of a metric, with its NUL; of a label too */
#define SERIES_HELP       192
#define SERIES_VALUE      63  /* bytes of a label's value */
#define SERIES_TEXT       256 /* all values: length, bytes; length, bytes; ... */
#define SERIES_OVERFLOW   "_overflow"
/* Shares of one plugin: */
#define SERIES_PLUGIN_DEFS       64
#define SERIES_PLUGIN_SERIES     1024
#define SERIES_PLUGIN_HISTOGRAMS 128

enum series_type { /* as BH_M_* of the plugin interface */
                   SERIES_COUNTER = 1,
                   SERIES_GAUGE, /* the sum over all workers */
                   SERIES_HISTOGRAM,
                   SERIES_GAUGE_MAX, /* the largest, ... */
                   SERIES_GAUGE_MIN,
                   SERIES_GAUGE_AVG, /* the mean of those that have set it */
                   SERIES_TYPE_END
};

struct series_def {
    _Atomic uint32_t is_ready;
    uint32_t plugin; /* index */
    uint32_t type;   /* enum series_type */
    uint32_t n_labels;
    uint64_t edition; /* the higher, the later it was defined */
    char name[SERIES_NAME];
    char label[SERIES_LABELS][SERIES_NAME];
    char help[SERIES_HELP];
};

struct series {
    _Atomic uint32_t is_ready;
    uint32_t def;               /* number */
    _Atomic uint32_t histogram; /* number + 1; 0: none yet */
    uint32_t text_len;
    char text[SERIES_TEXT];
};

struct series_share { /* what a plugin has taken; atomic adds */
    _Atomic uint32_t n_defs, n_series, n_histograms;
    _Atomic uint64_t n_overflowed; /* updates that went to "_overflow" */
    _Atomic uint64_t n_dropped;    /* updates that went nowhere */
};

struct series_table {
    /* Digests. 0: free, and so it always was; 1: free again. Apart from what they stand for, so that a
     * search does not touch, and so take, the pages of entries that are not in use. */
    _Atomic uint64_t def_key[SERIES_DEFS];
    _Atomic uint64_t series_key[SERIES_MAX];
    _Atomic uint64_t editions;
    _Atomic uint32_t n_series;
    _Atomic uint32_t owner[SERIES_HISTOGRAMS]; /* number of the series + 1; 0: free */
    struct series_def def[SERIES_DEFS];
    struct series series[SERIES_MAX];
};

/* In each worker slot. Cells are a double's bits, and +0.0 is written as -0.0: 0 is "never set". */
struct series_slot {
    _Atomic uint64_t cell[SERIES_MAX];
    struct histogram_x histogram[SERIES_HISTOGRAMS];
};

struct series_spec { /* checked by the caller: plugin/host_metrics.c */
    uint32_t plugin; /* index */
    enum series_type type;
    const char *name, *help; /* name: without _total; help: not NULL */
    const char *label[SERIES_LABELS];
    uint32_t n_labels;
};

struct series_label {
    const char *p;
    size_t n;
};

/* The number of a definition. One that is there already is found again. -ENOSPC: the table, or the
 * plugin's share, is full. -EEXIST: another plugin has a metric of that name and another type. */
int series_define(struct shm *shm, const struct series_spec *spec, uint32_t *out);

enum series_op { SERIES_ADD, SERIES_SET, SERIES_OBSERVE };

/* label: as many as the definition has. Any thread of the worker that has the slot, and no other
 * process. 0; -EINVAL: not a definition of that plugin, or not an operation or a value for its type;
 * -ENOSPC: went to "_overflow"; -ENOBUFS: went nowhere. All but the first are counted. */
int series_update(struct shm *shm, uint32_t slot, uint32_t plugin, uint32_t def, enum series_op op,
                  const struct series_label *label, double v);

/* ---- for readers, who trust none of it ---- */

/* NULL: there is none of that number. The caller bounds what it reads of it: plugin, type, n_labels
 * are checked, name and labels are NUL-terminated somewhere in their arrays, or cut there. */
const struct series_def *series_def_at(const struct shm *shm, uint32_t i);
const struct series *series_at(const struct shm *shm, uint32_t i);

/* Summed up over the slots as its type wants it. False: no worker has a value. */
bool series_value(const struct shm *shm, uint32_t i, enum series_type type, double *out);
bool series_histogram(const struct shm *shm, uint32_t i, uint64_t bucket[HISTOGRAM_X_SIZE],
                      double *sum);

struct series_reading {
    enum series_type type;
    double value;   /* histograms: the sum of what was observed */
    uint64_t count; /* histograms: how often */
};

/* One metric of one plugin, over all workers and label sets: counters, gauges and histograms are
 * summed up, the others taken as their type says. 0; -ENOENT: it has none of that name; -ENODATA: none
 * with a value. For gates of rollouts. name: with or without _total. */
int series_read(const struct shm *shm, uint32_t plugin, const char *name,
                struct series_reading *out);

/* ---- for ipc/metrics.c ---- */

void series_begin(struct shm *shm, uint32_t slot);
void series_forget(struct shm *shm, uint32_t plugin);

#endif
