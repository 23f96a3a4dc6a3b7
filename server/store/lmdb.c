#include "store/lmdb.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/must.h"
#include "store/store.h"

#if __has_include(<lmdb.h>)
#include <dlfcn.h>
#include <lmdb.h>

#define LIBRARY "liblmdb.so.0"
#define READERS 1024
#define SLACK   (16u << 20) /* pages that LMDB itself needs, beside twice the size */
#define SWEEP   4           /* entries that each change looks at */
#define COST    64          /* bytes that an entry is counted as beside key and value */

enum kind { KIND_BYTES, KIND_NUMBER, KIND_BUCKET };

struct entry { /* a value begins with it */
    uint64_t version;
    int64_t until_ns; /* 0: for ever. Of a bucket: its state */
    int64_t number;
    uint64_t kind;
};

struct lmdb_store {
    struct store store; /* first */
    MDB_env *env;
    MDB_dbi dbi;
    uint64_t size;
    uint32_t sync_ms;
    _Atomic uint32_t is_dirty, must_stop;
    pthread_t syncer;
    char sweep_key[STORE_NS_NAME + STORE_KEY_MAX]; /* where the next sweep begins */
    size_t sweep_n;
};

/* ---- the library ---- */

#define FUNCTIONS(X)      \
    X(env_create)         \
    X(env_set_mapsize)    \
    X(env_set_maxreaders) \
    X(env_open)           \
    X(env_close)          \
    X(env_sync)           \
    X(reader_check)       \
    X(txn_begin)          \
    X(txn_commit)         \
    X(txn_abort)          \
    X(txn_id)             \
    X(dbi_open)           \
    X(get)                \
    X(put)                \
    X(del)                \
    X(cursor_open)        \
    X(cursor_close)       \
    X(cursor_get)         \
    X(strerror)

static struct {
#define MEMBER(NAME) __typeof__(mdb_##NAME) *NAME;
    FUNCTIONS(MEMBER)
#undef MEMBER
} mdb;

static int load(char *why, size_t size)
{
    void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

    if (lib == NULL) {
        snprintf(why, size, "cannot load %s (install Debian's liblmdb0): %s", LIBRARY, dlerror());
        return -ENOSYS;
    }
#define FIND(NAME)                                                  \
    {                                                               \
        void *symbol = dlsym(lib, "mdb_" #NAME);                    \
                                                                    \
        if (symbol == NULL) {                                       \
            snprintf(why, size, LIBRARY " has no mdb_" #NAME "()"); \
            return -ENOSYS;                                         \
        }                                                           \
        memcpy(&mdb.NAME, &symbol, sizeof symbol);                  \
    }
    FUNCTIONS(FIND)
#undef FIND
    return 0;
}

static int error_of(int r)
{
    switch (r) {
    case 0: return 0;
    case MDB_NOTFOUND: return -ENOENT;
    case MDB_MAP_FULL:
    case ENOSPC: return -ENOSPC;
    case ENOMEM: return -ENOMEM;
    default: return -EIO;
    }
}

/* ---- transactions ---- */

struct op {
    struct lmdb_store *s;
    MDB_txn *txn;
    MDB_val key, had; /* had: what is there; mv_data NULL: nothing */
    const struct entry *e;
    struct entry copy; /* of the header, which may lie unaligned */
    char text[STORE_NS_NAME + STORE_KEY_MAX];
};

/* NAMESPACE \0 KEY. What begins with \0 is ours: \0 NAMESPACE, and \0 alone, have sums of bytes. */
static MDB_val make_key(char *text, const struct store_ns *ns, struct store_key key)
{
    size_t n = strlen(ns->name) + 1;

    memcpy(text, ns->name, n);
    memcpy(text + n, key.p, key.n);
    return (MDB_val){n + key.n, text};
}

static int begin(struct op *op, struct store *s, const struct store_ns *ns, struct store_key key,
                 bool is_write)
{
    int r;

    op->s = (struct lmdb_store *)(void *)s;
    op->e = NULL;
    op->had = (MDB_val){0, NULL};
    r = mdb.txn_begin(op->s->env, NULL, is_write ? 0 : MDB_RDONLY, &op->txn);
    if (r != 0)
        return error_of(r);
    op->key = make_key(op->text, ns, key);
    r = mdb.get(op->txn, op->s->dbi, &op->key, &op->had);
    if (r == 0 && op->had.mv_size >= sizeof op->copy) {
        memcpy(&op->copy, op->had.mv_data, sizeof op->copy);
        if (op->copy.until_ns == 0 || op->copy.until_ns > s->now_ns())
            op->e = &op->copy;
    } else if (r != 0 && r != MDB_NOTFOUND) {
        mdb.txn_abort(op->txn);
        return error_of(r);
    }
    return 0;
}

static int end(struct op *op, int r)
{
    if (r < 0) {
        mdb.txn_abort(op->txn);
        return r;
    }
    r = error_of(mdb.txn_commit(op->txn));
    atomic_store_explicit(&op->s->is_dirty, 1, memory_order_relaxed);
    return r;
}

/* ---- sums ---- */

static uint64_t sum_at(struct op *op, MDB_val key)
{
    MDB_val v;
    uint64_t n = 0;

    if (mdb.get(op->txn, op->s->dbi, &key, &v) == 0 && v.mv_size == sizeof n)
        memcpy(&n, v.mv_data, sizeof n);
    return n;
}

/* Adds to the sum of a namespace, and to that of all. limit: of the namespace, 0: none; what would pass
 * it, or the store's size, is refused. */
static int account(struct op *op, const char *ns, int64_t delta, uint64_t limit)
{
    char name[1 + STORE_NS_NAME] = "";
    MDB_val of_ns = {1 + strlen(ns), name}, of_all = {1, name};
    uint64_t n = sum_at(op, of_ns), all;
    MDB_val v = {sizeof n, &n};
    int r;

    memcpy(name + 1, ns, of_ns.mv_size - 1);
    n = sum_at(op, of_ns) + (uint64_t)delta;
    all = sum_at(op, of_all) + (uint64_t)delta;
    if (delta > 0 && ((limit != 0 && n > limit) || all > op->s->size))
        return -ENOSPC;
    r = mdb.put(op->txn, op->s->dbi, &of_ns, &v, 0);
    v.mv_data = &all;
    return error_of(r != 0 ? r : mdb.put(op->txn, op->s->dbi, &of_all, &v, 0));
}

static int64_t cost(size_t key_n, size_t value_n)
{
    return (int64_t)(key_n + value_n + COST);
}

/* Takes out what is over, of the next max entries from where the last sweep ended. Its errors do not
 * matter: it is tried again. */
static void sweep(struct op *op, int max)
{
    struct lmdb_store *s = op->s;
    MDB_val k = {s->sweep_n, s->sweep_key}, v;
    int64_t now_ns = s->store.now_ns();
    MDB_cursor *cursor;
    int r;

    if (mdb.cursor_open(op->txn, s->dbi, &cursor) != 0)
        return;
    r = mdb.cursor_get(cursor, &k, &v, s->sweep_n > 0 ? MDB_SET_RANGE : MDB_FIRST);
    for (int i = 0; i < max && r == 0; i++) {
        struct entry e = {.until_ns = 0};
        char key[sizeof s->sweep_key];
        MDB_val own = {k.mv_size, key};

        if (k.mv_size > sizeof key)
            break;
        memcpy(key, k.mv_data, k.mv_size);
        if (key[0] != '\0' && v.mv_size >= sizeof e)
            memcpy(&e, v.mv_data, sizeof e);
        if (e.until_ns != 0 && e.until_ns <= now_ns) {
            int64_t had = cost(k.mv_size, v.mv_size - sizeof e);

            if (mdb.del(op->txn, s->dbi, &own, NULL) != 0 || account(op, key, -had, 0) < 0)
                break;
            k = own;
            r = mdb.cursor_get(cursor, &k, &v, MDB_SET_RANGE); /* the one after it */
        } else {
            r = mdb.cursor_get(cursor, &k, &v, MDB_NEXT);
        }
    }
    s->sweep_n = r == 0 && k.mv_size <= sizeof s->sweep_key ? k.mv_size : 0;
    memcpy(s->sweep_key, k.mv_data, s->sweep_n);
    mdb.cursor_close(cursor);
}

/* ---- making ---- */

static int put(struct op *op, const struct store_ns *ns, enum kind kind, const void *p, size_t n,
               int64_t number, int64_t until_ns)
{
    struct entry e = {mdb.txn_id(op->txn), until_ns, number, kind};
    bool was_there = op->had.mv_data != NULL;
    int64_t had = was_there ? cost(op->key.mv_size, op->had.mv_size - sizeof e) : 0;
    int64_t delta = cost(op->key.mv_size, n) - had;
    MDB_val v = {sizeof e + n, NULL};
    int r = account(op, ns->name, delta, ns->quota);

    if (r == -ENOSPC) {
        op->s->sweep_n = 0;
        sweep(op, 10000);
        /* It may have taken out what was there. */
        was_there = mdb.get(op->txn, op->s->dbi, &op->key, &v) == 0;
        had = was_there ? cost(op->key.mv_size, v.mv_size - sizeof e) : 0;
        v = (MDB_val){sizeof e + n, NULL};
        r = account(op, ns->name, cost(op->key.mv_size, n) - had, ns->quota);
    } else if (r == 0) {
        sweep(op, SWEEP);
        if (was_there && mdb.get(op->txn, op->s->dbi, &op->key, &v) != 0)
            r = account(op, ns->name, had, 0); /* it was over, and is counted as gone */
        v = (MDB_val){sizeof e + n, NULL};
    }
    if (r < 0)
        return r;
    r = mdb.put(op->txn, op->s->dbi, &op->key, &v, MDB_RESERVE);
    if (r != 0)
        return error_of(r);
    memcpy(v.mv_data, &e, sizeof e);
    if (n > 0)
        memcpy((char *)v.mv_data + sizeof e, p, n);
    return 0;
}

static int64_t until(struct store *s, uint32_t ttl_ms)
{
    return ttl_ms == 0 ? 0 : s->now_ns() + (int64_t)ttl_ms * 1000000;
}

/* ---- the operations ---- */

static int lmdb_open_ns(struct store *s, const char *name, struct store_ns *ns)
{
    (void)s;
    ns->id = 0;
    snprintf(ns->name, sizeof ns->name, "%s", name);
    return 0;
}

static int lmdb_get(struct store *s, const struct store_ns *ns, struct store_key key, void *buf,
                    size_t *n, uint64_t *version)
{
    char text[24];
    const char *from = text;
    size_t len = 0;
    struct op op;
    int r = begin(&op, s, ns, key, false);

    if (r < 0)
        return r;
    if (op.e == NULL) {
        r = -ENOENT;
    } else if (op.e->kind == KIND_BUCKET) {
        r = -EDOM;
    } else {
        if (op.e->kind == KIND_NUMBER) {
            len = (size_t)snprintf(text, sizeof text, "%" PRId64, op.e->number);
        } else {
            from = (const char *)op.had.mv_data + sizeof(struct entry);
            len = op.had.mv_size - sizeof(struct entry);
        }
        if (len > *n)
            r = -E2BIG;
        else if (len > 0)
            memcpy(buf, from, len);
        *n = len;
        *version = op.e->version;
    }
    mdb.txn_abort(op.txn);
    return r;
}

static int lmdb_set(struct store *s, const struct store_ns *ns, struct store_key key, const void *p,
                    size_t n, uint32_t ttl_ms, uint64_t version)
{
    struct op op;
    int r = begin(&op, s, ns, key, true);

    if (r < 0)
        return r;
    if (version == STORE_NEW ? op.e != NULL
                             : version != 0 && (op.e == NULL || op.e->version != version))
        r = -ESTALE;
    else
        r = put(&op, ns, KIND_BYTES, p, n, 0, until(s, ttl_ms));
    return end(&op, r);
}

static int lmdb_del(struct store *s, const struct store_ns *ns, struct store_key key)
{
    struct op op;
    int r = begin(&op, s, ns, key, true);

    if (r < 0)
        return r;
    if (op.e == NULL) {
        r = -ENOENT; /* one that is over waits for a sweep */
    } else {
        int64_t had = cost(op.key.mv_size, op.had.mv_size - sizeof(struct entry));

        r = error_of(mdb.del(op.txn, op.s->dbi, &op.key, NULL));
        if (r == 0)
            r = account(&op, ns->name, -had, 0);
    }
    return end(&op, r);
}

static int lmdb_add(struct store *s, const struct store_ns *ns, struct store_key key, int64_t delta,
                    uint32_t ttl_ms, int64_t *out)
{
    int64_t sum = 0, until_ns = until(s, ttl_ms);
    struct op op;
    int r = begin(&op, s, ns, key, true);

    if (r < 0)
        return r;
    if (op.e != NULL) {
        until_ns = op.e->until_ns;
        sum = op.e->number;
        if (op.e->kind == KIND_BUCKET)
            r = -EDOM;
        else if (op.e->kind == KIND_BYTES)
            r = counter_parse((const char *)op.had.mv_data + sizeof(struct entry),
                              op.had.mv_size - sizeof(struct entry), &sum);
    }
    if (r == 0 && __builtin_add_overflow(sum, delta, &sum))
        r = -EDOM;
    if (r == 0)
        r = put(&op, ns, KIND_NUMBER, NULL, 0, sum, until_ns);
    r = end(&op, r);
    if (r == 0)
        *out = sum;
    return r;
}

static int lmdb_bucket(struct store *s, const struct store_ns *ns, struct store_key key,
                       const struct store_bucket *b, int64_t *out)
{
    int64_t full_ns = 0, answer = 0;
    struct op op;
    int r = begin(&op, s, ns, key, b->cost > 0);

    if (r < 0)
        return r;
    if (op.e != NULL && op.e->kind != KIND_BUCKET) {
        mdb.txn_abort(op.txn);
        return -EDOM;
    }
    if (op.e != NULL)
        full_ns = op.e->until_ns;
    answer = bucket_take(b, s->now_ns(), &full_ns);
    if (answer >= 0 && b->cost > 0)
        r = end(&op, put(&op, ns, KIND_BUCKET, NULL, 0, 0, full_ns));
    else
        mdb.txn_abort(op.txn);
    if (r == 0)
        *out = answer;
    return r;
}

/* ---- opening, closing ---- */

static void *sync_it(void *arg)
{
    struct lmdb_store *s = arg;
    struct timespec nap = {0, 50000000};

    for (uint32_t slept_ms = 0; atomic_load(&s->must_stop) == 0; slept_ms += 50) {
        nanosleep(&nap, NULL);
        if (slept_ms < s->sync_ms || atomic_exchange(&s->is_dirty, 0) == 0)
            continue;
        slept_ms = 0;
        mdb.env_sync(s->env, 1);
    }
    return NULL;
}

static void lmdb_close(struct store *store)
{
    struct lmdb_store *s = (struct lmdb_store *)(void *)store;

    if (s->sync_ms != 0) {
        atomic_store(&s->must_stop, 1);
        pthread_join(s->syncer, NULL);
    }
    mdb.env_sync(s->env, 1);
    mdb.env_close(s->env);
    free(s);
}

static int start_syncer(struct lmdb_store *s)
{
    sigset_t all, before;
    int r;

    if (s->sync_ms == 0)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&s->syncer, NULL, sync_it, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

static int open_env(struct lmdb_store *s, const char *path)
{
    MDB_txn *txn;
    int dead, r = mdb.env_create(&s->env);

    if (r == 0)
        r = mdb.env_set_mapsize(s->env, s->size * 2 + SLACK);
    if (r == 0)
        r = mdb.env_set_maxreaders(s->env, READERS);
    /* NOTLS: a read belongs to its transaction, not to the thread. */
    if (r == 0)
        r = mdb.env_open(s->env, path, MDB_NOSUBDIR | MDB_NOSYNC | MDB_NOTLS, 0600);
    if (r == 0) /* what killed workers were reading would keep old pages for ever */
        r = mdb.reader_check(s->env, &dead);
    if (r == 0)
        r = mdb.txn_begin(s->env, NULL, 0, &txn);
    if (r != 0)
        return r;
    r = mdb.dbi_open(txn, NULL, 0, &s->dbi);
    if (r != 0) {
        mdb.txn_abort(txn);
        return r;
    }
    return mdb.txn_commit(txn);
}

int lmdb_check(char *why, size_t why_size)
{
    return mdb.strerror != NULL ? 0 : load(why, why_size);
}

int lmdb_open(const char *path, uint64_t size, uint32_t sync_ms, char *why, size_t why_size,
              struct store **out)
{
    static const struct store_ops ops = {.name = "lmdb",
                                         .open_ns = lmdb_open_ns,
                                         .get = lmdb_get,
                                         .set = lmdb_set,
                                         .del = lmdb_del,
                                         .add = lmdb_add,
                                         .bucket = lmdb_bucket,
                                         .close = lmdb_close};
    struct lmdb_store *s;
    int r = lmdb_check(why, why_size);

    if (r < 0)
        return r;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    s->store.ops = &ops;
    s->store.now_ns = clock_real_ns;
    s->store.is_real_time = true;
    s->size = size;
    s->sync_ms = sync_ms;
    r = open_env(s, path);
    if (r == 0)
        r = start_syncer(s);
    if (r != 0) {
        snprintf(why, why_size, "%s: %s", path, mdb.strerror(r));
        if (s->env != NULL)
            mdb.env_close(s->env);
        free(s);
        return r > 0 ? -r : -EIO;
    }
    *out = &s->store;
    return 0;
}

#else

int lmdb_check(char *why, size_t why_size)
{
    snprintf(why, why_size, "this build has no LMDB: install liblmdb-dev and build it again");
    return -ENOSYS;
}

int lmdb_open(const char *path, uint64_t size, uint32_t sync_ms, char *why, size_t why_size,
              struct store **out)
{
    (void)path, (void)size, (void)sync_ms, (void)out;
    return lmdb_check(why, why_size);
}

#endif
