/*
 * bundle.h - certificates and keys on their way from the files to the workers.
 *
 * The master reads the files, as the user who may, into a sealed memory file, whose descriptor the
 * workers inherit or are sent. What a newcomer would get wrong: nothing in it says what belongs where.
 * It is in the order of the config, which master and workers have in common: for each listener with
 * TLS the keys of its session tickets, each certificate and its key, the client CA.
 */
#ifndef TLS_BUNDLE_H
#define TLS_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;
struct diag;

#define BUNDLE_FILE_MAX   (1u << 20) /* bytes of one file */
#define BUNDLE_TICKET_KEY 64         /* as gnutls_session_ticket_key_generate() makes them */
#define BUNDLE_SECRET     64

/* Does any listener speak TLS? */
bool bundle_is_needed(const struct config *cfg);

/* Reads all files into a new bundle; 0 and its descriptor (-1 when none is needed), or -errno and every
 * file that cannot be read in diag. Each listener's ticket key is made of the secret and its name. */
int bundle_create(const struct config *cfg, const unsigned char secret[BUNDLE_SECRET],
                  struct diag *diag, int *out);

/* Changes when a file does: its inode, size or time. */
uint64_t bundle_signature(const struct config *cfg);

/* ---- reading one ---- */

struct bundle {
    const unsigned char *p;
    size_t n, at;
};

/* 0 or -errno. */
int bundle_map(int fd, struct bundle *b);
void bundle_unmap(struct bundle *b);
/* The next piece, which stays in the bundle. False: there is none. */
bool bundle_next(struct bundle *b, const unsigned char **p, size_t *n);

#endif
