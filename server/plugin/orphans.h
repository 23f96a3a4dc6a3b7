/*
 * orphans.h - private copies that masters left which were killed.
 *
 * A master that ends removes its folder of copies; one that gets SIGKILL cannot, so the next one does. Each
 * holds a lock on its folder, and its children inherit that: a folder whose lock can be had belongs to
 * nobody who lives.
 *
 * What a newcomer would get wrong: /tmp is everybody's. Only real folders of this user count, nothing in
 * there is followed, and all is done by descriptors.
 */
#ifndef PLUGIN_ORPHANS_H
#define PLUGIN_ORPHANS_H

#define ORPHANS_PREFIX "bulkhead-" /* then "PID-", and six characters */

/* The lock, for as long as this process and its children live. Quietly nothing where it cannot be had. */
void orphans_mark(const char *dir);

/* Removes those in `tmp` that nobody holds. */
void orphans_remove(const char *tmp);

/* What is in that folder, with "fresh" in it, but not the folder. Not through a link. */
void orphans_empty(int dir_fd);

#endif
