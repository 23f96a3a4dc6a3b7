/*
 * test_chain.c - plugins in memory, called by the real chain through the real boundary.
 */
#include "plugin/chain.h"

/* link: @interpose */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/config.h"
#include "plugin/failure.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/object.h"
#include "plugin/request.h"
#include "recovering.h"

enum { N = 3, CRASH = 77, REPLY = 78 };

/* Plugins a, b and c; what each does in each hook: a verdict, CRASH or REPLY. */
static struct fake {
    int does[HOOK_N];
    bool defers, changes;
} fakes[N];

static char trace[4096];
static bh_error last_error;
static struct shm *shm;
static struct bh_req req;
static bh_inst inst[N], *chain[N];
static struct config_plugin plugins[N] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
static struct config config = {.path = "test.yaml", .dir = "/", .plugin = plugins, .n_plugins = N};
static struct object object;

static int *volatile nowhere;

static void note(const struct fake *f, const char *what)
{
    size_t n = strlen(trace);

    snprintf(trace + n, sizeof trace - n, "%s%c.%s", n > 0 ? " " : "", 'a' + (int)(f - fakes),
             what);
}

FAULTY static bh_rc act(const struct fake *f, bh_req *r, int what)
{
    if (what == CRASH) {
        *nowhere = 1;
        abort();
    }
    if (what == REPLY) {
        char text[2] = {(char)('a' + (f - fakes)), '\0'};

        return host_table()->reply(r, 200, "text/plain", text, 1) == BH_OK ? BH_DONE : BH_FAIL;
    }
    return what;
}

static bh_rc call(struct fake *f, bh_req *r, enum hook hook)
{
    note(f, hook_name(hook));
    return act(f, r, f->does[hook]);
}

static bh_rc open_(bh_inst *i, const void *cfg, void **self)
{
    (void)cfg;
    *self = &fakes[i->id - 1];
    return BH_OK;
}

static void deferred(void *self)
{
    call(self, NULL, HOOK_DEFER);
}

static bh_rc on_request(void *self, bh_req *r, void *ctx)
{
    struct fake *f = self;
    const bh_host *h = host_table();

    (void)ctx;
    if (f->defers)
        h->defer(r, deferred, f);
    if (f->changes) {
        h->hdr_set(r, BH_RESP, "X-Changed", "1", 1);
        h->var_set(r, "changed", "1", 1);
        h->set_path(r, "/changed", 8);
    }
    return call(f, r, HOOK_REQUEST);
}

static bh_rc on_request_body(void *self, bh_req *r, void *ctx, bh_str chunk, int32_t end)
{
    char what[128];

    (void)ctx;
    snprintf(what, sizeof what, "body(%.*s)%s", chunk.n > 40 ? 40 : (int)chunk.n, chunk.p,
             end ? "." : "");
    note(self, what);
    return act(self, r, ((struct fake *)self)->does[HOOK_REQUEST_BODY]);
}

static bh_rc on_response(void *self, bh_req *r, void *ctx)
{
    (void)ctx;
    return call(self, r, HOOK_RESPONSE);
}

static bh_rc on_response_body(void *self, bh_req *r, void *ctx, bh_str chunk, int32_t end)
{
    (void)ctx, (void)chunk, (void)end;
    return call(self, r, HOOK_RESPONSE_BODY);
}

static bh_rc on_error(void *self, bh_req *r, void *ctx, const bh_error *err)
{
    (void)ctx;
    last_error = *err;
    return call(self, r, HOOK_ERROR);
}

static void on_log(void *self, bh_req *r, void *ctx)
{
    (void)ctx;
    call(self, r, HOOK_LOG);
}

static bh_plugin desc = {.open = open_,
                         .on_request = on_request,
                         .on_error = on_error,
                         .on_log = on_log,
                         .on_response = on_response};

/* ---- fixtures ---- */

static int group_set_up(void **state)
{
    (void)state;
    object.desc = &desc;
    return recovering_set_up(&shm, N);
}

static void close_instances(void)
{
    for (int i = 0; i < N; i++) {
        if (inst[i].current != NULL)
            incarnation_put(inst[i].current);
        inst[i].current = NULL;
    }
}

/* Must be the first thing in each test: see recovering.h. */
static void begin(void)
{
    recovering_begin(shm);
    memset(fakes, 0, sizeof fakes);
    memset(&last_error, 0, sizeof last_error);
    trace[0] = '\0';
    desc.on_request_body = NULL;
    desc.on_response_body = NULL;
    for (int i = 0; i < N; i++) {
        plugins[i].on_error = CONFIG_FAIL_CLOSED;
        inst[i] = (bh_inst){.magic = INSTANCE_MAGIC,
                            .id = (uint32_t)i + 1,
                            .cfg = &plugins[i],
                            .config = &config,
                            .object = &object,
                            .desc = &desc,
                            .stat = &shm->plugin[i],
                            .meter = &shm->worker[0].metrics_plugin[i]};
        atomic_store(&shm->plugin[i].crashes, 0);
        atomic_store(&shm->plugin[i].failures, 0);
        assert_int_equal(instance_open(&inst[i], NULL), 0);
        chain[i] = &inst[i];
    }
    memset(&req, 0, sizeof req);
    arena_init(&req.arena, REQUEST_ARENA_MAX);
    request_init(&req);
    req.method = bh_s("GET");
    req.target = req.path = bh_s("/before");
    req.protocol = bh_s("HTTP/1.1");
    req.body_limit = 1 << 20;
    assert_true(chain_enter(&req, chain, N));
}

static void end(void)
{
    request_reset(&req);
    arena_fini(&req.arena);
    close_instances();
}

/* The whole way of a request without a body. */
static void run(void)
{
    if (chain_request(&req) == CHAIN_NEXT)
        chain_host_reply(&req, 404, NULL);
    chain_response(&req);
    req.phase = PHASE_SENDING;
    chain_log(&req);
}

static void assert_reply(int status, const char *body)
{
    assert_int_equal(req.reply.status, status);
    if (body != NULL) {
        assert_int_equal(req.reply.len, strlen(body));
        assert_memory_equal(req.reply.bytes, body, strlen(body));
    }
}

/* ---- order ---- */

static void down_up_and_log_in_order(void **state)
{
    (void)state;
    begin();
    fakes[2].does[HOOK_REQUEST] = REPLY;
    run();
    assert_reply(200, "c");
    assert_string_equal(trace, "a.on_request b.on_request c.on_request "
                               "c.on_response b.on_response a.on_response "
                               "c.on_log b.on_log a.on_log");
    end();
}

static void done_stops_the_way_down(void **state)
{
    (void)state;
    begin();
    fakes[1].does[HOOK_REQUEST] = REPLY;
    run();
    assert_string_equal(trace,
                        "a.on_request b.on_request b.on_response a.on_response b.on_log a.on_log");
    end();
}

static void decline_is_the_last_word_of_a_plugin(void **state)
{
    (void)state;
    begin();
    fakes[0].does[HOOK_REQUEST] = BH_DECLINE;
    fakes[2].does[HOOK_REQUEST] = BH_FAIL; /* not even on_error */
    run();
    assert_string_equal(trace,
                        "a.on_request b.on_request c.on_request b.on_error b.on_response b.on_log");
    assert_reply(500, NULL);
    end();
}

static void decline_on_the_way_up_skips_on_log(void **state)
{
    (void)state;
    begin();
    fakes[1].does[HOOK_REQUEST] = REPLY;
    fakes[1].does[HOOK_RESPONSE] = BH_DECLINE;
    run();
    assert_string_equal(trace, "a.on_request b.on_request b.on_response a.on_response a.on_log");
    end();
}

static void deferred_calls_run_last_first_before_on_log(void **state)
{
    (void)state;
    begin();
    fakes[0].defers = fakes[2].defers = true;
    fakes[2].does[HOOK_REQUEST] = REPLY;
    run();
    assert_non_null(strstr(trace, "a.on_response c.defer a.defer c.on_log b.on_log a.on_log"));
    end();
}

/* ---- errors ---- */

static void the_innermost_on_error_answers(void **state)
{
    (void)state;
    begin();
    fakes[0].does[HOOK_ERROR] = REPLY;
    fakes[1].does[HOOK_ERROR] = REPLY;
    fakes[2].does[HOOK_REQUEST] = BH_FAIL;
    run();
    assert_reply(200, "b");
    assert_null(strstr(trace, "a.on_error"));
    assert_int_equal(last_error.kind, BH_E_FAIL);
    assert_string_equal(last_error.plugin, "c");
    assert_string_equal(last_error.hook, "on_request");
    end();
}

static void on_error_goes_up_in_reverse_order(void **state)
{
    (void)state;
    begin();
    fakes[2].does[HOOK_REQUEST] = BH_FAIL;
    run();
    assert_non_null(strstr(trace, "c.on_request b.on_error a.on_error b.on_response"));
    assert_reply(500, NULL);
    end();
}

static void an_on_error_that_fails_passes_the_error_on(void **state)
{
    (void)state;
    begin();
    fakes[0].does[HOOK_ERROR] = REPLY;
    fakes[1].does[HOOK_ERROR] = CRASH;
    fakes[2].does[HOOK_REQUEST] = BH_FAIL;
    run();
    assert_reply(200, "a");
    assert_null(strstr(trace, "b.on_response")); /* it crashed: no later hook */
    assert_int_equal(shm->plugin[1].crashes, 1);
    end();
}

static void done_without_a_reply_fails(void **state)
{
    (void)state;
    begin();
    fakes[1].does[HOOK_REQUEST] = BH_DONE;
    run();
    assert_reply(500, NULL);
    assert_int_equal(shm->plugin[1].failures, 1);
    end();
}

static void verdicts_of_no_meaning_fail(void **state)
{
    static const int verdicts[] = {3,         5,         8,       1000, -5, FAILURE_CRASHED,
                                   INT32_MIN, INT32_MAX, BH_PAUSE};

    (void)state;
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0]; i++) {
        begin();
        fakes[1].does[HOOK_REQUEST] = verdicts[i];
        run();
        assert_reply(500, NULL);
        assert_int_equal(last_error.kind, BH_E_FAIL);
        assert_int_equal(shm->plugin[1].crashes, 0);
        end();
    }
}

static void fail_open_goes_on_and_asks_nobody(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        begin();
        plugins[1].on_error = CONFIG_FAIL_OPEN;
        fakes[1].does[HOOK_REQUEST] = crash ? CRASH : BH_FAIL;
        fakes[2].does[HOOK_REQUEST] = REPLY;
        run();
        assert_reply(200, "c");
        assert_null(strstr(trace, "on_error"));
        assert_null(strstr(trace, "b.on_response"));
        end();
    }
}

static void a_failed_call_leaves_no_changes(void **state)
{
    static const int failures[] = {BH_FAIL, CRASH, BH_DONE /* without a reply */,
                                   BH_PAUSE /* or a ticket */};

    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        begin();
        plugins[1].on_error = CONFIG_FAIL_OPEN;
        fakes[1].changes = true;
        fakes[1].does[HOOK_REQUEST] = failures[i];
        fakes[2].does[HOOK_REQUEST] = REPLY;
        run();
        assert_null(fields_find(&req.hdr[BH_RESP], "X-Changed", 9, 0));
        assert_null(host_table()->var_get(&req, "changed").p);
        assert_string_equal(req.path.p, "/before");
        end();
    }
}

static void a_plugin_without_an_instance_is_503(void **state)
{
    (void)state;
    begin();
    incarnation_put(inst[1].current);
    inst[1].current = NULL;
    inst[1].retry_at_ms = INT64_MAX;
    run();
    assert_reply(503, NULL);
    assert_int_equal(last_error.kind, BH_E_QUARANTINED);
    assert_string_equal(trace, "a.on_request a.on_error a.on_response a.on_log");
    end();
}

/* ---- a crash in each hook ---- */

static void a_crash_in_on_request_is_answered_and_recorded(void **state)
{
    const struct shm_crash *record;

    (void)state;
    begin();
    fakes[2].does[HOOK_REQUEST] = CRASH;
    run();
    assert_reply(500, NULL);
    assert_int_equal(last_error.kind, BH_E_CRASH);
    assert_int_equal(last_error.signo, SIGSEGV);
    record = recovering_record(shm);
    assert_int_equal(record->state, SHM_CRASH_FULL);
    assert_int_equal(record->plugin, 3);
    assert_int_equal(record->hook, HOOK_REQUEST);
    assert_int_equal(record->verdict, SHM_RECOVERED);
    assert_int_equal(record->status, 500);
    assert_int_equal(record->answered_by, 0);
    assert_int_equal(record->n_steps, 2);
    assert_int_equal(record->step[0].plugin, 2);
    assert_int_equal(record->step[1].plugin, 1);
    assert_non_null(strstr(record->request, "GET /before HTTP/1.1"));
    end();
}

static void a_crash_in_on_response_is_answered(void **state)
{
    (void)state;
    begin();
    fakes[0].does[HOOK_ERROR] = REPLY;
    fakes[1].does[HOOK_RESPONSE] = CRASH;
    fakes[2].does[HOOK_REQUEST] = REPLY;
    run();
    assert_reply(200, "a");
    assert_string_equal(trace, "a.on_request b.on_request c.on_request c.on_response b.on_response "
                               "a.on_error a.on_response c.on_log a.on_log");
    end();
}

static void a_crash_in_the_filter_of_a_reply_is_answered(void **state)
{
    (void)state;
    begin();
    desc.on_response_body = on_response_body;
    assert_true(chain_enter(&req, chain, N));
    fakes[1].does[HOOK_RESPONSE_BODY] = CRASH;
    fakes[2].does[HOOK_REQUEST] = REPLY;
    run();
    assert_reply(500, NULL);
    end();
}

static void a_crash_in_the_filter_of_a_stream_truncates(void **state)
{
    bh_str chunk = bh_s("chunk");

    (void)state;
    begin();
    desc.on_response_body = on_response_body;
    assert_true(chain_enter(&req, chain, N));
    fakes[1].does[HOOK_RESPONSE_BODY] = CRASH;
    assert_int_equal(chain_request(&req), CHAIN_NEXT);
    req.phase = PHASE_SENDING;
    assert_true(chain_filters_body(&req));
    assert_false(chain_response_chunk(&req, &chunk, false));
    assert_int_equal(recovering_record(shm)->verdict, SHM_TRUNCATED);
    chain_log(&req);
    end();
}

static void a_crash_in_on_log_lets_the_others_log(void **state)
{
    (void)state;
    begin();
    fakes[1].does[HOOK_LOG] = CRASH;
    fakes[2].does[HOOK_REQUEST] = REPLY;
    run();
    assert_non_null(strstr(trace, "c.on_log b.on_log a.on_log"));
    assert_int_equal(shm->plugin[1].crashes, 1);
    end();
}

static void a_crash_in_a_deferred_call_lets_the_others_run(void **state)
{
    (void)state;
    begin();
    fakes[0].defers = fakes[1].defers = fakes[2].defers = true;
    fakes[1].does[HOOK_DEFER] = CRASH;
    fakes[2].does[HOOK_REQUEST] = REPLY;
    run();
    assert_non_null(strstr(trace, "c.defer b.defer a.defer"));
    end();
}

static void deferred_calls_of_a_crashed_call_run(void **state)
{
    (void)state;
    begin();
    fakes[1].defers = true;
    fakes[1].does[HOOK_REQUEST] = CRASH;
    run();
    assert_non_null(strstr(trace, "b.defer"));
    end();
}

static void a_crash_replaces_the_instance_for_later_requests_only(void **state)
{
    struct incarnation *before;

    (void)state;
    begin();
    before = inst[1].current;
    fakes[1].does[HOOK_RESPONSE] = CRASH;
    fakes[2].does[HOOK_REQUEST] = REPLY;
    assert_int_equal(chain_request(&req), CHAIN_REPLY);
    chain_response(&req);
    assert_non_null(inst[1].current);
    assert_ptr_not_equal(inst[1].current, before);
    assert_ptr_equal(req.entry[1].inc, before); /* held until this request ends */
    chain_log(&req);
    end();
}

/* ---- bodies ---- */

static void want_body(int i, uint8_t mode, uint64_t max)
{
    req.entry[i].want[BH_REQ] = mode;
    req.entry[i].max[BH_REQ] = max;
}

static void begin_body(void)
{
    begin();
    desc.on_request_body = on_request_body;
    assert_true(chain_enter(&req, chain, N));
    assert_int_equal(chain_request(&req), CHAIN_NEXT);
    req.phase = PHASE_BODY;
    trace[0] = '\0';
}

static void end_body(void)
{
    if (req.reply.kind == REPLY_NONE)
        chain_host_reply(&req, 404, NULL);
    chain_log(&req);
    end();
}

static void a_body_is_streamed_to_some_and_whole_for_others(void **state)
{
    (void)state;
    begin_body();
    want_body(0, BH_BODY_NONE, 0);
    want_body(1, BH_BODY_BUFFER, 100);
    assert_true(chain_wants_body(&req));
    assert_int_equal(chain_body(&req, bh_s("one"), false), CHAIN_NEXT);
    assert_int_equal(chain_body(&req, bh_s("two"), false), CHAIN_NEXT);
    assert_int_equal(chain_body(&req, bh_s(""), true), CHAIN_NEXT);
    assert_string_equal(trace, "c.body(one) c.body(two) b.body(onetwo). c.body().");
    end_body();
}

static void nobody_wants_a_body_when_all_declined(void **state)
{
    (void)state;
    begin_body();
    for (int i = 0; i < N; i++)
        want_body(i, BH_BODY_NONE, 0);
    assert_false(chain_wants_body(&req));
    end_body();
}

static void a_body_over_the_limit_of_a_plugin_is_413(void **state)
{
    (void)state;
    begin_body();
    want_body(1, BH_BODY_BUFFER, 5);
    assert_int_equal(chain_body(&req, bh_s("one"), false), CHAIN_NEXT);
    assert_int_equal(chain_body(&req, bh_s("two"), false), CHAIN_REPLY);
    assert_reply(413, NULL);
    assert_int_equal(last_error.kind, BH_E_LIMIT);
    end_body();
}

static void a_buffered_body_overwrites_nothing(void **state)
{
    static const size_t sizes[] = {4000, 4100, 1, 8000, 100, 16000, 4095, 4097, 30000};
    static char bytes[30000];
    char *canary[sizeof sizes / sizeof sizes[0]];
    size_t total = 0;

    (void)state;
    begin_body();
    want_body(1, BH_BODY_BUFFER, 1 << 20);
    memset(bytes, 'x', sizeof bytes);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(chain_body(&req, bh_sn(bytes, sizes[i]), false), CHAIN_NEXT);
        canary[i] = arena_alloc(&req.arena, 64);
        memset(canary[i], 'c', 64);
        total += sizes[i];
        assert_int_equal(req.body[BH_REQ].n, total);
        for (size_t k = 0; k <= i; k++)
            for (int b = 0; b < 64; b++)
                assert_int_equal(canary[k][b], 'c');
    }
    for (size_t i = 0; i < total; i++)
        if (req.body[BH_REQ].p[i] != 'x')
            fail();
    end_body();
}

static void a_crash_in_on_request_body_is_answered(void **state)
{
    (void)state;
    begin_body();
    fakes[1].does[HOOK_REQUEST_BODY] = CRASH;
    assert_int_equal(chain_body(&req, bh_s("one"), false), CHAIN_REPLY);
    assert_reply(500, NULL);
    assert_string_equal(last_error.hook, "on_request_body");
    end_body();
}

/* ---- pauses, without the worker's tickets ---- */

static void a_pause_goes_on_behind_the_paused_hook(void **state)
{
    (void)state;
    begin();
    fakes[1].does[HOOK_REQUEST] = BH_CONTINUE;
    fakes[2].does[HOOK_REQUEST] = REPLY;
    req.is_paused = true; /* as if b had paused */
    req.entry[0].inc = incarnation_get(&inst[0]);
    req.entry[0].flags |= ENTRY_ENTERED;
    req.entry[1].inc = incarnation_get(&inst[1]);
    req.entry[1].flags |= ENTRY_ENTERED;
    req.at = 1;
    req.resume_verdict = BH_CONTINUE;
    assert_int_equal(chain_request(&req), CHAIN_REPLY);
    assert_string_equal(trace, "c.on_request");
    chain_log(&req);
    end();
}

static void a_pause_past_its_time_is_504(void **state)
{
    (void)state;
    begin();
    req.is_paused = true;
    req.entry[0].inc = incarnation_get(&inst[0]);
    req.entry[0].flags |= ENTRY_ENTERED;
    req.at = 1;
    chain_fail_paused(&req, BH_E_DEADLINE);
    assert_int_equal(chain_request(&req), CHAIN_REPLY);
    assert_reply(504, NULL);
    assert_int_equal(last_error.kind, BH_E_DEADLINE);
    chain_log(&req);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(down_up_and_log_in_order),
        cmocka_unit_test(done_stops_the_way_down),
        cmocka_unit_test(decline_is_the_last_word_of_a_plugin),
        cmocka_unit_test(decline_on_the_way_up_skips_on_log),
        cmocka_unit_test(deferred_calls_run_last_first_before_on_log),
        cmocka_unit_test(the_innermost_on_error_answers),
        cmocka_unit_test(on_error_goes_up_in_reverse_order),
        cmocka_unit_test(an_on_error_that_fails_passes_the_error_on),
        cmocka_unit_test(done_without_a_reply_fails),
        cmocka_unit_test(verdicts_of_no_meaning_fail),
        cmocka_unit_test(fail_open_goes_on_and_asks_nobody),
        cmocka_unit_test(a_failed_call_leaves_no_changes),
        cmocka_unit_test(a_plugin_without_an_instance_is_503),
        cmocka_unit_test(a_crash_in_on_request_is_answered_and_recorded),
        cmocka_unit_test(a_crash_in_on_response_is_answered),
        cmocka_unit_test(a_crash_in_the_filter_of_a_reply_is_answered),
        cmocka_unit_test(a_crash_in_the_filter_of_a_stream_truncates),
        cmocka_unit_test(a_crash_in_on_log_lets_the_others_log),
        cmocka_unit_test(a_crash_in_a_deferred_call_lets_the_others_run),
        cmocka_unit_test(deferred_calls_of_a_crashed_call_run),
        cmocka_unit_test(a_crash_replaces_the_instance_for_later_requests_only),
        cmocka_unit_test(a_body_is_streamed_to_some_and_whole_for_others),
        cmocka_unit_test(nobody_wants_a_body_when_all_declined),
        cmocka_unit_test(a_body_over_the_limit_of_a_plugin_is_413),
        cmocka_unit_test(a_buffered_body_overwrites_nothing),
        cmocka_unit_test(a_crash_in_on_request_body_is_answered),
        cmocka_unit_test(a_pause_goes_on_behind_the_paused_hook),
        cmocka_unit_test(a_pause_past_its_time_is_504),
    };

    return cmocka_run_group_tests_name("chain", tests, group_set_up, NULL);
}
