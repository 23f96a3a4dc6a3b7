/*
 * stamp.c - times as text. By hand, since strtod() heeds the locale and takes hex, inf and nan.
 */
#include "stamp.h"

static size_t digits(const char *p, size_t n)
{
    size_t i = 0;

    while (i < n && p[i] >= '0' && p[i] <= '9')
        i++;
    return i;
}

static int64_t number(const char *p, size_t n)
{
    int64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v = v * 10 + (p[i] - '0');
    return v;
}

int stamp_parse(bh_str text, int64_t *ms)
{
    size_t whole = text.p ? digits(text.p, text.n) : 0, fraction;
    int64_t v, scale = 100;

    if (whole < 9 || whole > 11)
        return 0;
    v = number(text.p, whole) * 1000;
    if (whole < text.n) {
        fraction = digits(text.p + whole + 1, text.n - whole - 1);
        if (text.p[whole] != '.' || fraction == 0 || fraction > 9 || whole + 1 + fraction != text.n)
            return 0;
        for (size_t i = 0; i < fraction && i < 3; i++, scale /= 10)
            v += (text.p[whole + 1 + i] - '0') * scale;
    }
    *ms = v;
    return 1;
}

int stamp_parse_offset(bh_str text, int64_t *ms)
{
    const char *p = text.p;
    size_t n = text.n, whole, sign;

    if (p == NULL || n == 0)
        return 0;
    sign = *p == '-' || *p == '+';
    whole = digits(p + sign, n - sign);
    if (whole == 0 || whole > 12)
        return 0;
    if (sign + whole < n) {
        size_t fraction = digits(p + sign + whole + 1, n - sign - whole - 1);

        if (p[sign + whole] != '.' || fraction == 0 || sign + whole + 1 + fraction != n)
            return 0;
    }
    *ms = *p == '-' ? -number(p + sign, whole) : number(p + sign, whole);
    return 1;
}

bh_str stamp_print(int64_t ms, char buf[STAMP_SIZE])
{
    int n = snprintf(buf, STAMP_SIZE, "%lld.%03d", (long long)(ms / 1000), (int)(ms % 1000));

    return bh_sn(buf, n > 0 && n < STAMP_SIZE ? (size_t)n : 0);
}
