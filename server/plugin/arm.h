/*
 * arm.h - which version of a plugin a request gets while another one is being rolled out.
 *
 * The chains name the stable instance. Its candidate hides behind it (bh_inst.next), and takes its place in
 * those requests whose key falls into the weight (ipc/rollout.h). As long as there is no rollout none of
 * this is called.
 */
#ifndef PLUGIN_ARM_H
#define PLUGIN_ARM_H

#include <bulkhead.h>
#include <stdbool.h>

struct bh_req;
struct entry;

/* Some plugin of this process has a candidate: chains have room for one more entry. */
extern bool arm_is_on;

/* The request enters e, whose instance has a candidate: which of the two. */
void arm_pick(struct bh_req *req, struct entry *e);
/* The request is over. */
void arm_count(const struct bh_req *req);
/* A candidate has crashed: no request gets it any more, in no worker. */
void arm_trip(const bh_inst *candidate);

#endif
