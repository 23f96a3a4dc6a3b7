#include "plugin/last_words.h"

#include <stdint.h>
#include <string.h>

#include "ipc/shm.h"
#include "plugin/recover.h"
#include "plugin/text.h"

#define WHAT "  what():  "

/* Its own code, not what the plugin has of it, inlined; and not the plugin. */
static bool is_of_library(const void *caller)
{
    return text_is_tenant((uintptr_t)caller) && text_owner((uintptr_t)caller) == 0;
}

static void keep(struct recover_thread *t, const char *p, size_t n)
{
    size_t len = strlen(t->message);

    for (size_t i = 0; i < n && len + 1 < sizeof t->message; i++)
        if (p[i] != '\n')
            t->message[len++] = p[i];
    t->message[len] = '\0';
}

bool last_words_take(const char *p, size_t n, const FILE *f, const void *caller)
{
    static const char begin[] = LAST_WORDS_BEGIN;
    struct recover_thread *t = &recover_self;
    uint32_t seq;

    if (f != stderr || !recover_is_armed() || t->is_child_of_fork || !recover_is_worker() ||
        !is_of_library(caller))
        return false;
    seq = atomic_load_explicit(&t->call->seq, memory_order_relaxed);
    if (n >= sizeof begin - 1 && memcmp(p, begin, sizeof begin - 1) == 0) {
        t->message[0] = '\0';
        t->last_words_of = seq;
    } else if (t->last_words_of != seq || strncmp(t->message, begin, sizeof begin - 1) != 0) {
        return false; /* std::cerr's */
    }
    if (n == sizeof WHAT - 1 && memcmp(p, WHAT, n) == 0)
        keep(t, ", what(): ", 10);
    else
        keep(t, p, n);
    return true;
}
