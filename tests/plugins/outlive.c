/*
 * outlive.c - offloads a job that goes on until the test lets it go, whoever has left in between, and then
 * crashes; with `lock: true` where it holds a lock of libc's, which is the end of the worker.
 *
 * All of it is told by files in the folder of the option `dir`: "running" when the job has begun, in which
 * process is its content; "closed-PID" when the plugin was closed in that process. The job waits for "go".
 */
#include <bulkhead.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct config {
    const char *dir;
    bool lock;
};

static const bh_opt options[] = {
    BH_STR_REQUIRED(struct config, dir,
                    "Folder of the files by which the test and the job tell each other"),
    BH_BOOL(struct config, lock, "no", "Crash where it holds the lock of stderr"),
    BH_OPT_END,
};

static const char *path(const char *dir, const char *name, char out[4096])
{
    snprintf(out, 4096, "%s/%s", dir, name);
    return out;
}

/* Whoever sees the file sees all of it. */
static void say(const char *dir, const char *what, int pid)
{
    char draft[4096], name[4096];
    FILE *f = fopen(path(dir, "draft", draft), "we");

    if (f == NULL)
        return;
    fprintf(f, "%d", pid);
    fclose(f);
    rename(draft, path(dir, what, name));
}

static int32_t job(void *arg)
{
    char name[4096];
    const struct config *o = arg;
    const char *dir = o->dir;

    say(dir, "running", (int)getpid());
    path(dir, "go", name);
    while (access(name, F_OK) != 0)
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    if (o->lock)
        flockfile(stderr);
    abort();
}

static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)
{
    (void)inst;
    *self = (void *)(uintptr_t)cfg; /* lives as long as the instance */
    return BH_OK;
}

static void close_it(void *self)
{
    const struct config *o = self;
    char name[32];

    snprintf(name, sizeof name, "closed-%d", (int)getpid());
    say(o->dir, name, 0);
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    (void)ctx;
    return bh_offload(req, job, self);
}

BH_PLUGIN("outlive", "1.0.0", .summary = "Offloads a job that outlives its client",
          .options = options, .cfg_size = sizeof(struct config), .open = open_it, .close = close_it,
          .on_request = on_request)
