/*
 * record.h - a crash record as JSON, schema "bulkhead-crash/1".
 *
 * Made by the recorder from its own copy of a raw record (ipc/shm.h); read by `bulkhead crashes`.
 * What a newcomer would get wrong: the raw record was written by a process that crashed, under the
 * hands of a plugin that may be hostile. Nothing of it is used before record_clean() has been over
 * the copy.
 */
#ifndef OBS_RECORD_H
#define OBS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_t;
struct shm_crash;

#define RECORD_SCHEMA     "bulkhead-crash/1"
#define RECORD_MAX_FRAMES 64

struct recorder_plugin { /* what the recorder is told of a plugin; as config->plugin */
    const char *instance, *module;
    const char *object;   /* absolute path of the .so */
    const char *version;  /* NULL: none */
    const char *build_id; /* hexadecimal; NULL or "": none */
    const char *copy;     /* what is mapped; NULL: not known */
    uint32_t place;       /* index + 1 */
};

struct record_frame {
    uint64_t pc;
    uint64_t offset;   /* into the function */
    uint32_t line;     /* 0: unknown */
    bool is_code;      /* false: pc lies in no object's text */
    bool is_plugin;    /* in some plugin's object */
    bool is_charged;   /* in the object of the plugin that is charged */
    bool is_guess;     /* found by scanning the stack, not by unwinding */
    bool is_inline;    /* inlined into the next frame */
    bool is_machinery; /* abort(), exit(), the boundary: not where the fault is */
    char module[64];   /* file name; empty: unknown */
    char function[128];
    char file[256];
};

struct record_trace {
    int n;
    struct record_frame frame[RECORD_MAX_FRAMES]; /* innermost first */
};

struct record_source {
    const struct shm_crash *crash;    /* a private copy, cleaned */
    const struct record_trace *trace; /* NULL: no backtrace, trace_missing says why */
    const char *trace_missing;
    const struct recorder_plugin *plugin;
    int n_plugins;
    const char *hook; /* its name */
    uint32_t worker;
    uint64_t repeats;  /* crashes folded into this record so far */
    int64_t repeat_ns; /* the last of them; 0: none */
};

/* Ends strings, bounds counts, makes the id valid: afterwards everything may be believed to be
 * well-formed (if not to be true). slot: number to name a record whose id is unusable. */
void record_clean(struct shm_crash *crash, uint32_t worker, uint32_t slot);

/* 1 to 39 letters, digits and dashes: safe as a file name. */
bool record_id_is_valid(const char *id);

/* NULL: out of memory. The caller decrefs. */
struct json_t *record_to_json(const struct record_source *src);

/* The frame to name as the place of the fault, or NULL. */
const struct record_frame *record_where(const struct record_trace *trace);

/* "SIGSEGV", "SEGV_MAPERR"; "?" when unknown. */
const char *record_signal_name(int signo);
const char *record_code_name(int signo, int code);

/* A phrase for people: "recovered: this request failed, nothing else". */
const char *record_verdict_text(char verdict);

#endif
