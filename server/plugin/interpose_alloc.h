/*
 * interpose_alloc.h - for interposers of functions whose result is the caller's to free().
 */
#ifndef PLUGIN_INTERPOSE_ALLOC_H
#define PLUGIN_INTERPOSE_ALLOC_H

struct heap;

/* The private heap that serves what `caller` allocates now; NULL: libc's does. */
struct heap *interpose_heap(const void *caller);

#endif
