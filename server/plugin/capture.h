/*
 * capture.h - the raw crash record, written where the crash happens.
 *
 * Everything here runs in a fault handler or right after one: no lock, no allocation, no stdio.
 */
#ifndef PLUGIN_CAPTURE_H
#define PLUGIN_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "ipc/shm.h"

struct capture { /* what the handler knows */
    int signo, code;
    uint64_t fault_addr;
    const char *kind, *reason, *message; /* message: NULL or the text of an abort */
    char verdict;                        /* enum shm_verdict */
    uint32_t plugin, hook;
    const uint64_t *reg;  /* SHM_REGS of them */
    uint64_t fingerprint; /* capture_fingerprint(); 0: not asked for yet */
    uint64_t place;       /* in a plugin: what repeats are told by; 0: as rip */
};

void capture_init(struct shm *shm, int worker);

/* Snapshot of all loaded objects. Not for handlers. */
void capture_modules(void);

/* The registers of an interrupted context. */
void capture_registers(const ucontext_t *uc, uint64_t *reg);

/* Where it struck and as what: equal crashes have equal ones, in any worker and any copy of the
 * plugin's object. */
uint64_t capture_fingerprint(const struct capture *c);

/* Writes a record, or folds the crash into the one of an equal crash: then *record is NULL. id
 * (40 bytes) names the record in both cases; empty when all slots were busy. */
void capture_crash(const struct capture *c, struct shm_crash **record, char *id);

/* For the last record of a worker which does not say of what request it died: what the loop thread's label
 * says, method and path, and no protocol. */
void capture_label(struct shm_crash *record);

#endif
