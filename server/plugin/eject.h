/*
 * eject.h - outcome Q: a plugin that this worker cannot trust any more is taken out of it, and the
 * worker asks for a successor.
 *
 * For faults that leave nothing of the host's half done, but something of the plugin's: a thread of
 * its own that crashed, a mutex that nobody will unlock, a limit that it ran into. The worker goes on
 * serving without that plugin (on_error decides what its requests get), until its successor is there.
 *
 * What a newcomer would get wrong: eject() only takes note. The loop thread does the rest, on its
 * next round: instance_eject() for the plugin, and the replacement (worker.c).
 */
#ifndef PLUGIN_EJECT_H
#define PLUGIN_EJECT_H

#include <stdbool.h>
#include <stdint.h>

/* wake_fd: eventfd of the loop. Once, before plugins are loaded. */
void eject_init(int wake_fd);

/* plugin: index + 1 in the config; 0: no plugin's fault, but this worker shall be replaced. why: a
 * static string, for the log and `bulkhead status`. The first reason counts. Any thread,
 * async-signal-safe. */
void eject(uint32_t plugin, const char *why);

/* Has eject() been called for it? Any thread, async-signal-safe. */
bool eject_is_out(uint32_t plugin);

/* The next plugin that was ejected since, and why; false: none. Loop thread. */
bool eject_take(uint32_t *plugin, const char **why);

#endif
