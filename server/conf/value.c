#include "conf/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/must.h"

struct unit {
    const char *name;
    unsigned long long factor;
};

/* Largest first, so that value_print_*() finds the shortest text. */
static const struct unit durations[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

static const struct unit sizes[] = {
    {"TiB", 1ull << 40}, {"TB", 1000000000000},
    {"GiB", 1ull << 30}, {"GB", 1000000000},
    {"MiB", 1ull << 20}, {"MB", 1000000},
    {"KiB", 1ull << 10}, {"kB", 1000},
    {"KB", 1000},        {"B", 1},
};

#define N(array) (int)(sizeof(array) / sizeof(array)[0])

int value_bool(const char *s, bool *out, const char **why)
{
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};

    for (int i = 0; i < N(yes); i++) {
        if (strcasecmp(s, yes[i]) == 0 || strcasecmp(s, no[i]) == 0) {
            *out = strcasecmp(s, yes[i]) == 0;
            return 0;
        }
    }
    *why = "true or false";
    return -EINVAL;
}

int value_int(const char *s, long long *out, const char **why)
{
    const char *digits = *s == '-' || *s == '+' ? s + 1 : s;
    char *end;
    long long v;

    *why = "a whole number";
    if (!isdigit((unsigned char)*digits))
        return -EINVAL;
    errno = 0;
    v = strtoll(s, &end, 10);
    if (*end != '\0' || errno != 0)
        return -EINVAL;
    *out = v;
    return 0;
}

int value_double(const char *s, double *out, const char **why)
{
    char *end;
    double v;

    *why = "a number";
    /* strtod also knows inf, nan and hexadecimal, which no option wants. */
    if (s[0] == '\0' || s[strspn(s, "+-.0123456789eE")] != '\0')
        return -EINVAL;
    errno = 0;
    v = strtod(s, &end);
    if (*end != '\0' || end == s || (errno == ERANGE && v != 0 && (v > 1 || v < -1)))
        return -EINVAL;
    *out = v;
    return 0;
}

/* "1.5h": digits, perhaps a fraction, a unit; exact, or refused. */
static int parse_quantity(const char *s, const struct unit *units, int n, bool is_unit_optional,
                          unsigned long long *out)
{
    unsigned long long mantissa = 0, scale = 1, v;
    const struct unit *unit = NULL;
    bool has_point = false;
    int n_digits = 0;

    for (; isdigit((unsigned char)*s) || (*s == '.' && !has_point && n_digits > 0); s++) {
        if (*s == '.') {
            has_point = true;
            n_digits = 0; /* one at least must follow */
            continue;
        }
        n_digits++;
        if (__builtin_mul_overflow(mantissa, 10ull, &mantissa) ||
            __builtin_add_overflow(mantissa, (unsigned long long)(*s - '0'), &mantissa) ||
            (has_point && __builtin_mul_overflow(scale, 10ull, &scale)))
            return -EINVAL;
    }
    if (n_digits == 0)
        return -EINVAL;
    while (*s == ' ')
        s++;
    if (*s == '\0' && !has_point && (is_unit_optional || mantissa == 0)) {
        *out = mantissa;
        return 0;
    }
    for (int i = 0; i < n && unit == NULL; i++)
        unit = strcmp(s, units[i].name) == 0 ? &units[i] : NULL;
    if (unit == NULL || __builtin_mul_overflow(mantissa, unit->factor, &v) || v % scale != 0)
        return -EINVAL;
    *out = v / scale;
    return 0;
}

int value_duration_ms(const char *s, unsigned long long *out, const char **why)
{
    *why = "a duration such as 50ms, 10s, 5m, 1h";
    return parse_quantity(s, durations, N(durations), false, out);
}

int value_size(const char *s, unsigned long long *out, const char **why)
{
    *why = "a size such as 512, 8KiB, 1MiB, 10kB";
    return parse_quantity(s, sizes, N(sizes), true, out);
}

static void print_quantity(unsigned long long v, const struct unit *units, int n,
                           const char *smallest, char *buf, size_t size)
{
    for (int i = 0; i < n; i++) {
        if (v != 0 && v % units[i].factor == 0 && units[i].factor > 1) {
            snprintf(buf, size, "%llu%s", v / units[i].factor, units[i].name);
            return;
        }
    }
    snprintf(buf, size, "%llu%s", v, v != 0 ? smallest : "");
}

void value_print_duration(unsigned long long ms, char *buf, size_t size)
{
    print_quantity(ms, durations, N(durations), "ms", buf, size);
}

void value_print_size(unsigned long long bytes, char *buf, size_t size)
{
    print_quantity(bytes, sizes, N(sizes), "", buf, size);
}

#define WORD_MAX 48 /* longer words have no near neighbour worth naming */

/* Insertions, deletions, replacements and swapped neighbours (optimal string alignment). */
static int edit_distance(const char *a, int n, const char *b, int m)
{
    int row[3][WORD_MAX + 1], *before = row[0], *last = row[1], *now = row[2], *spare;

    must(n <= WORD_MAX && m <= WORD_MAX);
    for (int j = 0; j <= m; j++)
        last[j] = before[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
            int best = last[j - 1] + (ca != cb);

            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
                cb == tolower((unsigned char)a[i - 2]) && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        spare = before, before = last, last = now, now = spare;
    }
    return last[m];
}

const char *value_nearest(const char *word, const char *const *candidates, int n)
{
    size_t len = strlen(word);
    int best = (int)len / 3 > 1 ? (int)len / 3 : 1;
    const char *found = NULL;

    if (len == 0 || len > WORD_MAX)
        return NULL;
    for (int i = 0; i < n; i++) {
        size_t m = strlen(candidates[i]);
        int d;

        if (m > WORD_MAX)
            continue;
        d = edit_distance(word, (int)len, candidates[i], (int)m);
        if (d < best || (d == best && found == NULL)) {
            best = d;
            found = candidates[i];
        }
    }
    return found;
}
