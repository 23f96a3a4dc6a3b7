/*
 * matrix.h - the crash matrix: what a plugin can do wrong, where, and what becomes of it.
 *
 * One table, from which the tests take what to expect and docs/crash-model.md is written. A cell is
 * the worst that any fault of its row comes to in any place of its column; single faults and places
 * that do better are said so, and held to it.
 */
#ifndef CRASH_MATRIX_H
#define CRASH_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MATRIX_COLUMNS "abcdefghijkl"
enum { MATRIX_ROWS = 20, MATRIX_N_COLUMNS = 12 };

enum {
    CELL_NONE = '-',  /* cannot occur */
    CELL_UNRUN = '.', /* nobody knows how a plugin would bring it about */
};

struct matrix_fault {
    const char *name; /* in plugins/fault, tests/plugins/inside.c, or of throw.cc ("throw:std") */
    const char *function; /* that a crash record must name; NULL: it cannot be known */
    const char *cause;    /* in the record: a signal's name or the kind; NULL: there may be none */
    const char *columns;  /* where it is tried */
    char instead;         /* of the cell's letter: where this fault does better, or goes round what
                           * the cell is about (raw system calls); 0: nowhere */
};

struct matrix_row {
    const char *title;
    char specified[MATRIX_N_COLUMNS + 1];
    char actual[MATRIX_N_COLUMNS + 1]; /* of this version */
    char jobs[6]; /* column h by place: offload, post, thread, thread_end, timer */
    const struct matrix_fault *fault; /* up to one without a name */
};

/* Row i is number i + 1. */
extern const struct matrix_row matrix[MATRIX_ROWS];

/* Of that fault in that column (but e and f, where all of a row are alike). */
char matrix_expected(int row, const struct matrix_fault *f, char column);

/* Does it end by the deadline of the call? */
bool matrix_is_deadline(const struct matrix_fault *f);

/* Is this death on record, but charged to nobody? */
bool matrix_is_uncharged(int row, const char *place);

/* 'F' and 'R' are the least bad; what is no outcome is the worst. */
int matrix_rank(char outcome);

/* The cell of a row that differs from the specification without a reason given, or 0. */
char matrix_unexplained(int row);

/* observed[row][column]: letters, CELL_UNRUN where nothing was tried. '+' stands beside what is
 * better than specified, '-' beside what is worse, '!' beside what is not as the table says. */
void matrix_print(FILE *out, char observed[MATRIX_ROWS][MATRIX_N_COLUMNS]);
/* docs/crash-model.md. */
void matrix_markdown(FILE *out);

#endif
