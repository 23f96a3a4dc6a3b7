/*
 * keeper.c - asks the store whatever a request says, and answers with its result.
 *
 *     GET /get?k=K                          "RC VALUE"
 *     GET /set?k=K&v=V[&ttl=MS][&new=1]     "RC"
 *     GET /del?k=K                          "RC"
 *     GET /add?k=K[&d=DELTA][&ttl=MS]       "RC SUM"
 *     GET /take?k=K[&rate=R&burst=B]        "LEFT", as bh_bucket_take() says
 *     .../?later=1                          the same by bh_kv_async(); "local" follows when it was
 *     GET /later_crash                      the function for the answer crashes
 *     GET /later_cancel                     asks, and cancels twice: "RC RC"
 *     GET /thread?k=K                       /add, from a thread of the plugin's
 *     GET /bad?how=key|value|buf|out        passes a pointer to nowhere
 *     GET /forbid                           takes the store's entries away from this process, then /get
 *     GET /worker                           the worker's process id
 */
#include <bulkhead.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)
{
    int64_t n;

    (void)cfg;
    *self = inst;
    /* The trial before the start has a store of its own: the workers' counts begin at 1. */
    switch (bh_kv_add(inst, bh_s("opened"), 1, 0, &n)) {
    case BH_OK:
    case BH_ENOSYS: return BH_OK; /* the store is on another machine */
    default: return BH_FAIL;
    }
}

static long number(bh_req *req, const char *name, long def)
{
    bh_str s = bh_query(req, name);

    return s.p != NULL ? strtol(s.p, NULL, 10) : def;
}

static bh_rc say(bh_req *req, long long rc, const char *more, size_t n)
{
    char *text = bh_alloc(req, n + 32);
    int len = snprintf(text, n + 32, "%lld%s%.*s", rc, more != NULL ? " " : "", (int)n,
                       more != NULL ? more : "");

    return bh_reply_n(req, 200, "text/plain", text, (size_t)len);
}

static bh_rc say_number(bh_req *req, bh_rc rc, int64_t n)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%lld", (long long)n);

    return say(req, rc, text, (size_t)len);
}

struct job {
    bh_inst *inst;
    bh_str key;
    bh_rc rc;
    int64_t n;
};

static void *add_in_thread(void *arg)
{
    struct job *j = arg;

    j->rc = bh_kv_add(j->inst, j->key, 1, 0, &j->n);
    return NULL;
}

static bh_rc bad(bh_inst *inst, bh_str how)
{
    char *volatile nowhere = (char *)16;
    size_t n = 100;

    if (bh_str_eq(how, "key"))
        return bh_kv_set(inst, bh_sn(nowhere, 3), "v", 1, 0);
    if (bh_str_eq(how, "value"))
        return bh_kv_set(inst, bh_s("k"), nowhere, 10, 0);
    if (bh_str_eq(how, "out"))
        return bh_kv_add(inst, bh_s("counted"), 1, 0, (int64_t *)(void *)nowhere);
    bh_kv_set(inst, bh_s("k"), "value", 5, 0);
    return bh_kv_get(inst, bh_s("k"), nowhere, &n, NULL);
}

/* Pages that are empty: those where locks are have something in them. So the next entry that is written
 * to a new place faults while the lock is held. */
static void forbid(void)
{
    static const char zeros[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long lo, hi;

    while (fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, "bulkhead-store") != NULL && sscanf(line, "%lx-%lx", &lo, &hi) == 2)
            for (unsigned long at = lo; at < hi; at += sizeof zeros)
                if (memcmp((const void *)at, zeros, sizeof zeros) == 0)
                    mprotect((void *)at, sizeof zeros, PROT_NONE);
    fclose(maps);
}

/* ---- asked now, answered later ---- */

static void answered(void *self, const bh_kv_result *r, void *arg)
{
    char text[128];
    int n;

    (void)self;
    if (r->value.p != NULL)
        n = snprintf(text, sizeof text, "%d %.*s", r->rc, (int)r->value.n, r->value.p);
    else
        n = snprintf(text, sizeof text, "%d %lld %g", r->rc, (long long)r->number, r->taken);
    n += snprintf(text + n, sizeof text - (size_t)n, "%s", r->is_local ? " local" : "");
    bh_resume_reply(arg, 200, "text/plain", text, (size_t)n);
}

static void crash(void *self, const bh_kv_result *r, void *arg)
{
    int *volatile nowhere = NULL;

    (void)self, (void)r, (void)arg;
    *(volatile int *)nowhere = 1;
}

static bh_rc ask(bh_inst *inst, bh_req *req, int32_t what,
                 void (*done)(void *, const bh_kv_result *, void *))
{
    bh_kv_op op = {.struct_size = sizeof op,
                   .op = what,
                   .key = bh_query(req, "k"),
                   .value = bh_query(req, "v"),
                   .cas = bh_query(req, "new").p ? BH_KV_NEW : 0,
                   .delta = number(req, "d", 1),
                   .per_s = (double)number(req, "rate", 1),
                   .burst = (double)number(req, "burst", 10),
                   .cost = 1,
                   .most = (double)number(req, "most", 0),
                   .ttl_ms = (uint32_t)number(req, "ttl", 0)};
    bh_ticket *t = bh_ticket_take(req, (uint32_t)number(req, "wait", 5000));
    bh_rc rc = t != NULL ? bh_kv_async(inst, &op, done, t, NULL) : BH_EPHASE;

    return rc == BH_OK ? BH_PAUSE : say(req, rc, "refused", 7);
}

static bh_rc later(bh_inst *inst, bh_req *req, bh_str path)
{
    static const char *const paths[] = {"/get", "/set", "/del", "/add", "/take"};

    for (int i = 0; i < 5; i++)
        if (bh_str_eq(path, paths[i]))
            return ask(inst, req, BH_KV_GET + i, answered);
    return BH_CONTINUE;
}

static bh_rc cancelled(bh_inst *inst, bh_req *req)
{
    bh_kv_op op = {.struct_size = sizeof op, .op = BH_KV_ADD, .key = bh_s("cancelled"), .delta = 1};
    uint64_t id;
    char text[16];
    bh_rc first;

    if (bh_kv_async(inst, &op, crash, NULL, &id) != BH_OK)
        return BH_FAIL;
    first = bh_kv_cancel(inst, id);
    snprintf(text, sizeof text, "%d", bh_kv_cancel(inst, id));
    return say(req, first, text, strlen(text));
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    bh_inst *inst = self;
    bh_str path = bh_attr(req, "path"), k = bh_query(req, "k"), v = bh_query(req, "v");
    uint32_t ttl = (uint32_t)number(req, "ttl", 0);
    static char buf[64000];
    size_t n = sizeof buf;
    int64_t sum = 0;
    bh_rc rc;

    (void)ctx;
    if (bh_query(req, "later").p != NULL)
        return later(inst, req, path);
    if (bh_str_eq(path, "/later_crash"))
        return ask(inst, req, BH_KV_ADD, crash);
    if (bh_str_eq(path, "/later_cancel"))
        return cancelled(inst, req);
    if (bh_str_eq(path, "/get")) {
        rc = bh_kv_get(inst, k, buf, &n, NULL);
        return say(req, rc, buf, rc == BH_OK ? n : 0);
    }
    if (bh_str_eq(path, "/set"))
        return say(req, bh_kv_cas(inst, k, v.p, v.n, ttl, bh_query(req, "new").p ? BH_KV_NEW : 0),
                   NULL, 0);
    if (bh_str_eq(path, "/del"))
        return say(req, bh_kv_del(inst, k), NULL, 0);
    if (bh_str_eq(path, "/add")) {
        rc = bh_kv_add(inst, k, number(req, "d", 1), ttl, &sum);
        return say_number(req, rc, sum);
    }
    if (bh_str_eq(path, "/take"))
        return say(req,
                   bh_bucket_take(inst, k, (double)number(req, "rate", 1),
                                  (double)number(req, "burst", 10), 1),
                   NULL, 0);
    if (bh_str_eq(path, "/thread")) {
        struct job j = {.inst = inst, .key = k};
        pthread_t t;

        if (pthread_create(&t, NULL, add_in_thread, &j) != 0)
            return BH_FAIL;
        pthread_join(t, NULL);
        return say_number(req, j.rc, j.n);
    }
    if (bh_str_eq(path, "/bad"))
        return say(req, bad(inst, bh_query(req, "how")), NULL, 0);
    if (bh_str_eq(path, "/forbid")) {
        forbid();
        for (int i = 0; i < 1000; i++) {
            char key[16];

            snprintf(key, sizeof key, "f%d", i);
            bh_kv_set(inst, bh_s(key), "v", 1, 0);
        }
        return say(req, 0, NULL, 0);
    }
    if (bh_str_eq(path, "/worker"))
        return say(req, getpid(), NULL, 0);
    return BH_CONTINUE;
}

BH_PLUGIN("keeper", "1.0.0", .open = open_it, .on_request = on_request)
