#include "conf/yaml_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "conf/yaml.h"

struct place { /* of a value, for mistakes in it */
    struct diag *diag;
    const char *file;
    int line, column;
};

size_t yaml_utf8_length(const unsigned char *s, size_t n)
{
    unsigned c = s[0];
    size_t len = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
    unsigned v = len == 1 ? c : len != 0 ? c & (0xffu >> (len + 1)) : 0;

    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (s[i] & 0x3f);
    }
    if ((len == 2 && v < 0x80) || (len == 3 && v < 0x800) || (len == 4 && v < 0x10000) ||
        v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
        return 0;
    if ((v < 0x20 && v != '\t' && v != '\n' && v != '\r') || (v >= 0x7f && v < 0xa0 && v != 0x85))
        return 0;
    return len;
}

static bool is_name_char(char c, bool is_first)
{
    return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (!is_first && c >= '0' && c <= '9');
}

/* What the reference at s ("${...}") stands for, and its length; NULL after a mistake. */
static const char *expand_one(const struct place *at, const char *s, size_t n, size_t *ref_len,
                              size_t *value_len)
{
    const char *end = memchr(s, '}', n), *fallback = NULL, *value;
    size_t name_len = 2;
    char name[128];

    while (end != NULL && name_len < (size_t)(end - s) && is_name_char(s[name_len], name_len == 2))
        name_len++;
    if (end != NULL && name_len > 2 && name_len < sizeof name) {
        memcpy(name, s + 2, name_len - 2);
        name[name_len - 2] = '\0';
        if (end - (s + name_len) >= 2 && s[name_len] == ':' && s[name_len + 1] == '-')
            fallback = s + name_len + 2;
    }
    if (end == NULL || name_len == 2 || name_len >= sizeof name ||
        (fallback == NULL && s + name_len != end)) {
        diag_add(at->diag, at->file, at->line, at->column,
                 "write ${NAME} or ${NAME:-default}; $${ stands for a literal ${",
                 "malformed reference to an environment variable");
        return NULL;
    }
    *ref_len = (size_t)(end - s) + 1;
    value = getenv(name);
    if (fallback != NULL && (value == NULL || value[0] == '\0')) {
        *value_len = (size_t)(end - fallback);
        return fallback;
    }
    if (value == NULL) {
        diag_add(at->diag, at->file, at->line, at->column,
                 "set it, or give a default: ${NAME:-default}",
                 "environment variable %s is not set", name);
        return NULL;
    }
    *value_len = strlen(value);
    for (size_t i = 0, len; i < *value_len; i += len) {
        len = yaml_utf8_length((const unsigned char *)value + i, *value_len - i);
        if (len == 0) {
            diag_add(at->diag, at->file, at->line, at->column, NULL,
                     "environment variable %s holds a control character or is not UTF-8", name);
            return NULL;
        }
    }
    return value;
}

ssize_t yaml_expand(struct diag *diag, const char *file, int line, int column, const char *s,
                    size_t n, char *out)
{
    const struct place at = {diag, file, line, column};
    size_t len = 0, ref_len, value_len;

    for (size_t i = 0; i < n;) {
        const char *value = s + i;

        ref_len = value_len = 1;
        if (n - i >= 3 && memcmp(s + i, "$${", 3) == 0) {
            value++;
            ref_len = 3;
            value_len = 2;
        } else if (n - i >= 2 && s[i] == '$' && s[i + 1] == '{') {
            value = expand_one(&at, s + i, n - i, &ref_len, &value_len);
            if (value == NULL)
                return -1;
        }
        if (out != NULL)
            memcpy(out + len, value, value_len);
        len += value_len;
        i += ref_len;
        if (len > YAML_MAX_FILE) {
            diag_add(diag, file, line, column, NULL,
                     "with its environment variables this value is longer than 1 MiB");
            return -1;
        }
    }
    return (ssize_t)len;
}
