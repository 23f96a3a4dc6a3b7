#include "ipc/crash_id.h"

#include <stdatomic.h>

/* gmtime_r() takes a lock, which the interrupted thread may hold; hence the calendar by hand. */
struct civil {
    int64_t year;
    unsigned month, day;
};

/* Days since 1970-01-01 to a date. Years are counted from March, so that leap days come last; an
 * era is 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"). */
static struct civil civil_from_days(int64_t days)
{
    struct civil c;
    int64_t era, year;
    unsigned day_of_era, year_of_era, day_of_year, month;

    days += 719468; /* from 0000-03-01 */
    era = days / 146097;
    day_of_era = (unsigned)(days - era * 146097);
    year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    year = (int64_t)year_of_era + era * 400;
    day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    month = (5 * day_of_year + 2) / 153; /* 0: March */
    c.day = day_of_year - (153 * month + 2) / 5 + 1;
    c.month = month < 10 ? month + 3 : month - 9;
    c.year = year + (c.month <= 2);
    return c;
}

static char *put_number(char *p, uint64_t value, int min_digits)
{
    char digits[20];
    int n = 0;

    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (int i = n; i < min_digits; i++)
        *p++ = '0';
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

static int64_t unique_us(int64_t now_us)
{
    static _Atomic int64_t last_us;
    int64_t last = atomic_load(&last_us), next;

    do {
        next = now_us > last ? now_us : last + 1;
    } while (!atomic_compare_exchange_weak(&last_us, &last, next));
    return next;
}

void record_id_make(char id[RECORD_ID_SIZE], int worker, int64_t now_ns)
{
    int64_t us = unique_us(now_ns > 0 ? now_ns / 1000 : 0);
    int64_t seconds = us / 1000000;
    struct civil date = civil_from_days(seconds / 86400);
    uint64_t of_day = (uint64_t)(seconds % 86400);
    char *p = id;

    /* 64 bits of nanoseconds end in 2262: the year has four digits, and all of it 33 at most. */
    p = put_number(p, (uint64_t)date.year, 4);
    p = put_number(p, date.month, 2);
    p = put_number(p, date.day, 2);
    *p++ = 'T';
    p = put_number(p, of_day / 3600, 2);
    p = put_number(p, of_day / 60 % 60, 2);
    p = put_number(p, of_day % 60, 2);
    *p++ = '-';
    p = put_number(p, (uint64_t)(us % 1000000), 6);
    *p++ = '-';
    *p++ = 'w';
    p = put_number(p, worker > 0 ? (uint64_t)worker : 0, 1);
    *p = '\0';
}
