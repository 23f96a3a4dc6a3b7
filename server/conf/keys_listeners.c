/*
 * keys_listeners.c - `listeners:` and `limits:`, where connections are accepted and what they may take.
 */
#include "conf/keys.h"

static const struct schema certificate_keys[] = {
    {"cert", SCHEMA_CUSTOM, .is_required = true, .read = tls_read_more_cert, .form = "a path",
     .help = "Certificate and, after it, those that lead to its root; PEM"},
    {"key", SCHEMA_CUSTOM, .is_required = true, .read = tls_read_more_key, .form = "a path",
     .help = "Private key of that certificate; PEM"},
    {"names", SCHEMA_STRINGS, OFF(struct config_certificate, name_list), .min = 1, .max = 1000,
     .help = "Host names it is for, *.example.org too; default: those in the certificate"},
    {NULL, SCHEMA_END},
};

static const struct schema_items certificate_items = {
    sizeof(struct config_certificate), offsetof(struct config_listener, tls.certificate),
    offsetof(struct config_listener, tls.n_certificates), offsetof(struct config_certificate, pos),
    0};

static const struct schema hsts_keys[] = {
    {"max_age", SCHEMA_DURATION, OFF(struct config_listener, tls.hsts.max_age_ms), .def = "365d",
     .min = 1000, .max = 3650 * 24 * (long long)HOUR, .help = "How long browsers shall keep to it"},
    {"subdomains", SCHEMA_ENUM, OFF(struct config_listener, tls.hsts.subdomains), .def = "off",
     .form = "off|on", .help = "For all names below the host's as well"},
    {"preload", SCHEMA_ENUM, OFF(struct config_listener, tls.hsts.preload), .def = "off",
     .form = "off|on", .help = "Consent to be put on browsers' lists"},
    {NULL, SCHEMA_END},
};

const struct schema tls_keys[] = {
    {"cert", SCHEMA_CUSTOM, .read = tls_read_cert, .form = "a path",
     .help = "Certificate and, after it, those that lead to its root; PEM. Needed"},
    {"key", SCHEMA_CUSTOM, .read = tls_read_key, .form = "a path",
     .help = "Private key of that certificate; PEM. Needed"},
    {"certificates", SCHEMA_LIST, .keys = certificate_keys, .items = &certificate_items,
     .max = 1000, .help = "More of them: the client's choice of a name (SNI) decides"},
    {"min_version", SCHEMA_ENUM, OFF(struct config_listener, tls.min_version), .def = "1.2",
     .form = "1.2|1.3", .help = "Oldest version of TLS; 1.0 and 1.1 are not spoken"},
    {"priority", SCHEMA_CUSTOM, .read = tls_read_priority, .form = "a priority string of GnuTLS",
     .help = "Versions, ciphers, groups, in place of `min_version` and what is chosen with care"},
    {"client_auth", SCHEMA_ENUM, OFF(struct config_listener, tls.client_auth), .def = "none",
     .form = "none|optional|required",
     .help = "Certificates of clients: not asked for; checked if there is one; needed"},
    {"client_ca", SCHEMA_CUSTOM, .read = tls_read_client_ca, .form = "a path",
     .help = "Whose signature clients' certificates must bear; PEM"},
    {"session_tickets", SCHEMA_ENUM, OFF(struct config_listener, tls.no_tickets), .def = "on",
     .form = "on|off", .help = "Clients that come again may resume, with any worker"},
    {"hsts", SCHEMA_CUSTOM, .read = tls_read_hsts, .keys = hsts_keys, .form = "a duration, or off",
     .pattern = "^(off|0|[0-9]+(d|h|m|s|ms))$",
     .help = "Strict-Transport-Security for so long: browsers come by https only; absent: off"},
    {NULL, SCHEMA_END},
};

const struct schema listener_keys[] = {
    {"name", SCHEMA_STRING, OFF(struct config_listener, name), .form = "a name",
     .help = "Name in logs and for plugins; default: \"listener 1\" and so on"},
    {"address", SCHEMA_CUSTOM, .is_required = true, .read = listener_read_address,
     .form = "IP:PORT, [IPv6]:PORT or unix:PATH",
     .pattern = "^([0-9.]+:[0-9]+|\\[[0-9a-fA-F:.]+\\]:[0-9]+|unix:.+)$",
     .help = "Address to listen on; no host names"},
    {"mode", SCHEMA_CUSTOM, .form = "an octal number such as 0660", .pattern = "^0?[0-7]{3}$",
     .read = listener_read_mode, .help = "Permissions of a Unix socket; default: 0660"},
    {"proxy_protocol", SCHEMA_ENUM, OFF(struct config_listener, proxy_protocol), .def = "off",
     .form = "off|any|v1|v2",
     .help =
         "Every connection begins with a PROXY header; only server.trusted_proxies may connect"},
    {"owner", SCHEMA_STRING, OFF(struct config_listener, owner), .form = "a user's name or number",
     .help = "Owner of a Unix socket's file; default: who starts the server"},
    {"group", SCHEMA_STRING, OFF(struct config_listener, group), .form = "a group's name or number",
     .help = "Group of a Unix socket's file; default: that of who starts the server"},
    {"dual_stack", SCHEMA_ENUM, OFF(struct config_listener, is_dual_stack), .def = "off",
     .form = "off|on", .help = "With [::]: IPv4 connections, too; else IPv6 alone"},
    {"tls", SCHEMA_MAP, .keys = tls_keys, .help = "Speak TLS there (HTTPS)"},
    {NULL, SCHEMA_END},
};

const struct schema_items listener_items = {
    sizeof(struct config_listener), offsetof(struct config, listener),
    offsetof(struct config, n_listeners), offsetof(struct config_listener, pos), 0};

static const struct schema timeout_keys[] = {
    {"idle", SCHEMA_DURATION, OFF(struct config, limits.idle_ms), .def = "60s", .min = 100,
     .max = 24 * HOUR, .help = "Between two requests, time until the next one begins"},
    {"request", SCHEMA_DURATION, OFF(struct config, limits.request_ms), .def = "30s", .min = 100,
     .max = 24 * HOUR, .help = "Time for a request, from its head to the start of the answer"},
    {"drain", SCHEMA_DURATION, OFF(struct config, limits.drain_ms), .def = "30s", .min = 0,
     .max = 24 * HOUR, .help = "On SIGTERM, time for requests in flight to end"},
    {"head", SCHEMA_DURATION, OFF(struct config, limits.head_ms), .def = "10s", .min = 100,
     .max = HOUR,
     .help = "Time for a request's line and headers, from connecting or its first byte; then 408"},
    {"body", SCHEMA_DURATION, OFF(struct config, limits.body_ms), .def = "10s", .min = 100,
     .max = HOUR, .help = "Interval over which limits.body_rate is taken; missed: 408"},
    {"send", SCHEMA_DURATION, OFF(struct config, limits.send_ms), .def = "10s", .min = 100,
     .max = HOUR, .help = "Interval over which limits.send_rate is taken; missed: cut"},
    {NULL, SCHEMA_END},
};

const struct schema limit_keys[] = {
    {"connections", SCHEMA_INT, OFF(struct config, limits.connections), .def = "16384", .min = 1,
     .max = 1 << 20, .help = "Open connections of one worker, over all listeners; more get 503"},
    {"per_ip", SCHEMA_INT, OFF(struct config, limits.per_ip), .def = "0", .min = 0, .max = 1 << 20,
     .help =
         "Open connections of one client address, over all workers; more get 503; 0: any number"},
    {"ipv6_prefix", SCHEMA_INT, OFF(struct config, limits.ipv6_prefix), .def = "64", .min = 16,
     .max = 128, .help = "Bits of an IPv6 address that make one client for limits.per_ip"},
    {"head", SCHEMA_SIZE, OFF(struct config, limits.head), .def = "8KiB", .min = KIB, .max = MIB,
     .help = "Request line and headers; more is answered 431"},
    {"uri", SCHEMA_SIZE, OFF(struct config, limits.uri), .def = "8KiB", .min = 64, .max = MIB,
     .help = "Request target; more is answered 414. limits.head counts it, too"},
    {"headers", SCHEMA_INT, OFF(struct config, limits.headers), .def = "100", .min = 1,
     .max = 10000, .help = "Header fields of a request; more are answered 431"},
    {"body", SCHEMA_SIZE, OFF(struct config, limits.body), .def = "8MiB", .min = 0,
     .max = 1024 * GIB, .help = "Request body; more is answered 413"},
    {"body_rate", SCHEMA_SIZE, OFF(struct config, limits.body_rate), .def = "1KiB", .min = 0,
     .max = GIB, .help = "Bytes per second at which a body must come at least; 0: any progress"},
    {"send_rate", SCHEMA_SIZE, OFF(struct config, limits.send_rate), .def = "1KiB", .min = 0,
     .max = GIB, .help = "Bytes per second that a client must take at least; 0: any progress"},
    {"timeouts", SCHEMA_MAP, .keys = timeout_keys, .help = "How long things may take"},
    {NULL, SCHEMA_END},
};
