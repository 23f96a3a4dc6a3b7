/*
 * keys_observe.c - what is told of the server: `logs:`, `tracing:`, `alerts:`.
 */
#include "conf/keys.h"

static const struct schema error_log_keys[] = {
    {"path", SCHEMA_STRING, OFF(struct config, log.path), .def = "-", .form = "a path, or -",
     .help = "File to append to; \"-\": standard error"},
    {"level", SCHEMA_ENUM, OFF(struct config, log.level), .def = "info", .min = 1,
     .form = "error|warn|info|debug", .help = "The least severe lines to log"},
    {"format", SCHEMA_ENUM, OFF(struct config, log.format), .def = "text", .form = "text|json|auto",
     .help = "Lines for people, or a JSON object a line; auto: text for a terminal or the journal"},
    {"repeats", SCHEMA_INT, OFF(struct config, log.repeats), .def = "5", .min = 0, .max = 1000000,
     .help = "Equal lines of one process to write within 10s; others are counted; 0: write all"},
    {NULL, SCHEMA_END},
};

const struct schema log_keys[] = {
    {"error", SCHEMA_MAP, .keys = error_log_keys, .help = "What the server and its plugins report"},
    {"access", SCHEMA_ABSENT, .help = "the access log" NOT_YET "; use the access_log plugin"},
    {NULL, SCHEMA_END},
};

const struct schema tracing_keys[] = {
    {"endpoint", SCHEMA_CUSTOM, .read = tracing_read_endpoint,
     .form = "http://HOST:4318 or a whole URL", .pattern = "^https?://.+$",
     .help = "Collector that takes OTLP over HTTP; without a path: /v1/traces; absent: no traces"},
    {"sample", SCHEMA_CUSTOM, .def = "100%", .read = tracing_read_sample, .form = "0% to 100%",
     .pattern = "^[0-9]+(\\.[0-9]+)?%$", .help = "Share of the traces that begin here to record"},
    {"parent", SCHEMA_ENUM, OFF(struct config, tracing.parent), .def = "follow",
     .form = "follow|trusted|ignore",
     .help = "Whose traceparent is gone on with: anybody's, server.trusted_proxies', nobody's"},
    {"headers", SCHEMA_NODE, OFF(struct draft, trace_headers),
     .help = "Header fields for the collector, NAME: VALUE, such as Authorization"},
    {"service", SCHEMA_STRING, OFF(struct config, tracing.service), .def = "bulkhead",
     .form = "a name", .help = "service.name of the traces"},
    {"resource", SCHEMA_NODE, OFF(struct draft, trace_resource),
     .help = "Further attributes of the resource, NAME: VALUE, such as deployment.environment"},
    {"compression", SCHEMA_ENUM, OFF(struct config, tracing.is_plain), .def = "gzip",
     .form = "gzip|none", .help = "How requests to the collector are compressed"},
    {"ca", SCHEMA_STRING, OFF(struct config, tracing.ca), .form = "a path",
     .help = "Certificates of authorities to trust, PEM, in place of the system's"},
    {"timeout", SCHEMA_DURATION, OFF(struct config, tracing.timeout_ms), .def = "10s", .min = 100,
     .max = 10 * MINUTE, .help = "Time for one request to the collector"},
    {"interval", SCHEMA_DURATION, OFF(struct config, tracing.interval_ms), .def = "1s", .min = 10,
     .max = HOUR, .help = "Spans wait for company so long, unless a batch (512) is full before"},
    {"queue", SCHEMA_SIZE, OFF(struct config, tracing.queue), .def = "8MiB", .min = 64 * KIB,
     .max = GIB,
     .help = "What may wait for a collector that does not answer; beyond that spans are dropped"},
    {NULL, SCHEMA_END},
};

static const struct schema rule_keys[] = {
    {"name", SCHEMA_STRING, OFF(struct config_rule, name), .is_required = true, .form = "a name",
     .help = "Name of the alert: its label `alertname`"},
    {"metric", SCHEMA_CUSTOM, .is_required = true, .read = alert_read_metric,
     .form = "a metric's name", .pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$",
     .help = "As `bulkhead metrics` shows it; NAME_p50, _p95, _p99, _p999: of a histogram NAME"},
    {"when", SCHEMA_CUSTOM, .is_required = true, .read = alert_read_when,
     .form = "\"> 50\", or with >=, <, <=, ==, !=", .pattern = "^(>|>=|<|<=|==|!=) *[-+0-9.eE]+$",
     .help = "What its value must be"},
    {"for", SCHEMA_DURATION, OFF(struct config_rule, for_ms), .def = "0", .min = 0,
     .max = 24 * HOUR, .help = "How long that must hold before anybody is told"},
    {"over", SCHEMA_DURATION, OFF(struct config_rule, over_ms), .def = "0", .min = 0,
     .max = 24 * HOUR,
     .help = "Take the growth of a counter over this time; of a histogram, default there: 1m"},
    {"match", SCHEMA_NODE, OFF(struct config_rule, match_map),
     .help = "Labels that the metric must have, NAME: VALUE, such as plugin: auth"},
    {"labels", SCHEMA_NODE, OFF(struct config_rule, label_map),
     .help = "Labels to give to the alert, NAME: VALUE, such as severity: page"},
    {"annotations", SCHEMA_NODE, OFF(struct config_rule, annotation_map),
     .help = "Texts for people, NAME: VALUE, such as summary"},
    {"receivers", SCHEMA_STRINGS, OFF(struct config_rule, receiver_list), .min = 1,
     .max = CONFIG_MAX_RECEIVERS, .help = "Who is told; default: all"},
    {NULL, SCHEMA_END},
};

static const struct schema_items rule_items = {
    sizeof(struct config_rule), offsetof(struct config, alerts.rule),
    offsetof(struct config, alerts.n_rules), offsetof(struct config_rule, pos), 0};

static const struct schema receiver_keys[] = {
    {"name", SCHEMA_STRING, OFF(struct config_receiver, name), .is_required = true,
     .form = "a name", .help = "Name, for rules and logs"},
    {"type", SCHEMA_ENUM, OFF(struct config_receiver, type), .def = "webhook",
     .form = "webhook|alertmanager|wecom",
     .help = "JSON as Alertmanager's webhook sends it; Alertmanager's API v2; a robot of WeCom"},
    {"url", SCHEMA_CUSTOM, .is_required = true, .read = alert_read_url, .form = "a URL",
     .pattern = "^https?://.+$",
     .help = "Where to send it; alertmanager: without a path, /api/v2/alerts. Never shown: it may "
             "hold a key"},
    {"headers", SCHEMA_NODE, OFF(struct config_receiver, header_map),
     .help = "Header fields to send, NAME: VALUE; never shown"},
    {"resolved", SCHEMA_ENUM, OFF(struct config_receiver, is_quiet), .def = "on", .form = "on|off",
     .help = "Tell when an alert is over, too"},
    {"ca", SCHEMA_STRING, OFF(struct config_receiver, ca), .form = "a path",
     .help = "Certificates of authorities to trust, PEM, in place of the system's"},
    {NULL, SCHEMA_END},
};

static const struct schema_items receiver_items = {
    sizeof(struct config_receiver), offsetof(struct config, alerts.receiver),
    offsetof(struct config, alerts.n_receivers), offsetof(struct config_receiver, pos), 0};

const struct schema alert_keys[] = {
    {"rules", SCHEMA_LIST, .keys = rule_keys, .items = &rule_items, .max = CONFIG_MAX_RULES,
     .help = "What to tell of"},
    {"receivers", SCHEMA_LIST, .keys = receiver_keys, .items = &receiver_items,
     .max = CONFIG_MAX_RECEIVERS, .help = "Whom to tell"},
    {"repeat", SCHEMA_DURATION, OFF(struct config, alerts.repeat_ms), .def = "4h", .min = MINUTE,
     .max = 24 * HOUR, .help = "Tell again of what goes on after so long"},
    {NULL, SCHEMA_END},
};
