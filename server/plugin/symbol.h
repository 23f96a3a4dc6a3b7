/*
 * symbol.h - what a function of a loaded object is called, by its symbol table.
 *
 * dladdr() knows what an object exports, which is not where plugins have their functions. Not for
 * handlers: reads the file. What is in there is not trusted.
 */
#ifndef PLUGIN_SYMBOL_H
#define PLUGIN_SYMBOL_H

#include <stddef.h>

/* "name()", or "FILE+0x1234", what addr2line asks for, where there are no symbols. */
const char *symbol_name(const void *function, char *buf, size_t size);

#endif
