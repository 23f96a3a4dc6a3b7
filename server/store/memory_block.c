/*
 * memory_block.c - the memory store's blocks: a buddy allocator over a shard's cells, and the repair
 * that makes it anew from the chains.
 */
#include <string.h>

#include "store/memory_internal.h"

uint32_t block_order(uint64_t n)
{
    uint32_t order = 0;

    while (order <= ORDER_MAX && (uint64_t)CELL << order < n)
        order++;
    return order;
}

static struct free_block *free_at(const struct view *v, uint32_t place)
{
    return cell_at(v, place);
}

static void push(struct view *v, uint32_t place, uint32_t order)
{
    uint32_t first = v->shard->free_list[order];

    *free_at(v, place) = (struct free_block){.next = first, .prev = NOWHERE};
    if (first != NOWHERE)
        free_at(v, first)->prev = place;
    v->shard->free_list[order] = place;
    v->state[place - 1] = (uint8_t)(CELL_FREE | order);
}

static void pull(struct view *v, uint32_t place, uint32_t order)
{
    const struct free_block *b = free_at(v, place);

    if (b->prev != NOWHERE)
        free_at(v, b->prev)->next = b->next;
    else
        v->shard->free_list[order] = b->next;
    if (b->next != NOWHERE)
        free_at(v, b->next)->prev = b->prev;
    v->state[place - 1] = CELL_INNER;
}

uint32_t block_take(struct view *v, uint32_t order)
{
    uint32_t at = order, place;

    while (at <= ORDER_MAX && v->shard->free_list[at] == NOWHERE)
        at++;
    if (at > ORDER_MAX) {
        if (v->shard->fresh >= v->n_cells)
            return NOWHERE;
        at = ORDER_MAX;
        push(v, v->shard->fresh + 1, at);
        v->shard->fresh += 1u << ORDER_MAX;
    }
    place = v->shard->free_list[at];
    pull(v, place, at);
    while (at > order) { /* the upper half goes back */
        at--;
        push(v, place + (1u << at), at);
    }
    v->state[place - 1] = (uint8_t)(CELL_USED | order);
    return place;
}

void block_give(struct view *v, uint32_t place, uint32_t order)
{
    uint32_t cell = place - 1;

    v->state[cell] = CELL_INNER;
    for (; order < ORDER_MAX; order++) {
        uint32_t buddy = cell ^ 1u << order;

        if (buddy >= v->n_cells || v->state[buddy] != (CELL_FREE | order))
            break;
        pull(v, buddy + 1, order);
        cell &= ~(1u << order);
    }
    push(v, cell + 1, order);
}

/* ---- repair ---- */

/* Is this an entry that may be where it is, and that no other chain has? */
static bool is_sound(const struct view *v, uint32_t place, uint32_t chain)
{
    const struct entry *e;
    uint32_t order, cell = place - 1;

    if (place == NOWHERE || place > v->n_cells)
        return false;
    e = cell_at(v, place);
    order = entry_order(e);
    if (order > ORDER_MAX || (cell & ((1u << order) - 1)) != 0 || cell + (1u << order) > v->n_cells)
        return false;
    if (entry_kind(e) >= ENTRY_KINDS || e->ns >= MEMORY_NS || e->key_n == 0 ||
        e->hash % v->n_chains != chain ||
        sizeof *e + e->key_n + (uint64_t)e->n > (uint64_t)CELL << order)
        return false;
    for (uint32_t i = 0; i < 1u << order; i++)
        if (v->state[cell + i] != CELL_INNER)
            return false;
    return true;
}

/* Marks the cells of what is reachable: the first with its order, all others as taken. */
static void mark(struct view *v)
{
    for (uint32_t chain = 0; chain < v->n_chains; chain++) {
        _Atomic uint32_t *link = &v->chain[chain];
        uint32_t place;

        while ((place = atomic_load_explicit(link, memory_order_relaxed)) != NOWHERE) {
            struct entry *e;
            uint32_t order;

            if (!is_sound(v, place, chain)) { /* what it leads to is not to be trusted either */
                atomic_store_explicit(link, NOWHERE, memory_order_release);
                break;
            }
            e = cell_at(v, place);
            order = entry_order(e);
            memset(v->state + place - 1, CELL_USED | 0x3f, (size_t)1 << order);
            v->state[place - 1] = (uint8_t)(CELL_USED | order);
            v->shard->used[e->ns] += (uint64_t)CELL << order;
            v->shard->used_all += (uint64_t)CELL << order;
            v->shard->n_entries++;
            if (place - 1 >= v->shard->fresh)
                v->shard->fresh = ((place - 1) | ((1u << ORDER_MAX) - 1)) + 1;
            if (e->version > v->shard->version)
                v->shard->version = e->version;
            link = &e->next;
        }
    }
}

/* Frees what is unmarked in the block of that order. true: all of it is, and the caller frees it. */
static bool reap(struct view *v, uint32_t cell, uint32_t order)
{
    bool low, high;

    if (order <= ORDER_MAX && v->state[cell] == (CELL_USED | order))
        return false;
    if (order == 0)
        return v->state[cell] == CELL_INNER;
    low = reap(v, cell, order - 1);
    high = reap(v, cell + (1u << (order - 1)), order - 1);
    if (low && high)
        return true;
    if (low)
        push(v, cell + 1, order - 1);
    if (high)
        push(v, cell + (1u << (order - 1)) + 1, order - 1);
    return false;
}

void shard_repair(struct view *v)
{
    struct shard *s = v->shard;

    memset(s->used, 0, sizeof s->used);
    memset(s->free_list, 0, sizeof s->free_list);
    memset(v->state, CELL_INNER, v->n_cells);
    s->used_all = s->n_entries = 0;
    s->sweep_at = s->fresh = 0;
    s->swept_ns = 0;
    mark(v);
    for (uint32_t cell = 0; cell < s->fresh; cell += 1u << ORDER_MAX)
        if (reap(v, cell, ORDER_MAX))
            push(v, cell + 1, ORDER_MAX);
    for (uint32_t cell = 0; cell < s->fresh; cell++) /* as block_give() expects them */
        if (v->state[cell] == (CELL_USED | 0x3f))
            v->state[cell] = CELL_INNER;
}
