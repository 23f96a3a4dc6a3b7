#include "plugin/specific.h"

#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>

static void (*_Atomic destructors[PTHREAD_KEYS_MAX])(void *);

void specific_add(pthread_key_t key, void (*destructor)(void *))
{
    if (key < PTHREAD_KEYS_MAX)
        atomic_store_explicit(&destructors[key], destructor, memory_order_relaxed);
}

void specific_remove(pthread_key_t key)
{
    specific_add(key, NULL);
}

void (*specific_destructor(pthread_key_t key))(void *)
{
    return atomic_load_explicit(&destructors[key], memory_order_relaxed);
}
