/*
 * static.c - answers with files from a folder.
 *
 * From a path to a file to an answer. Small files are kept in memory (cache.c) under the path of
 * the request, and believed for cache_check before the file is looked at again; larger ones are
 * opened each time and left to sendfile(2). Nothing here opens a file but through beneath.c.
 *
 * The host leaves out the body of an answer to HEAD, so HEAD is GET here, without ranges.
 */
#include "beneath.h"
#include "cache.h"
#include "mime.h"
#include "multipart.h"
#include "precondition.h"
#include "range.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND_NS 1000000000LL
/* A file that changed so lately may change again without its time showing it. */
#define FRESH_NS (2 * SECOND_NS)
/* Several ranges are put together in memory, and read on the spot: no more than this. */
#define MULTIPART_MAX 1048576

struct config {
    const char *root, *not_found;
    bh_strlist index;
    uint64_t cache_size, cache_file_max;
    int64_t cache_check, max_age; /* ms */
    bh_map types;
    int32_t dotfiles;
};

struct site {
    const struct config *cfg;
    bh_inst *inst;
    struct cache *cache; /* NULL: switched off */
    int root_fd;
    dev_t root_dev;
    ino_t root_ino;
    bool walk; /* no openat2(2) here */
    int64_t root_checked_ns, complained_ns;
    char cache_control[40]; /* "": none */
    char root[PATH_MAX];
};

/* ---- options --------------------------------------------------------------------------------- */

static bh_rc static_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    bh_rc rc = BH_OK;

    if (c->root[0] == '\0') {
        bh_cfg_error(errs, "root", "is empty");
        rc = BH_FAIL;
    }
    for (size_t i = 0; i < c->index.n; i++) {
        if (c->index.v[i].n == 0 || memchr(c->index.v[i].p, '/', c->index.v[i].n) != NULL) {
            bh_cfg_error(errs, "index", "wants names of files, without a slash");
            rc = BH_FAIL;
        }
    }
    if (c->not_found != NULL && c->not_found[0] != '/') {
        bh_cfg_error(errs, "not_found", "must begin with /, meant from root");
        rc = BH_FAIL;
    }
    for (size_t i = 0; i < c->types.n; i++) {
        if (c->types.v[i].k.n == 0 || c->types.v[i].k.p[0] == '.' ||
            strchr(c->types.v[i].v.p, '/') == NULL || strpbrk(c->types.v[i].v.p, "\r\n") != NULL) {
            bh_cfg_error(errs, "types",
                         "wants EXTENSION: TYPE/SUBTYPE, the extension without a dot");
            rc = BH_FAIL;
        }
    }
    return rc;
}

/* ---- an instance ----------------------------------------------------------------------------- */

static bool is_same_folder(const struct site *s, const struct stat *st)
{
    return s->root_fd >= 0 && st->st_dev == s->root_dev && st->st_ino == s->root_ino;
}

/* The root may be a symbolic link that a deployment has changed. -errno: the old one stays. */
static int open_root(struct site *s)
{
    struct stat st;
    int fd, r;

    if (s->root_fd >= 0 && stat(s->root, &st) == 0 && is_same_folder(s, &st))
        return 0;
    fd = open(s->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    if (s->root_fd >= 0)
        close(s->root_fd);
    s->root_fd = fd;
    s->root_dev = st.st_dev;
    s->root_ino = st.st_ino;
    return 0;
}

/* Another plugin may have closed our descriptor, and its number may be another file's by now. */
static bool has_root(const struct site *s)
{
    struct stat st;

    return fstat(s->root_fd, &st) == 0 && is_same_folder(s, &st);
}

static void static_close(void *self)
{
    struct site *s = self;

    if (s->root_fd >= 0 && has_root(s))
        close(s->root_fd);
    cache_destroy(s->cache);
    free(s);
}

static bh_rc static_open(bh_inst *inst, const void *cfg, void **self)
{
    const struct config *c = cfg;
    struct site *s = calloc(1, sizeof *s);
    bh_str dir = bh_info(inst, "config_dir");
    int n, r;

    if (s == NULL) {
        bh_log(inst, BH_LOG_ERROR, "out of memory");
        return BH_FAIL;
    }
    s->cfg = c;
    s->inst = inst;
    s->root_fd = -1;
    if (c->root[0] == '/' || dir.n == 0)
        n = snprintf(s->root, sizeof s->root, "%s", c->root);
    else
        n = snprintf(s->root, sizeof s->root, "%s/%s", dir.p, c->root);
    r = n >= (int)sizeof s->root ? -ENAMETOOLONG : open_root(s);
    if (r < 0) {
        bh_logf(inst, BH_LOG_ERROR, "root %s: %s", s->root, strerror(-r));
        goto fail;
    }
    s->walk = !beneath_has_openat2(s->root_fd);
    s->root_checked_ns = bh_now_ns(BH_CLOCK_LOOP);
    s->complained_ns = s->root_checked_ns - SECOND_NS;
    if (c->max_age > 0)
        snprintf(s->cache_control, sizeof s->cache_control, "max-age=%" PRId64, c->max_age / 1000);
    if (c->cache_size > 0 && (s->cache = cache_create((size_t)c->cache_size)) == NULL) {
        bh_log(inst, BH_LOG_ERROR, "no memory for the cache, or no random numbers");
        goto fail;
    }
    *self = s;
    return BH_OK;

fail:
    static_close(s);
    return BH_FAIL;
}

/* ---- from a path to a file ------------------------------------------------------------------- */

/* Not a path that could name a file here: nothing that is hidden, nothing the kernel would cut. */
static bool is_servable(const struct site *s, bh_str path)
{
    static const char well_known[] = "/.well-known/"; /* RFC 8615: meant to be found */
    const char *p = path.p, *end = path.p + path.n;

    if (path.n == 0 || *p != '/' || path.n >= PATH_MAX - NAME_MAX || memchr(p, '\0', path.n))
        return false;
    if (strncmp(p, well_known, sizeof well_known - 1) == 0)
        p += sizeof well_known - 2;
    for (; (p = memchr(p, '/', (size_t)(end - p))) != NULL; p++) {
        if (p[1] != '.')
            continue;
        if (!s->cfg->dotfiles || p[2] == '/' || p[2] == '\0' ||
            (p[2] == '.' && (p[3] == '/' || p[3] == '\0')))
            return false;
    }
    return true;
}

static int open_in_root(struct site *s, const char *name)
{
    int fd = beneath_open(s->root_fd, name, s->walk);

    if (fd >= 0 || has_root(s))
        return fd;
    s->root_fd = -1; /* not ours any more: not to be closed */
    return open_root(s) == 0 ? beneath_open(s->root_fd, name, s->walk) : -EIO;
}

/* A regular file for reading, with name set to its path from the root; or -errno. -EISDIR: a
 * folder, asked for without its slash. */
static int open_file(struct site *s, bh_str path, char name[PATH_MAX], struct stat *st)
{
    bool is_folder = path.p[path.n - 1] == '/';
    size_t tries = is_folder ? s->cfg->index.n : 1;
    int fd = -ENOENT;

    for (size_t i = 0; i < tries; i++) {
        snprintf(name, PATH_MAX, "%s%s", path.p + 1, is_folder ? s->cfg->index.v[i].p : "");
        fd = open_in_root(s, name);
        if (fd != -ENOENT)
            break;
    }
    if (fd < 0)
        return fd;
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
        return fd;
    close(fd);
    return !is_folder && S_ISDIR(st->st_mode) ? -EISDIR : -ENOENT;
}

static int64_t mtime_ns(const struct stat *st)
{
    return st->st_mtim.tv_sec * SECOND_NS + st->st_mtim.tv_nsec;
}

static void describe(const struct site *s, const char *name, const struct stat *st,
                     struct file_info *out)
{
    out->type = mime_type(name, &s->cfg->types);
    out->size = (uint64_t)st->st_size;
    out->ino = st->st_ino;
    out->mtime_ns = mtime_ns(st);
    snprintf(out->etag, sizeof out->etag, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"",
             (uint64_t)out->mtime_ns, out->size, out->ino);
    httpdate_format(st->st_mtim.tv_sec, out->modified);
}

static bool is_unchanged(const struct cache_entry *e, const struct stat *st)
{
    return !e->is_fresh && e->info.mtime_ns == mtime_ns(st) && e->info.ino == st->st_ino &&
           e->info.size == (uint64_t)st->st_size;
}

static bool read_all(int fd, char *buf, uint64_t first, uint64_t len)
{
    while (len > 0) {
        ssize_t got = pread(fd, buf, (size_t)len, (off_t)first);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false; /* it shrank, or cannot be read */
        buf += got;
        first += (uint64_t)got;
        len -= (uint64_t)got;
    }
    return true;
}

/* Into the cache, and borrowed from it. NULL: it doesn't go there, or changed under our eyes. */
static struct cache_entry *load(struct site *s, bh_str key, int fd, const struct file_info *info)
{
    struct cache_entry *e;
    struct stat after;

    if (s->cache == NULL || info->size > s->cfg->cache_file_max ||
        (e = cache_entry_create(s->cache, key, info)) == NULL)
        return NULL;
    if (read_all(fd, e->body, 0, info->size) && fstat(fd, &after) == 0 && is_unchanged(e, &after)) {
        e->checked_ns = bh_now_ns(BH_CLOCK_LOOP);
        e->is_fresh = bh_now_ns(BH_CLOCK_LOOP_REAL) - info->mtime_ns < FRESH_NS;
        cache_add(s->cache, e);
        cache_entry_put(e);
        return e;
    }
    cache_entry_put(e);
    return NULL;
}

/* What a path stands for: an entry of the cache (borrowed), or an open file with its info. */
struct found {
    struct cache_entry *entry;
    const struct file_info *info;
    int fd; /* -1 when there is an entry */
    struct file_info own;
};

/* 0, or -errno as open_file(). */
static int find(struct site *s, bh_str path, struct found *out)
{
    int64_t now = bh_now_ns(BH_CLOCK_LOOP);
    struct cache_entry *e = s->cache ? cache_find(s->cache, path) : NULL;
    char name[PATH_MAX];
    struct stat st;
    int fd;

    if (e == NULL || now - e->checked_ns >= s->cfg->cache_check * 1000000) {
        if (now - s->root_checked_ns >= SECOND_NS) {
            s->root_checked_ns = now;
            open_root(s);
        }
        fd = open_file(s, path, name, &st);
        if (e != NULL && (fd < 0 || !is_unchanged(e, &st))) {
            cache_drop(s->cache, e);
            e = NULL;
        }
        if (fd < 0)
            return fd;
        if (e == NULL) {
            describe(s, name, &st, &out->own);
            e = load(s, path, fd, &out->own);
        } else {
            e->checked_ns = now;
        }
        if (e == NULL) {
            out->entry = NULL;
            out->info = &out->own;
            out->fd = fd;
            return 0;
        }
        close(fd);
    }
    out->entry = e;
    out->info = &e->info;
    out->fd = -1;
    return 0;
}

static void found_fini(struct found *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

/* ---- from a file to an answer ---------------------------------------------------------------- */

/* Part of the file as the body. The file is the host's from here on. */
static bh_rc send_part(bh_req *req, struct found *f, int32_t status, uint64_t first, uint64_t len)
{
    int fd = f->fd;

    if (f->entry == NULL) {
        f->fd = -1;
        return bh_send_fd(req, status, f->info->type, fd, first, len);
    }
    if (bh_defer(req, cache_entry_put, f->entry) != BH_OK)
        return BH_FAIL;
    cache_entry_get(f->entry);
    return bh_reply_ref(req, status, f->info->type, f->entry->body + first, (size_t)len);
}

/* Several ranges, as multipart/byteranges. */
static bh_rc send_parts(bh_req *req, const struct found *f, const struct range *range, int n)
{
    char type[MULTIPART_TYPE_SIZE], *body, *p;
    struct multipart m;
    size_t len = 0;

    if (!multipart_init(&m, f->info->type, f->info->size))
        return BH_FAIL;
    for (int i = 0; i <= n; i++) {
        len += multipart_head(&m, i == 0, i < n ? &range[i] : NULL, NULL, 0);
        len += i < n ? (size_t)range[i].len : 0;
    }
    body = p = bh_alloc(req, len + 1); /* a byte for the NUL that snprintf() adds */
    if (body == NULL)
        return BH_FAIL;
    for (int i = 0; i <= n; i++) {
        p += multipart_head(&m, i == 0, i < n ? &range[i] : NULL, p, (size_t)(body + len - p) + 1);
        if (i == n)
            break;
        if (f->entry != NULL)
            memcpy(p, f->entry->body + range[i].first, (size_t)range[i].len);
        else if (!read_all(f->fd, p, range[i].first, range[i].len))
            return BH_FAIL;
        p += range[i].len;
    }
    multipart_type(&m, type);
    return bh_reply_ref(req, 206, type, body, len);
}

/* Worth a 206? Those that are too much to be put together in memory are not. */
static bool can_be_sent(const struct range *range, int n)
{
    uint64_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += range[i].len;
    return n == 1 || sum <= MULTIPART_MAX;
}

/* The representation is there, the preconditions hold: all of it, or some ranges. */
static bh_rc send_found(bh_req *req, struct found *f, bool is_get, int64_t now_s)
{
    const struct file_info *info = f->info;
    const struct validators v = {info->etag, info->modified, info->mtime_ns / SECOND_NS};
    bh_str value = is_get ? bh_header(req, "Range") : bh_s(NULL);
    struct range range[RANGE_MAX];
    int n = RANGE_WHOLE;
    char text[80];

    if (value.p != NULL && bh_header_nth(req, BH_REQ, "Range", 1).p == NULL &&
        precondition_allows_range(req, &v, now_s))
        n = range_parse(value, info->size, range);

    if (bh_resp_header(req, "Accept-Ranges", "bytes") != BH_OK)
        return BH_FAIL;
    if (n == RANGE_UNSATISFIABLE) {
        snprintf(text, sizeof text, "bytes */%" PRIu64, info->size);
        if (bh_resp_header(req, "Content-Range", text) != BH_OK)
            return BH_FAIL;
        return bh_reply(req, 416, "text/plain; charset=utf-8", "416 Range Not Satisfiable\n");
    }
    if (bh_resp_header(req, "Last-Modified", info->modified) != BH_OK)
        return BH_FAIL;
    if (n == RANGE_WHOLE || !can_be_sent(range, n))
        return send_part(req, f, 200, 0, info->size);
    if (n > 1)
        return send_parts(req, f, range, n);
    snprintf(text, sizeof text, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, range[0].first,
             range[0].first + range[0].len - 1, info->size);
    if (bh_resp_header(req, "Content-Range", text) != BH_OK)
        return BH_FAIL;
    return send_part(req, f, 206, range[0].first, range[0].len);
}

static bh_rc answer_found(struct site *s, bh_req *req, struct found *f, bool is_get)
{
    const struct validators v = {f->info->etag, f->info->modified, f->info->mtime_ns / SECOND_NS};
    int64_t now_s = bh_now_ns(BH_CLOCK_LOOP_REAL) / SECOND_NS;
    int verdict = precondition_check(req, &v, now_s);

    if (verdict == PRECONDITION_FAILED)
        return bh_reply(req, 412, "text/plain; charset=utf-8", "412 Precondition Failed\n");
    if (bh_resp_header(req, "ETag", f->info->etag) != BH_OK)
        return BH_FAIL;
    if (s->cache_control[0] != '\0' &&
        bh_resp_header(req, "Cache-Control", s->cache_control) != BH_OK)
        return BH_FAIL;
    if (verdict == PRECONDITION_NOT_MODIFIED)
        return bh_reply_ref(req, 304, NULL, "", 0);
    return send_found(req, f, is_get, now_s);
}

static bh_rc answer_not_found(struct site *s, bh_req *req)
{
    struct found f;
    bh_rc rc;

    if (s->cfg->not_found == NULL || find(s, bh_s(s->cfg->not_found), &f) < 0)
        return bh_reply(req, 404, "text/plain; charset=utf-8", "404 Not Found\n");
    rc = send_part(req, &f, 404, 0, f.info->size);
    found_fini(&f);
    return rc;
}

/* The path again, with its slash. Made from the decoded path, which other plugins may have changed;
 * always beginning with one slash, since two would name another host. */
static bh_rc answer_with_slash(bh_req *req, bh_str path)
{
    static const char digits[] = "0123456789ABCDEF";
    bh_str query = bh_attr(req, "query");
    char *location = bh_alloc(req, 3 * path.n + query.n + 3), *o = location;

    if (location == NULL)
        return BH_FAIL;
    while (path.n > 1 && path.p[1] == '/') {
        path.p++;
        path.n--;
    }
    for (size_t i = 0; i < path.n; i++) {
        unsigned char c = (unsigned char)path.p[i];

        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c != '\0' && strchr("-._~!$&'()*+,;=:@/", c) != NULL)) {
            *o++ = (char)c;
        } else {
            *o++ = '%';
            *o++ = digits[c >> 4];
            *o++ = digits[c & 15];
        }
    }
    *o++ = '/';
    if (query.n > 0) {
        *o++ = '?';
        memcpy(o, query.p, query.n);
        o += query.n;
    }
    if (bh_header_set(req, BH_RESP, "Location", bh_sn(location, (size_t)(o - location))) != BH_OK)
        return BH_FAIL;
    return bh_reply(req, 301, "text/plain; charset=utf-8", "301 Moved Permanently\n");
}

static bh_rc answer_error(struct site *s, bh_req *req, bh_str path, int error)
{
    int64_t now;

    switch (-error) {
    case EISDIR: return answer_with_slash(req, path);
    case EACCES: return bh_reply(req, 403, "text/plain; charset=utf-8", "403 Forbidden\n");
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EIO:
    case EAGAIN:
        now = bh_now_ns(BH_CLOCK_LOOP);
        if (now - s->complained_ns >= SECOND_NS) {
            s->complained_ns = now;
            bh_logf(s->inst, BH_LOG_ERROR, "%s: %s", path.p, strerror(-error));
        }
        return bh_reply(req, 503, "text/plain; charset=utf-8", "503 Service Unavailable\n");
    default: return answer_not_found(s, req); /* also what would lead out of the root */
    }
}

static bh_rc static_on_request(void *self, bh_req *req, void *ctx)
{
    struct site *s = self;
    bh_str method = bh_attr(req, "method"), path = bh_attr(req, "path");
    bool is_get = bh_str_eq(method, "GET");
    struct found f;
    bh_rc rc;
    int r;

    (void)ctx;
    if (!is_get && !bh_str_eq(method, "HEAD")) {
        if (bh_resp_header(req, "Allow", "GET, HEAD, OPTIONS") != BH_OK)
            return BH_FAIL;
        if (bh_str_eq(method, "OPTIONS"))
            return bh_reply(req, 200, NULL, "");
        return bh_reply(req, 405, "text/plain; charset=utf-8", "405 Method Not Allowed\n");
    }
    if (!is_servable(s, path))
        return answer_not_found(s, req);
    r = find(s, path, &f);
    if (r < 0)
        return answer_error(s, req, path, r);
    rc = answer_found(s, req, &f, is_get);
    found_fini(&f);
    return rc;
}

static const bh_opt static_options[] = {
    BH_STR_REQUIRED(struct config, root, "folder with the files; relative to the config file"),
    BH_STRLIST(struct config, index, "index.html", "files that stand for a folder, best first"),
    BH_STR(struct config, not_found, NULL, "page for 404, from root: /404.html"),
    BH_SIZE(struct config, cache_size, "16MiB", 0, 1099511627776,
            "memory for small files; 0: none"),
    BH_SIZE(struct config, cache_file_max, "64KiB", 0, 1073741824, "larger ones are not kept"),
    BH_DURATION(struct config, cache_check, "1s", 0, 86400000, "how long a kept file is believed"),
    BH_DURATION(struct config, max_age, NULL, 0, 31536000000, "Cache-Control: max-age, when given"),
    BH_MAP(struct config, types, "more content types: EXTENSION: TYPE"),
    BH_BOOL(struct config, dotfiles, "false", "serve names that begin with a dot"),
    BH_OPT_END,
};

BH_PLUGIN("static", "1.0.0", .summary = "answers with files from a folder",
          .options = static_options, .cfg_size = sizeof(struct config), .validate = static_validate,
          .open = static_open, .close = static_close, .on_request = static_on_request)
