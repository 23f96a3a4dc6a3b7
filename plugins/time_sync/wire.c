/*
 * wire.c - SNTP and TIME on the wire.
 */
#include "wire.h"

#include <string.h>

#define NS          1000000000LL
#define EPOCH_1900  2208988800LL /* seconds from 1900 to 1970 */
#define ERA_SECONDS 4294967296LL

/* RFC 5905 7.3: where things are in a packet. */
enum {
    AT_STRATUM = 1,
    AT_ROOT_DELAY = 4,
    AT_ROOT_DISPERSION = 8,
    AT_REFID = 12,
    AT_ORIGIN = 24,
    AT_RECEIVE = 32,
    AT_TRANSMIT = 40
};

enum { LEAP_UNKNOWN = 3, VERSION = 4, MODE_CLIENT = 3, MODE_SERVER = 4, STRATUM_MAX = 15 };

const char *wire_fault_name(enum wire_fault fault)
{
    static const char *const names[WIRE_FAULTS] = {
        [WIRE_OK] = "ok",
        [WIRE_SHORT] = "the answer is too short",
        [WIRE_MODE] = "the answer is not that of a server",
        [WIRE_ORIGIN] = "the answer is not to our question",
        [WIRE_KOD_RATE] = "it wants to be asked less often (kiss of death, RATE)",
        [WIRE_KOD_DENY] = "it does not want to be asked (kiss of death, DENY or RSTR)",
        [WIRE_KOD_OTHER] = "it refuses to answer (kiss of death)",
        [WIRE_UNSYNCHRONIZED] = "it is not synchronized itself",
        [WIRE_DISTANCE] = "its time may be off by more than max_distance",
        [WIRE_TIMES] = "its time stamps are impossible",
    };

    return (unsigned)fault < WIRE_FAULTS ? names[fault] : "?";
}

static uint32_t read32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void write32(uint32_t v, unsigned char *p)
{
    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
}

static uint64_t read64(const unsigned char *p)
{
    return (uint64_t)read32(p) << 32 | read32(p + 4);
}

/* 16.16 seconds, unsigned. */
static int64_t read_short(const unsigned char *p)
{
    return ((int64_t)read32(p) * NS) >> 16;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* The era in which these seconds are less than half an era away from the pivot. */
static int64_t unfold(uint32_t seconds, int64_t pivot_ns)
{
    int64_t pivot = floor_div(pivot_ns, NS) + EPOCH_1900;
    int64_t distance = (int32_t)(seconds - (uint32_t)pivot);

    return pivot + distance - EPOCH_1900;
}

static int64_t read_stamp(const unsigned char *p, int64_t pivot_ns)
{
    return unfold(read32(p), pivot_ns) * NS + (((int64_t)read32(p + 4) * NS) >> 32);
}

void ntp_request(uint64_t nonce, unsigned char out[NTP_BYTES])
{
    memset(out, 0, NTP_BYTES);
    out[0] = VERSION << 3 | MODE_CLIENT;
    write32((uint32_t)(nonce >> 32), out + AT_TRANSMIT);
    write32((uint32_t)nonce, out + AT_TRANSMIT + 4);
}

static enum wire_fault kiss(const unsigned char *refid)
{
    if (memcmp(refid, "RATE", 4) == 0)
        return WIRE_KOD_RATE;
    if (memcmp(refid, "DENY", 4) == 0 || memcmp(refid, "RSTR", 4) == 0)
        return WIRE_KOD_DENY;
    return WIRE_KOD_OTHER;
}

enum wire_fault ntp_reply(const unsigned char *p, size_t n, uint64_t nonce, int64_t sent_ns,
                          int64_t received_ns, int64_t max_distance_ns, struct ntp_sample *out)
{
    int64_t t1 = sent_ns, t4 = received_ns, t2, t3;
    int version, stratum;

    if (n < NTP_BYTES)
        return WIRE_SHORT;
    version = p[0] >> 3 & 7;
    if ((p[0] & 7) != MODE_SERVER || version < 3 || version > VERSION)
        return WIRE_MODE;
    if (read64(p + AT_ORIGIN) != nonce || nonce == 0)
        return WIRE_ORIGIN;
    /* A kiss of death repeats the origin as well: who forges one has to have seen the question. */
    stratum = p[AT_STRATUM];
    if (stratum == 0)
        return kiss(p + AT_REFID);
    if (p[0] >> 6 == LEAP_UNKNOWN || stratum > STRATUM_MAX)
        return WIRE_UNSYNCHRONIZED;
    if (read64(p + AT_TRANSMIT) == 0 || read64(p + AT_RECEIVE) == 0)
        return WIRE_TIMES;
    t2 = read_stamp(p + AT_RECEIVE, t1);
    t3 = read_stamp(p + AT_TRANSMIT, t1);
    out->delay_ns = (t4 - t1) - (t3 - t2);
    /* Two clocks, read at four moments: a delay below zero by less than a millisecond is their grain. */
    if (t3 < t2 || t4 < t1 || out->delay_ns < -1000000)
        return WIRE_TIMES;
    out->delay_ns = out->delay_ns < 0 ? 0 : out->delay_ns;
    out->offset_ns = ((t2 - t1) + (t3 - t4)) / 2;
    out->distance_ns = out->delay_ns / 2 + read_short(p + AT_ROOT_DELAY) / 2 +
                       read_short(p + AT_ROOT_DISPERSION);
    out->stratum = stratum;
    return out->distance_ns > max_distance_ns ? WIRE_DISTANCE : WIRE_OK;
}

int64_t time_from_wire(const unsigned char p[TIME_BYTES], int64_t pivot_ns)
{
    return unfold(read32(p), pivot_ns) * NS;
}

void time_to_wire(int64_t now_ns, unsigned char out[TIME_BYTES])
{
    write32((uint32_t)((uint64_t)(floor_div(now_ns, NS) + EPOCH_1900) % ERA_SECONDS), out);
}
