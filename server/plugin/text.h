/*
 * text.h - whose code an address is.
 *
 * Filled while objects are loaded, asked by fault handlers: no lock, no allocation, no loader call.
 */
#ifndef PLUGIN_TEXT_H
#define PLUGIN_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* Finds the objects that are there already, and the functions that text_is_waiting() knows. Not for
 * handlers. */
void text_init(void);

/* The executable segments of an object that was just loaded. Not for handlers. */
void text_add_object(const char *path, uint32_t plugin);

/* The objects that come with the process. Async-signal-safe. */
enum text_system { TEXT_ELSEWHERE, TEXT_HOST, TEXT_LIBC, TEXT_LOADER };
enum text_system text_system(uintptr_t pc);

/* The plugin (index + 1) whose object holds this address, or 0. Async-signal-safe. */
uint32_t text_owner(uintptr_t pc);

/* May what this code allocates go when the plugin's incarnation goes? A plugin's own code, and that of
 * the C++ library, which allocates for those who call it. */
bool text_is_tenant(uintptr_t pc);

/* Has that object thread-local variables? */
bool text_has_tls(uintptr_t object);

/* The executable segment of the object that is loaded there. False: it is no plugin's. */
bool text_range(uintptr_t object, uintptr_t *lo, uintptr_t *size);

/* Which object that is, as of the several copies of a plugin: where it is loaded. 0: no plugin's. */
uintptr_t text_object(uintptr_t pc);

/* In a system call wrapper that holds no lock while it waits: leaving it is like leaving the code
 * that called it. Async-signal-safe. */
bool text_is_waiting(uintptr_t pc);

#endif
