/*
 * matrix.h - the crash matrix: what a plugin can do wrong, where, and what becomes of it.
 *
 * One table, from which the tests take what to expect and docs/crash-model.md is written. A cell
 * says the worst that any fault of its row came to in any place of its column.
 */
#ifndef CRASH_MATRIX_H
#define CRASH_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define MATRIX_COLUMNS "abcdefghijkl"
enum { MATRIX_ROWS = 20, MATRIX_N_COLUMNS = 12 };

enum {
    CELL_NONE = '-',  /* cannot occur */
    CELL_UNRUN = '.', /* no plugin is known that does it; the specification's letter stands */
};

struct matrix_fault {
    const char *name;     /* of plugins/fault, tests/plugins/throw.cc or inside.c */
    const char *function; /* what a crash record must name; NULL: the caller is all there is */
    const char *cause;    /* in the record: a signal's name, or the kind; NULL: none is written */
    const char *columns;  /* where it is tried */
};

struct matrix_row {
    const char *title;
    char specified[MATRIX_N_COLUMNS + 1];
    char actual[MATRIX_N_COLUMNS + 1]; /* of this version */
    const char *also; /* where two outcomes are possible: the columns, and the other letter is X */
    const struct matrix_fault *fault; /* up to one without a name */
};

/* Row i is number i + 1. */
extern const struct matrix_row matrix[MATRIX_ROWS];

/* 'R' is the least bad; an outcome that is not one is the worst. */
int matrix_rank(char outcome);
bool matrix_is_better(char actual, char specified);

/* observed[row][column]: letters, CELL_UNRUN where nothing was tried. */
void matrix_print(FILE *out, char observed[MATRIX_ROWS][MATRIX_N_COLUMNS]);
/* docs/crash-model.md. */
void matrix_markdown(FILE *out);

#endif
