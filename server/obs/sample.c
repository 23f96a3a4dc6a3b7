#include "obs/sample.h"

#include <stdlib.h>
#include <string.h>

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:"

/* Behind the brace that closes the labels; NULL: none does. */
static const char *skip_labels(const char *p)
{
    bool is_quoted = false;

    for (; *p != '\0'; p++) {
        if (is_quoted && *p == '\\' && p[1] != '\0')
            p++;
        else if (*p == '"')
            is_quoted = !is_quoted;
        else if (*p == '}' && !is_quoted)
            return p + 1;
    }
    return NULL;
}

bool sample_read(const char *line, struct sample *out)
{
    const char *p = line + strspn(line, NAME_CHARS);
    char *end;

    out->name = line;
    out->name_n = (size_t)(p - line);
    out->labels = p;
    out->labels_n = 0;
    if (out->name_n == 0)
        return false;
    if (*p == '{') {
        const char *behind = skip_labels(p);

        if (behind == NULL)
            return false;
        out->labels = p + 1;
        out->labels_n = (size_t)(behind - 1 - out->labels);
        p = behind;
    }
    if (*p != ' ')
        return false;
    out->value = strtod(p, &end); /* NaN and +Inf as well */
    return end != p && (*end == '\0' || *end == ' ');
}

bool sample_next_label(const char **at, const char *end, const char **name, size_t *name_n,
                       char *value, size_t size)
{
    const char *p = *at;
    size_t n = 0;

    if (p < end && *p == ',')
        p++;
    *name = p;
    while (p < end && *p != '=')
        p++;
    *name_n = (size_t)(p - *name);
    if (end - p < 2 || p[1] != '"' || *name_n == 0)
        return false;
    for (p += 2; p < end && *p != '"'; p++) {
        char c = *p;

        if (c == '\\' && p + 1 < end) {
            c = *++p;
            if (c == 'n')
                c = '\n';
        }
        if (n + 1 < size)
            value[n++] = c;
    }
    value[n] = '\0';
    *at = p + 1;
    return p < end;
}

bool sample_label(const char *labels, size_t n, const char *name, char *value, size_t size)
{
    const char *at = labels, *found;
    size_t found_n;

    while (sample_next_label(&at, labels + n, &found, &found_n, value, size))
        if (found_n == strlen(name) && memcmp(found, name, found_n) == 0)
            return true;
    return false;
}
