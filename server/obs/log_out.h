/*
 * log_out.h - the error log's descriptor, and a line's way out through it.
 *
 * Who logs serves clients, or watches over those who do, and must not wait for a reader: a pipe to a log
 * collector that has stopped, or a terminal after Ctrl-S, would hold up all processes at their next line.
 * A line that finds no room is lost and counted.
 *
 * What a newcomer would get wrong: asking poll(2) before the write does not do, since all processes write
 * to the same pipe; and O_NONBLOCK would be set for everybody who has it open, the shell too. So a pipe is
 * opened once more.
 */
#ifndef OBS_LOG_OUT_H
#define OBS_LOG_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For standard error: a descriptor to write to, that of its own or STDERR_FILENO itself. */
int log_out_open_stderr(void);
/* One line, with its end, of PIPE_BUF bytes at most. False: it is lost. */
bool log_out_write(int fd, const char *p, size_t n);
/* How many were lost since this was last asked; 0 while there is still no room. */
uint32_t log_out_take_lost(void);

#endif
