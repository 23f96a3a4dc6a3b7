/*
 * table.h - a few columns for people: as wide as what is in them.
 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdio.h>

#define TABLE_COLUMNS 12

struct table {
    int n_columns, n_rows;
    char **cell; /* n_rows * n_columns, malloc'd */
    int width[TABLE_COLUMNS];
};

void table_init(struct table *t, int n_columns);
/* One text per column; copied. What a terminal could take for a command is replaced. */
void table_row(struct table *t, ...);
/* Prints and frees. */
void table_print(struct table *t, FILE *out);

#endif
