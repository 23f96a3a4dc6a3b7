/*
 * error_pages.c - the Recovery middleware: what a client sees when a plugin has failed.
 *
 * It belongs at the front of a chain: on_error runs over the plugins that were entered before the
 * one at fault, so it only answers for those after it. It never tells a client which plugin or
 * what signal it was; the crash record's id is the only link, and an option can withhold that.
 */
#include "accept.h"
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPLATE_MAX ((off_t)1 << 20)

enum { PAGE_CRASH, PAGE_DEADLINE, PAGE_FAIL, PAGE_UNAVAILABLE, PAGE_LIMIT, PAGE_COUNT };

enum { FORMAT_AUTO, FORMAT_HTML, FORMAT_JSON };

struct config {
    const char *crash, *deadline, *fail, *unavailable;
    uint8_t format, show_id;
    uint32_t retry_after;
};

static const bh_opt options[] = {
    BH_STR(struct config, crash, NULL, "Page for a plugin that crashed (500)"),
    BH_STR(struct config, deadline, NULL, "Page for a plugin that took too long (504)"),
    BH_STR(struct config, fail, NULL, "Page for a plugin that gave up (500)"),
    BH_STR(struct config, unavailable, NULL, "Page for a plugin in quarantine (503)"),
    BH_ENUM(struct config, format, "auto", "auto|html|json", "auto: as the Accept header asks"),
    BH_BOOL(struct config, show_id, "true", "Show the id of the crash record"),
    BH_DURATION(struct config, retry_after, "30s", 1000, 86400000,
                "Retry-After of a 503 when the host knows no time"),
    BH_OPT_END,
};

static const struct {
    int status;
    const char *title, *detail;
} pages[PAGE_COUNT] = {
    {500, "Internal Server Error",
     "Something went wrong while handling this request. Other requests are not affected."},
    {504, "Gateway Timeout", "Handling this request took too long, and it was stopped."},
    {500, "Internal Server Error", "This request could not be handled."},
    {503, "Service Unavailable",
     "This part of the site is out of service for a moment. Please try again shortly."},
    {413, "Content Too Large", "The request's body is larger than this site accepts."},
};

struct instance {
    const struct config *cfg;
    char *text[PAGE_COUNT]; /* NULL: the built-in page */
    size_t len[PAGE_COUNT];
};

/* ---- open, close -------------------------------------------------------------------------- */

/* 0 or -errno. */
static int read_all(const char *path, char **text, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;
    struct stat st;
    char *p = NULL;
    size_t n = 0;

    if (fd < 0)
        return -errno;
    r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && !S_ISREG(st.st_mode))
        r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    if (r == 0 && st.st_size > TEMPLATE_MAX)
        r = -EFBIG;
    if (r == 0 && (p = malloc((size_t)st.st_size + 1)) == NULL)
        r = -ENOMEM;
    while (r == 0 && n < (size_t)st.st_size) {
        ssize_t got = read(fd, p + n, (size_t)st.st_size - n);

        if (got < 0 && errno != EINTR)
            r = -errno;
        if (got == 0)
            break; /* it shrank meanwhile */
        n += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    if (r < 0) {
        free(p);
        return r;
    }
    *text = p;
    *len = n;
    return 0;
}

static bh_rc load_page(bh_inst *inst, struct instance *self, int page, const char *path)
{
    char full[PATH_MAX];
    int r;

    if (path == NULL || path[0] == '\0')
        return BH_OK;
    if (path[0] == '/')
        r = snprintf(full, sizeof full, "%s", path);
    else
        r = snprintf(full, sizeof full, "%s/%s", bh_info(inst, "config_dir").p, path);
    r = r < (int)sizeof full ? read_all(full, &self->text[page], &self->len[page]) : -ENAMETOOLONG;
    if (r == 0)
        return BH_OK;
    bh_logf(inst, BH_LOG_ERROR, "cannot read the page %s: %s", path, strerror(-r));
    return BH_FAIL;
}

static void close_instance(void *self_)
{
    struct instance *self = self_;

    for (int i = 0; i < PAGE_COUNT; i++)
        free(self->text[i]);
    free(self);
}

static bh_rc open_instance(bh_inst *inst, const void *cfg, void **selfp)
{
    const struct config *c = cfg;
    struct instance *self = calloc(1, sizeof *self);

    if (self == NULL)
        return BH_FAIL;
    self->cfg = c;
    if (load_page(inst, self, PAGE_CRASH, c->crash) != BH_OK ||
        load_page(inst, self, PAGE_DEADLINE, c->deadline) != BH_OK ||
        load_page(inst, self, PAGE_FAIL, c->fail) != BH_OK ||
        load_page(inst, self, PAGE_UNAVAILABLE, c->unavailable) != BH_OK) {
        close_instance(self);
        return BH_FAIL;
    }
    *selfp = self;
    return BH_OK;
}

/* ---- errors ------------------------------------------------------------------------------- */

static int page_of(const bh_error *err)
{
    switch (err->kind) {
    case BH_E_CRASH: return PAGE_CRASH;
    case BH_E_DEADLINE: return PAGE_DEADLINE;
    case BH_E_QUARANTINED: return PAGE_UNAVAILABLE;
    case BH_E_LIMIT: return PAGE_LIMIT;
    default: return PAGE_FAIL;
    }
}

static bh_rc set_headers(const struct instance *self, bh_req *req, int page)
{
    char seconds[16];
    bh_rc rc = bh_resp_header(req, "Cache-Control", "no-store");

    if (rc == BH_OK)
        rc = bh_resp_header(req, "X-Content-Type-Options", "nosniff");
    if (rc == BH_OK && self->cfg->format == FORMAT_AUTO)
        rc = bh_header_add(req, BH_RESP, "Vary", bh_s("Accept"));
    if (rc == BH_OK && page == PAGE_UNAVAILABLE &&
        bh_header_nth(req, BH_RESP, "Retry-After", 0).p == NULL) {
        snprintf(seconds, sizeof seconds, "%u", (unsigned)((self->cfg->retry_after + 999) / 1000));
        rc = bh_resp_header(req, "Retry-After", seconds);
    }
    return rc;
}

static bh_rc on_error(void *self_, bh_req *req, void *ctx, const bh_error *err)
{
    const struct instance *self = self_;
    int page = page_of(err);
    struct page_facts facts = {
        .status = pages[page].status,
        .title = pages[page].title,
        .detail = pages[page].detail,
        .path = bh_attr(req, "path"),
    };
    int json = self->cfg->format == FORMAT_JSON ||
               (self->cfg->format == FORMAT_AUTO && accept_prefers_json(req));
    bh_str text;

    (void)ctx;
    if (self->cfg->show_id && err->record_id != NULL)
        facts.id = bh_s(err->record_id);
    if (json)
        text = page_json(req, &facts);
    else if (self->text[page] != NULL)
        text = page_html(req, bh_sn(self->text[page], self->len[page]), &facts);
    else
        text = page_html(req, bh_s(page_default), &facts);
    /* Without memory, or when the head of the answer is on its way already: let others try. */
    if (text.p == NULL || set_headers(self, req, page) != BH_OK)
        return BH_CONTINUE;
    if (bh_reply_ref(req, facts.status,
                     json ? "application/problem+json" : "text/html; charset=utf-8", text.p,
                     text.n) != BH_DONE)
        return BH_CONTINUE;
    return BH_DONE;
}

BH_PLUGIN("error_pages", "1.0.0", .summary = "Answers with a page when a later plugin fails",
          .options = options, .cfg_size = sizeof(struct config), .open = open_instance,
          .close = close_instance, .on_error = on_error)
