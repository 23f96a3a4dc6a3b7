#include "obs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/metrics.h"
#include "obs/log_out.h"
#include "obs/log_repeat.h"
#include "obs/timestamp.h"
#include "obs/utf8.h"

#define LINE_MAX_BYTES 4096
#define WHO_MAX        128 /* of an instance's name: only the message may fill a line */
#define WORD_MAX       128 /* of a request's id, or its time */
#define CUT            "..."

/* Written before the process has a second thread, then only read. */
static struct {
    int fd;
    int level;
    bool is_stderr;
    bool is_json;
    bool is_journal;                      /* systemd's, at the other end of stderr */
    bool has_colours;                     /* stderr is a terminal */
    const _Atomic uint32_t *shared_level; /* log_follow(); or NULL */
    struct metrics_log *counts;           /* log_count_in(); or NULL */
    char role[32];
    char path[PATH_MAX];
} log_to = {.fd = STDERR_FILENO, .level = LOG_INFO, .is_stderr = true, .path = "-"};

static const struct {
    const char *name, *priority, *colour;
} levels[] = {
    {"?", "<5>", ""},
    {"error", "<3>", "\033[31m"},
    {"warn", "<4>", "\033[33m"},
    {"info", "<6>", "\033[32m"},
    {"debug", "<7>", "\033[2m"},
};

static bool is_level(int level)
{
    return level >= LOG_ERROR && level <= LOG_DEBUG;
}

const char *log_level_name(int level)
{
    return levels[is_level(level) ? level : 0].name;
}

int log_level_find(const char *name)
{
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++)
        if (strcmp(name, levels[i].name) == 0)
            return i;
    return 0;
}

const char *log_priority(int level)
{
    return log_to.is_journal ? levels[is_level(level) ? level : 0].priority : "";
}

/* systemd.exec(5): $JOURNAL_STREAM is device and inode of what it has connected; it is inherited by
 * children whose stderr is something else. */
static bool is_journal(void)
{
    const char *env = getenv("JOURNAL_STREAM");
    uintmax_t dev, ino;
    struct stat st;

    return env != NULL && sscanf(env, "%ju:%ju", &dev, &ino) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static bool is_terminal(void)
{
    const char *term = getenv("TERM"), *none = getenv("NO_COLOR"); /* no-color.org */

    return isatty(STDERR_FILENO) == 1 && (none == NULL || none[0] == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

static int open_file(const char *path)
{
    /* O_NONBLOCK: of a FIFO; it may have no reader, now or later. */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

    return fd >= 0 ? fd : -errno;
}

bool log_is_stderr(void)
{
    return log_to.is_stderr;
}

int log_open(const char *path, int level, enum log_format format)
{
    bool is_stderr = strcmp(path, "-") == 0;
    int fd;

    if (strlen(path) >= sizeof log_to.path)
        return -ENAMETOOLONG;
    fd = is_stderr ? log_out_open_stderr() : open_file(path);
    if (fd < 0)
        return fd;
    if (log_to.fd != STDERR_FILENO)
        close(log_to.fd);
    log_to.fd = fd;
    log_to.level = level;
    log_to.is_stderr = is_stderr;
    log_to.is_journal = is_stderr && is_journal();
    log_to.is_json = format == LOG_JSON ||
                     (format == LOG_AUTO && !log_to.is_journal && isatty(fd) != 1);
    log_to.has_colours = !log_to.is_json && is_stderr && is_terminal();
    memcpy(log_to.path, path, strlen(path) + 1);
    return 0;
}

int log_reopen(void)
{
    int fd, r = 0;

    if (log_to.is_stderr)
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
    log_repeat_reset(); /* those are told by the process that forked this one */
}

void log_count_in(struct metrics_log *counts)
{
    log_to.counts = counts;
}

void log_follow(const _Atomic uint32_t *level)
{
    log_to.shared_level = level;
}

bool log_is_on(int level)
{
    uint32_t now = 0;

    if (log_to.shared_level != NULL)
        now = atomic_load_explicit(log_to.shared_level, memory_order_relaxed);
    return level <= (now >= LOG_ERROR && now <= LOG_DEBUG ? (int)now : log_to.level);
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
        else if (log_to.is_json && c == '\0')
            put_string(l, UTF8_REPLACEMENT); /* many parsers, and databases, refuse \u0000 */
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

static void put_text_head(struct line *l, int level, const char *stamp)
{
    const char *colour = log_to.has_colours ? levels[is_level(level) ? level : 0].colour : "";

    put_string(l, log_priority(level));
    if (!log_to.is_journal) {
        put_string(l, stamp);
        put_string(l, " ");
    }
    put_string(l, colour);
    put_string(l, log_level_name(level));
    if (log_to.role[0] != '\0') {
        put_string(l, " ");
        put_string(l, log_to.role);
    }
    put_string(l, ": ");
    if (colour[0] != '\0')
        put_string(l, "\033[0m");
}

static struct log_word shortened(struct log_word w)
{
    return (struct log_word){w.p, w.n < WORD_MAX ? w.n : WORD_MAX};
}

static void put_json_word(struct line *l, const char *before, struct log_word w)
{
    if (w.p != NULL)
        put_member(l, before, w.p, shortened(w).n);
}

/* A client may have chosen it: nothing of it can look like the bracket's end. */
static void put_text_word(struct line *l, const char *before, struct log_word w)
{
    w = shortened(w);
    put_string(l, before);
    for (size_t i = 0; i < w.n; i++)
        if (w.p[i] > ' ' && w.p[i] < 0x7f && strchr("[],\\", w.p[i]) == NULL)
            put(l, w.p + i, 1);
        else
            put_code(l, (unsigned char)w.p[i]);
}

static void put_text_subject(struct line *l, const struct log_subject *about)
{
    const char *before = "[";

    if (about->id.p != NULL) {
        put_text_word(l, "[id ", about->id);
        before = ", ";
    }
    if (about->trace_time.p != NULL) {
        put_string(l, before);
        put_text_word(l, "trace time ", about->trace_time);
        before = ", ";
    }
    if (before[0] == ',')
        put_string(l, "]");
}

static bool is_known(const struct log_subject *about)
{
    return about != NULL && (about->id.p != NULL || about->trace_time.p != NULL);
}

static void emit(int level, const char *who, const struct log_subject *about, const char *msg,
                 size_t n, uint32_t repeats);

/* There is room again. */
static void tell_lost(void)
{
    uint32_t lost = log_out_take_lost();
    char msg[96];
    int n;

    if (lost == 0)
        return;
    n = snprintf(msg, sizeof msg,
                 "%" PRIu32 " lines of this log were lost: its reader did not read", lost);
    emit(LOG_WARN, NULL, NULL, msg, (size_t)n, 0);
}

/* repeats: that many equal ones were not written; 0: this is one. */
static void emit(int level, const char *who, const struct log_subject *about, const char *msg,
                 size_t n, uint32_t repeats)
{
    const char *name = log_level_name(level);
    char stamp[TIMESTAMP_SIZE], number[64] = "";
    struct line l; /* not zeroed: 4 KiB a line */
    int saved = errno;

    l.n = 0;
    l.is_full = false;
    timestamp_format(clock_real_ns(), stamp);
    if (repeats > 0)
        snprintf(number, sizeof number,
                 log_to.is_json ? ",\"repeated\":%" PRIu32 : "(repeated %" PRIu32 " times) ",
                 repeats);
    if (log_to.is_json) {
        put_string(&l, log_priority(level));
        put_member(&l, "{\"time\":\"", stamp, strlen(stamp));
        put_member(&l, ",\"level\":\"", name, strlen(name));
        if (log_to.role[0] != '\0')
            put_member(&l, ",\"role\":\"", log_to.role, strlen(log_to.role));
        if (who != NULL)
            put_member(&l, ",\"plugin\":\"", who, strnlen(who, WHO_MAX));
        if (about != NULL) {
            put_json_word(&l, ",\"id\":\"", about->id);
            put_json_word(&l, ",\"trace_time_anchor\":\"", about->trace_time);
        }
        put_string(&l, number);
        put_string(&l, ",\"message\":\"");
        put_escaped(&l, msg, n);
        put_end(&l, l.is_full ? CUT "\"}\n" : "\"}\n");
    } else {
        put_text_head(&l, level, stamp);
        put_string(&l, number);
        if (who != NULL) {
            put_string(&l, "plugin ");
            put_escaped(&l, who, strnlen(who, WHO_MAX));
            put_string(&l, is_known(about) ? " " : ": ");
        }
        if (is_known(about)) {
            put_text_subject(&l, about);
            put_string(&l, ": ");
        }
        put_escaped(&l, msg, n);
        put_end(&l, l.is_full ? CUT "\n" : "\n");
    }
    if (log_out_write(log_to.fd, l.text, l.n))
        tell_lost();
    errno = saved;
}

/* Of several requests: it is about none of them. */
static void emit_repeats(int level, const char *who, const char *msg, size_t n, uint32_t repeats)
{
    emit(level, who, NULL, msg, n, repeats);
}

/* Equal lines about other requests are equal. */
static void write_or_count(int level, const char *who, struct metrics_log *counts,
                           const struct log_subject *about, const char *msg, size_t n)
{
    bool is_written;

    while (n > 0 && msg[n - 1] == '\n')
        n--;
    is_written = log_repeat_admit(level, who, msg, n, clock_mono_ms(), emit_repeats);
    if (counts != NULL && level > 0 && level < METRICS_LOG_LEVELS)
        metrics_add_shared(is_written ? &counts->written[level] : &counts->suppressed[level], 1);
    if (is_written)
        emit(level, who, about, msg, n, 0);
}

void log_limit_repeats(uint32_t most)
{
    log_repeat_limit(most);
}

void log_tell_repeats(bool at_end)
{
    log_repeat_flush(at_end ? INT64_MAX : clock_mono_ms(), emit_repeats);
}

int64_t log_next_ms(void)
{
    return log_repeat_next_ms();
}

__attribute__((format(printf, 3, 0))) static void format_and_write(int level,
                                                                   const struct log_subject *about,
                                                                   const char *fmt, va_list ap)
{
    char msg[LINE_MAX_BYTES];
    int n = vsnprintf(msg, sizeof msg, fmt, ap);

    if (n >= 0)
        write_or_count(level, NULL, log_to.counts, about, msg,
                       (size_t)n < sizeof msg ? (size_t)n : sizeof msg - 1);
}

void log_write(int level, const char *fmt, ...)
{
    va_list ap;

    if (!log_is_on(level))
        return;
    va_start(ap, fmt);
    format_and_write(level, NULL, fmt, ap);
    va_end(ap);
}

void log_write_about(int level, const struct log_subject *about, const char *fmt, ...)
{
    va_list ap;

    if (!log_is_on(level))
        return;
    va_start(ap, fmt);
    format_and_write(level, about, fmt, ap);
    va_end(ap);
}

void log_plugin(int level, const char *who, struct metrics_log *counts,
                const struct log_subject *about, const char *msg, size_t n)
{
    write_or_count(level, who, counts, about, msg, n);
}
