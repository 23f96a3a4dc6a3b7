#include "ipc/histogram.h"

uint64_t histogram_ns_quantile(const uint64_t count[HISTOGRAM_NS_SIZE], double q)
{
    uint64_t total = 0, seen = 0, rank;

    for (unsigned i = 0; i < HISTOGRAM_NS_SIZE; i++)
        total += count[i];
    if (total == 0)
        return 0;
    rank = (uint64_t)(q * (double)total);
    if ((double)rank < q * (double)total)
        rank++;
    if (rank == 0)
        rank = 1;
    if (rank > total)
        rank = total;
    for (unsigned i = 0; i < HISTOGRAM_NS_SIZE - 1; i++) {
        seen += count[i];
        if (seen >= rank)
            return histogram_ns_bound(i);
    }
    return (uint64_t)1 << HISTOGRAM_NS_LAST;
}
