/* metrics_series.h - the text of metrics that plugins define. For metrics_text.c. */
#ifndef OBS_METRICS_SERIES_H
#define OBS_METRICS_SERIES_H

struct exposition;
struct shm;

/* 0 or -ENOMEM. */
int metrics_series_text(const struct shm *shm, struct exposition *e);

#endif
