#include "obs/exposition.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/must.h"
#include "obs/utf8.h"

/* Bounds of the buckets that are told: powers of two, which are bounds of the finer ones, too. */
#define NS_OCTAVES 23
#define X_FIRST    (-17)
#define X_LAST     30

static const char *type_name(const struct exposition *e, enum family_type type)
{
    switch (type) {
    case FAMILY_COUNTER: return "counter";
    case FAMILY_HISTOGRAM: return "histogram";
    case FAMILY_INFO: return e->format == METRICS_OPENMETRICS ? "info" : "gauge";
    default: return "gauge";
    }
}

static const char *suffix_of(enum family_type type)
{
    return type == FAMILY_COUNTER ? "_total" : type == FAMILY_INFO ? "_info" : "";
}

/* Bytes that stand for themselves wherever they are. */
static size_t count_plain(const char *p, size_t n)
{
    size_t k = 0;

    while (k < n && p[k] >= ' ' && p[k] < 0x7f && p[k] != '\\' && p[k] != '"')
        k++;
    return k;
}

/* Backslashes and newlines, and quotes where they would end it. */
static void put_escaped(struct buffer *out, const char *p, size_t n, bool is_quoted)
{
    for (size_t i = 0; i < n;) {
        size_t k = count_plain(p + i, n - i);

        buffer_add(out, p + i, k);
        i += k;
        if (i == n)
            return;
        k = utf8_length(p + i, n - i);
        if (k == 0) {
            buffer_text(out, UTF8_REPLACEMENT);
            i++;
            continue;
        }
        if (p[i] == '\n')
            buffer_text(out, "\\n");
        else if (p[i] == '\\')
            buffer_text(out, "\\\\");
        else if (p[i] == '"' && is_quoted)
            buffer_text(out, "\\\"");
        else
            buffer_add(out, p + i, k);
        i += k;
    }
}

void exposition_family(struct exposition *e, const struct family *family)
{
    bool is_open = e->format == METRICS_OPENMETRICS;
    const char *suffix = is_open ? "" : suffix_of(family->type);

    e->family = family;
    e->n_labels = 0;
    buffer_printf(e->out, "# TYPE %s%s %s\n", family->name, suffix, type_name(e, family->type));
    if (is_open && family->unit != NULL)
        buffer_printf(e->out, "# UNIT %s %s\n", family->name, family->unit);
    buffer_printf(e->out, "# HELP %s%s ", family->name, suffix);
    put_escaped(e->out, family->help, strlen(family->help), is_open);
    buffer_text(e->out, "\n");
}

void exposition_end(struct exposition *e)
{
    if (e->format == METRICS_OPENMETRICS)
        buffer_text(e->out, "# EOF\n");
}

void exposition_label_n(struct exposition *e, const char *name, const char *value, size_t n)
{
    must(e->n_labels < EXPOSITION_LABELS);
    e->label[e->n_labels++] = (struct label){name, value, n};
}

void exposition_label(struct exposition *e, const char *name, const char *value)
{
    exposition_label_n(e, name, value, strlen(value));
}

/* Name and labels; le: one more label, NULL: none. */
static void put_name(struct exposition *e, const char *suffix, const char *le)
{
    struct buffer *out = e->out;
    int n = 0;

    buffer_text(out, e->family->name);
    buffer_text(out, suffix);
    for (int i = 0; i < e->n_labels; i++) {
        const struct label *l = &e->label[i];

        buffer_text(out, n++ == 0 ? "{" : ",");
        buffer_text(out, l->name);
        buffer_text(out, "=\"");
        put_escaped(out, l->value, l->n, true);
        buffer_text(out, "\"");
    }
    if (le != NULL)
        buffer_printf(out, "%sle=\"%s\"", n++ == 0 ? "{" : ",", le);
    buffer_text(out, n > 0 ? "} " : " ");
}

/* As short as it is exact. */
static const char *format_number(double v, char *buf, size_t size)
{
    if (isnan(v))
        return "NaN";
    if (isinf(v))
        return v > 0 ? "+Inf" : "-Inf";
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buf, size, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    return buf;
}

/* OpenMetrics wants bounds to look like floating-point numbers. */
static const char *format_bound(double v, char *buf, size_t size)
{
    format_number(v, buf, size);
    if (strpbrk(buf, ".e") == NULL)
        strncat(buf, ".0", size - strlen(buf) - 1);
    return buf;
}

void exposition_uint(struct exposition *e, uint64_t value)
{
    put_name(e, suffix_of(e->family->type), NULL);
    buffer_printf(e->out, "%llu\n", (unsigned long long)value);
    e->n_labels = 0;
}

void exposition_number(struct exposition *e, double value)
{
    char text[40];

    put_name(e, suffix_of(e->family->type), NULL);
    buffer_text(e->out, format_number(value, text, sizeof text));
    buffer_text(e->out, "\n");
    e->n_labels = 0;
}

static void put_bucket(struct exposition *e, const char *le, uint64_t n)
{
    put_name(e, "_bucket", le);
    buffer_printf(e->out, "%llu\n", (unsigned long long)n);
}

/* The last bucket has all, and so says how many there are: the count is not read apart from them. */
static void put_rest(struct exposition *e, uint64_t total, double sum)
{
    char text[40];

    put_bucket(e, "+Inf", total);
    put_name(e, "_sum", NULL);
    buffer_printf(e->out, "%s\n", format_number(sum, text, sizeof text));
    put_name(e, "_count", NULL);
    buffer_printf(e->out, "%llu\n", (unsigned long long)total);
    e->n_labels = 0;
}

void exposition_histogram_ns(struct exposition *e, const uint64_t count[HISTOGRAM_NS_SIZE],
                             uint64_t sum_ns, int first)
{
    uint64_t n = 0;
    unsigned i = 0;
    char le[40];

    for (int octave = first; octave < first + NS_OCTAVES; octave++) {
        for (; i <= histogram_ns_octave(octave); i++)
            n += count[i];
        put_bucket(e, format_bound((double)(1ull << octave) / 1e9, le, sizeof le), n);
    }
    for (; i < HISTOGRAM_NS_SIZE; i++)
        n += count[i];
    put_rest(e, n, (double)sum_ns / 1e9);
}

void exposition_histogram_x(struct exposition *e, const uint64_t count[HISTOGRAM_X_SIZE],
                            double sum)
{
    uint64_t n = 0;
    unsigned i = 0;
    char le[40];

    for (int octave = X_FIRST; octave <= X_LAST; octave++) {
        for (; i <= histogram_x_octave(octave); i++)
            n += count[i];
        put_bucket(e, format_bound(ldexp(1, octave), le, sizeof le), n);
    }
    for (; i < HISTOGRAM_X_SIZE; i++)
        n += count[i];
    put_rest(e, n, sum);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool exposition_is_name(const char *p, size_t n)
{
    if (n == 0 || !is_letter(p[0]))
        return false;
    for (size_t i = 1; i < n; i++)
        if (!is_letter(p[i]) && (p[i] < '0' || p[i] > '9'))
            return false;
    return true;
}
