/*
 * libraries.h - do the libraries that an object needs define what it leaves undefined?
 *
 * Answered from the files alone: loading a library would run its constructors.
 */
#ifndef PLUGIN_LIBRARIES_H
#define PLUGIN_LIBRARIES_H

#include <stddef.h>

struct elf;

#define LIBRARIES_MAX_MISSING 8

/* Finds symbols that no one will offer when the object at path is loaded: neither this process nor
 * any library it needs, directly or through others. At most LIBRARIES_MAX_MISSING names, which live
 * as long as elf. Their number in *n; *total counts all. Reports nothing when one of the libraries
 * was not found or could not be read: then loading will tell. 0 or -ENOMEM. */
int libraries_find_missing(const struct elf *elf, const char *path,
                           const char *missing[LIBRARIES_MAX_MISSING], size_t *n, size_t *total);

#endif
