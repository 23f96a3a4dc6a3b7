/*
 * experiment.h - which group an id belongs to. Pure: the same everywhere and at any time.
 */
#ifndef EXPERIMENT_H
#define EXPERIMENT_H

#include <bulkhead.h>

#define GROUPS_MAX  16
#define WORD_MAX    48    /* bytes of the name of an experiment or a group */
#define ID_MAX      256   /* bytes of an id; a longer one is none */
#define BUCKETS     10000 /* all ids fall into so many */
#define BUCKETS_OLD 1000  /* of the fall-back: session_id % 1000 */
#define TAG_LEN     16

struct experiment {
    bh_str name, salt;
    size_t n_groups;
    bh_str group[GROUPS_MAX];
    uint32_t end[GROUPS_MAX]; /* buckets from the one before up to this belong to the group */
};

/* Names of experiments and groups: letters, digits, '_' and '-', at most WORD_MAX. */
int is_word(bh_str s);

/*
 * From the options. name and salt are not empty, and at most 256 bytes. NULL, or what is wrong with
 * the groups: static text.
 */
const char *experiment_init(struct experiment *e, bh_str name, bh_str salt, const bh_map *groups);

/* The bucket of an id, 0 to BUCKETS - 1. window: the number of the time slice, -1 for none. */
uint32_t experiment_bucket(const struct experiment *e, bh_str id, int64_t window);
/* The bucket when the time of the request cannot be relied on: id % 1000, times ten. An id that is
 * not a number of at most 18 digits is hashed first. */
uint32_t experiment_bucket_by_id(bh_str id);
/* The index of the group that has a bucket. */
size_t experiment_group(const struct experiment *e, uint32_t bucket);
/* The index of a group, or n_groups when there is none of that name. */
size_t experiment_find(const struct experiment *e, const char *name, size_t n);

/* What makes a remembered group trustworthy: it depends on the salt. tag: TAG_LEN hex digits, NUL. */
void experiment_tag(const struct experiment *e, bh_str id, size_t group, int64_t window,
                    char tag[TAG_LEN + 1]);

/* "2026-12-01T08:00:00Z", or a date alone: its beginning. 1 and *ms since 1970 UTC, or 0. */
int experiment_time(const char *text, int64_t *ms);

#endif
