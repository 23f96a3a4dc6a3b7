/*
 * kept.h - what outlives the server: in which versions plugins run where the config file says otherwise, the
 * objects of those, and which objects are quarantined.
 *
 *     DIR/quarantine.json            of all servers with this state.dir
 *     DIR/NAME-HASH/variants.json    of the server with that config file
 *     DIR/NAME-HASH/objects/SHA256.so
 *     DIR/NAME-HASH/lock             whose it is
 *
 * So a server that is killed while a plugin is rolled out starts again with the version that is known to be
 * good, though the file names the other one. What a newcomer would get wrong: none of it is there, and
 * nothing is written, for a server that never had a rollout.
 */
#ifndef MASTER_KEPT_H
#define MASTER_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"

struct config;
struct master;
struct overlay;

#define BANS_MAX 256

struct ban {
    char sha256[DIGEST_TEXT];
    char plugin[64], version[48];
    char when[40]; /* RFC 3339 */
    char why[256];
};

struct bans {
    int n;
    struct ban ban[BANS_MAX]; /* oldest first */
};

/* What was kept for the server with this config; a file that makes no sense is moved aside, and a line on
 * stderr and in the log says so. interrupted: the plugin whose rollout was under way, or "". */
void kept_load(const struct config *cfg, struct overlay *out, char *interrupted, size_t size);
/* The folder of this config is of one server at a time. -EBUSY, and *other (may be NULL), if it can be known:
 * another one has it. Else 0, or another reason why it cannot be had; it is kept until this process ends. */
int kept_claim(struct master *m, pid_t *other);
/* Writes m->overlay, if it differs from what was written; rolling: the plugin that is being rolled out, with
 * the overlay that is to be; NULL, NULL: none. 0 or -errno, and it has been logged. */
int kept_save(struct master *m, const struct overlay *overlay, const char *rolling);
/* Copies an object there. 0 and its path, malloc'd; or -errno. */
int kept_object(const struct config *cfg, const char *from, const char *sha256, char **out);

/* Reads the file, if there is one. */
void bans_load(const struct config *cfg, struct bans *out);
const struct ban *bans_find(const struct bans *b, const char *sha256);
/* Adds, or lifts, and writes. -errno: it holds as long as this server runs. */
int bans_add(const struct config *cfg, struct bans *b, const struct ban *ban);
int bans_lift(const struct config *cfg, struct bans *b, const char *sha256);

#endif
