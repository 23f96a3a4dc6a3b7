/*
 * httpdate.c - dates as HTTP writes them (RFC 9110 5.6.7).
 *
 * strftime() and strptime() obey the locale, and another plugin may have set one. So not these.
 */
#include "httpdate.h"

#include <time.h>

static const char days[] = "SunMonTueWedThuFriSat";
static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

void httpdate_format(int64_t unix_s, char out[HTTPDATE_SIZE])
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || tm.tm_year > 9999 - 1900 || tm.tm_year < -1900) {
        t = 0; /* a file from the year 10000 */
        gmtime_r(&t, &tm);
    }
    snprintf(out, HTTPDATE_SIZE, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", days + 3 * tm.tm_wday,
             (unsigned)tm.tm_mday % 100, months + 3 * tm.tm_mon,
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
             (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

static bool take_digits(const char **s, int count, int *out)
{
    int v = 0;

    for (; count > 0; count--, (*s)++) {
        if (**s < '0' || **s > '9')
            return false;
        v = v * 10 + (**s - '0');
    }
    *out = v;
    return true;
}

static bool take_text(const char **s, const char *text)
{
    size_t n = strlen(text);

    if (strncmp(*s, text, n) != 0)
        return false;
    *s += n;
    return true;
}

static bool take_month(const char **s, int *out)
{
    for (int m = 0; m < 12; m++) {
        if (strncmp(*s, months + 3L * m, 3) == 0) {
            *out = m;
            *s += 3;
            return true;
        }
    }
    return false;
}

static bool take_time(const char **s, struct tm *tm)
{
    return take_digits(s, 2, &tm->tm_hour) && take_text(s, ":") && take_digits(s, 2, &tm->tm_min) &&
           take_text(s, ":") && take_digits(s, 2, &tm->tm_sec);
}

/* 06 Nov 1994 08:49:37 GMT */
static bool parse_fixdate(const char *s, struct tm *tm)
{
    return take_digits(&s, 2, &tm->tm_mday) && take_text(&s, " ") && take_month(&s, &tm->tm_mon) &&
           take_text(&s, " ") && take_digits(&s, 4, &tm->tm_year) && take_text(&s, " ") &&
           take_time(&s, tm) && take_text(&s, " GMT") && *s == '\0';
}

/* 06-Nov-94 08:49:37 GMT; what would be over 50 years ahead is in the past. */
static bool parse_rfc850(const char *s, int this_year, struct tm *tm)
{
    if (!(take_digits(&s, 2, &tm->tm_mday) && take_text(&s, "-") && take_month(&s, &tm->tm_mon) &&
          take_text(&s, "-") && take_digits(&s, 2, &tm->tm_year) && take_text(&s, " ") &&
          take_time(&s, tm) && take_text(&s, " GMT") && *s == '\0'))
        return false;
    tm->tm_year += this_year - this_year % 100;
    if (tm->tm_year > this_year + 50)
        tm->tm_year -= 100;
    return true;
}

/* Nov  6 08:49:37 1994 */
static bool parse_asctime(const char *s, struct tm *tm)
{
    if (!(take_month(&s, &tm->tm_mon) && take_text(&s, " ")))
        return false;
    if (!(take_text(&s, " ") ? take_digits(&s, 1, &tm->tm_mday) : take_digits(&s, 2, &tm->tm_mday)))
        return false;
    return take_text(&s, " ") && take_time(&s, tm) && take_text(&s, " ") &&
           take_digits(&s, 4, &tm->tm_year) && *s == '\0';
}

bool httpdate_parse(bh_str s, int64_t now_s, int64_t *unix_s)
{
    time_t now = (time_t)now_s;
    struct tm tm, today;
    const char *rest;
    bool ok;

    memset(&tm, 0, sizeof tm);
    if (s.p == NULL || s.n > 40 || memchr(s.p, '\0', s.n) != NULL || gmtime_r(&now, &today) == NULL)
        return false;
    if ((rest = strstr(s.p, ", ")) == NULL) {
        rest = strchr(s.p, ' ');
        ok = rest != NULL && parse_asctime(rest + 1, &tm);
    } else if (rest[2] != '\0' && rest[3] != '\0' && rest[4] == '-') {
        ok = parse_rfc850(rest + 2, today.tm_year + 1900, &tm);
    } else {
        ok = parse_fixdate(rest + 2, &tm);
    }
    /* A leap second is the next minute's first. */
    if (!ok || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 ||
        tm.tm_sec > 60)
        return false;
    tm.tm_year -= 1900;
    *unix_s = (int64_t)timegm(&tm);
    return true;
}
