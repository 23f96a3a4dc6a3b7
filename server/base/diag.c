#include "base/diag.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void diag_init(struct diag *d)
{
    d->n = d->n_errors = 0; /* items are filled as they are used; all of them are 2 KiB */
}

void diag_fini(struct diag *d)
{
    for (int i = 0; i < d->n; i++) {
        free(d->item[i].file);
        free(d->item[i].what);
        free(d->item[i].hint);
    }
    diag_init(d);
}

void diag_add(struct diag *d, const char *file, int line, int column, const char *hint,
              const char *fmt, ...)
{
    struct diag_item *item;
    va_list ap;

    if (d == NULL)
        return;
    d->n_errors++;
    if (d->n == DIAG_MAX)
        return;
    item = &d->item[d->n];
    va_start(ap, fmt);
    if (vasprintf(&item->what, fmt, ap) < 0)
        item->what = NULL;
    va_end(ap);
    if (item->what == NULL)
        return; /* out of memory: n_errors still tells that there was one */
    /* What is wrong may quote input: keep it on one line and in sight. */
    for (unsigned char *p = (unsigned char *)item->what; *p != '\0'; p++)
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
    item->file = file != NULL ? strdup(file) : NULL;
    item->line = line;
    item->column = column;
    item->hint = hint != NULL ? strdup(hint) : NULL;
    d->n++;
}

static bool is_after(const struct diag_item *a, const struct diag_item *b)
{
    if (a->file != NULL && b->file != NULL && strcmp(a->file, b->file) != 0)
        return false; /* files stay in the order in which they were read */
    return a->line != b->line ? a->line > b->line : a->column > b->column;
}

void diag_sort(struct diag *d)
{
    for (int i = 1; i < d->n; i++) {
        struct diag_item item = d->item[i];
        int j = i;

        for (; j > 0 && is_after(&d->item[j - 1], &item); j--)
            d->item[j] = d->item[j - 1];
        d->item[j] = item;
    }
}

void diag_format(const struct diag *d, int i, char *buf, size_t size)
{
    const struct diag_item *item = &d->item[i];
    int n = 0;

    if (item->file != NULL && item->line > 0)
        n = snprintf(buf, size, "%s:%d:%d: ", item->file, item->line, item->column);
    else if (item->file != NULL)
        n = snprintf(buf, size, "%s: ", item->file);
    if (n >= 0 && (size_t)n < size)
        snprintf(buf + n, size - (size_t)n, "error: %s%s%s", item->what,
                 item->hint != NULL ? "; " : "", item->hint != NULL ? item->hint : "");
}

void diag_format_all(const struct diag *d, char *buf, size_t size)
{
    size_t n = 0;

    buf[0] = '\0';
    for (int i = 0; i < d->n && n + 1 < size; i++) {
        diag_format(d, i, buf + n, size - n - 1);
        n += strlen(buf + n);
        buf[n++] = '\n';
        buf[n] = '\0';
    }
}

void diag_print(const struct diag *d, FILE *out)
{
    for (int i = 0; i < d->n; i++) {
        const struct diag_item *item = &d->item[i];

        if (item->file != NULL && item->line > 0)
            fprintf(out, "%s:%d:%d: ", item->file, item->line, item->column);
        else if (item->file != NULL)
            fprintf(out, "%s: ", item->file);
        fprintf(out, "error: %s\n", item->what);
        if (item->hint != NULL)
            fprintf(out, "  hint: %s\n", item->hint);
    }
    if (d->n_errors > d->n)
        fprintf(out, "... and %d more\n", d->n_errors - d->n);
}
