#include "reload_scene.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Answers "VERSION TEXT"; what else it does, open() or a constructor says. */
static const char source[] =
    "#include <bulkhead.h>\n"
    "#include <stdlib.h>\n"
    "#include <unistd.h>\n"
    "struct config { const char *text; };\n"
    "static const bh_opt options[] = {BH_STR(struct config, text, \"\", \"What to say\"), BH_OPT_END};\n"
    "%s\n"
    "static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)\n"
    "{ (void)inst; *self = (void *)(uintptr_t)cfg; %s return BH_OK; }\n"
    "static bh_rc answer(void *self, bh_req *req, void *ctx)\n"
    "{ char text[128]; (void)ctx;\n"
    "  if (bh_attr(req, \"path\").n > 5) usleep((unsigned)atoi(bh_attr(req, \"path\").p + 6) * 1000);\n"
    "  snprintf(text, sizeof text, \"%s %%s\", ((const struct config *)self)->text);\n"
    "  return bh_reply(req, 200, \"text/plain\", text); }\n"
    "#ifndef START\n"
    "#define START\n"
    "#endif\n"
    "static bh_rc start_it(void *self) { (void)self; START; return BH_OK; }\n"
    "BH_PLUGIN(\"v\", \"%s\", .summary = \"A version\", .options = options,\n"
    "          .cfg_size = sizeof(struct config), .open = open_it, .start = start_it,\n"
    "          .on_request = answer)\n";

char *reload_make(const char *dir, const char *name, const char *version, const char *globals,
                  const char *in_open)
{
    char text[8192];

    snprintf(text, sizeof text, source, globals, in_open, version, version);
    return plugin_build(dir, name, text);
}

/* In a folder of its own, with v.so of version "1". */
struct server *reload_start(const char *more)
{
    char *dir = tmp_dir(), *object = reload_make(dir, "v", "1", "", "");
    struct server *srv = server_start_in(dir, RELOAD_CONFIG, "", "one", "", more);

    server_wait_log(srv, "serving on");
    server_wait_standby(srv);
    free(object);
    free(dir);
    return srv;
}

int reload_ask(const struct server *srv, const char *command, char **out)
{
    return run_command(out, "RUNTIME_DIRECTORY=%s %s %s -c %s", srv->dir, getenv("BULKHEAD"),
                       command, srv->config);
}

void reload_now(const struct server *srv, int expected, const char *said)
{
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);
    char *out;
    int status;

    /* One that a signal or a changed file began may be under way. */
    while ((status = reload_ask(srv, "reload --wait", &out)) == 1 && harness_pause(end_ms))
        free(out);
    if (status != expected || (said != NULL && strstr(out, said) == NULL))
        harness_fail(__FILE__, __LINE__, "reload: exit %d instead of %d, or without '%s':\n%s",
                     status, expected, said != NULL ? said : "", out);
    free(out);
}

int reload_generation(const struct server *srv)
{
    json_t *json;
    char *out;
    int n;

    reload_ask(srv, "status --json 2>/dev/null", &out);
    json = json_loads(out, 0, NULL);
    free(out);
    n = (int)json_integer_value(json_object_get(json, "generation"));
    json_decref(json);
    return n;
}

void reload_check_says(struct server *srv, const char *text)
{
    struct response *res = server_get(srv, "/");

    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, text);
    response_free(&res);
}

bool reload_conn_says(struct conn *conn, const char *text)
{
    struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);
    bool says = res->status == 200 && strcmp(res->body, text) == 0;

    response_free(&res);
    return says;
}

/* `cp`, in place, or `mv` */
void reload_put_object(const struct server *srv, const char *how, const char *object)
{
    assert_int_equal(run_command(NULL, "%s %s %s/v.so", how, object, srv->dir), 0);
}
