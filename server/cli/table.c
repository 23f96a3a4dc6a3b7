#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"

void table_init(struct table *t, int n_columns)
{
    must(n_columns > 0 && n_columns <= TABLE_COLUMNS);
    *t = (struct table){.n_columns = n_columns};
}

static char *copy_clean(const char *text)
{
    char *copy = strdup(text);

    for (char *p = copy; p != NULL && *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return copy;
}

void table_row(struct table *t, ...)
{
    size_t n = (size_t)(t->n_rows + 1) * (size_t)t->n_columns;
    char **cell = realloc(t->cell, n * sizeof *cell), **row;
    va_list ap;

    if (cell == NULL)
        return; /* a row less */
    t->cell = cell;
    row = cell + (size_t)t->n_rows++ * (size_t)t->n_columns;
    va_start(ap, t);
    for (int i = 0; i < t->n_columns; i++) {
        int width;

        row[i] = copy_clean(va_arg(ap, const char *));
        width = row[i] != NULL ? (int)strlen(row[i]) : 0;
        if (width > t->width[i])
            t->width[i] = width;
    }
    va_end(ap);
}

void table_print(struct table *t, FILE *out)
{
    for (int r = 0; r < t->n_rows; r++) {
        char **row = t->cell + (size_t)r * (size_t)t->n_columns;
        int last = t->n_columns - 1;

        while (last > 0 && (row[last] == NULL || row[last][0] == '\0'))
            last--;
        for (int i = 0; i <= last; i++)
            fprintf(out, "%-*s%s", i < last ? t->width[i] : 0, row[i] != NULL ? row[i] : "",
                    i < last ? "  " : "");
        fputc('\n', out);
        for (int i = 0; i < t->n_columns; i++)
            free(row[i]);
    }
    free((void *)t->cell);
    *t = (struct table){.n_columns = t->n_columns};
}
