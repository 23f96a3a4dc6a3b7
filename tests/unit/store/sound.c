#include "sound.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/memory_internal.h"

void expect_sound(const struct store_memory *memory)
{
    for (uint32_t i = 0; i < MEMORY_SHARDS; i++) {
        struct view v = shard_view(memory->seg, i);
        uint64_t used = 0, n_free = 0, n = 0, by_ns = 0;

        if (pthread_mutex_lock(&v.shard->lock) == EOWNERDEAD) {
            shard_repair(&v);
            pthread_mutex_consistent(&v.shard->lock);
        }
        for (uint32_t c = 0; c < v.n_chains; c++)
            for (uint32_t at = v.chain[c]; at != NOWHERE; n++) {
                const struct entry *e = cell_at(&v, at);

                assert_int_equal(v.state[at - 1], CELL_USED | entry_order(e));
                used += (uint64_t)CELL << entry_order(e);
                at = e->next;
            }
        for (uint32_t order = 0; order <= ORDER_MAX; order++)
            for (uint32_t at = v.shard->free_list[order]; at != NOWHERE;) {
                const struct free_block *b = cell_at(&v, at);

                assert_int_equal(v.state[at - 1], CELL_FREE | order);
                n_free += (uint64_t)CELL << order;
                at = b->next;
            }
        for (uint32_t k = 0; k < MEMORY_NS; k++)
            by_ns += v.shard->used[k];
        assert_int_equal(n, v.shard->n_entries);
        assert_int_equal(used, v.shard->used_all);
        assert_int_equal(used, by_ns);
        assert_int_equal(used + n_free, (uint64_t)v.shard->fresh * CELL);
        pthread_mutex_unlock(&v.shard->lock);
    }
}
