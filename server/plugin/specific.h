/*
 * specific.h - which keys of thread-specific data there are, and what libc will call for each.
 *
 * libc does not tell. So pthread_key_create() and pthread_key_delete() come by here (interpose_thread.c),
 * for the preflight: a destructor that is still noted when its object goes would be called where no code
 * is any more.
 */
#ifndef PLUGIN_SPECIFIC_H
#define PLUGIN_SPECIFIC_H

#include <pthread.h>

/* Any thread. */
void specific_add(pthread_key_t key, void (*destructor)(void *));
void specific_remove(pthread_key_t key);

/* NULL: there is no such key, or nothing is to be called for it. key < PTHREAD_KEYS_MAX. */
void (*specific_destructor(pthread_key_t key))(void *);

#endif
