/*
 * ration.h - how many descriptors each plugin may have open, and which are whose.
 *
 * A descriptor is a plugin's when its call, a thread of its own or its code has made it (open(),
 * socket(), dup() and their kin: interpose_open.c). Beyond plugins.NAME.descriptors it gets EMFILE, which
 * is logged once; after 16 of these in a row, none of its descriptors having been closed in between, it
 * is ejected: it leaks them.
 *
 * What a newcomer would get wrong: what the host opens inside a plugin's call (a host function) is not
 * the plugin's: who called says the return address. And close() by anybody takes it off, so a descriptor
 * that the plugin hands to the host (bh_send_fd()) is not counted for ever.
 */
#ifndef PLUGIN_RATION_H
#define PLUGIN_RATION_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct shm_worker;

/* Once per process, before plugins are loaded. */
void ration_init(const struct config *cfg, struct shm_worker *shared);

/* The plugin (index + 1) that makes a descriptor by a call from `caller`; 0: none. */
uint32_t ration_taker(const void *caller);

/* May it have n more? False: it is refused; errno is EMFILE. */
bool ration_allows(uint32_t plugin, int n);

/* It has got fd. plugin: 0 is fine. Returns fd. */
int ration_add(uint32_t plugin, int fd);

/* Closed, by anybody. */
void ration_remove(int fd);
void ration_remove_range(unsigned first, unsigned last);

uint32_t ration_count(uint32_t plugin);
/* One of those; -1: it has none. */
int ration_find(uint32_t plugin);

#endif
