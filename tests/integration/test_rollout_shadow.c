/*
 * test_rollout_shadow.c - a candidate that runs along for show: no client sees anything of it.
 */
#include "rollout_scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG                                       \
    "version: 1\n"                                   \
    "server: {workers: 2}\n"                         \
    "listeners: [{address: \"127.0.0.1:@PORT@\"}]\n" \
    "limits: {per_ip: 0, timeouts: {drain: 5s}}\n"   \
    "plugins:\n"                                     \
    "  v: {module: @DIR@/v.so}\n"                    \
    "  last: {module: @DIR@/last.so}\n"              \
    "routes: [{chain: [v, last]}]\n"                 \
    "crash: {dir: @DIR@/crashes}\n"

/* Goes on, with a header field and a variable that tell its version, and another on the way back. */
static const char source[] =
    "#include <bulkhead.h>\n"
    "#include <stdlib.h>\n"
    "#include <unistd.h>\n"
    "static unsigned n;\n"
    "static bh_rc ask(void *self, bh_req *req, void *ctx)\n"
    "{ (void)self; (void)ctx; n++;\n"
    "  bh_req_header(req, \"X-V\", \"%s\");\n"
    "  bh_var_set(req, \"v\", bh_s(\"%s\"));\n"
    "  %s return BH_CONTINUE; }\n"
    "static bh_rc body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)\n"
    "{ (void)self; (void)ctx; (void)chunk; (void)end; (void)req; %s return BH_CONTINUE; }\n"
    "static bh_rc answer(void *self, bh_req *req, void *ctx)\n"
    "{ (void)self; (void)ctx; bh_header_add(req, BH_RESP, \"X-Answer\", bh_s(\"%s\"));\n"
    "  %s return BH_CONTINUE; }\n"
    "BH_PLUGIN(\"v\", \"%s\", .on_request = ask, .on_request_body = body, .on_response = answer)\n";

/* Says what came to it. */
static const char last[] =
    "#include <bulkhead.h>\n"
    "static bh_rc want(void *self, bh_req *req, void *ctx)\n"
    "{ (void)self; (void)ctx; bh_body_want(req, BH_REQ, BH_BODY_BUFFER, 0);\n"
    "  char text[256]; bh_str v = bh_var(req, \"v\"), h = bh_header_nth(req, BH_REQ, \"x-v\", 0);\n"
    "  if (bh_header_nth(req, BH_REQ, \"content-length\", 0).n > 0) return BH_CONTINUE;\n"
    "  snprintf(text, sizeof text, \"%.*s%.*s\", (int)v.n, v.p, (int)h.n, h.p);\n"
    "  return bh_reply(req, 200, \"text/plain\", text); }\n"
    "static bh_rc body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)\n"
    "{ (void)self; (void)ctx; (void)end; return bh_reply_n(req, 200, \"text/plain\", chunk.p, chunk.n); }\n"
    "BH_PLUGIN(\"last\", \"1\", .on_request = want, .on_request_body = body)\n";

struct does {
    const char *ask, *body, *answer;
};

static void make(const char *dir, const char *name, const char *version, struct does does)
{
    char text[8192], *object;

    snprintf(text, sizeof text, source, version, version, does.ask != NULL ? does.ask : "",
             does.body != NULL ? does.body : "", version, does.answer != NULL ? does.answer : "",
             version);
    object = plugin_build(dir, name, text);
    free(object);
}

/* Version 1 serves, version 2, which does that, is its shadow in all requests. */
static struct server *start(struct does does, const char *samples)
{
    char *dir = tmp_dir(), *object, *out, command[256];
    struct server *srv;

    make(dir, "v", "1", (struct does){0});
    object = plugin_build(dir, "last", last);
    free(object);
    srv = server_start_in(dir, CONFIG);
    server_wait_standby(srv);
    make(dir, "v", "2", does);
    snprintf(command, sizeof command,
             "rollout start v --manual --steps shadow=100%%:0:1,canary=50%%:1h:1 --samples %s",
             samples);
    if (rollout_ask(srv, &out, command) != 0)
        harness_fail(__FILE__, __LINE__, "%s", out);
    free(out);
    free(dir);
    return srv;
}

static long long count(const struct server *srv, const char *key)
{
    json_t *json = rollout_look(srv);
    long long n = json_integer_value(json_object_get(json_object_get(json, "candidate"), key));

    json_decref(json);
    return n;
}

/* n requests; each is answered as by version 1 alone. */
static void check_answers(struct server *srv, int n)
{
    struct conn *conn = conn_open(srv->port[0]);

    for (int i = 0; i < n; i++) {
        struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);

        assert_int_equal(res->status, 200);
        assert_string_equal(res->body, "11");
        assert_string_equal(response_header(res, "x-answer"), "1");
        assert_null(strstr(res->head, "X-Answer: 2"));
        response_free(&res);
        res = conn_request(conn, "POST", "/", NULL, "some body", 9);
        assert_int_equal(res->status, 200);
        assert_string_equal(res->body, "some body");
        response_free(&res);
    }
    conn_close(&conn);
}

static void nothing_of_what_a_shadow_does_is_seen(void **state)
{
    struct server *srv = start(
        (struct does){
            .ask = "bh_set_path(req, bh_s(\"/x\")); bh_header_del(req, BH_REQ, \"host\");",
            .answer = "bh_resp_header(req, \"X-More\", \"2\");"
                      "bh_reply(req, 404, \"text/plain\", \"gone\");"},
        "1");

    (void)state;
    check_answers(srv, 50);
    eventually(count(srv, "requests") == 100);
    assert_int_equal(count(srv, "errors"), 0);
    assert_true(rollout_is(srv, "result", "running"));
    assert_int_equal(server_stop(&srv), 0);
}

static void an_answer_of_a_shadow_is_thrown_away_and_counted_when_it_is_5xx(void **state)
{
    struct server *srv = start(
        (struct does){.ask = "return bh_reply(req, 500, \"text/plain\", \"no\");"}, "1000");

    (void)state;
    check_answers(srv, 20);
    eventually(count(srv, "errors") == 40);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_stream_or_a_file_of_a_shadow_is_thrown_away(void **state)
{
    struct server *srv = start(
        (struct does){.ask = "if (n & 1) return bh_send_file(req, \"/etc/passwd\", NULL);\n"
                             "bh_stream_begin(req, 200, -1); bh_stream_write(req, \"abc\", 3, 0);\n"
                             "return BH_DONE;"},
        "1");

    (void)state;
    check_answers(srv, 50);
    eventually(count(srv, "requests") == 100);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_shadow_that_wants_to_pause_is_ended_and_counted(void **state)
{
    struct server *srv = start((struct does){.ask = "bh_ticket *t = bh_ticket_take(req, 1000);\n"
                                                    "return t != NULL ? BH_PAUSE : BH_FAIL;"},
                               "1");

    (void)state;
    check_answers(srv, 20);
    eventually(count(srv, "unfinished") == 40);
    assert_int_equal(count(srv, "errors"), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void crash_unseen(struct does does)
{
    struct server *srv = start(does, "1");
    char *out;

    check_answers(srv, 20);
    eventually(rollout_is(srv, "result", "rolled back"));
    eventually(rollout_is(srv, "phase", "idle"));
    check_answers(srv, 20);
    eventually(server_crash_count(srv) >= 1);
    assert_int_equal(rollout_ask(srv, &out, "crashes show --last"), 0);
    assert_non_null(strstr(out, "v@next"));
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void no_client_sees_the_crash_of_a_shadow(void **state)
{
    (void)state;
    crash_unseen((struct does){.ask = "if (n == 5) *(volatile int *)0 = 1;"});
    crash_unseen((struct does){.body = "abort();"});
    crash_unseen((struct does){.answer = "if (n == 7) __builtin_trap();"});
}

static void a_shadow_that_is_well_becomes_a_canary(void **state)
{
    struct server *srv = start((struct does){0}, "1");
    struct response *res;
    int n = 0;

    (void)state;
    check_answers(srv, 5);
    rollout_expect(srv, 0, NULL, "rollout step");
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    res = server_get(srv, "/");
    n += strcmp(res->body, "22") == 0;
    response_free(&res);
    assert_int_equal(n, 1);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_of_what_a_shadow_does_is_seen),
        cmocka_unit_test(an_answer_of_a_shadow_is_thrown_away_and_counted_when_it_is_5xx),
        cmocka_unit_test(a_stream_or_a_file_of_a_shadow_is_thrown_away),
        cmocka_unit_test(a_shadow_that_wants_to_pause_is_ended_and_counted),
        cmocka_unit_test(no_client_sees_the_crash_of_a_shadow),
        cmocka_unit_test(a_shadow_that_is_well_becomes_a_canary),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
