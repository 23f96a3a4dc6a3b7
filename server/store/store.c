#include "store/store.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>

#define NS_PER_S 1e9
#define LONGEST  (100 * 366 * 86400.0) /* seconds that a bucket may take to fill */

void store_close(struct store **sp)
{
    struct store *s = *sp;

    *sp = NULL;
    if (s != NULL)
        s->ops->close(s);
}

int bucket_check(const struct store_bucket *b)
{
    /* Comparisons with NaN are false. */
    if (!(b->per_s > 0) || !(b->burst > 0) || !(b->cost >= 0) || !(b->cost <= b->burst) ||
        !(b->per_s <= 1e9) || !(b->burst / b->per_s <= LONGEST))
        return -EINVAL;
    return 0;
}

int64_t bucket_take(const struct store_bucket *b, int64_t now_ns, int64_t *full_ns)
{
    double per_token = NS_PER_S / b->per_s;
    int64_t depth = (int64_t)llround(b->burst * per_token);
    int64_t price = (int64_t)llround(b->cost * per_token);
    int64_t from = *full_ns > now_ns ? *full_ns : now_ns;

    if (from > now_ns + depth) /* another depth was in use before, or the clock went back */
        from = now_ns + depth;
    if (from + price > now_ns + depth) {
        int64_t wait_ns = from + price - (now_ns + depth);

        return -((wait_ns + 999999) / 1000000);
    }
    if (price > 0)
        *full_ns = from + price;
    /* The half nanosecond that rounding may cost must not eat a whole token. */
    return (int64_t)floor(((double)(now_ns + depth - from - price) + 1) / per_token);
}

int counter_parse(const char *p, size_t n, int64_t *out)
{
    bool is_negative = n > 0 && p[0] == '-';
    int64_t v = 0;

    if (n == is_negative || n > 20)
        return -EDOM;
    for (size_t i = is_negative; i < n; i++) {
        int digit = p[i] - '0';

        if (digit < 0 || digit > 9 || __builtin_mul_overflow(v, 10, &v) ||
            (is_negative ? __builtin_sub_overflow(v, digit, &v)
                         : __builtin_add_overflow(v, digit, &v)))
            return -EDOM;
    }
    *out = v;
    return 0;
}
