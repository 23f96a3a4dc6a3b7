/*
 * exposure.h - "this id saw that group", as a JSON object for exposure_log.
 */
#ifndef EXPOSURE_H
#define EXPOSURE_H

#include <bulkhead.h>

#define EXPOSURE_MAX 2600 /* bytes: an id of ID_MAX bytes, all of them escaped, and the rest */

struct exposure {
    bh_str experiment, group, id, reason; /* foreign: id */
    uint32_t bucket;
    int fallback;                      /* the request's time could not be relied on */
    bh_str request_time, gateway_time; /* stamps; request_time may be absent */
};

/* Appends it to the variable "ab_exposures": objects with commas between them. BH_OK, or what
 * bh_var_set() said. */
bh_rc exposure_add(bh_req *req, const struct exposure *e);

#endif
