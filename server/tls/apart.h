/*
 * apart.h - looks at keys without having had them.
 *
 * What a newcomer would get wrong: freed memory is not wiped memory. Workers are forked from the
 * master, and plugins can read all that they inherit; so a key that is none of theirs, the admin
 * interface's, is parsed in a process of its own, of which only the mistakes come back.
 */
#ifndef TLS_APART_H
#define TLS_APART_H

struct config;
struct config_listener;
struct diag;

/* A config with nothing but that listener, for bundle_*() and tls_set_load(). */
struct config apart_config(const struct config *cfg, struct config_listener *only);

/* Reads the files of the only listener of cfg into a new bundle, and has it looked at. 0 and its
 * descriptor; or -errno, and why in diag, at the place of the key in the config. warnings may be
 * NULL. Waits for that process, a few milliseconds. */
int apart_bundle(const struct config *cfg, struct diag *diag, struct diag *warnings, int *out);

#endif
