/*
 * wire.h - what SNTP (RFC 5905) and TIME (RFC 868) send: bytes in, numbers out. Pure.
 *
 * Both count seconds since 1900 in 32 bits, which roll over on 2036-02-07 06:28:16 UTC. So a time is
 * only known together with one that is near it: every reader here takes such a pivot.
 *
 * All times are nanoseconds since 1970 UTC.
 */
#ifndef TIME_SYNC_WIRE_H
#define TIME_SYNC_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define NTP_BYTES  48
#define TIME_BYTES 4

/* What can be wrong with an answer. WIRE_OK is 0. */
enum wire_fault {
    WIRE_OK,
    WIRE_SHORT,          /* fewer bytes than it takes */
    WIRE_MODE,           /* not an answer of a server, or of another version */
    WIRE_ORIGIN,         /* not to our question: late, or forged */
    WIRE_KOD_RATE,       /* kiss of death: ask less often */
    WIRE_KOD_DENY,       /* DENY or RSTR: ask no more */
    WIRE_KOD_OTHER,      /* another kiss of death */
    WIRE_UNSYNCHRONIZED, /* the server says that it does not know the time */
    WIRE_DISTANCE,       /* it may be off by more than we allow */
    WIRE_TIMES,          /* time stamps that cannot be */
    WIRE_FAULTS
};

const char *wire_fault_name(enum wire_fault fault);

struct ntp_sample {
    int64_t offset_ns;   /* add it to our clock: ((t2 - t1) + (t3 - t4)) / 2 */
    int64_t delay_ns;    /* on the way, both ways: (t4 - t1) - (t3 - t2) */
    int64_t distance_ns; /* how far off it may be: half the delay, and what the server says */
    int stratum;
};

/* A question. nonce: random; the answer repeats it. The real time of sending is nobody's business. */
void ntp_request(uint64_t nonce, unsigned char out[NTP_BYTES]);

/*
 * The answer to it. sent_ns, received_ns: by our clock. The sample is complete with WIRE_OK, and has
 * offset and delay with WIRE_DISTANCE.
 */
enum wire_fault ntp_reply(const unsigned char *p, size_t n, uint64_t nonce, int64_t sent_ns,
                          int64_t received_ns, int64_t max_distance_ns, struct ntp_sample *out);

/* 32 bits of seconds since 1900, in the era that is nearest to the pivot. */
int64_t time_from_wire(const unsigned char p[TIME_BYTES], int64_t pivot_ns);
void time_to_wire(int64_t now_ns, unsigned char out[TIME_BYTES]);

#endif
