#include "ipc/notice.h"

#include <string.h>

static void copy(char *to, size_t size, const char *from, size_t n)
{
    if (n >= size)
        n = size - 1;
    memcpy(to, from, n);
    to[n] = '\0';
}

void notice_write(struct notices *to, uint32_t plugin, int64_t time_ns, const char *name,
                  const char *text, size_t text_n)
{
    uint32_t n = atomic_load_explicit(&to->n, memory_order_relaxed);
    struct notice *at = &to->kept[n % NOTICES];

    at->plugin = plugin;
    at->time_ns = time_ns;
    copy(at->name, sizeof at->name, name, strlen(name));
    copy(at->text, sizeof at->text, text, text_n);
    atomic_store_explicit(&to->n, n + 1, memory_order_release);
}

bool notice_read(const struct notices *from, uint32_t *seen, struct notice *out, uint32_t *lost)
{
    *lost = 0;
    for (;;) {
        uint32_t n = atomic_load_explicit(&from->n, memory_order_acquire);

        if (n == *seen)
            return false;
        if (n - *seen >= NOTICES) { /* also when it makes no sense */
            *lost += n - *seen - (NOTICES - 1);
            *seen = n - (NOTICES - 1);
        }
        memcpy(out, &from->kept[*seen % NOTICES], sizeof *out);
        atomic_thread_fence(memory_order_acquire);
        /* One less than there is room for: the next to be overwritten may be half so already. */
        if (atomic_load_explicit(&from->n, memory_order_relaxed) - *seen < NOTICES)
            break;
    }
    ++*seen;
    out->name[sizeof out->name - 1] = '\0';
    out->text[sizeof out->text - 1] = '\0';
    return true;
}
