#include "obs/record.h"

#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ipc/shm.h"
#include "obs/timestamp.h"
#include "obs/utf8.h"

static const char *const reg_names[SHM_REGS] = {
    [SHM_RAX] = "rax", [SHM_RBX] = "rbx",       [SHM_RCX] = "rcx", [SHM_RDX] = "rdx",
    [SHM_RSI] = "rsi", [SHM_RDI] = "rdi",       [SHM_RBP] = "rbp", [SHM_RSP] = "rsp",
    [SHM_R8] = "r8",   [SHM_R9] = "r9",         [SHM_R10] = "r10", [SHM_R11] = "r11",
    [SHM_R12] = "r12", [SHM_R13] = "r13",       [SHM_R14] = "r14", [SHM_R15] = "r15",
    [SHM_RIP] = "rip", [SHM_EFLAGS] = "eflags",
};

static const struct {
    int signo; /* 0: any */
    int code;
    const char *name;
} codes[] = {
    {SIGSEGV, SEGV_MAPERR, "SEGV_MAPERR"},
    {SIGSEGV, SEGV_ACCERR, "SEGV_ACCERR"},
    {SIGSEGV, SEGV_BNDERR, "SEGV_BNDERR"},
    {SIGSEGV, SEGV_PKUERR, "SEGV_PKUERR"},
    {SIGBUS, BUS_ADRALN, "BUS_ADRALN"},
    {SIGBUS, BUS_ADRERR, "BUS_ADRERR"},
    {SIGBUS, BUS_OBJERR, "BUS_OBJERR"},
    {SIGBUS, BUS_MCEERR_AR, "BUS_MCEERR_AR"},
    {SIGFPE, FPE_INTDIV, "FPE_INTDIV"},
    {SIGFPE, FPE_INTOVF, "FPE_INTOVF"},
    {SIGFPE, FPE_FLTDIV, "FPE_FLTDIV"},
    {SIGFPE, FPE_FLTOVF, "FPE_FLTOVF"},
    {SIGFPE, FPE_FLTUND, "FPE_FLTUND"},
    {SIGFPE, FPE_FLTRES, "FPE_FLTRES"},
    {SIGFPE, FPE_FLTINV, "FPE_FLTINV"},
    {SIGILL, ILL_ILLOPC, "ILL_ILLOPC"},
    {SIGILL, ILL_ILLOPN, "ILL_ILLOPN"},
    {SIGILL, ILL_ILLADR, "ILL_ILLADR"},
    {SIGILL, ILL_ILLTRP, "ILL_ILLTRP"},
    {SIGILL, ILL_PRVOPC, "ILL_PRVOPC"},
    {SIGTRAP, TRAP_BRKPT, "TRAP_BRKPT"},
    {SIGTRAP, TRAP_TRACE, "TRAP_TRACE"},
    {SIGSYS, 1, "SYS_SECCOMP"},
    {0, SI_USER, "SI_USER"},
    {0, SI_KERNEL, "SI_KERNEL"},
    {0, SI_TKILL, "SI_TKILL"},
    {0, SI_QUEUE, "SI_QUEUE"},
    {0, SI_TIMER, "SI_TIMER"},
};

/* ---- names ---- */

const char *record_signal_name(int signo)
{
    static const char *const names[] = {
        [SIGHUP] = "SIGHUP",   [SIGINT] = "SIGINT",   [SIGQUIT] = "SIGQUIT", [SIGILL] = "SIGILL",
        [SIGTRAP] = "SIGTRAP", [SIGABRT] = "SIGABRT", [SIGBUS] = "SIGBUS",   [SIGFPE] = "SIGFPE",
        [SIGKILL] = "SIGKILL", [SIGUSR1] = "SIGUSR1", [SIGSEGV] = "SIGSEGV", [SIGUSR2] = "SIGUSR2",
        [SIGPIPE] = "SIGPIPE", [SIGALRM] = "SIGALRM", [SIGTERM] = "SIGTERM", [SIGXCPU] = "SIGXCPU",
        [SIGSYS] = "SIGSYS",
    };

    if (signo <= 0 || signo >= (int)(sizeof names / sizeof names[0]) || names[signo] == NULL)
        return "?";
    return names[signo];
}

const char *record_code_name(int signo, int code)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if ((codes[i].signo == signo || codes[i].signo == 0) && codes[i].code == code)
            return codes[i].name;
    }
    return "?";
}

const char *record_verdict_text(char verdict)
{
    switch (verdict) {
    case SHM_RECOVERED: return "recovered: this request failed, nothing else";
    case SHM_TRUNCATED: return "truncated: the answer had begun, its connection was closed";
    case SHM_EJECTED: return "ejected: a fresh worker takes over gracefully";
    case SHM_WORKER_DIED: return "worker died: the master replaces it";
    case SHM_REFUSED: return "refused: the plugin was not loaded";
    default: return "unknown";
    }
}

/* What a verdict of on_error means on the error's way up. */
static const char *step_verdict(int32_t verdict)
{
    switch (verdict) { /* BH_* of bulkhead.h */
    case 0: return "continue";
    case 1: return "done";
    case 2: return "pause";
    case 4: return "decline";
    default: return "fail";
    }
}

/* ---- cleaning ---- */

bool record_id_is_valid(const char *id)
{
    size_t n = strnlen(id, sizeof((struct shm_crash *)0)->id);

    return n > 0 && n < sizeof((struct shm_crash *)0)->id && id[0] != '-' &&
           strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-") == n;
}

void record_clean(struct shm_crash *crash, uint32_t worker, uint32_t slot)
{
    crash->id[sizeof crash->id - 1] = '\0';
    crash->kind[sizeof crash->kind - 1] = '\0';
    crash->reason[sizeof crash->reason - 1] = '\0';
    crash->message[sizeof crash->message - 1] = '\0';
    if (crash->stack_len > SHM_STACK_COPY)
        crash->stack_len = SHM_STACK_COPY;
    if (crash->stack_addr > UINT64_MAX - SHM_STACK_COPY)
        crash->stack_len = 0;
    if (crash->n_modules > SHM_MODULES)
        crash->n_modules = SHM_MODULES;
    for (uint32_t i = 0; i < crash->n_modules; i++)
        crash->module[i].path[sizeof crash->module[i].path - 1] = '\0';
    if (crash->request_len > SHM_REQUEST_TEXT)
        crash->request_len = SHM_REQUEST_TEXT;
    if (crash->body_len > SHM_BODY_COPY)
        crash->body_len = SHM_BODY_COPY;
    if (crash->has_body == 0)
        crash->body_len = 0;
    if (crash->body_seen < crash->body_len || crash->body_seen > INT64_MAX)
        crash->body_seen = crash->body_len;
    if (crash->n_steps > SHM_PATH_STEPS)
        crash->n_steps = SHM_PATH_STEPS;
    if (crash->time_ns <= 0)
        crash->time_ns = clock_real_ns();
    if (!record_id_is_valid(crash->id))
        snprintf(crash->id, sizeof crash->id, "%" PRIu64 "-w%" PRIu32 "-slot%" PRIu32,
                 (uint64_t)crash->time_ns / 1000000, worker, slot);
}

/* ---- JSON ---- */

/* Any bytes as a JSON string: what is not UTF-8 becomes U+FFFD. */
static json_t *text(const char *p, size_t n)
{
    static const char replacement[3] = {'\xef', '\xbf', '\xbd'};
    char buf[3 * SHM_REQUEST_TEXT];
    size_t len = 0;

    while (n > 0 && len + 4 <= sizeof buf) {
        size_t good = utf8_length(p, n), used = good > 0 ? good : 1;

        memcpy(buf + len, good > 0 ? p : replacement, good > 0 ? good : sizeof replacement);
        len += good > 0 ? good : sizeof replacement;
        p += used;
        n -= used;
    }
    return json_stringn(buf, len);
}

/* NULL and "" are null. */
static json_t *string_or_null(const char *s)
{
    return s != NULL && s[0] != '\0' ? text(s, strlen(s)) : json_null();
}

static json_t *address(uint64_t value)
{
    return json_sprintf("0x%" PRIx64, value);
}

static json_t *timestamp(int64_t real_ns)
{
    char buf[TIMESTAMP_SIZE];

    timestamp_format(real_ns, buf);
    return json_string(buf);
}

/* The plugin of an index + 1, or NULL. */
static const struct recorder_plugin *plugin_of(const struct record_source *src, uint32_t plugin)
{
    return plugin >= 1 && plugin <= (uint32_t)src->n_plugins ? &src->plugin[plugin - 1] : NULL;
}

static json_t *plugin_json(const struct record_source *src)
{
    const struct recorder_plugin *p = plugin_of(src, src->crash->plugin);

    if (p == NULL)
        return json_null();
    return json_pack("{so so so so so}", "instance", string_or_null(p->instance), "module",
                     string_or_null(p->module), "version", string_or_null(p->version), "build_id",
                     string_or_null(p->build_id), "object", string_or_null(p->object));
}

static json_t *signal_json(const struct shm_crash *crash)
{
    /* Of a worker that was killed, the master knows the signal and no more. */
    bool has_code = strcmp(crash->kind, "worker_death") != 0;

    if (crash->signo == 0)
        return json_null();
    return json_pack(
        "{si ss so so}", "number", crash->signo, "name", record_signal_name(crash->signo), "code",
        has_code ? json_integer(crash->code) : json_null(), "code_name",
        has_code ? json_string(record_code_name(crash->signo, crash->code)) : json_null());
}

/* Is the address that comes with this signal one that somebody tried to use? */
static bool has_fault_address(const struct shm_crash *crash)
{
    return (crash->signo == SIGSEGV || crash->signo == SIGBUS) && crash->code > 0 &&
           crash->code != SI_KERNEL;
}

static json_t *registers_json(const struct shm_crash *crash)
{
    json_t *regs;

    if (crash->n_modules == 0)
        return json_null(); /* nobody was left to note them */
    regs = json_object();
    for (int i = 0; i < SHM_REGS; i++)
        json_object_set_new(regs, reg_names[i], address(crash->reg[i]));
    return regs;
}

static json_t *frame_json(const struct record_frame *f)
{
    json_t *frame = json_pack(
        "{so so so so so so}", "pc", address(f->pc), "module", string_or_null(f->module),
        "function", string_or_null(f->function), "offset", json_integer((json_int_t)f->offset),
        "file", string_or_null(f->file), "line", f->line > 0 ? json_integer(f->line) : json_null());

    json_object_set_new(frame, "is_plugin", json_boolean(f->is_plugin));
    /* The exceptions, only where they apply. */
    if (!f->is_code)
        json_object_set_new(frame, "not_code", json_true());
    if (f->is_inline)
        json_object_set_new(frame, "inlined", json_true());
    if (f->is_guess)
        json_object_set_new(frame, "guess", json_true());
    return frame;
}

const struct record_frame *record_where(const struct record_trace *trace)
{
    const struct record_frame *best = NULL;
    int best_rank = 0;

    /* In this order: the charged plugin's object, any plugin's, anything that has a name. */
    for (int i = 0; trace != NULL && i < trace->n; i++) {
        const struct record_frame *f = &trace->frame[i];
        int rank = f->is_charged ? 3 : f->is_plugin ? 2 : f->function[0] != '\0' ? 1 : 0;

        if (f->is_machinery || !f->is_code)
            continue;
        rank = 2 * rank - f->is_guess;
        if (rank > best_rank) {
            best = f;
            best_rank = rank;
        }
    }
    return best;
}

static json_t *where_json(const struct record_trace *trace)
{
    const struct record_frame *f = record_where(trace);

    if (f == NULL)
        return json_null();
    return json_pack("{so so so so so}", "module", string_or_null(f->module), "function",
                     string_or_null(f->function), "file", string_or_null(f->file), "line",
                     f->line > 0 ? json_integer(f->line) : json_null(), "offset",
                     json_integer((json_int_t)f->offset));
}

static json_t *backtrace_json(const struct record_trace *trace)
{
    json_t *frames = json_array();

    for (int i = 0; trace != NULL && i < trace->n; i++)
        json_array_append_new(frames, frame_json(&trace->frame[i]));
    return frames;
}

/* "METHOD SP target SP protocol LF", then "Name: value LF" lines. */
static json_t *request_json(const struct shm_crash *crash)
{
    const char *p = crash->request, *end = p + crash->request_len;
    const char *eol = memchr(p, '\n', crash->request_len), *first, *last;
    json_t *headers;

    if (crash->request_len == 0)
        return json_null();
    if (eol == NULL)
        eol = end;
    first = memchr(p, ' ', (size_t)(eol - p));
    last = memrchr(p, ' ', (size_t)(eol - p));
    if (first == NULL || last == first)
        return json_pack("{so}", "text", text(p, (size_t)(end - p)));

    headers = json_array();
    for (const char *line = eol; line < end;) {
        const char *colon, *next;

        line++; /* past the newline before */
        next = memchr(line, '\n', (size_t)(end - line));
        if (next == NULL)
            next = end; /* cut off */
        colon = memmem(line, (size_t)(next - line), ": ", 2);
        if (colon != NULL)
            json_array_append_new(headers, json_pack("[oo]", text(line, (size_t)(colon - line)),
                                                     text(colon + 2, (size_t)(next - colon - 2))));
        line = next;
    }
    return json_pack("{so so so so}", "method", text(p, (size_t)(first - p)), "target",
                     text(first + 1, (size_t)(last - first - 1)), "protocol",
                     text(last + 1, (size_t)(eol - last - 1)), "headers", headers);
}

/* How much of it there is; the bytes are in a file of their own (record_dir.h). */
static json_t *body_json(const struct shm_crash *crash)
{
    if (crash->has_body == 0)
        return json_null();
    return json_pack("{sI sI sb}", "recorded", (json_int_t)crash->body_len, "received",
                     (json_int_t)crash->body_seen, "cut", crash->body_len < crash->body_seen);
}

static json_t *instance_name(const struct record_source *src, uint32_t plugin)
{
    const struct recorder_plugin *p = plugin_of(src, plugin);

    return p != NULL ? string_or_null(p->instance) : json_null();
}

static json_t *error_path_json(const struct record_source *src)
{
    json_t *path = json_array();

    for (uint32_t i = 0; i < src->crash->n_steps; i++) {
        const struct shm_step *step = &src->crash->step[i];

        json_array_append_new(
            path, json_pack("{so so sb}", "plugin", instance_name(src, step->plugin), "verdict",
                            step->had_hook ? json_string(step_verdict(step->verdict)) : json_null(),
                            "crashed", step->had_crash != 0));
    }
    return path;
}

static json_t *answered_by_json(const struct record_source *src)
{
    if (src->crash->status == 0)
        return json_null();
    return src->crash->answered_by == 0 ? json_string("host")
                                        : instance_name(src, src->crash->answered_by);
}

struct json_t *record_to_json(const struct record_source *src)
{
    const struct shm_crash *crash = src->crash;
    char verdict[2] = {crash->verdict, '\0'};
    json_t *root = json_object();

    json_object_set_new(root, "schema", json_string(RECORD_SCHEMA));
    json_object_set_new(root, "id", json_string(crash->id));
    json_object_set_new(root, "time", timestamp(crash->time_ns));
    json_object_set_new(root, "worker",
                        json_pack("{sI si si}", "index", (json_int_t)src->worker, "pid", crash->pid,
                                  "tid", crash->tid));
    json_object_set_new(root, "plugin", plugin_json(src));
    json_object_set_new(root, "hook", string_or_null(src->hook));
    json_object_set_new(root, "signal", signal_json(crash));
    json_object_set_new(root, "kind", string_or_null(crash->kind));
    json_object_set_new(root, "verdict", string_or_null(verdict));
    json_object_set_new(root, "verdict_text", json_string(record_verdict_text(crash->verdict)));
    json_object_set_new(root, "reason", string_or_null(crash->reason));
    json_object_set_new(root, "message", string_or_null(crash->message));
    json_object_set_new(root, "fault_address",
                        has_fault_address(crash) ? address(crash->fault_addr) : json_null());
    json_object_set_new(root, "where", where_json(src->trace));
    json_object_set_new(root, "request", request_json(crash));
    json_object_set_new(root, "body", body_json(crash));
    json_object_set_new(root, "error_path", error_path_json(src));
    json_object_set_new(root, "answered_by", answered_by_json(src));
    json_object_set_new(root, "status",
                        crash->status != 0 ? json_integer(crash->status) : json_null());
    json_object_set_new(root, "repeats",
                        json_pack("{sI so}", "count", (json_int_t)src->repeats, "last",
                                  src->repeat_ns > 0 ? timestamp(src->repeat_ns) : json_null()));
    json_object_set_new(root, "backtrace", backtrace_json(src->trace));
    if (src->trace == NULL)
        json_object_set_new(root, "backtrace_missing", string_or_null(src->trace_missing));
    json_object_set_new(root, "registers", registers_json(crash));
    return root;
}
