/*
 * thread.h - threads beside the loop: those that plugins start, and the host's own.
 *
 * A thread belongs to a plugin when pthread_create() was called in a plugin call, by a thread of that
 * plugin, or from its text (interpose_thread.c). It gets an alternate signal stack, attribution of its
 * own in shared memory, and one boundary around its function. A crash ends the thread, its join gives
 * PTHREAD_CANCELED, and the plugin is taken out of the worker (eject.h).
 *
 * What a newcomer would get wrong: such a thread does not end with its function. libc then calls
 * destructors of thread_local objects and pthread keys, which are the plugin's as well. Everything
 * here is released in a key's destructor that puts itself off until the last round of them.
 */
#ifndef PLUGIN_THREAD_H
#define PLUGIN_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct config;
struct heap;
struct shm_thread;
struct shm_worker;

/* Where threads are shown, and how many each plugin may have. Once, before plugins are loaded; without
 * it threads are guarded, but neither shown nor counted. */
void thread_init(const struct config *cfg, struct shm_worker *shared);

/* The plugin (index + 1) to which a thread belongs that this thread is about to start; 0: to none.
 * caller: the return address of pthread_create(). */
uint32_t thread_creator(const void *caller);

/* What pthread_create(), thrd_create() and an expired timer do for a plugin; 0: libc's own. The first
 * two return what they do in libc; EAGAIN and thrd_error also when the plugin has as many threads as it
 * may. */
int thread_create(uint32_t plugin, pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                  void *arg);
int thread_create_c11(uint32_t plugin, pthread_t *out, int (*fn)(void *), void *arg);
/* On a thread that libc has made for this one call. heap: what it allocates; NULL: libc's. */
void thread_run_timer(uint32_t plugin, struct heap *heap, void (*fn)(union sigval),
                      union sigval value);

/* How many threads of its own a plugin has. */
uint32_t thread_count(uint32_t plugin);

/* The function that one of them began in; NULL: none runs (or has begun to: see thread_count()). */
const void *thread_function(uint32_t plugin);

/* Is this thread one of a plugin's, or of the pool? */
bool thread_is_shown(int32_t tid);

/* A thread of the host's: detached, not counted, no signals but those of faults. 0 or -errno. */
int thread_start(const char *name, void *(*fn)(void *), void *arg);

/* This process has yielded (base/urgency.h), and is as before; with all its threads, and its children. */
void thread_restore_urgency(void);

/* A place where the calling thread is shown, or NULL when there is none left. plugin: whose it is, 0 for
 * one of the pool. */
struct shm_thread *thread_show(uint32_t plugin);
void thread_hide(struct shm_thread *shown);

#endif
