/*
 * statics.c - a plugin whose static variable is what its crashes leave behind.
 *
 * /boom spoils it and crashes. /wait goes on once the file named by `file` is there; /post posts a
 * call from a thread that waits for it. X-State tells what the copy of the object that serves the
 * request has in its variable, X-Posted how often that copy's posted call ran.
 */
#include <bulkhead.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    const char *file;
};

static const bh_opt options[] = {BH_STR(struct options, file, "", "Waited for"), BH_OPT_END};

static int is_spoilt, n_posted;
static int *volatile nowhere;

static const char *file; /* what the offloaded function and the thread look at */

static bh_rc open_(bh_inst *inst, const void *cfg, void **self)
{
    file = ((const struct options *)cfg)->file;
    *self = inst;
    return BH_OK;
}

static int32_t wait_for_file(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2000 && access(file, F_OK) < 0; i++)
        usleep(5000);
    return BH_CONTINUE;
}

static void posted(void *self, void *arg)
{
    (void)self, (void)arg;
    n_posted++;
}

static void *post_later(void *inst)
{
    wait_for_file(NULL);
    bh_post(inst, posted, NULL);
    return NULL;
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    bh_str path = bh_attr(req, "path");
    pthread_t thread;

    (void)ctx;
    if (path.n == 5 && memcmp(path.p, "/boom", 5) == 0) {
        is_spoilt = 1;
        *nowhere = 1;
    }
    if (path.n == 5 && memcmp(path.p, "/wait", 5) == 0)
        return bh_offload(req, wait_for_file, NULL);
    if (path.n == 5 && memcmp(path.p, "/post", 5) == 0 &&
        pthread_create(&thread, NULL, post_later, self) == 0)
        pthread_detach(thread);
    return BH_CONTINUE;
}

static bh_rc on_response(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)ctx;
    bh_resp_header(req, "X-State", is_spoilt ? "spoilt" : "clean");
    bh_resp_header(req, "X-Posted", n_posted ? "some" : "none");
    return BH_CONTINUE;
}

BH_PLUGIN("statics", "1.0.0", .summary = "Spoils its static variables", .on_request = on_request,
          .on_response = on_response, .open = open_, .cfg_size = sizeof(struct options),
          .options = options)
