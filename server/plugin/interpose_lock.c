/*
 * interpose_lock.c - counts how deep a thread is in libc code that holds a lock.
 *
 * A fault there cannot be jumped out of: the lock would stay held for ever. Each wrapper adds to
 * this thread's counter, calls the real function, and subtracts. memcpy, strlen, qsort, snprintf
 * and the rest of libc hold nothing and are not wrapped: faults in them are the plugin's own. The
 * allocator is in interpose_alloc.c.
 *
 * Not under sanitizers, which have their own interceptors.
 */
#ifndef BULKHEAD_SANITIZE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "plugin/hostfd.h"
#include "plugin/last_words.h"
#include "plugin/ration.h"
#include "plugin/recover.h"

static inline void enter(void)
{
    recover_self.depth += RECOVER_LIBC;
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void leave(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    recover_self.depth -= RECOVER_LIBC;
}

/* Looked up on first use; a race stores the same value twice. */
#define REAL(NAME)                 \
    static __typeof__(&NAME) real; \
    if (real == NULL)              \
    real = (__typeof__(&NAME))dlsym(RTLD_NEXT, #NAME)

#define LOCKED(TYPE, NAME, PARAMS, ARGS) \
    TYPE NAME PARAMS                     \
    {                                    \
        TYPE result;                     \
        REAL(NAME);                      \
        enter();                         \
        result = real ARGS;              \
        leave();                         \
        return result;                   \
    }

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#undef putc
#undef getc
#undef putchar

LOCKED(int, vfprintf, (FILE * f, const char *fmt, va_list ap), (f, fmt, ap))
LOCKED(int, puts, (const char *s), (s))
LOCKED(int, putc, (int c, FILE *f), (c, f))
LOCKED(int, putchar, (int c), (c))
LOCKED(int, fgetc, (FILE * f), (f))
LOCKED(int, getc, (FILE * f), (f))
LOCKED(int, fflush, (FILE * f), (f))
LOCKED(int, fseek, (FILE * f, long off, int whence), (f, off, whence))
LOCKED(char *, fgets, (char *s, int n, FILE *f), (s, n, f))
LOCKED(size_t, fread, (void *p, size_t size, size_t n, FILE *f), (p, size, n, f))
LOCKED(int, dl_iterate_phdr, (int (*fn)(struct dl_phdr_info *, size_t, void *), void *data),
       (fn, data))

/* Of those that the C++ library calls at its end, some pieces are kept for the record. */
#define WRITING(TYPE, NAME, PARAMS, ARGS, BYTES, LEN, DONE)                                 \
    TYPE NAME PARAMS                                                                        \
    {                                                                                       \
        TYPE result;                                                                        \
        REAL(NAME);                                                                         \
        if (f == stderr && last_words_take((BYTES), (LEN), f, __builtin_return_address(0))) \
            return (DONE);                                                                  \
        enter();                                                                            \
        result = real ARGS;                                                                 \
        leave();                                                                            \
        return result;                                                                      \
    }

WRITING(int, fputs, (const char *s, FILE *f), (s, f), s, strlen(s), 1)
WRITING(int, fputc, (int c, FILE *f), (c, f), &(char){(char)c}, 1, c)
WRITING(size_t, fwrite, (const void *p, size_t size, size_t n, FILE *f), (p, size, n, f), p,
        size *n, n)

/* libc opens the descriptor by its own means, behind interpose_open.c. */
#define COUNTED_FOPEN(NAME)                                          \
    FILE *NAME(const char *path, const char *mode)                   \
    {                                                                \
        uint32_t plugin = ration_taker(__builtin_return_address(0)); \
        FILE *f;                                                     \
                                                                     \
        REAL(NAME);                                                  \
        if (!ration_allows(plugin, 1))                               \
            return NULL;                                             \
        enter();                                                     \
        f = real(path, mode);                                        \
        leave();                                                     \
        if (f != NULL)                                               \
            ration_add(plugin, fileno(f));                           \
        return f;                                                    \
    }

COUNTED_FOPEN(fopen)
COUNTED_FOPEN(fopen64)

/* Closes it the same way. */
int fclose(FILE *f)
{
    int r = EOF, fd = fileno(f);

    REAL(fclose);
    enter();
    if (hostfd_has(fd) && hostfd_is_guarded(__builtin_return_address(0))) {
        hostfd_note("fclose()", fd, __builtin_return_address(0));
        errno = EBADF;
    } else {
        if (!recover_self.is_child_of_fork)
            ration_remove(fd);
        r = real(f);
    }
    leave();
    return r;
}

/* flockfile() keeps its lock until funlockfile(). */
void flockfile(FILE *f)
{
    REAL(flockfile);
    enter();
    real(f);
}

void funlockfile(FILE *f)
{
    REAL(funlockfile);
    real(f);
    leave();
}

#define VARIADIC(NAME, PARAMS, CALL) \
    int NAME PARAMS                  \
    {                                \
        va_list ap;                  \
        int n;                       \
        va_start(ap, fmt);           \
        n = CALL;                    \
        va_end(ap);                  \
        return n;                    \
    }

VARIADIC(fprintf, (FILE * f, const char *fmt, ...), vfprintf(f, fmt, ap))
VARIADIC(printf, (const char *fmt, ...), vfprintf(stdout, fmt, ap))
int vprintf(const char *fmt, va_list ap)
{
    return vfprintf(stdout, fmt, ap);
}

/* What the same calls become with _FORTIFY_SOURCE. */
int __vfprintf_chk(FILE *f, int flag, const char *fmt, va_list ap);
LOCKED(int, __vfprintf_chk, (FILE * f, int flag, const char *fmt, va_list ap), (f, flag, fmt, ap))
VARIADIC(__fprintf_chk, (FILE * f, int flag, const char *fmt, ...),
         __vfprintf_chk(f, flag, fmt, ap))
VARIADIC(__printf_chk, (int flag, const char *fmt, ...), __vfprintf_chk(stdout, flag, fmt, ap))
#endif
