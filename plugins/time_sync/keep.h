/*
 * keep.h - what a worker has found out, for those that are started later: in the host's store.
 *
 * A fresh worker would else go by the machine's clock until a server answers, which may be never.
 */
#ifndef TIME_SYNC_KEEP_H
#define TIME_SYNC_KEEP_H

#include <bulkhead.h>

#include "rules.h"

/* After a good round, or when it begins to compensate. Without a store nothing happens. */
void keep_save(bh_inst *inst, const struct rules *r);
/* To begin with: state, offset and how exact they are, of this machine since it was booted. */
void keep_load(bh_inst *inst, struct rules *r, int64_t real_ns, int64_t mono_ns);

#endif
