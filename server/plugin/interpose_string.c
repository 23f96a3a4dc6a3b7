/*
 * interpose_string.c - what libc allocates to be the caller's: from the caller's heap.
 *
 * It is libc that calls malloc() in there, so that would come from libc's heap (interpose_alloc.c),
 * and a crash of the plugin would not give it back. These are the functions whose result is nothing
 * but text for the caller to free(). What else libc allocates for a caller (getaddrinfo(), regcomp(),
 * scandir(), open_memstream()...) has pointers in it, may be shared, and is freed by libc: it stays
 * where it is.
 *
 * Not under sanitizers, which have their own allocator.
 */
#ifndef BULKHEAD_SANITIZE
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/heap.h"
#include "plugin/interpose.h"
#include "plugin/interpose_alloc.h"

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#undef strdup
#undef strndup

#define CALLER __builtin_return_address(0)

static char *copy(struct heap *h, const char *s, size_t n)
{
    char *p = h != NULL ? heap_alloc(h, n + 1) : malloc(n + 1);

    if (p == NULL)
        return NULL;
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *strdup(const char *s)
{
    return copy(interpose_heap(CALLER), s, strlen(s));
}

char *__strdup(const char *s)
{
    return copy(interpose_heap(CALLER), s, strlen(s));
}

char *strndup(const char *s, size_t n)
{
    return copy(interpose_heap(CALLER), s, strnlen(s, n));
}

char *__strndup(const char *s, size_t n)
{
    return copy(interpose_heap(CALLER), s, strnlen(s, n));
}

/* ---- formatted ---- */

int __vsnprintf_chk(char *s, size_t n, int flag, size_t size, const char *format, va_list args);
int __vasprintf_chk(char **out, int flag, const char *format, va_list args);

/* flag: as _FORTIFY_SOURCE has it; -1: without. */
static int print(struct heap *h, char **out, int flag, const char *format, va_list args)
{
    va_list again;
    char *p;
    int n;

    va_copy(again, args);
    n = flag < 0 ? vsnprintf(NULL, 0, format, again)
                 : __vsnprintf_chk(NULL, 0, flag, SIZE_MAX, format, again);
    va_end(again);
    if (n < 0)
        return -1;
    p = heap_alloc(h, (size_t)n + 1);
    if (p == NULL)
        return -1;
    if (flag < 0)
        n = vsnprintf(p, (size_t)n + 1, format, args);
    else
        n = __vsnprintf_chk(p, (size_t)n + 1, flag, (size_t)n + 1, format, args);
    *out = p;
    return n;
}

static int print_for(const void *caller, char **out, int flag, const char *format, va_list args)
{
    struct heap *h = interpose_heap(caller);

    if (h != NULL)
        return print(h, out, flag, format, args);
    if (flag < 0) {
        INTERPOSE_REAL(vasprintf);
        return real(out, format, args);
    } else {
        INTERPOSE_REAL(__vasprintf_chk);
        return real(out, flag, format, args);
    }
}

int vasprintf(char **out, const char *format, va_list args)
{
    return print_for(CALLER, out, -1, format, args);
}

int __vasprintf_chk(char **out, int flag, const char *format, va_list args)
{
    return print_for(CALLER, out, flag, format, args);
}

int asprintf(char **out, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = print_for(CALLER, out, -1, format, args);
    va_end(args);
    return n;
}

int __asprintf_chk(char **out, int flag, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = print_for(CALLER, out, flag, format, args);
    va_end(args);
    return n;
}

/* ---- lines and paths ---- */

/* libc resizes what it is given, and that stays in its heap. */
static void provide(struct heap *h, char **line, size_t *n)
{
    if (h == NULL || *line != NULL)
        return;
    *line = heap_alloc(h, 120);
    *n = *line != NULL ? 120 : 0;
}

ssize_t getdelim(char **line, size_t *n, int end, FILE *f)
{
    ssize_t r;

    INTERPOSE_REAL(getdelim);
    provide(interpose_heap(CALLER), line, n);
    interpose_enter(RECOVER_LIBC);
    r = real(line, n, end, f);
    interpose_leave(RECOVER_LIBC);
    return r;
}

/* What getline() becomes, inlined. */
ssize_t __getdelim(char **line, size_t *n, int end, FILE *f)
{
    ssize_t r;

    INTERPOSE_REAL(__getdelim);
    provide(interpose_heap(CALLER), line, n);
    interpose_enter(RECOVER_LIBC);
    r = real(line, n, end, f);
    interpose_leave(RECOVER_LIBC);
    return r;
}

ssize_t getline(char **line, size_t *n, FILE *f)
{
    ssize_t r;

    INTERPOSE_REAL(getline);
    provide(interpose_heap(CALLER), line, n);
    interpose_enter(RECOVER_LIBC);
    r = real(line, n, f);
    interpose_leave(RECOVER_LIBC);
    return r;
}

char *realpath(const char *path, char *out)
{
    struct heap *h = out == NULL ? interpose_heap(CALLER) : NULL;
    char full[PATH_MAX];

    INTERPOSE_REAL(realpath);
    if (h == NULL)
        return real(path, out);
    return real(path, full) != NULL ? copy(h, full, strlen(full)) : NULL;
}

char *getcwd(char *out, size_t n)
{
    struct heap *h = out == NULL ? interpose_heap(CALLER) : NULL;
    char full[PATH_MAX], *p;

    INTERPOSE_REAL(getcwd);
    if (h == NULL)
        return real(out, n);
    if (real(full, n != 0 && n < sizeof full ? n : sizeof full) == NULL)
        return NULL;
    p = heap_alloc(h, n != 0 && n > strlen(full) ? n : strlen(full) + 1);
    return p != NULL ? strcpy(p, full) : NULL;
}
#endif
