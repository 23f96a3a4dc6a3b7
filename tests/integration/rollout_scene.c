/*
 * rollout_scene.c - rollout_scene.h.
 */
#include "rollout_scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Answers "VERSION TEXT"; what else it does with a request is given. */
static const char source[] =
    "#include <bulkhead.h>\n"
    "#include <stdlib.h>\n"
    "#include <unistd.h>\n"
    "struct config { const char *text; };\n"
    "static const bh_opt options[] = {BH_STR(struct config, text, \"\", \"What to say\"), BH_OPT_END};\n"
    "static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)\n"
    "{ (void)inst; *self = (void *)(uintptr_t)cfg; return BH_OK; }\n"
    "static unsigned n;\n"
    "static bh_rc answer(void *self, bh_req *req, void *ctx)\n"
    "{ char text[128]; (void)ctx; n++;\n"
    "  snprintf(text, sizeof text, \"%s %%s\", ((const struct config *)self)->text);\n"
    "  %s\n"
    "  return bh_reply(req, 200, \"text/plain\", text); }\n"
    "BH_PLUGIN(\"v\", \"%s\", .summary = \"A version\", .options = options,\n"
    "          .cfg_size = sizeof(struct config), .open = open_it, .on_request = answer)\n";

void rollout_make_with(const char *dir, const char *name, const char *version, const char *does,
                       const char *code)
{
    char text[8192], *object;
    int n = snprintf(text, sizeof text, source, version, does, version);

    snprintf(text + n, sizeof text - (size_t)n, "%s", code);
    object = plugin_build(dir, name, text);
    free(object);
}

void rollout_make(const char *dir, const char *name, const char *version, const char *does)
{
    rollout_make_with(dir, name, version, does, "");
}

struct server *rollout_start(const char *does, const char *more)
{
    char *dir = tmp_dir();
    struct server *srv;

    rollout_make(dir, "v", "1", does);
    srv = server_start_in(dir, ROLLOUT_CONFIG, "", more);
    server_wait_standby(srv);
    free(dir);
    return srv;
}

int rollout_ask(const struct server *srv, char **out, const char *command)
{
    return run_command(out, "RUNTIME_DIRECTORY=%s %s %s -c %s", srv->dir, getenv("BULKHEAD"),
                       command, srv->config);
}

void rollout_expect(const struct server *srv, int status, const char *said, const char *command)
{
    char *out;
    int got = rollout_ask(srv, &out, command);

    if (got != status || (said != NULL && strstr(out, said) == NULL))
        harness_fail(__FILE__, __LINE__, "%s: exit %d instead of %d, or without '%s':\n%s", command,
                     got, status, said != NULL ? said : "", out);
    free(out);
}

json_t *rollout_look(const struct server *srv)
{
    json_t *json;
    char *out;

    rollout_ask(srv, &out, "rollout status --json 2>/dev/null");
    json = json_loads(out, JSON_DECODE_ANY, NULL);
    free(out);
    return json;
}

bool rollout_is(const struct server *srv, const char *key, const char *value)
{
    json_t *json = rollout_look(srv);
    const char *text = json_string_value(json_object_get(json, key));
    bool same = text != NULL && strcmp(text, value) == 0;

    json_decref(json);
    return same;
}

long long rollout_count(const struct server *srv, const char *arm, const char *key)
{
    json_t *json = rollout_look(srv);
    long long n = json_integer_value(json_object_get(json_object_get(json, arm), key));

    json_decref(json);
    return n;
}

/* Which version answers that user: '1', '2', ...; 'x': it was no 200. */
char rollout_version_for(struct conn *conn, int user)
{
    struct response *res;
    char header[64];
    char v;

    snprintf(header, sizeof header, "X-User: u%d\r\n", user);
    res = conn_request(conn, "GET", "/", header, NULL, 0);
    v = res->status == 200 ? res->body[0] : 'x';
    response_free(&res);
    return v;
}
