/*
 * keys_admin.c - `admin:`.
 */
#include "conf/keys.h"

const struct schema admin_keys[] = {
    {"listen", SCHEMA_CUSTOM, .read = admin_read_listen,
     .form = "IP:PORT, [IPv6]:PORT or unix:PATH",
     .pattern = "^([0-9.]+:[0-9]+|\\[[0-9a-fA-F:.]+\\]:[0-9]+|unix:.+)$",
     .help = "Address to listen on. Needed; without `tls`, one of this machine"},
    {"mode", SCHEMA_CUSTOM, .form = "an octal number such as 0660", .pattern = "^0?[0-7]{3}$",
     .read = admin_read_mode, .help = "Permissions of a Unix socket; default: 0600"},
    {"owner", SCHEMA_STRING, OFF(struct config, admin.listener.owner),
     .form = "a user's name or number", .help = "Owner of a Unix socket's file"},
    {"group", SCHEMA_STRING, OFF(struct config, admin.listener.group),
     .form = "a group's name or number", .help = "Group of a Unix socket's file"},
    {"token_file", SCHEMA_STRING, OFF(struct config, admin.token_file), .form = "a path",
     .help = "File with the operators' token; made, with a random one, when missing"},
    {"read_token_file", SCHEMA_STRING, OFF(struct config, admin.read_token_file), .form = "a path",
     .help = "File with the token of those who may only look; made when missing"},
    {"hosts", SCHEMA_STRINGS, OFF(struct draft, admin_hosts), .max = 64,
     .help = "Names to be asked by, beside localhost and IP addresses (against DNS rebinding)"},
    {"session", SCHEMA_DURATION, OFF(struct config, admin.session_ms), .def = "12h", .min = MINUTE,
     .max = 30 * 24 * (long long)HOUR, .help = "How long a browser stays logged in"},
    {"unready_routes", SCHEMA_INT, OFF(struct config, admin.unready_routes), .def = "50", .min = 0,
     .max = 100,
     .help =
         "Percent of the routes that plugins in quarantine put out of order before /readyz says "
         "503; 0: never"},
    {"metrics", SCHEMA_ENUM, OFF(struct config, admin.has_open_metrics), .def = "token",
     .form = "token|open", .help = "Who may read /metrics: holders of a token, or everybody"},
    {"tls", SCHEMA_MAP, .keys = tls_keys, .off = offsetof(struct config, admin.listener),
     .help = "Speak TLS there (HTTPS), as listeners do; workers never have this key"},
    {"plaintext", SCHEMA_ENUM, OFF(struct config, admin.allows_plaintext), .def = "local",
     .form = "local|anywhere",
     .help = "Where it may listen without `tls`; anywhere: tokens can be read on the way"},
    {NULL, SCHEMA_END},
};
