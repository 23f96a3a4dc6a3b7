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
    const char *name;  /* file name; the original's for a private copy */
    bool is_plugin;
    bool is_charged; /* the plugin that the record charges came from it */
};

/* Calls for every frame, innermost first, until it returns false. is_call: pc is a return address,
 * the call is before it. sp: 0 when unknown. */
typedef bool unwind_each(void *arg, uint64_t pc, bool is_call, uint64_t sp);

struct unwind { /* all zero: closed */
    const struct shm_crash *crash;
    uint64_t pc, sp; /* where unwinding starts: the crash's registers, unless changed */
    Dwfl *dwfl;
    bool is_attached;
    struct unwind_object object[SHM_MODULES];
    struct { /* what dwfl was made from */
        uint32_t n;
        struct shm_module module[SHM_MODULES];
    } made;
    struct { /* of the unwind_run() in progress */
        unwind_each *each;
        void *arg;
        int n;
        bool is_stopped;
    } run;
};

/* Opens the objects of a crash, or goes on with those that are open when they are the same: reading
 * a distribution's debug information takes 50 ms and more. 0 or -errno; closed then. */
int unwind_open(struct unwind *u, const struct shm_crash *crash,
                const struct recorder_plugin *plugin, int n_plugins);
void unwind_close(struct unwind *u);

/* Are the objects of this crash open? */
bool unwind_is_for(const struct unwind *u, const struct shm_crash *crash);

/* Index of the object that is mapped there, or -1. */
int unwind_object_at(const struct unwind *u, uint64_t addr);

/* Does addr lie in the text of an object whose file was found? */
bool unwind_is_code(const struct unwind *u, uint64_t addr);

/* Reads n bytes of the dead process: its stack, or what its objects' files say of memory that
 * cannot have changed since. False when neither holds them. */
bool unwind_read(const struct unwind *u, uint64_t addr, void *to, size_t n);

/* From u->pc on. False when the end of the stack was not reached. */
bool unwind_run(struct unwind *u, unwind_each *each, void *arg);

#endif
