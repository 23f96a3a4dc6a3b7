/*
 * keys_store.c - `store:`.
 */
#include "conf/keys.h"

static const struct schema redis_keys[] = {
    {"address", SCHEMA_CUSTOM, .def = "127.0.0.1:6379", .read = store_read_address,
     .form = "HOST:PORT, [IPv6]:PORT or unix:PATH", .pattern = "^(unix:.+|.+:[0-9]+)$",
     .help = "Where it is; a name is looked up with each connection"},
    {"user", SCHEMA_STRING, OFF(struct config, store.redis.user), .form = "a user's name",
     .help = "User of Redis' access list; absent: the default one"},
    {"password", SCHEMA_STRING, OFF(struct config, store.redis.password), .form = "a password",
     .help = "Its password: take it from a variable, ${NAME}"},
    {"database", SCHEMA_INT, OFF(struct config, store.redis.database), .def = "0", .min = 0,
     .max = 65535, .help = "Number of the database"},
    {"prefix", SCHEMA_STRING, OFF(struct config, store.redis.prefix),
     .def = "bulkhead:", .form = "a prefix",
     .help = "What all keys begin with; servers that share state have the same"},
    {"timeout", SCHEMA_DURATION, OFF(struct config, store.redis.timeout_ms), .def = "200ms",
     .min = 1, .max = MINUTE, .help = "For an answer, and for a connection"},
    {"when_down", SCHEMA_ENUM, OFF(struct config, store.redis.when_down), .def = "local",
     .form = "local|error",
     .help =
         "While it cannot be had: this machine's memory store answers, or plugins get an error"},
    {"tls", SCHEMA_ENUM, OFF(struct config, store.redis.tls), .def = "off", .form = "off|on",
     .help = "Speak TLS to it, and check its certificate"},
    {"ca", SCHEMA_STRING, OFF(struct config, store.redis.ca), .form = "a path",
     .help = "Who has to have signed that; PEM; absent: whom the system trusts"},
    {"name", SCHEMA_STRING, OFF(struct config, store.redis.name), .form = "a host's name",
     .help = "Whom that has to be for; default: the host of `address`"},
    {NULL, SCHEMA_END},
};

const struct schema store_keys[] = {
    {"backend", SCHEMA_ENUM, OFF(struct config, store.backend), .def = "memory",
     .form = "memory|lmdb|redis",
     .help = "memory: shared by workers, empty after a restart. lmdb: a file. redis: for machines"},
    {"path", SCHEMA_STRING, OFF(struct config, store.path), .form = "a path",
     .help = "lmdb: its file, in a folder that the workers' user may write to"},
    {"sync", SCHEMA_DURATION, OFF(struct config, store.sync_ms), .def = "1s", .min = 0, .max = HOUR,
     .help = "lmdb: how often it is written out to the disk; 0: the kernel decides"},
    {"size", SCHEMA_SIZE, OFF(struct config, store.size), .def = "32MiB", .min = 2 * MIB,
     .max = 2 * GIB, .help = "Of the store in memory or of LMDB's; taken as it is needed"},
    {"quota", SCHEMA_SIZE, OFF(struct config, store.quota), .def = "8MiB", .min = 0,
     .max = 1024 * GIB,
     .help = "Bytes that a namespace may take, where its plugin says nothing else; 0: no limit"},
    {"redis", SCHEMA_MAP, .keys = redis_keys, .help = "The server of `backend: redis`"},
    {NULL, SCHEMA_END},
};
