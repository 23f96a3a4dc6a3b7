#include "master/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>

#include "base/diag.h"
#include "master/inherit.h"
#include "scene.h"

#define WORKERS 3

static struct config_listener listener[2];
static struct config cfg;
static struct listen_set set;
static struct diag diag;
static char dir[64], sock[96];

static int setup(void **state)
{
    (void)state;
    cfg = (struct config){
        .path = "test.yaml", .n_workers = WORKERS, .listener = listener, .n_listeners = 1};
    strcpy(dir, "/tmp/listen-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(sock, sizeof sock, "%s/s", dir);
    diag_init(&diag);
    scene_listener_tcp(&listener[0], INADDR_LOOPBACK, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    listen_close(&set);
    diag_fini(&diag);
    unlink(sock);
    return rmdir(dir);
}

/* Tests ask for port 0; this is the one they got. */
static void learn_port(struct config_listener *cl)
{
    socklen_t len = sizeof cl->addr;

    assert_int_equal(getsockname(listen_fds(&set, 0)[0], &cl->addr.sa, &len), 0);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void every_worker_has_its_own_socket_at_one_address(void **state)
{
    struct sockaddr_in first, other;
    socklen_t len = sizeof first;

    (void)state;
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    assert_int_equal(getsockname(listen_fds(&set, 0)[0], (struct sockaddr *)&first, &len), 0);
    for (int w = 0; w < WORKERS; w++) {
        int fd = listen_fds(&set, w)[0];

        assert_int_equal(getsockname(fd, (struct sockaddr *)&other, &len), 0);
        assert_memory_equal(&first, &other, sizeof first);
        assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEPORT), 1);
        assert_int_equal(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
}

static void connections_queue_while_nobody_accepts(void **state)
{
    int client[20];

    (void)state;
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    learn_port(&listener[0]);
    for (int i = 0; i < 20; i++) {
        client[i] = scene_connect(&listener[0]);
        assert_true(client[i] >= 0);
    }
    for (int i = 0; i < 20; i++)
        close(client[i]);
}

static void second_server_is_refused_although_reuseport_would_allow_it(void **state)
{
    struct listen_set second;
    char expected[64];

    (void)state;
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    learn_port(&listener[0]);
    assert_int_equal(listen_open(&second, &cfg, NULL, &diag), -EADDRINUSE);
    assert_int_equal(diag.n, 1);
    assert_int_equal(diag.item[0].line, 7);
    assert_int_equal(diag.item[0].column, 3);
    assert_string_equal(diag.item[0].file, "test.yaml");
    assert_non_null(strstr(diag.item[0].what, "127.0.0.1:port: Address already in use"));
    /* This very process holds it. */
    snprintf(expected, sizeof expected, "(pid %d) listens at port", (int)getpid());
    assert_non_null(strstr(diag.item[0].hint, expected));
}

static void address_of_nobody_is_explained(void **state)
{
    (void)state;
    scene_listener_tcp(&listener[0], 0xC0000201 /* 192.0.2.1, documentation only */, 0);
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), -EADDRNOTAVAIL);
    assert_non_null(strstr(diag.item[0].hint, "0.0.0.0"));
}

static void all_mistakes_are_reported_and_nothing_stays_open(void **state)
{
    (void)state;
    cfg.n_listeners = 2;
    scene_listener_tcp(&listener[0], 0xC0000201, 0);
    scene_listener_unix(&listener[1], "/nonexistent/folder/s");
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), -EADDRNOTAVAIL);
    assert_int_equal(diag.n, 2);
    assert_non_null(strstr(diag.item[1].hint, "folder"));
    assert_null(set.fd);
}

static void ipv6_leaves_ipv4_alone(void **state)
{
    (void)state;
    listener[0] = (struct config_listener){.name = "six", .address = "[::]:0"};
    listener[0].addr.in6.sin6_family = AF_INET6;
    listener[0].addr_len = sizeof listener[0].addr.in6;
    if (listen_open(&set, &cfg, NULL, &diag) == -EAFNOSUPPORT)
        skip();
    assert_int_equal(diag.n, 0);
    for (int w = 0; w < WORKERS; w++)
        assert_int_equal(option(listen_fds(&set, w)[0], IPPROTO_IPV6, IPV6_V6ONLY), 1);
}

static void dual_stack_takes_ipv4_as_well(void **state)
{
    struct config_listener four;
    int client;

    (void)state;
    listener[0] = (struct config_listener){
        .name = "six", .address = "[::]:0", .is_dual_stack = true};
    listener[0].addr.in6.sin6_family = AF_INET6;
    listener[0].addr_len = sizeof listener[0].addr.in6;
    if (listen_open(&set, &cfg, NULL, &diag) == -EAFNOSUPPORT)
        skip();
    assert_int_equal(diag.n, 0);
    for (int w = 0; w < WORKERS; w++)
        assert_int_equal(option(listen_fds(&set, w)[0], IPPROTO_IPV6, IPV6_V6ONLY), 0);
    learn_port(&listener[0]);
    scene_listener_tcp(&four, INADDR_LOOPBACK, 0);
    four.addr.in.sin_port = listener[0].addr.in6.sin6_port;
    client = scene_connect(&four);
    assert_true(client >= 0);
    close(client);
}

/* ---- sockets that somebody else has opened ---- */

static struct inherit inherited;

/* As systemd would have started us with fd. */
static void activate(int fd)
{
    char pid[16];

    assert_int_equal(dup2(fd, 3), 3);
    if (fd != 3)
        close(fd);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_FDNAMES", "x", 1);
    assert_int_equal(inherit_read(&inherited), 0);
    assert_null(getenv("LISTEN_PID"));
    assert_null(getenv("LISTEN_FDS"));
    assert_null(getenv("LISTEN_FDNAMES"));
}

/* 3 may be a descriptor of the test's own: cmocka's output, say. */
static int saved_3;

static int activation_setup(void **state)
{
    saved_3 = fcntl(3, F_DUPFD, 10);
    return setup(state);
}

static int activation_teardown(void **state)
{
    int r = teardown(state);

    inherit_close(&inherited);
    if (saved_3 >= 0) {
        dup2(saved_3, 3);
        close(saved_3);
    }
    return r;
}

static void activated_tcp_socket_is_shared_by_all_workers(void **state)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), client;
    socklen_t len = sizeof listener[0].addr;
    struct stat a, b;

    (void)state;
    assert_int_equal(bind(fd, &listener[0].addr.sa, listener[0].addr_len), 0);
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(getsockname(fd, &listener[0].addr.sa, &len), 0);
    assert_int_equal(fstat(fd, &a), 0);
    activate(fd);
    assert_int_equal(listen_open(&set, &cfg, &inherited, &diag), 0);
    for (int w = 0; w < WORKERS; w++) {
        assert_int_equal(fstat(listen_fds(&set, w)[0], &b), 0);
        assert_int_equal(a.st_ino, b.st_ino);
        assert_true(fcntl(listen_fds(&set, w)[0], F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(listen_fds(&set, w)[0], F_GETFD) & FD_CLOEXEC);
    }
    client = scene_connect(&listener[0]);
    assert_true(client >= 0);
    close(client);
}

static void file_of_an_activated_socket_stays(void **state)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct stat st;

    (void)state;
    scene_listener_unix(&listener[0], sock);
    assert_int_equal(bind(fd, &listener[0].addr.sa, listener[0].addr_len), 0);
    assert_int_equal(listen(fd, 10), 0);
    activate(fd);
    assert_int_equal(listen_open(&set, &cfg, &inherited, &diag), 0);
    listen_close(&set);
    assert_int_equal(lstat(sock, &st), 0);
}

static void variables_for_another_process_are_left_alone(void **state)
{
    (void)state;
    setenv("LISTEN_PID", "1", 1);
    setenv("LISTEN_FDS", "1", 1);
    assert_int_equal(inherit_read(&inherited), 0);
    assert_int_equal(inherited.n, 0);
    assert_string_equal(getenv("LISTEN_PID"), "1");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
}

static void unix_socket_gets_owner_and_group(void **state)
{
    struct stat st;

    (void)state;
    if (geteuid() != 0)
        skip();
    scene_listener_unix(&listener[0], sock);
    listener[0].owner = "nobody";
    listener[0].group = "12345";
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    assert_int_equal(lstat(sock, &st), 0);
    assert_int_equal(st.st_uid, getpwnam("nobody")->pw_uid);
    assert_int_equal(st.st_gid, 12345);
}

static void unknown_owner_is_explained(void **state)
{
    (void)state;
    scene_listener_unix(&listener[0], sock);
    listener[0].owner = "no-such-user";
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), -ESRCH);
    assert_non_null(strstr(diag.item[0].hint, "owner"));
    assert_int_equal(access(sock, F_OK), -1);
}

static void unix_socket_is_one_queue_with_a_mode(void **state)
{
    struct stat a, b;
    int client;

    (void)state;
    scene_listener_unix(&listener[0], sock);
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    assert_int_equal(lstat(sock, &a), 0);
    assert_int_equal(a.st_mode & 07777, 0660);

    client = scene_connect(&listener[0]);
    assert_true(client >= 0);
    assert_int_equal(fstat(listen_fds(&set, 0)[0], &a), 0);
    assert_int_equal(fstat(listen_fds(&set, WORKERS - 1)[0], &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_true(listen_fds(&set, 0)[0] != listen_fds(&set, 1)[0]);
    close(client);

    listen_close(&set);
    assert_int_equal(lstat(sock, &a), -1);
}

static void stale_unix_socket_is_replaced(void **state)
{
    int left;

    (void)state;
    scene_listener_unix(&listener[0], sock);
    left = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(left, &listener[0].addr.sa, listener[0].addr_len), 0);
    assert_int_equal(listen(left, 1), 0);
    close(left); /* as a killed server does */
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    left = scene_connect(&listener[0]);
    assert_true(left >= 0);
    close(left);
}

static void unix_socket_that_answers_is_left_alone(void **state)
{
    struct listen_set second;
    int client;

    (void)state;
    scene_listener_unix(&listener[0], sock);
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    assert_int_equal(listen_open(&second, &cfg, NULL, &diag), -EADDRINUSE);
    client = scene_connect(&listener[0]);
    assert_true(client >= 0);
    close(client);
}

static void file_that_is_no_socket_is_left_alone(void **state)
{
    int fd = open(sock, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    struct stat st;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    scene_listener_unix(&listener[0], sock);
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), -EEXIST);
    assert_int_equal(stat(sock, &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void socket_of_a_successor_is_not_removed(void **state)
{
    struct stat st;
    int fd;

    (void)state;
    scene_listener_unix(&listener[0], sock);
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    assert_int_equal(unlink(sock), 0);
    fd = open(sock, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    listen_close(&set);
    assert_int_equal(stat(sock, &st), 0);
}

static void child_keeps_only_its_own(void **state)
{
    int others[WORKERS];

    (void)state;
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    for (int w = 0; w < WORKERS; w++)
        others[w] = listen_fds(&set, w)[0];
    listen_close_others(&set, 1);
    for (int w = 0; w < WORKERS; w++)
        assert_int_equal(fcntl(others[w], F_GETFD) >= 0, w == 1);
}

static void addresses_are_shown_as_one_would_type_them(void **state)
{
    char text[160], expected[160];

    (void)state;
    cfg.n_listeners = 2;
    scene_listener_tcp(&listener[0], INADDR_ANY, 0);
    scene_listener_unix(&listener[1], sock);
    assert_int_equal(listen_open(&set, &cfg, NULL, &diag), 0);
    learn_port(&listener[0]);
    listen_describe(&set, 0, text, sizeof text);
    snprintf(expected, sizeof expected, "http://0.0.0.0:%d", ntohs(listener[0].addr.in.sin_port));
    assert_string_equal(text, expected);
    listen_url(&set, text, sizeof text);
    snprintf(expected, sizeof expected, "http://127.0.0.1:%d", ntohs(listener[0].addr.in.sin_port));
    assert_string_equal(text, expected);
    listen_describe(&set, 1, text, sizeof text);
    snprintf(expected, sizeof expected, "unix:%s", sock);
    assert_string_equal(text, expected);
}

int main(void)
{
#define TEST(f)      cmocka_unit_test_setup_teardown(f, setup, teardown)
#define ACTIVATED(f) cmocka_unit_test_setup_teardown(f, activation_setup, activation_teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_worker_has_its_own_socket_at_one_address),
        TEST(connections_queue_while_nobody_accepts),
        TEST(second_server_is_refused_although_reuseport_would_allow_it),
        TEST(address_of_nobody_is_explained),
        TEST(all_mistakes_are_reported_and_nothing_stays_open),
        TEST(ipv6_leaves_ipv4_alone),
        TEST(dual_stack_takes_ipv4_as_well),
        ACTIVATED(activated_tcp_socket_is_shared_by_all_workers),
        ACTIVATED(file_of_an_activated_socket_stays),
        ACTIVATED(variables_for_another_process_are_left_alone),
        TEST(unix_socket_gets_owner_and_group),
        TEST(unknown_owner_is_explained),
        TEST(unix_socket_is_one_queue_with_a_mode),
        TEST(stale_unix_socket_is_replaced),
        TEST(unix_socket_that_answers_is_left_alone),
        TEST(file_that_is_no_socket_is_left_alone),
        TEST(socket_of_a_successor_is_not_removed),
        TEST(child_keeps_only_its_own),
        TEST(addresses_are_shown_as_one_would_type_them),
    };

    return cmocka_run_group_tests_name("listen", tests, NULL, NULL);
}
