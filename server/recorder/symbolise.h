/*
 * symbolise.h - registers and a copy of a stack become a backtrace with files and lines.
 *
 * Works on a raw crash record alone, long after the crash and in another process: libdw unwinds over
 * the copied stack and reads the objects' files for tables, symbols and debug information. All of
 * these may be damaged or hostile; a crash in here costs the recorder a restart and that record its
 * backtrace, a loop is ended by the recorder's alarm.
 */
#ifndef RECORDER_SYMBOLISE_H
#define RECORDER_SYMBOLISE_H

struct record_trace;
struct recorder_plugin;
struct shm_crash;

/* crash: cleaned (obs/record.h). Always at least one frame, the program counter itself. */
void symbolise(const struct shm_crash *crash, const struct recorder_plugin *plugin, int n_plugins,
               struct record_trace *out);

/* Gives back what is kept for the next crash: tens of megabytes of debug information. */
void symbolise_rest(void);

#endif
