/*
 * ab_test_same.c - another next version of ab_test: its object is another, and what it does is the same.
 */
#define VERSION_2     "2.1.0"
#define KEEPS_CLIENTS 0
#include "ab_test_v2.c" /* NOLINT: a variant of it */
