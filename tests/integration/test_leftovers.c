/*
 * test_leftovers.c - what a plugin leaves behind in close(): refused when it is tried; what it begins later,
 * while it serves, ends with its worker and harms nobody.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char source[] =
    "#include <bulkhead.h>\n"
    "#include <pthread.h>\n"
    "#include <signal.h>\n"
    "#include <time.h>\n"
    "#include <unistd.h>\n"
    "static void *sleep_on(void *arg) { for (;;) pause(); return arg; }\n"
    "static void *end_soon(void *arg) { usleep(200000); return arg; }\n"
    "static void on_signal(int signo) { (void)signo; }\n"
    "static void destroy(void *p) { *(char *)p = 0; }\n"
    "static void expire(union sigval v) { (void)v; }\n"
    "static pthread_key_t key;\n"
    "static char value;\n"
    "static void thread(void *(*fn)(void *), int detach)\n"
    "{ pthread_t t; if (pthread_create(&t, 0, fn, 0) == 0 && detach) pthread_detach(t); }\n"
    "static void timer(void)\n"
    "{ struct sigevent ev = {.sigev_notify = SIGEV_THREAD}; timer_t t;\n"
    "  ev.sigev_notify_function = expire; timer_create(CLOCK_MONOTONIC, &ev, &t); }\n"
    "static void *keep(void *arg)\n" /* has something thread-specific, for ever or until it ends */
    "{ pthread_setspecific(key, &value); return arg != 0 ? sleep_on(arg) : 0; }\n"
    "static int32_t job(void *arg) { keep(arg); return BH_CONTINUE; }\n"
    "static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)\n"
    "{ (void)inst; (void)cfg; (void)self; %s; return BH_OK; }\n"
    "static void close_it(void *self) { (void)self; %s; }\n"
    "__attribute__((destructor)) static void fini(void) { %s; }\n"
    "static bh_rc answer(void *self, bh_req *req, void *ctx)\n"
    "{ (void)self; (void)ctx; %s; return bh_reply(req, 200, \"text/plain\", \"%s\"); }\n"
    "BH_PLUGIN(\"left\", \"1\", .summary = \"\", .flags = %s, .open = open_it,\n"
    "          .close = close_it, .on_request = answer)\n";

struct plugin {
    const char *in_open, *in_close, *in_destructor, *in_request, *says, *flags;
};

static char *make(const char *dir, const char *name, const struct plugin *p)
{
    char text[8192];
#define OR(FIELD, ELSE) (p->FIELD != NULL ? p->FIELD : (ELSE))

    snprintf(text, sizeof text, source, OR(in_open, ""), OR(in_close, ""), OR(in_destructor, ""),
             OR(in_request, ""), OR(says, "one"), OR(flags, "0"));
    return plugin_build(dir, name, text);
}

static struct server *start(const struct plugin *p)
{
    char *dir = tmp_dir(), *object = make(dir, "left", p);
    struct server *srv = server_start_in(dir,
                                         "version: 1\n"
                                         "server: {workers: 1}\n"
                                         "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                                         "limits: {timeouts: {drain: 5s}}\n"
                                         "plugins: {left: {module: @DIR@/left.so}}\n"
                                         "routes: [{chain: [left]}]\n"
                                         "crash: {dir: @DIR@/crashes}\n");

    server_wait_log(srv, "serving on");
    free(object);
    free(dir);
    return srv;
}

static void reload(const struct server *srv, int expected, const char *said)
{
    char *out;
    int status = run_command(&out, "RUNTIME_DIRECTORY=%s \"$BULKHEAD\" reload --wait -c %s",
                             srv->dir, srv->config);

    if (status != expected || strstr(out, said) == NULL)
        harness_fail(__FILE__, __LINE__, "reload: exit %d instead of %d, or without '%s':\n%s",
                     status, expected, said, out);
    free(out);
}

static bool says(struct server *srv, const char *text)
{
    struct response *res = server_get(srv, "/");
    bool does = res->status == 200 && strcmp(res->body, text) == 0;

    response_free(&res);
    return does;
}

/* The next version is refused, and the one before goes on. */
static void check_refused(const struct plugin *p, const char *said)
{
    struct server *srv = start(&(struct plugin){0});

    free(make(srv->dir, "left", p));
    reload(srv, 2, said);
    assert_true(says(srv, "one"));
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_thread_that_is_left_is_refused_and_named(void **state)
{
    (void)state;
    check_refused(&(struct plugin){.in_open = "thread(sleep_on, 0); thread(sleep_on, 1)"},
                  "error: plugin 'left' leaves 2 threads running after close(): sleep_on()");
}

static void a_timer_that_is_left_is_refused_and_named(void **state)
{
    (void)state;
    check_refused(&(struct plugin){.in_open = "timer()"},
                  "leaves a timer (timer_create()) after close(), whose function is expire()");
}

static void a_signal_handler_that_is_left_is_refused_and_named(void **state)
{
    (void)state;
    check_refused(&(struct plugin){.in_open = "signal(SIGWINCH, on_signal)"},
                  "leaves a handler of SIGWINCH after close(): on_signal()");
}

static void a_key_whose_destructor_is_left_is_refused_and_named(void **state)
{
    (void)state;
    check_refused(
        &(struct plugin){.in_open = "pthread_key_create(&key, destroy)"},
        "leaves a key of thread-specific data (pthread_key_create()), whose destructor is "
        "destroy()");
}

/* What is put right in time, or needs not be. */
static void what_ends_in_close_or_soon_after_is_accepted(void **state)
{
    static const struct plugin plugin[] = {
        {.in_open = "thread(end_soon, 1)", .says = "a"},
        {.in_open = "signal(SIGWINCH, on_signal)",
         .in_close = "signal(SIGWINCH, SIG_DFL)",
         .says = "b"},
        {.in_open = "pthread_key_create(&key, destroy)",
         .in_close = "pthread_key_delete(key)",
         .says = "c"},
        /* A key of several instances is the object's. */
        {.in_open = "pthread_key_create(&key, destroy)",
         .in_destructor = "pthread_key_delete(key)",
         .says = "d"},
        {.in_open = "pthread_key_create(&key, 0)", .says = "e"},
        /* It says that it cannot, and is never unmapped. */
        {.in_open = "thread(sleep_on, 1)", .says = "f", .flags = "BH_F_PINNED"},
    };
    struct server *srv = start(&(struct plugin){0});

    (void)state;
    for (size_t i = 0; i < sizeof plugin / sizeof plugin[0]; i++) {
        free(make(srv->dir, "left", &plugin[i]));
        reload(srv, 0, "serves");
        assert_true(says(srv, plugin[i].says));
    }
    assert_int_equal(server_stop(&srv), 0);
}

/* All of it at once, on threads of its own and of the pool: a worker that has to go goes, and nothing
 * crashes while it does. */
static void what_is_left_at_run_time_ends_with_its_worker(void **state)
{
    static const char all[] =
        "static int once; if (!once++) { pthread_key_create(&key, destroy); pthread_t t;\n"
        " signal(SIGWINCH, on_signal); timer(); thread(sleep_on, 1); keep(0);\n"
        " pthread_create(&t, 0, keep, &value); pthread_create(&t, 0, keep, 0);\n"
        " pthread_join(t, 0); }\n"
        "return bh_offload(req, job, 0)";
    struct server *srv = start(&(struct plugin){.in_request = all});
    struct response *res;
    pid_t worker[4];

    (void)state;
    for (int i = 0; i < 3; i++) {
        res = server_get(srv, "/");
        response_free(&res);
        assert_int_equal(server_children(srv, "bh-worker", worker, 4), 1);
        free(make(
            srv->dir, "left",
            &(struct plugin){.in_request = i < 2 ? all : NULL, .says = i == 0 ? "two" : "three"}));
        reload(srv, 0, "serves");
        eventually(kill(worker[0], 0) < 0);
    }
    assert_true(says(srv, "three"));
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_that_is_left_is_refused_and_named),
        cmocka_unit_test(a_timer_that_is_left_is_refused_and_named),
        cmocka_unit_test(a_signal_handler_that_is_left_is_refused_and_named),
        cmocka_unit_test(a_key_whose_destructor_is_left_is_refused_and_named),
        cmocka_unit_test(what_ends_in_close_or_soon_after_is_accepted),
        cmocka_unit_test(what_is_left_at_run_time_ends_with_its_worker),
    };

    return cmocka_run_group_tests_name("leftovers", tests, NULL, NULL);
}
