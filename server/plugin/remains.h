/*
 * remains.h - what is left of incarnations that are gone: their private heaps, until nothing refers
 * to them.
 *
 * A heap goes when all of this is true:
 *   - its incarnation is closed: no request is in it any more, no stream reads from it;
 *   - no thread, job, posted call or timer of it is left (heap_pin());
 *   - none of an older one of that plugin is, which might have been handed something younger;
 *   - its object is not used any more (a fresh copy has taken over), or nothing that outlives the
 *     incarnation names it: static variables of the object and of the C++ library, what is
 *     thread-specific, the heaps of other incarnations of that object. These are looked through word by
 *     word: whatever could be an address of it counts as one.
 * They are looked through for many heaps at a time, REMAINS_BATCH of them, or when they hold much, or
 * after a second: that costs a plugin that crashes in every request next to nothing. One that has
 * never allocated anything has no addresses, and goes at once.
 * What a newcomer would get wrong: this cannot see what the plugin has given to other libraries to keep
 * (a callback's argument, putenv()) and did not take back in close(). The page that is then missing is
 * a fault in whoever uses it: REGION_REST.
 */
#ifndef PLUGIN_REMAINS_H
#define PLUGIN_REMAINS_H

#include <stdbool.h>
#include <stdint.h>

struct heap;

/* Of one plugin; beyond that something is wrong with it, and it is ejected. */
#define REMAINS_MAX 256

/* So many new ones are looked at together; fewer, when what they hold is this many bytes. */
#define REMAINS_BATCH 32
#define REMAINS_BYTES ((uint64_t)4 << 20)

/* The incarnation is closed: its pin goes. NULL is fine. Loop thread, as all but the last. */
void remains_keep(struct heap *h);

/* Destroys what may go, if there is anything new; of all: also what was looked at before. */
void remains_sweep(bool all);

/* There is enough for a sweep. */
extern bool remains_are_many;

/* Once per turn of the loop, and after a crash, when the fresh instance is open. */
static inline void remains_settle(void)
{
    if (__builtin_expect(remains_are_many, 0))
        remains_sweep(false);
}

/* How many heaps of past incarnations there are. */
uint32_t remains_count(void);

/* A thread of the host's has worked for h: does it keep an address of it? Then h stays as long as its
 * object is used. */
void remains_of_thread(struct heap *h);

#endif
