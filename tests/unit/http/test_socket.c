/*
 * test_socket.c - what is copied together goes out as it would have in pieces.
 */
#include "http/socket.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Sends head_len + body_len bytes in two pieces, and compares what comes out. */
static void check(size_t head_len, size_t body_len)
{
    static char out[65536], in[65536];
    struct iovec piece[2] = {{out, head_len}, {out + head_len, body_len}};
    struct msghdr msg = {.msg_iov = piece, .msg_iovlen = 2};
    size_t n = head_len + body_len, got = 0;
    int end[2];

    for (size_t i = 0; i < n; i++)
        out[i] = (char)(i * 7 + i / 256);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, end), 0);
    assert_int_equal(socket_sendmsg(end[0], &msg, MSG_NOSIGNAL), n);
    while (got < n) {
        ssize_t r = socket_recv(end[1], in + got, sizeof in - got, 0);

        assert_true(r > 0);
        got += (size_t)r;
    }
    assert_memory_equal(in, out, n);
    close(end[0]);
    close(end[1]);
}

static void head_and_body_arrive_whole(void **state)
{
    (void)state;
    check(100, 6);
    check(0, 1);
    check(SOCKET_FLAT, 0);
    check(SOCKET_FLAT - 1, 1);
    check(SOCKET_FLAT, 1);
    check(1, SOCKET_FLAT);
    check(300, 40000);
}

static void a_peer_that_is_gone_is_an_error_as_ever(void **state)
{
    struct iovec piece[2] = {{(char[]){"a"}, 1}, {(char[]){"b"}, 1}};
    struct msghdr msg = {.msg_iov = piece, .msg_iovlen = 2};
    char c;
    int end[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, end), 0);
    assert_int_equal(socket_recv(end[0], &c, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    close(end[1]);
    assert_int_equal(socket_sendmsg(end[0], &msg, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    close(end[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_and_body_arrive_whole),
        cmocka_unit_test(a_peer_that_is_gone_is_an_error_as_ever),
    };

    return cmocka_run_group_tests_name("socket", tests, NULL, NULL);
}
