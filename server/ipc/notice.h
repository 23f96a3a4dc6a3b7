/*
 * notice.h - events of plugins on their way from a worker to the master's list (bh_event()).
 *
 * A ring per worker: its loop thread writes, the master looks once a second. What a newcomer would get
 * wrong: nobody waits for the reader. What was not read in time is overwritten, and the gap in the numbers
 * tells how many were lost. Texts are a plugin's, and the worker may have died in the middle: the reader
 * bounds and cleans them.
 */
#ifndef IPC_NOTICE_H
#define IPC_NOTICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOTICES     32
#define NOTICE_NAME 32
#define NOTICE_TEXT 208

struct notice {
    uint32_t plugin; /* index + 1 in the config */
    int64_t time_ns; /* since 1970 */
    char name[NOTICE_NAME], text[NOTICE_TEXT];
};

struct notices {
    _Atomic uint32_t n; /* so many were written */
    struct notice kept[NOTICES];
};

/* The one writer. name and text are cut where they are too long. */
void notice_write(struct notices *to, uint32_t plugin, int64_t time_ns, const char *name,
                  const char *text, size_t text_n);
/* The oldest that *seen has not; false: there is none. *lost: those before it that are gone. Strings end. */
bool notice_read(const struct notices *from, uint32_t *seen, struct notice *out, uint32_t *lost);

#endif
