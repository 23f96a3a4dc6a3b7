/*
 * test_admin_reload.c - whoever asks the admin interface is answered, also when its process makes room for
 * the next one, as it does after each reload.
 */
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin_scene.h"

enum { CALLERS = 4, RELOADS = 12 };

#define CONFIG                                               \
    "version: 1\n"                                           \
    "server: {workers: 1}\n"                                 \
    "listeners: [{address: \"127.0.0.1:@PORT@\"}]\n"         \
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"              \
    "plugins: {ok: {module: respond, config: {body: %d}}}\n" \
    "routes: [{match: {path: /**}, chain: [ok]}]\n"          \
    "crash: {dir: @DIR@/crashes}\n"

static struct {
    struct server *srv;
    _Atomic bool must_end;
    _Atomic int n, n_unanswered;
} calls;

/* Each on a connection of its own: it may be the last that the old process accepts. */
static void *call(void *arg)
{
    (void)arg;
    while (!atomic_load(&calls.must_end)) {
        struct response *res = admin_send_with(calls.srv, "GET", "/api/v1/status", admin_reader,
                                               NULL);

        atomic_fetch_add(&calls.n, 1);
        if (res->status == 0) /* who asks that often may be told to slow down */
            atomic_fetch_add(&calls.n_unanswered, 1);
        response_free(&res);
    }
    return NULL;
}

static void who_asks_is_answered_while_its_process_makes_room(void **state)
{
    pthread_t thread[CALLERS];
    char text[2000];
    pid_t before;

    (void)state;
    snprintf(text, sizeof text, CONFIG, 0);
    calls.srv = admin_start(NULL, text, "");
    for (int i = 0; i < CALLERS; i++)
        pthread_create(&thread[i], NULL, call, NULL);
    for (int i = 1; i <= RELOADS; i++) {
        int n = atomic_load(&calls.n);

        before = admin_pid(calls.srv);
        /* Not by a new config: the harness would write one without the admin interface. */
        assert_int_equal(
            run_command(NULL, "sed -i 's/body: [0-9]*/body: %d/' %s", i, calls.srv->config), 0);
        kill(calls.srv->pid, SIGHUP);
        eventually(admin_pid(calls.srv) != before && admin_pid(calls.srv) != 0);
        eventually(atomic_load(&calls.n) > n + 20);
    }
    atomic_store(&calls.must_end, true);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(thread[i], NULL);
    if (atomic_load(&calls.n_unanswered) > 0)
        harness_fail(__FILE__, __LINE__, "%d of %d were not answered",
                     atomic_load(&calls.n_unanswered), atomic_load(&calls.n));
    assert_int_equal(server_stop(&calls.srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_asks_is_answered_while_its_process_makes_room),
    };

    return cmocka_run_group_tests_name("admin interface and reloads", tests, NULL, NULL);
}
