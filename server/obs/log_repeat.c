#include "obs/log_repeat.h"

#include <stdatomic.h>
#include <string.h>

#define SLOTS    64
#define TEXT_MAX 512 /* of the line that is told; equal is what is equal as a whole */
#define WHO_MAX  64

static struct slot {
    atomic_flag is_busy;
    _Atomic uint32_t n_counted; /* not written, and not told yet */
    _Atomic int64_t end_ms;     /* of the window; 0: the slot is free */
    uint64_t hash;
    uint32_t n_written;
    int level;
    bool has_who;
    size_t n;
} slots[SLOTS];

/* Apart from the slots, which are looked at often and cleared in every process: they are one page. */
static struct line {
    char who[WHO_MAX];
    char text[TEXT_MAX];
} lines[SLOTS];

static _Atomic uint32_t most_lines;

/* FNV-1a. */
static uint64_t hash_on(uint64_t h, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    return h;
}

void log_repeat_limit(uint32_t most)
{
    atomic_store(&most_lines, most);
}

void log_repeat_reset(void)
{
    for (int i = 0; i < SLOTS; i++) {
        atomic_store(&slots[i].n_counted, 0);
        atomic_store(&slots[i].end_ms, 0);
        atomic_flag_clear(&slots[i].is_busy);
    }
}

/* The slot is ours. Its window is over, or about to be. */
static void tell_and_free(struct slot *s, log_repeat_tell *tell)
{
    uint32_t n = atomic_exchange(&s->n_counted, 0);
    const struct line *l = &lines[s - slots];

    atomic_store(&s->end_ms, 0);
    if (n > 0)
        tell(s->level, s->has_who ? l->who : NULL, l->text, s->n, n);
}

static void take(struct slot *s, uint64_t hash, int level, const char *who, const char *msg,
                 size_t n, int64_t now_ms)
{
    struct line *l = &lines[s - slots];

    s->hash = hash;
    s->level = level;
    s->has_who = who != NULL;
    l->who[0] = '\0';
    if (who != NULL)
        strncat(l->who, who, sizeof l->who - 1);
    s->n = n < sizeof l->text ? n : sizeof l->text;
    memcpy(l->text, msg, s->n);
    s->n_written = 0;
    atomic_store(&s->end_ms, now_ms + LOG_REPEAT_MS);
}

bool log_repeat_admit(int level, const char *who, const char *msg, size_t n, int64_t now_ms,
                      log_repeat_tell *tell)
{
    uint32_t most = atomic_load_explicit(&most_lines, memory_order_relaxed);
    bool is_admitted = true;
    uint64_t hash;
    struct slot *s;
    int64_t end_ms;

    if (most == 0)
        return true;
    hash = hash_on(0xcbf29ce484222325u + (uint64_t)level, who != NULL ? who : "",
                   who != NULL ? strnlen(who, WHO_MAX) + 1 : 1);
    hash = hash_on(hash, msg, n);
    s = &slots[hash % SLOTS];
    if (atomic_flag_test_and_set(&s->is_busy))
        return true;
    end_ms = atomic_load(&s->end_ms);
    if (end_ms != 0 && end_ms <= now_ms)
        tell_and_free(s, tell);
    if (atomic_load(&s->end_ms) == 0 || (s->hash != hash && atomic_load(&s->n_counted) == 0))
        take(s, hash, level, who, msg, n, now_ms);
    if (s->hash == hash) { /* else the slot is another line's: no limit for this one */
        is_admitted = s->n_written < most;
        if (is_admitted)
            s->n_written++;
        else
            atomic_fetch_add(&s->n_counted, 1);
    }
    atomic_flag_clear(&s->is_busy);
    return is_admitted;
}

void log_repeat_flush(int64_t now_ms, log_repeat_tell *tell)
{
    for (int i = 0; i < SLOTS; i++) {
        struct slot *s = &slots[i];
        int64_t end_ms = atomic_load(&s->end_ms);

        if (end_ms == 0 || end_ms > now_ms || atomic_flag_test_and_set(&s->is_busy))
            continue;
        tell_and_free(s, tell);
        atomic_flag_clear(&s->is_busy);
    }
}

int64_t log_repeat_next_ms(void)
{
    int64_t next_ms = INT64_MAX;

    for (int i = 0; i < SLOTS; i++) {
        int64_t end_ms = atomic_load(&slots[i].end_ms);

        if (end_ms != 0 && end_ms < next_ms && atomic_load(&slots[i].n_counted) > 0)
            next_ms = end_ms;
    }
    return next_ms;
}
