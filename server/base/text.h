/* text.h - what others said, made fit to be printed; texts that may be absent. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* As much of src (not NULL) as fits, NUL-terminated; '?' for all but printable ASCII. size: not 0. */
static inline void text_printable(char *dst, size_t size, const char *src)
{
    size_t n = 0;

    for (; n < size - 1 && src[n] != '\0'; n++)
        dst[n] = (char)(src[n] >= 0x20 && src[n] < 0x7f ? src[n] : '?');
    dst[n] = '\0';
}

/* NULL is the same as NULL, and as nothing else. */
static inline bool text_is_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

#endif
