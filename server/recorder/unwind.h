/*
 * unwind.h - the objects of a crashed process, opened with libdw, and its stack, unwound.
 */
#ifndef RECORDER_UNWIND_H
#define RECORDER_UNWIND_H

#include <elfutils/libdwfl.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/shm.h"

struct recorder_plugin;

struct unwind_object { /* as shm_crash.module[] */
    Dwfl_Module *mod;  /* NULL: no file that could be read */
    bool is_plugin;
    bool is_charged; /* the plugin that the record charges came from it */
};

struct unwind {
    const struct shm_crash *crash;
    Dwfl *dwfl;
    struct unwind_object object[SHM_MODULES];
    uint64_t pc, sp; /* where unwinding starts */
};

/* 0 or -errno; nothing to close then. */
int unwind_open(struct unwind *u, const struct shm_crash *crash,
                const struct recorder_plugin *plugin, int n_plugins);
void unwind_close(struct unwind *u);

/* Index of the object that is mapped there, or -1. */
int unwind_object_at(const struct unwind *u, uint64_t addr);

/* Does addr lie in the text of an object whose file was found? */
bool unwind_is_code(const struct unwind *u, uint64_t addr);

/* Reads n bytes of the dead process: its stack, or what its objects' files say of memory that
 * cannot have changed since. False when neither holds them. */
bool unwind_read(const struct unwind *u, uint64_t addr, void *to, size_t n);

/* Calls each() for every frame from u->pc on, innermost first, until it returns false. is_call: pc
 * is a return address, the call is before it. sp: 0 when unknown. Returns false when the end of the
 * stack was not reached. */
typedef bool unwind_each(void *arg, uint64_t pc, bool is_call, uint64_t sp);
bool unwind_run(struct unwind *u, unwind_each *each, void *arg);

#endif
