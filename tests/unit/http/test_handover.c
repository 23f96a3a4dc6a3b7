/*
 * test_handover.c - two real fronts in one process, on loopback sockets: `a` gives connections, `b`
 * takes them over. A duplicate of a descriptor stands for one that came through a Unix socket.
 */
#include "http/front.h"

/* link: @interpose */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "conf/config.h"
#include "http/internal.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/object.h"
#include "plugin/recover.h"

#define DEADLINE_MS 10000
#define BIG         (8u << 20)

enum { A, B, FRONTS };
enum { TCP, UNIX, LISTENERS };

static struct shm *shm;
static struct front *front[FRONTS];
static struct sockaddr_in tcp[FRONTS];
static struct sockaddr_un unix_addr[FRONTS];
static int kept_listen_fd[FRONTS]; /* as a master would keep it */
static char dir[] = "/tmp/test-handover-XXXXXX";

static char name[FRONTS][2] = {"a", "b"};
static bh_inst inst[FRONTS];
static bh_inst *instances[FRONTS][1] = {{&inst[A]}, {&inst[B]}};
static struct config_plugin plugin_config = {.name = "p"};
static const int chain[] = {0};
static struct config_route route = {
    .name = "all", .path = "/", .path_len = 1, .is_prefix = true, .chain = chain, .n_chain = 1};
static struct config_listener listeners[LISTENERS] = {{.name = "tcp"}, {.name = "unix"}};
static const char *replay[] = {"GET", "HEAD", "OPTIONS"};
static struct config config = {.path = "test.yaml",
                               .dir = "/",
                               .plugin = &plugin_config,
                               .n_plugins = 1,
                               .route = &route,
                               .n_routes = 1,
                               .listener = listeners,
                               .n_listeners = LISTENERS,
                               .escrow = {.replay = replay, .n_replay = 3}};

/* What the plugin saw. */
static uint32_t seen_flags;
static uint32_t logged_flags;
static int seen_fd, seen_call_fd, logged_call_fd, n_noted, n_watched;
static struct exchange *paused[8];
static int n_paused;

/* ---- the plugin ---- */

static bh_rc open_(bh_inst *i, const void *cfg, void **self)
{
    (void)cfg;
    *self = i == &inst[A] ? name[A] : name[B];
    return BH_OK;
}

static bh_rc reply(bh_req *req, const char *text, size_t n)
{
    return host_table()->reply(req, 200, "text/plain", text, n) == BH_OK ? BH_DONE : BH_FAIL;
}

/* Answers "a /path"; /pause waits for resume_all(), and is answered 404 then; /body is
 * answered when its body is there, /big with much; /note looks for what can
 * be run again, as the fault handler of a crash in this request would. */
static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    int which = *(const char *)self == 'a' ? A : B;
    struct exchange *x = exchange_of(req);
    char text[256];

    (void)ctx;
    seen_fd = x->conn->fd;
    seen_flags = shm_conn(shm, (uint32_t)which, seen_fd)->flags;
    seen_call_fd = shm->worker[which].call.fd;
    if (strncmp(req->path.p, "/pause", 6) == 0) {
        req->has_ticket = true;
        paused[n_paused++] = x;
        return BH_PAUSE;
    }
    if (strcmp(req->path.p, "/body") == 0)
        return BH_CONTINUE;
    if (strcmp(req->path.p, "/big") == 0) {
        char *big = host_table()->alloc(req, BIG, 1);

        memset(big, 'x', BIG);
        return reply(req, big, BIG);
    }
    if (strcmp(req->path.p, "/note") == 0)
        n_noted = (int)front_note_replays(front[which], shm, (uint32_t)which);
    snprintf(text, sizeof text, "%s %s", (const char *)self, req->path.p);
    return reply(req, text, strlen(text));
}

static bh_rc on_request_body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    (void)self, (void)ctx, (void)chunk;
    return end ? reply(req, "body", 4) : BH_CONTINUE;
}

static void on_log(void *self, bh_req *req, void *ctx)
{
    int which = *(const char *)self == 'a' ? A : B;

    (void)ctx;
    logged_flags = shm_conn(shm, (uint32_t)which, exchange_of(req)->conn->fd)->flags;
    logged_call_fd = shm->worker[which].call.fd;
}

static bh_plugin desc = {
    .open = open_, .on_request = on_request, .on_request_body = on_request_body, .on_log = on_log};
static struct object object = {.desc = &desc};

static void resume_all(void)
{
    while (n_paused > 0) {
        struct exchange *x = paused[--n_paused];

        exchange_request(x)->resume_verdict = BH_CONTINUE;
        exchange_resume(x);
    }
}

static void watch(int fd, struct exchange *x, bool is_half_closed)
{
    (void)fd, (void)x, (void)is_half_closed;
    n_watched++;
}

static void unwatch(int fd)
{
    (void)fd;
    n_watched--;
}

static void on_end(struct exchange *x)
{
    (void)x;
}

static struct front_ops ops[FRONTS] = {
    {.instance = instances[A], .on_end = on_end, .watch = watch, .unwatch = unwatch},
    {.instance = instances[B], .on_end = on_end, .watch = watch, .unwatch = unwatch}};

/* ---- fixtures ---- */

static int listen_tcp(struct sockaddr_in *addr)
{
    socklen_t len = sizeof *addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)addr, sizeof *addr) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)addr, &len) < 0)
        return -1;
    return fd;
}

static int listen_unix(struct sockaddr_un *addr, int i)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    addr->sun_family = AF_UNIX;
    snprintf(addr->sun_path, sizeof addr->sun_path, "%s/%d", dir, i);
    unlink(addr->sun_path);
    if (bind(fd, (struct sockaddr *)addr, sizeof *addr) < 0 || listen(fd, 64) < 0)
        return -1;
    return fd;
}

static int set_up(void **state)
{
    (void)state;
    config.limits.connections = 64;
    config.limits.head = config.limits.uri = 8192;
    config.limits.headers = 100;
    config.limits.body = 1 << 20;
    config.limits.idle_ms = config.limits.head_ms = 60000;
    config.limits.body_ms = config.limits.send_ms = 60000;
    config.escrow.n_replay = 3;
    n_paused = n_watched = 0;
    for (int i = 0; i < FRONTS; i++) {
        int fds[LISTENERS] = {listen_tcp(&tcp[i]), listen_unix(&unix_addr[i], i)};

        kept_listen_fd[i] = dup(fds[TCP]);
        inst[i] = (bh_inst){.magic = INSTANCE_MAGIC,
                            .id = 1,
                            .cfg = &plugin_config,
                            .config = &config,
                            .object = &object,
                            .desc = &desc,
                            .stat = &shm->plugin[0],
                            .meter = &shm->worker[i].metrics_plugin[0]};
        if (instance_open(&inst[i], NULL) < 0 ||
            front_create(&config, &ops[i], fds, shm, (uint32_t)i, &front[i]) < 0)
            return -1;
    }
    return 0;
}

static void step(void);

static int tear_down(void **state)
{
    (void)state;
    resume_all();
    step();
    for (int i = 0; i < FRONTS; i++) {
        front_destroy(&front[i]);
        incarnation_put(inst[i].current);
        close(kept_listen_fd[i]);
    }
    return 0;
}

static int group_set_up(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(dir) == NULL || shm_create(FRONTS, 1, &shm) < 0)
        return -1;
    return recover_init(shm, 0);
}

static int group_tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < FRONTS; i++)
        unlink(unix_addr[i].sun_path);
    return rmdir(dir);
}

/* ---- the loops ---- */

static void step_front(struct front *f)
{
    struct pollfd p[LISTENERS];
    int ms = front_timeout_ms(f);
    unsigned mask = 0;

    for (int i = 0; i < LISTENERS; i++)
        p[i] = (struct pollfd){.fd = front_poll_fd(f, i), .events = POLLIN};
    poll(p, LISTENERS, ms < 0 || ms > 1 ? 1 : ms);
    for (int i = 0; i < LISTENERS; i++)
        if (p[i].revents != 0)
            mask |= 1u << i;
    front_run(f, mask);
}

static void step(void)
{
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < FRONTS; i++)
            if (front[i] != NULL)
                step_front(front[i]);
}

#define STEP_UNTIL(condition)                           \
    do {                                                \
        int64_t until_ = clock_mono_ms() + DEADLINE_MS; \
        while (!(condition)) {                          \
            assert_true(clock_mono_ms() < until_);      \
            step();                                     \
        }                                               \
    } while (0)

/* ---- clients ---- */

static int client_tcp(int which)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&tcp[which], sizeof tcp[which]), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int client_unix(int which)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&unix_addr[which], sizeof unix_addr[which]), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
}

static void get(int fd, const char *path)
{
    char text[256];

    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    say(fd, text);
}

static char heard[65536];

/* One answer with its Content-Length, no byte more: what follows is the next one's. */
static void hear(int fd)
{
    size_t n = 0, want = SIZE_MAX;
    int64_t until = clock_mono_ms() + DEADLINE_MS;

    while (n < want) {
        /* Byte by byte up to the end of the head. */
        ssize_t got = recv(fd, heard + n, want == SIZE_MAX ? 1 : want - n, 0);

        assert_true(clock_mono_ms() < until);
        if (got < 0) {
            assert_int_equal(errno, EAGAIN);
            step();
            continue;
        }
        assert_int_not_equal(got, 0);
        n += (size_t)got;
        heard[n] = '\0';
        if (want == SIZE_MAX && n >= 4 && memcmp(heard + n - 4, "\r\n\r\n", 4) == 0) {
            const char *len = strstr(heard, "Content-Length: ");

            assert_non_null(len);
            want = n + strtoul(len + 16, NULL, 10);
            assert_true(want < sizeof heard);
        }
    }
}

static const char *body(void)
{
    const char *at = strstr(heard, "\r\n\r\n");

    return at != NULL ? at + 4 : "";
}

static void assert_answer(int fd, const char *text)
{
    hear(fd);
    assert_memory_equal(heard, "HTTP/1.1 200", 12);
    assert_string_equal(body(), text);
}

static void assert_resumed_answer(int fd)
{
    hear(fd);
    assert_memory_equal(heard, "HTTP/1.1 404", 12);
}

/* 0: the end. -errno. 1: there is a byte. */
static int next(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);

    return n < 0 ? -errno : (int)n;
}

static uint32_t flags_of(int which, int fd)
{
    return shm_conn(shm, (uint32_t)which, fd)->flags;
}

static int n_conns(int which)
{
    return (int)shm->worker[which].connections;
}

/* The only connection of a front, as the table has it. */
static uint32_t only_flags(int which)
{
    struct conn *c = list_entry(front[which]->conns.next, struct conn, node);

    assert_int_equal(n_conns(which), 1);
    assert_int_equal(flags_of(which, c->fd), c->flags);
    return c->flags;
}

/* ---- giving ---- */

static int given_fd[8], given_listener[8], n_given;

static bool refuse_all(void *arg, int listener, int fd, const struct address *client)
{
    (void)arg, (void)listener, (void)fd, (void)client;
    return false;
}

static bool give(void *arg, int listener, int fd, const struct address *client)
{
    (void)arg, (void)client;
    given_listener[n_given] = listener;
    given_fd[n_given++] = dup(fd);
    return true;
}

static int give_all(int which)
{
    n_given = 0;
    return front_give_idle(front[which], INT_MAX, give, NULL);
}

/* From a to b, which it then has alone. */
static void move_one(void)
{
    assert_int_equal(give_all(A), 1);
    assert_int_equal(front_adopt(front[B], given_listener[0], given_fd[0], NULL, NULL, 0, false),
                     0);
}

static void an_idle_connection_goes_on_in_another_front(void **state)
{
    int client = client_tcp(A);

    (void)state;
    get(client, "/1");
    assert_answer(client, "a /1");
    move_one();
    get(client, "/2");
    assert_answer(client, "b /2");
    get(client, "/3");
    assert_answer(client, "b /3");
    STEP_UNTIL(n_conns(A) == 0);
    assert_true(front_is_drained(front[A]));
    assert_int_equal(n_conns(B), 1);
    assert_int_equal(next(client), -EAGAIN);
    close(client);
    STEP_UNTIL(n_conns(B) == 0);
}

static void a_connection_without_a_request_yet_can_be_given(void **state)
{
    int client = client_tcp(A);

    (void)state;
    STEP_UNTIL(n_conns(A) == 1);
    move_one();
    get(client, "/1");
    assert_answer(client, "b /1");
    close(client);
}

static void a_connection_over_a_unix_socket_can_be_given(void **state)
{
    int client = client_unix(A);

    (void)state;
    get(client, "/1");
    assert_answer(client, "a /1");
    move_one();
    assert_int_equal(given_listener[0], UNIX);
    get(client, "/2");
    assert_answer(client, "b /2");
    close(client);
}

static void what_came_meanwhile_is_answered_by_the_new_owner(void **state)
{
    int client = client_tcp(A);

    (void)state;
    get(client, "/1");
    assert_answer(client, "a /1");
    get(client, "/2"); /* in the kernel, when it is given */
    move_one();
    assert_answer(client, "b /2");
    close(client);
}

static void the_client_notices_nothing_even_when_the_giver_ends(void **state)
{
    int client = client_tcp(A);

    (void)state;
    get(client, "/1");
    assert_answer(client, "a /1");
    front_stop_accepting(front[A], 0);
    assert_int_equal(give_all(A), 1);
    front_drain(front[A]);
    front_destroy(&front[A]);
    assert_int_equal(next(client), -EAGAIN);
    get(client, "/2");
    assert_int_equal(front_adopt(front[B], TCP, given_fd[0], NULL, NULL, 0, false), 0);
    assert_answer(client, "b /2");
    step(); /* a shutdown() of a's would let b read the end now */
    assert_int_equal(next(client), -EAGAIN);
    close(client);
}

static void a_connection_in_the_middle_of_a_request_is_kept(void **state)
{
    int client = client_tcp(A);

    (void)state;
    say(client, "GET /1 HT");
    STEP_UNTIL(n_conns(A) == 1 && only_flags(A) == (SHM_CONN_OPEN | SHM_CONN_BUSY));
    assert_int_equal(give_all(A), 0);
    say(client, "TP/1.1\r\nHost: x\r\n\r\n");
    assert_answer(client, "a /1");
    get(client, "/pause");
    STEP_UNTIL(n_paused == 1);
    assert_int_equal(give_all(A), 0);
    resume_all();
    assert_resumed_answer(client);
    assert_int_equal(give_all(A), 1);
    close(given_fd[0]);
    close(client);
}

static void a_connection_that_nobody_takes_stays(void **state)
{
    int client = client_tcp(A);

    (void)state;
    get(client, "/1");
    assert_answer(client, "a /1");
    assert_int_equal(front_give_idle(front[A], INT_MAX, refuse_all, NULL), 0);
    assert_int_equal(only_flags(A), SHM_CONN_OPEN);
    get(client, "/2");
    assert_answer(client, "a /2");
    close(client);
}

static void only_so_many_are_given_at_a_time(void **state)
{
    int client[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        client[i] = client_tcp(A);
    STEP_UNTIL(n_conns(A) == 3);
    n_given = 0;
    assert_int_equal(front_give_idle(front[A], 2, give, NULL), 2);
    STEP_UNTIL(n_conns(A) == 1);
    assert_int_equal(front_give_idle(front[A], 2, give, NULL), 1);
    for (int i = 0; i < 3; i++) {
        close(given_fd[i]);
        close(client[i]);
    }
}

static void a_given_connection_is_in_no_table(void **state)
{
    int client = client_tcp(A), fd;

    (void)state;
    get(client, "/1");
    assert_answer(client, "a /1");
    fd = seen_fd;
    assert_int_equal(flags_of(A, fd), SHM_CONN_OPEN);
    assert_int_equal(give_all(A), 1);
    assert_int_equal(flags_of(A, fd), 0);
    close(given_fd[0]);
    close(client);
}

/* ---- taking ---- */

static const char ask_p[] = "GET /p HTTP/1.1\r\nHost:x\r\n\r\n";

/* A connection that a has accepted and given, as of a dead worker. */
static int orphan(int *client)
{
    *client = client_tcp(A);
    STEP_UNTIL(n_conns(A) == 1);
    assert_int_equal(give_all(A), 1);
    STEP_UNTIL(n_conns(A) == 0);
    return given_fd[0];
}

static void a_pending_request_comes_before_the_sockets_bytes(void **state)
{
    int client, fd = orphan(&client);

    (void)state;
    fcntl(fd, F_SETFL, 0);
    get(client, "/q");
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, ask_p, strlen(ask_p), false), 0);
    assert_answer(client, "b /p");
    assert_true((fcntl(seen_fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_answer(client, "b /q");
    close(client);
}

static void a_pending_request_needs_no_event_of_the_socket(void **state)
{
    int client, fd = orphan(&client);

    (void)state;
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, ask_p, strlen(ask_p), false), 0);
    assert_int_equal(front_timeout_ms(front[B]), 0);
    assert_answer(client, "b /p");
    get(client, "/r");
    assert_answer(client, "b /r");
    close(client);
}

static void a_pending_request_is_no_idle_connection_before_it_is_read(void **state)
{
    int client, fd = orphan(&client);

    (void)state;
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, ask_p, strlen(ask_p), false), 0);
    assert_int_equal(only_flags(B), SHM_CONN_OPEN | SHM_CONN_BUSY);
    assert_answer(client, "b /p");
    STEP_UNTIL(only_flags(B) == SHM_CONN_OPEN);
    close(client);
}

static void a_large_pending_head_is_read_whole(void **state)
{
    int client, fd = orphan(&client);
    char text[8000];
    int n = snprintf(text, sizeof text, "GET /p HTTP/1.1\r\nHost:x\r\nX:%07000d\r\n\r\n", 1);

    (void)state;
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, text, (size_t)n, false), 0);
    assert_answer(client, "b /p");
    close(client);
}

static void close_after_ends_the_connection_with_the_answer(void **state)
{
    int client, fd = orphan(&client);

    (void)state;
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, ask_p, strlen(ask_p), true), 0);
    assert_answer(client, "b /p");
    assert_non_null(strstr(heard, "Connection: close\r\n"));
    STEP_UNTIL(next(client) == 0);
    close(client);
}

static void at_the_limit_the_caller_keeps_the_descriptor(void **state)
{
    int client, fd = orphan(&client), full;

    (void)state;
    full = client_tcp(B);
    STEP_UNTIL(n_conns(B) == 1);
    config.limits.connections = 1;
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, NULL, 0, false), -ENFILE);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_int_equal(next(client), -EAGAIN);
    close(full);
    STEP_UNTIL(n_conns(B) == 0);
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, NULL, 0, false), 0);
    close(client);
}

static void a_client_that_has_gone_is_refused(void **state)
{
    int client, fd = orphan(&client);
    struct linger none = {.l_onoff = 1};

    (void)state;
    setsockopt(client, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(client);
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, NULL, 0, false), -ENOTCONN);
    close(fd);
}

/* ---- the table ---- */

static void flags_follow_a_request(void **state)
{
    int client = client_tcp(A);

    (void)state;
    STEP_UNTIL(n_conns(A) == 1);
    assert_int_equal(only_flags(A), SHM_CONN_OPEN);
    get(client, "/1");
    assert_answer(client, "a /1");
    assert_int_equal(seen_flags, SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_AGAIN);
    assert_int_equal(only_flags(A), SHM_CONN_OPEN);
    close(client);
    STEP_UNTIL(n_conns(A) == 0);
    assert_int_equal(flags_of(A, seen_fd), 0);
}

/* While on_log runs, and until the library closes, nobody may take it for idle. */
static void flags_tell_that_an_answer_was_the_last(void **state)
{
    static const char *const heads[] = {"HTTP/1.1\r\nHost: x\r\nConnection: foo, Close",
                                        "HTTP/1.0"};
    static const char *const kept[] = {"HTTP/1.1\r\nHost: x", "HTTP/1.0\r\nConnection: Keep-Alive"};
    char text[200];

    (void)state;
    for (int i = 0; i < 4; i++) {
        int client = client_tcp(A);

        snprintf(text, sizeof text, "GET /1 %s\r\n\r\n", i < 2 ? heads[i] : kept[i - 2]);
        say(client, text);
        assert_answer(client, "a /1");
        assert_int_equal(logged_flags, SHM_CONN_OPEN | (i < 2 ? SHM_CONN_LAST : 0));
        close(client);
        STEP_UNTIL(n_conns(A) == 0);
    }
}

static void flags_name_the_listener(void **state)
{
    int client = client_unix(A);

    (void)state;
    STEP_UNTIL(n_conns(A) == 1);
    assert_int_equal(only_flags(A), SHM_CONN_OPEN | UNIX << SHM_CONN_LISTENER_SHIFT);
    close(client);
}

static void an_answer_that_has_begun_is_marked(void **state)
{
    int client = client_tcp(A);

    (void)state;
    get(client, "/big"); /* more than fits into the sockets */
    STEP_UNTIL(n_conns(A) == 1 && (only_flags(A) & SHM_CONN_SENT) != 0);
    assert_int_equal(only_flags(A), SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_AGAIN | SHM_CONN_SENT);
    close(client);
    STEP_UNTIL(n_conns(A) == 0);
}

static void only_bodiless_requests_of_the_methods_may_run_again(void **state)
{
    static const struct {
        const char *text;
        uint32_t again;
    } table[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", SHM_CONN_AGAIN},
        {"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", SHM_CONN_AGAIN},
        {"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxy", 0},
        {"GET /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n",
         0},
    };
    int client = client_tcp(A);

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        say(client, table[i].text);
        hear(client);
        assert_memory_equal(heard, "HTTP/1.1 200", 12);
        assert_int_equal(seen_flags & SHM_CONN_AGAIN, table[i].again);
    }
    config.escrow.n_replay = 0;
    get(client, "/");
    assert_answer(client, "a /");
    assert_int_equal(seen_flags & SHM_CONN_AGAIN, 0);
    close(client);
}

static void pipelined_bytes_are_told_from_the_request(void **state)
{
    int client = client_tcp(A);

    (void)state;
    say(client, "GET /pause HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\nGET /3 H");
    STEP_UNTIL(n_paused == 1);
    assert_int_equal(only_flags(A),
                     SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_AGAIN | SHM_CONN_EXTRA);
    resume_all();
    assert_resumed_answer(client);
    assert_answer(client, "a /2");
    assert_int_equal(seen_flags, SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_AGAIN | SHM_CONN_EXTRA);
    STEP_UNTIL(only_flags(A) == (SHM_CONN_OPEN | SHM_CONN_BUSY));
    say(client, "TTP/1.1\r\nHost: x\r\n\r\n");
    assert_answer(client, "a /3");
    assert_int_equal(seen_flags, SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_AGAIN);
    assert_int_equal(only_flags(A), SHM_CONN_OPEN);
    close(client);
}

/* Whatever the framing, in one piece or byte by byte: idle is idle. */
static void after_any_request_the_connection_is_idle(void **state)
{
    static const char extended[] =
        "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;ext=1\r\nhello\r\n03\r\nabc\r\n0\r\nTrailer: y\r\n\r\n";
    static const char *const texts[] = {
        "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\n\r\nGET /1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\r\n",
        "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        extended,
    };
    int client = client_tcp(A);

    (void)state;
    for (size_t i = 0; i < 2 * sizeof texts / sizeof texts[0]; i++) {
        const char *text = texts[i / 2];

        if (i % 2 == 0)
            say(client, text);
        for (const char *p = text; i % 2 == 1 && *p != '\0'; p++) {
            char one[2] = {*p, '\0'};

            say(client, one);
            step();
        }
        hear(client);
        assert_memory_equal(heard, "HTTP/1.1 200", 12);
        STEP_UNTIL(only_flags(A) == SHM_CONN_OPEN);
    }
    say(client, "\r\n"); /* as old clients do after a POST */
    step();
    assert_int_equal(only_flags(A), SHM_CONN_OPEN);
    move_one();
    get(client, "/2");
    assert_answer(client, "b /2");
    close(client);
}

static void an_interim_answer_is_not_the_answer(void **state)
{
    int client = client_tcp(A);
    char text[64] = "";
    size_t n = 0;

    (void)state;
    say(client,
        "POST /body HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    while (n < 25) {
        ssize_t got = recv(client, text + n, 25 - n, 0);

        if (got < 0)
            step();
        else
            n += (size_t)got;
    }
    assert_string_equal(text, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(only_flags(A), SHM_CONN_OPEN | SHM_CONN_BUSY);
    say(client, "ab");
    assert_answer(client, "body");
    close(client);
}

static void the_running_requests_descriptor_is_published(void **state)
{
    int client = client_tcp(A);

    (void)state;
    assert_int_equal(shm->worker[A].call.fd, -1);
    get(client, "/1");
    assert_answer(client, "a /1");
    assert_int_equal(seen_call_fd, seen_fd);
    assert_int_equal(shm->worker[A].call.fd, -1);
    close(client);
}

/* Were it blamed for a crash there, another process would answer it a second time. */
static void in_on_log_the_request_is_answered(void **state)
{
    int client = client_tcp(A);

    (void)state;
    logged_call_fd = 0;
    get(client, "/1");
    assert_answer(client, "a /1");
    STEP_UNTIL(logged_call_fd != 0);
    assert_int_equal(logged_call_fd, -1);
    assert_int_equal(logged_flags, SHM_CONN_OPEN);
    close(client);
}

/* ---- requests that are run again ---- */

static const char *replay_text(int fd, size_t *n)
{
    const struct shm_conn *c = shm_conn(shm, A, fd);

    assert_non_null(c);
    if (c == NULL) /* for the compiler */
        abort();
    *n = c->replay_len;
    return shm_replay(shm, A) + c->replay_at;
}

static void requests_are_left_as_they_came(void **state)
{
    static const char first[] =
        "GET /pause/%41?q=1&r HTTP/1.1\r\nHost:x\r\nX-A:b c\r\nx-a:\r\n\r\n",
                      second[] = "HEAD /pause HTTP/1.0\r\nConnection:keep-alive\r\n\r\n";
    int clients[3] = {client_tcp(A), client_tcp(A), client_tcp(A)}, fds[2];
    const char *text;
    size_t n;

    (void)state;
    say(clients[0], "GET /pause/%41?q=1&r HTTP/1.1\r\nHost: x\r\nX-A:   b c\r\nx-a:\r\n\r\n");
    STEP_UNTIL(n_paused == 1);
    fds[0] = seen_fd;
    say(clients[1], second);
    STEP_UNTIL(n_paused == 2);
    fds[1] = seen_fd;
    get(clients[2], "/note");
    assert_answer(clients[2], "a /note");
    assert_int_equal(n_noted, 2);
    text = replay_text(fds[0], &n);
    assert_int_equal(n, strlen(first));
    assert_memory_equal(text, first, n);
    text = replay_text(fds[1], &n);
    assert_int_equal(n, strlen(second));
    assert_memory_equal(text, second, n);
    replay_text(seen_fd, &n); /* the one that was being worked on */
    assert_int_equal(n, 0);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
}

static void what_must_not_run_again_is_not_left(void **state)
{
    int clients[3] = {client_tcp(A), client_tcp(A), client_tcp(A)};

    (void)state;
    say(clients[0], "POST /pause HTTP/1.1\r\nHost: x\r\n\r\n");
    STEP_UNTIL(n_paused == 1);
    get(clients[1], "/big");
    STEP_UNTIL((flags_of(A, seen_fd) & SHM_CONN_SENT) != 0);
    get(clients[2], "/note");
    n_noted = -1;
    assert_answer(clients[2], "a /note");
    assert_int_equal(n_noted, 0);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
}

static void a_request_is_run_again_only_once(void **state)
{
    static const char text[] = "GET /pause HTTP/1.1\r\nHost:x\r\n\r\n";
    int client, fd = orphan(&client);

    (void)state;
    assert_int_equal(front_adopt(front[B], TCP, fd, NULL, text, strlen(text), false), 0);
    STEP_UNTIL(n_paused == 1);
    assert_int_equal(only_flags(B), SHM_CONN_OPEN | SHM_CONN_BUSY);
    assert_int_equal(front_note_replays(front[B], shm, B), 0);
    resume_all();
    assert_resumed_answer(client);
    get(client, "/2");
    assert_answer(client, "b /2");
    assert_int_equal(seen_flags, SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_AGAIN);
    close(client);
}

static void damaged_exchanges_are_passed_over(void **state)
{
    int client = client_tcp(A);
    struct exchange *x;
    size_t n;

    (void)state;
    get(client, "/pause");
    STEP_UNTIL(n_paused == 1);
    x = paused[0];
    assert_int_equal(front_note_replays(front[A], shm, A), 1);
    n = x->req.target.n;
    x->req.target.n = SIZE_MAX - 100;
    assert_int_equal(front_note_replays(front[A], shm, A), 0);
    x->req.target = bh_s("/a\rb");
    assert_int_equal(front_note_replays(front[A], shm, A), 0);
    x->req.target = bh_s("/a\nb");
    assert_int_equal(front_note_replays(front[A], shm, A), 0);
    x->req.target = bh_sn(x->uri, n);
    x->req.magic = 0;
    assert_int_equal(front_note_replays(front[A], shm, A), 0);
    x->req.magic = REQUEST_MAGIC;
    close(client);
}

/* ---- no more of them ---- */

static void without_accepting_connections_go_on(void **state)
{
    int old = client_tcp(A), new;

    (void)state;
    get(old, "/1");
    assert_answer(old, "a /1");
    front_stop_accepting(front[A], 0);
    new = client_tcp(A); /* another process's to accept */
    step();
    assert_int_equal(n_conns(A), 1);
    get(old, "/2");
    assert_answer(old, "a /2");
    assert_null(strstr(heard, "Connection: close"));
    front_drain(front[A]);
    STEP_UNTIL(next(old) == 0);
    STEP_UNTIL(
        front_is_drained(front[A])); /* it reads what the client sent last, and then forgets it */
    assert_int_equal(next(new), -EAGAIN);
    close(old);
    close(new);
}

/* ---- refusing ---- */

static void a_lost_request_is_answered_503(void **state)
{
    int client, fd = orphan(&client);

    (void)state;
    assert_int_equal(front_refuse(front[B], fd, 503, NULL), 0);
    hear(client);
    assert_memory_equal(heard, "HTTP/1.1 503 Service Unavailable\r\n", 34);
    assert_non_null(strstr(heard, "Retry-After: 1\r\n"));
    assert_non_null(strstr(heard, "Connection: close\r\n"));
    assert_non_null(strstr(heard, "Content-Type: application/problem+json\r\n"));
    assert_string_equal(
        body(), "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503}\n");
    assert_int_equal(next(client), 0);
    assert_false(front_is_drained(front[B]));
    close(client);
    STEP_UNTIL(front_is_drained(front[B]));
    assert_int_equal(front_timeout_ms(front[B]), -1);
}

static void a_lost_request_is_answered_500(void **state)
{
    int client, fd = orphan(&client);

    (void)state;
    assert_int_equal(front_refuse(front[B], fd, 500, "20260101-x"), 0);
    hear(client);
    assert_memory_equal(heard, "HTTP/1.1 500 Internal Server Error\r\n", 36);
    assert_null(strstr(heard, "Retry-After"));
    close(client);
}

static void what_the_client_still_sends_does_not_cost_it_the_answer(void **state)
{
    static char much[65536];
    int client, fd = orphan(&client);

    (void)state;
    memset(much, 'x', sizeof much);
    assert_int_equal(send(client, much, sizeof much, 0), sizeof much);
    assert_int_equal(front_refuse(front[B], fd, 503, NULL), 0);
    for (int i = 0; i < 20; i++) {
        send(client, much, sizeof much, MSG_NOSIGNAL);
        step();
    }
    hear(client);
    assert_memory_equal(heard, "HTTP/1.1 503", 12);
    assert_int_equal(next(client), 0);
    close(client);
}

static void a_client_that_does_not_close_is_left_after_a_while(void **state)
{
    int client, fd = orphan(&client);

    (void)state;
    assert_int_equal(front_refuse(front[B], fd, 503, NULL), 0);
    assert_in_range(front_timeout_ms(front[B]), 0, 100);
    STEP_UNTIL(front_is_drained(front[B]));
    close(client);
}

static void an_answer_that_had_begun_is_cut(void **state)
{
    int client, fd = orphan(&client);

    (void)state;
    assert_int_equal(front_refuse(front[B], fd, 0, NULL), 0);
    STEP_UNTIL(next(client) == -ECONNRESET);
    assert_true(front_is_drained(front[B]));
    close(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_idle_connection_goes_on_in_another_front),
        TEST(a_connection_without_a_request_yet_can_be_given),
        TEST(a_connection_over_a_unix_socket_can_be_given),
        TEST(what_came_meanwhile_is_answered_by_the_new_owner),
        TEST(the_client_notices_nothing_even_when_the_giver_ends),
        TEST(a_connection_in_the_middle_of_a_request_is_kept),
        TEST(a_connection_that_nobody_takes_stays),
        TEST(only_so_many_are_given_at_a_time),
        TEST(a_given_connection_is_in_no_table),
        TEST(a_pending_request_comes_before_the_sockets_bytes),
        TEST(a_pending_request_needs_no_event_of_the_socket),
        TEST(a_pending_request_is_no_idle_connection_before_it_is_read),
        TEST(a_large_pending_head_is_read_whole),
        TEST(close_after_ends_the_connection_with_the_answer),
        TEST(at_the_limit_the_caller_keeps_the_descriptor),
        TEST(a_client_that_has_gone_is_refused),
        TEST(flags_follow_a_request),
        TEST(flags_tell_that_an_answer_was_the_last),
        TEST(flags_name_the_listener),
        TEST(an_answer_that_has_begun_is_marked),
        TEST(only_bodiless_requests_of_the_methods_may_run_again),
        TEST(pipelined_bytes_are_told_from_the_request),
        TEST(after_any_request_the_connection_is_idle),
        TEST(an_interim_answer_is_not_the_answer),
        TEST(the_running_requests_descriptor_is_published),
        TEST(in_on_log_the_request_is_answered),
        TEST(requests_are_left_as_they_came),
        TEST(what_must_not_run_again_is_not_left),
        TEST(a_request_is_run_again_only_once),
        TEST(damaged_exchanges_are_passed_over),
        TEST(without_accepting_connections_go_on),
        TEST(a_lost_request_is_answered_503),
        TEST(a_lost_request_is_answered_500),
        TEST(what_the_client_still_sends_does_not_cost_it_the_answer),
        TEST(a_client_that_does_not_close_is_left_after_a_while),
        TEST(an_answer_that_had_begun_is_cut),
    };

    return cmocka_run_group_tests(tests, group_set_up, group_tear_down);
}
