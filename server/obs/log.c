#include "obs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "obs/timestamp.h"
#include "obs/utf8.h"

#define LINE_MAX_BYTES 4096
#define WHO_MAX        128 /* of an instance's name: only the message may fill a line */
#define CUT            "..."

/* Written before the process has a second thread, then only read. */
static struct {
    int fd;
    int level;
    bool is_json;
    char role[32];
    char path[PATH_MAX];
} log_to = {.fd = STDERR_FILENO, .level = LOG_INFO, .path = "-"};

static const char *const level_names[] = {"?", "error", "warn", "info", "debug"};

static int open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);

    return fd >= 0 ? fd : -errno;
}

int log_open(const char *path, int level, bool is_json)
{
    int fd = STDERR_FILENO;

    if (strlen(path) >= sizeof log_to.path)
        return -ENAMETOOLONG;
    if (strcmp(path, "-") != 0)
        fd = open_file(path);
    if (fd < 0)
        return fd;
    if (log_to.fd != STDERR_FILENO)
        close(log_to.fd);
    log_to.fd = fd;
    log_to.level = level;
    log_to.is_json = is_json;
    memcpy(log_to.path, path, strlen(path) + 1);
    return 0;
}

int log_reopen(void)
{
    int fd, r = 0;

    if (log_to.fd == STDERR_FILENO)
        return 0;
    fd = open_file(log_to.path);
    if (fd < 0)
        return fd;
    /* The number stays, so that another thread's write never meets a closed one. */
    if (dup3(fd, log_to.fd, O_CLOEXEC) < 0)
        r = -errno;
    close(fd);
    return r;
}

void log_set_role(const char *role)
{
    snprintf(log_to.role, sizeof log_to.role, "%s", role);
}

bool log_is_on(int level)
{
    return level <= log_to.level;
}

/* ---- one line ---- */

struct line {
    size_t n;     /* bytes used; what does not fit is left out */
    bool is_full; /* something was left out */
    char text[LINE_MAX_BYTES];
};

/* The end of a line ('"', '}', newline, CUT) always has room. */
#define RESERVE 16

static void put(struct line *l, const char *p, size_t n)
{
    if (l->is_full || n > sizeof l->text - RESERVE - l->n) {
        l->is_full = true; /* never half an escape, nor anything after a gap */
        return;
    }
    memcpy(l->text + l->n, p, n);
    l->n += n;
}

static void put_string(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* Into the reserve. */
static void put_end(struct line *l, const char *s)
{
    size_t n = strlen(s);

    memcpy(l->text + l->n, s, n);
    l->n += n;
}

static void put_code(struct line *l, unsigned char code)
{
    static const char hex[] = "0123456789abcdef";

    if (log_to.is_json)
        put(l, (const char[]){'\\', 'u', '0', '0', hex[code >> 4], hex[code & 15]}, 6);
    else
        put(l, (const char[]){'\\', 'x', hex[code >> 4], hex[code & 15]}, 4);
}

static void put_escaped(struct line *l, const char *p, size_t n)
{
    while (n > 0 && !l->is_full) {
        unsigned char c = (unsigned char)p[0];
        size_t len = utf8_length(p, n);

        if (c == '\n')
            put(l, "\\n", 2);
        else if (c == '\t')
            put(l, "\\t", 2);
        else if (log_to.is_json && (c == '"' || c == '\\'))
            put(l, (const char[]){'\\', p[0]}, 2);
        else if (c < 0x20 || c == 0x7f)
            put_code(l, c);
        else if (len == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0)
            put_code(l, (unsigned char)p[1]); /* U+0080 to U+009F move terminals, too */
        else if (len > 0)
            put(l, p, len);
        else if (log_to.is_json)
            put_string(l, UTF8_REPLACEMENT);
        else
            put_code(l, c);
        len += len == 0;
        p += len;
        n -= len;
    }
}

static void put_member(struct line *l, const char *before, const char *value, size_t n)
{
    put_string(l, before);
    put_escaped(l, value, n);
    put_string(l, "\"");
}

static void emit(int level, const char *who, const char *msg, size_t n)
{
    const char *name = level_names[level >= LOG_ERROR && level <= LOG_DEBUG ? level : 0];
    char stamp[TIMESTAMP_SIZE];
    struct line l; /* not zeroed: 4 KiB a line */
    int saved = errno;

    l.n = 0;
    l.is_full = false;
    timestamp_format(clock_real_ns(), stamp);
    while (n > 0 && msg[n - 1] == '\n')
        n--;
    if (log_to.is_json) {
        put_member(&l, "{\"time\":\"", stamp, strlen(stamp));
        put_member(&l, ",\"level\":\"", name, strlen(name));
        if (log_to.role[0] != '\0')
            put_member(&l, ",\"role\":\"", log_to.role, strlen(log_to.role));
        if (who != NULL)
            put_member(&l, ",\"plugin\":\"", who, strnlen(who, WHO_MAX));
        put_string(&l, ",\"message\":\"");
        put_escaped(&l, msg, n);
        put_end(&l, l.is_full ? CUT "\"}\n" : "\"}\n");
    } else {
        put_string(&l, stamp);
        put_string(&l, " ");
        put_string(&l, name);
        if (log_to.role[0] != '\0') {
            put_string(&l, " ");
            put_string(&l, log_to.role);
        }
        put_string(&l, ": ");
        if (who != NULL) {
            put_string(&l, "plugin ");
            put_escaped(&l, who, strnlen(who, WHO_MAX));
            put_string(&l, ": ");
        }
        put_escaped(&l, msg, n);
        put_end(&l, l.is_full ? CUT "\n" : "\n");
    }
    fd_write_all(log_to.fd, l.text, l.n); /* where would one complain? */
    errno = saved;
}

void log_write(int level, const char *fmt, ...)
{
    char msg[LINE_MAX_BYTES];
    va_list ap;
    int n;

    if (!log_is_on(level))
        return;
    va_start(ap, fmt);
    n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    emit(level, NULL, msg, (size_t)n < sizeof msg ? (size_t)n : sizeof msg - 1);
}

void log_plugin(int level, const char *who, const char *msg, size_t n)
{
    if (log_is_on(level))
        emit(level, who, msg, n);
}
