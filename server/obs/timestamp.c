#include "obs/timestamp.h"

#define NS_PER_DAY (86400 * INT64_C(1000000000))

static char *put_digits(char *p, unsigned value, int n, char after)
{
    for (int i = n - 1; i >= 0; i--, value /= 10)
        p[i] = (char)('0' + value % 10);
    p[n] = after;
    return p + n + 1;
}

/* Years begin in March here, so that the leap day is the last of a year; after H. Hinnant's
 * "chrono-compatible low-level date algorithms". int64_t nanoseconds reach from 1677 to 2262. */
size_t timestamp_format(int64_t real_ns, char out[TIMESTAMP_SIZE])
{
    int64_t ns_of_day = real_ns % NS_PER_DAY, days = real_ns / NS_PER_DAY;
    unsigned era_day, era, year_of_era, day_of_year, month_index, month, ms;
    char *p = out;

    if (ns_of_day < 0) {
        ns_of_day += NS_PER_DAY;
        days--;
    }
    days += 719468; /* since 0000-03-01 */
    era = (unsigned)(days / 146097);
    era_day = (unsigned)(days % 146097);
    year_of_era = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
    day_of_year = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    month_index = (5 * day_of_year + 2) / 153;
    month = month_index < 10 ? month_index + 3 : month_index - 9;
    ms = (unsigned)(ns_of_day / 1000000);

    p = put_digits(p, era * 400 + year_of_era + (month <= 2), 4, '-');
    p = put_digits(p, month, 2, '-');
    p = put_digits(p, day_of_year - (153 * month_index + 2) / 5 + 1, 2, 'T');
    p = put_digits(p, ms / 3600000, 2, ':');
    p = put_digits(p, ms / 60000 % 60, 2, ':');
    p = put_digits(p, ms / 1000 % 60, 2, '.');
    p = put_digits(p, ms % 1000, 3, 'Z');
    *p = '\0';
    return (size_t)(p - out);
}
