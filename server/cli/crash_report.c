#include "cli/crash_report.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const json_t *find(const json_t *record, const char *path)
{
    char name[32];

    while (record != NULL && *path != '\0') {
        size_t n = strcspn(path, ".");

        if (n >= sizeof name)
            return NULL;
        memcpy(name, path, n);
        name[n] = '\0';
        record = json_object_get(record, name);
        path += n + (path[n] == '.');
    }
    return record;
}

const char *crash_text(const json_t *record, const char *path)
{
    return json_string_value(find(record, path));
}

long long crash_number(const json_t *record, const char *path)
{
    return json_integer_value(find(record, path));
}

static const char *or_dash(const char *s)
{
    return s != NULL ? s : "-";
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

void crash_place(const json_t *record, char *buf, size_t size)
{
    const char *function = crash_text(record, "where.function");
    const char *file = crash_text(record, "where.file");
    const char *module = crash_text(record, "where.module");

    if (function != NULL && file != NULL)
        snprintf(buf, size, "%s() at %s:%lld", function, base_name(file),
                 crash_number(record, "where.line"));
    else if (function != NULL)
        snprintf(buf, size, "%s() in %s", function, or_dash(module));
    else if (module != NULL)
        snprintf(buf, size, "%s+0x%llx", module, crash_number(record, "where.offset"));
    else
        snprintf(buf, size, "-");
}

const char *crash_how(const json_t *record)
{
    const char *name = crash_text(record, "signal.name");

    return name != NULL ? name : or_dash(crash_text(record, "kind"));
}

/* Records may come from elsewhere: what is in them was once chosen by a client. */
void crash_print_clean(FILE *out, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c < 0x20 || *c == 0x7f)
            fprintf(out, "\\x%02x", *c);
        else if (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
            fprintf(out, "\\x%02x", *++c);
        else
            fputc(*c, out);
    }
}

__attribute__((format(printf, 2, 3))) static void print(FILE *out, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    crash_print_clean(out, text);
    fputc('\n', out);
    free(text);
}

/* ---- the report, section by section ---- */

static void print_what(FILE *out, const json_t *record)
{
    const char *instance = crash_text(record, "plugin.instance");
    const char *version = crash_text(record, "plugin.version");
    const char *code = crash_text(record, "signal.code_name");
    const char *address = crash_text(record, "fault_address");
    const char *message = crash_text(record, "message");
    const char *file = crash_text(record, "where.file");
    char place[512];

    crash_place(record, place, sizeof place);
    print(out, "Crash %s", or_dash(crash_text(record, "id")));
    fputc('\n', out);
    if (instance != NULL)
        print(out, "  what      %s in plugin '%s' (%s%s%s), %s", crash_how(record), instance,
              or_dash(crash_text(record, "plugin.module")), version != NULL ? " " : "",
              version != NULL ? version : "", or_dash(crash_text(record, "hook")));
    else
        print(out, "  what      %s, outside of plugins", crash_how(record));
    print(out, "  where     %s", place);
    if (file != NULL && strchr(file, '/') != NULL)
        print(out, "            %s:%lld", file, crash_number(record, "where.line"));
    if (code != NULL && strcmp(code, "?") != 0)
        print(out, "  signal    %s%s%s", code, address != NULL ? ", address " : "",
              address != NULL ? address : "");
    if (message != NULL)
        print(out, "  message   %s", message);
    print(out, "  when      %s", or_dash(crash_text(record, "time")));
    if (crash_number(record, "repeats.count") > 0)
        print(out, "  repeats   %lld more at the same place, the last %s",
              crash_number(record, "repeats.count"), or_dash(crash_text(record, "repeats.last")));
}

static void print_outcome(FILE *out, const json_t *record)
{
    const json_t *path = find(record, "error_path"), *step;
    const char *by = crash_text(record, "answered_by");
    size_t i;

    fputs("\nOutcome\n", out);
    print(out, "  verdict   %s, %s", or_dash(crash_text(record, "verdict")),
          or_dash(crash_text(record, "verdict_text")));
    if (crash_text(record, "reason") != NULL)
        print(out, "  because   %s", crash_text(record, "reason"));
    if (by != NULL && strcmp(by, "host") == 0)
        print(out, "  answer    %lld, by the host itself", crash_number(record, "status"));
    else if (by != NULL)
        print(out, "  answer    %lld, by plugin '%s'", crash_number(record, "status"), by);
    json_array_foreach(path, i, step)
    {
        const char *verdict = crash_text(step, "verdict");
        bool is_crash = json_is_true(json_object_get(step, "crashed"));

        print(out, "  %s %s: %s", i == 0 ? "on_error " : "         ",
              or_dash(crash_text(step, "plugin")),
              is_crash          ? "crashed, too"
              : verdict == NULL ? "has none"
                                : verdict);
    }
}

/* How long it is; what is in it is a client's. */
static void print_body(FILE *out, const json_t *record)
{
    long long recorded = crash_number(record, "body.recorded");
    const char *came = crash_number(record, "body.received") == 1 ? "byte" : "bytes";
    char kept[64] = "none is on record";

    if (!json_is_object(find(record, "body")))
        return;
    if (recorded > 0 && json_is_true(find(record, "body.cut")))
        snprintf(kept, sizeof kept, "the first %lld are on record", recorded);
    else if (recorded > 0)
        snprintf(kept, sizeof kept, "all are on record");
    print(out, "  body      %lld %s had come, %s", crash_number(record, "body.received"), came,
          kept);
}

static void print_request(FILE *out, const json_t *record)
{
    const json_t *headers = find(record, "request.headers"), *header;
    size_t i;

    fputs("\nRequest\n", out);
    if (crash_text(record, "request.method") != NULL) {
        print(out, "  %s %s %s", crash_text(record, "request.method"),
              or_dash(crash_text(record, "request.target")),
              or_dash(crash_text(record, "request.protocol")));
    } else if (crash_text(record, "request.text") != NULL) {
        print(out, "  %s", crash_text(record, "request.text"));
    } else {
        print(out, "  none");
    }
    json_array_foreach(headers, i, header)
    {
        print(out, "  %s: %s", or_dash(json_string_value(json_array_get(header, 0))),
              or_dash(json_string_value(json_array_get(header, 1))));
    }
    print_body(out, record);
}

static void print_frame(FILE *out, size_t i, const json_t *f)
{
    const char *function = crash_text(f, "function"), *file = crash_text(f, "file");
    const char *module = crash_text(f, "module");
    char name[256], place[320] = "";

    if (json_is_true(json_object_get(f, "not_code")))
        snprintf(name, sizeof name, "%s (not code)", or_dash(crash_text(f, "pc")));
    else if (function != NULL)
        snprintf(name, sizeof name, "%s", function);
    else
        snprintf(name, sizeof name, "%s", or_dash(crash_text(f, "pc")));
    if (file != NULL)
        snprintf(place, sizeof place, " at %s:%lld", file, crash_number(f, "line"));
    else if (module != NULL)
        snprintf(place, sizeof place, " +0x%llx", crash_number(f, "offset"));
    print(out, "  %c%s#%zu  %s%s%s%s%s%s",
          json_is_true(json_object_get(f, "is_plugin")) ? '>' : ' ',
          json_is_true(json_object_get(f, "guess")) ? "?" : " ", i, name, place,
          module != NULL ? " [" : "", module != NULL ? module : "", module != NULL ? "]" : "",
          json_is_true(json_object_get(f, "inlined")) ? " inlined" : "");
}

static void print_backtrace(FILE *out, const json_t *record)
{
    const json_t *frames = find(record, "backtrace"), *frame;
    bool has_guess = false;
    size_t i;

    fputs("\nBacktrace (> plugin code)\n", out);
    if (json_array_size(frames) == 0)
        print(out, "  none: %s", or_dash(crash_text(record, "backtrace_missing")));
    json_array_foreach(frames, i, frame)
    {
        print_frame(out, i, frame);
        has_guess |= json_is_true(json_object_get(frame, "guess"));
    }
    if (has_guess)
        fputs("  ? found by scanning the stack: may be left over from an earlier call\n", out);
}

static void print_process(FILE *out, const json_t *record)
{
    json_t *registers = json_object_get(record, "registers"), *value;
    const char *name;
    int n = 0;

    fputs("\nProcess\n", out);
    print(out, "  worker    %lld, process %lld, thread %lld", crash_number(record, "worker.index"),
          crash_number(record, "worker.pid"), crash_number(record, "worker.tid"));
    if (crash_text(record, "plugin.object") != NULL)
        print(out, "  object    %s", crash_text(record, "plugin.object"));
    if (crash_text(record, "plugin.build_id") != NULL)
        print(out, "  build id  %s", crash_text(record, "plugin.build_id"));
    if (json_object_size(registers) > 0)
        fputs("\nRegisters\n", out);
    json_object_foreach(registers, name, value)
    {
        bool is_last = ++n % 3 == 0;
        char text[64];

        snprintf(text, sizeof text, is_last ? "%-6s %s" : "%-6s %-20s", name,
                 or_dash(json_string_value(value)));
        fputs(n % 3 == 1 ? "  " : "", out);
        crash_print_clean(out, text);
        fputs(is_last ? "\n" : "", out);
    }
}

void crash_report(FILE *out, const json_t *record)
{
    print_what(out, record);
    print_outcome(out, record);
    print_request(out, record);
    print_backtrace(out, record);
    print_process(out, record);
}
