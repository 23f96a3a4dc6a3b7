/*
 * failure.h - what follows when a hook crashed, failed or ran out of time.
 *
 * The plugin is charged; on_error runs in reverse over the plugins entered before it; the first to
 * reply answers, else the host does; the crash record gets the way the error took; a fresh instance
 * is opened.
 */
#ifndef PLUGIN_FAILURE_H
#define PLUGIN_FAILURE_H

#include <bulkhead.h>
#include <stdbool.h>

#include "plugin/hook.h"

struct bh_req;
struct incarnation;

/* Beside BH_E_*: the hook crashed or ran past its deadline; recover_self.fault tells which. */
#define FAILURE_CRASHED (-1000)

/* kind: FAILURE_CRASHED or BH_E_*. True: the plugin's policy is fail_open, go on without it.
 * False: a reply was set. */
bool failure_handle(struct bh_req *req, int at, enum hook hook, int kind);

/* After the head was sent nothing can be answered: charge and record, the connection is cut. */
void failure_truncate(struct bh_req *req, int at, enum hook hook, int kind);

/* A crash that no longer concerns the client: on_log, deferred clean-ups; req NULL: posted calls. inc
 * may be NULL. */
void failure_note(struct bh_req *req, bh_inst *inst, struct incarnation *inc, enum hook hook);

#endif
