/*
 * evidence.h - what of a request goes along into a crash record: its line, its headers, and the first
 * bytes of its body where the config asks for them (crash.record_body).
 *
 * Secrets in line and headers are redacted here, before they reach shared memory; a body is taken as it
 * is. What a newcomer would get wrong: evidence_write() also runs in the fault handler of a worker that
 * ends, on data that may be damaged. So it neither locks nor allocates, walks no further than there can
 * be fields, and says after each piece how much of the record is good: a fault in it is the caller's to
 * survive, and leaves what was written by then.
 */
#ifndef PLUGIN_EVIDENCE_H
#define PLUGIN_EVIDENCE_H

#include <bulkhead.h>
#include <stdint.h>

struct bh_req;
struct shm_crash;

struct kept_body { /* of a request with a body, in its arena */
    char *p;
    uint32_t n, cap, max;
    uint64_t seen; /* what has been shown to plugins, kept or not */
};

/* From here on up to max bytes of the request's body are kept. No memory: none are. */
void evidence_begin(struct bh_req *req, uint32_t max);
/* The next piece, before plugins see it. length: of the whole body; UINT64_MAX: not known. */
void evidence_body(struct bh_req *req, bh_str chunk, uint64_t length);

void evidence_write(struct shm_crash *record, const struct bh_req *req);

/* For the worker's last record, on the loop thread: the request whose plugin call took the worker along.
 * Nothing where it was in none. */
void evidence_write_last(struct shm_crash *record);

#endif
