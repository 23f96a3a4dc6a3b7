/* Messages between master and worker: whole, with their descriptors, and never more than was meant. */
#include "ipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int ends[2];
static char text[CHANNEL_TEXT + 1];

static int setup(void **state)
{
    (void)state;
    return channel_open(ends);
}

static int teardown(void **state)
{
    (void)state;
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static int count_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void message_arrives_with_its_descriptors_and_text(void **state)
{
    struct channel_message out = {.kind = CHANNEL_ADOPT, .number = -7, .n = 2, .text_len = 5}, in;
    int pair[2], got[CHANNEL_FDS];
    char c = 0;

    (void)state;
    assert_int_equal(pipe(pair), 0);
    out.entry[0] = (struct channel_entry){.listener = 3, .what = ADOPT_IDLE};
    out.entry[1] = (struct channel_entry){.listener = 4, .what = ADOPT_REPLAY, .is_last = 1};
    assert_int_equal(channel_send(ends[0], &out, pair, "hello"), 0);
    assert_int_equal(channel_receive(ends[1], &in, got, text), 1);
    assert_int_equal(in.kind, CHANNEL_ADOPT);
    assert_int_equal(in.number, -7);
    assert_int_equal(in.n, 2);
    assert_int_equal(in.entry[0].listener, 3);
    assert_int_equal(in.entry[1].what, ADOPT_REPLAY);
    assert_int_equal(in.entry[1].is_last, 1);
    assert_string_equal(text, "hello");
    assert_int_equal(write(got[1], "x", 1), 1);
    assert_int_equal(read(pair[0], &c, 1), 1);
    assert_int_equal(c, 'x');
    assert_int_equal(fcntl(got[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        close(pair[i]);
        close(got[i]);
    }
}

static void largest_message_fits(void **state)
{
    struct channel_message out = {.kind = CHANNEL_ADOPT,
                                  .n = CHANNEL_FDS,
                                  .text_len = CHANNEL_TEXT},
                           in;
    static char long_text[CHANNEL_TEXT];
    int fds[CHANNEL_FDS], got[CHANNEL_FDS];

    (void)state;
    memset(long_text, 'a', sizeof long_text);
    for (int i = 0; i < CHANNEL_FDS; i++)
        fds[i] = ends[0];
    assert_int_equal(channel_send(ends[0], &out, fds, long_text), 0);
    assert_int_equal(channel_receive(ends[1], &in, got, text), 1);
    assert_int_equal(in.n, CHANNEL_FDS);
    assert_int_equal(strlen(text), CHANNEL_TEXT);
    for (int i = 0; i < CHANNEL_FDS; i++)
        close(got[i]);
}

static void too_much_is_refused_by_the_sender(void **state)
{
    struct channel_message m = {.kind = CHANNEL_GIVE, .n = CHANNEL_FDS + 1};

    (void)state;
    assert_int_equal(channel_send(ends[0], &m, NULL, NULL), -EMSGSIZE);
    m = (struct channel_message){.kind = CHANNEL_GIVE, .text_len = CHANNEL_TEXT + 1};
    assert_int_equal(channel_send(ends[0], &m, NULL, text), -EMSGSIZE);
}

static void nothing_there_is_not_an_error_and_the_end_is(void **state)
{
    struct channel_message m;
    int fds[CHANNEL_FDS];

    (void)state;
    assert_int_equal(channel_receive(ends[1], &m, fds, text), 0);
    close(ends[0]);
    assert_int_equal(channel_receive(ends[1], &m, fds, text), -EPIPE);
    m = (struct channel_message){.kind = CHANNEL_GIVE};
    assert_int_equal(channel_send(ends[1], &m, NULL, NULL), -EPIPE);
    ends[0] = -1;
}

static void full_channel_says_so_and_works_again_when_read(void **state)
{
    struct channel_message m = {.kind = CHANNEL_GIVE};
    int fds[CHANNEL_FDS], n = 0, r;

    (void)state;
    while ((r = channel_send(ends[0], &m, NULL, NULL)) == 0)
        assert_true(++n < 1000000);
    assert_int_equal(r, -EAGAIN);
    assert_int_equal(channel_receive(ends[1], &m, fds, text), 1);
    while (channel_receive(ends[1], &m, fds, text) == 1)
        n--;
    assert_int_equal(n, 1);
    m.kind = CHANNEL_GIVE;
    assert_int_equal(channel_send(ends[0], &m, NULL, NULL), 0);
}

/* A worker that is out of its mind. */
static void nonsense_is_dropped_with_its_descriptors(void **state)
{
    struct channel_message good = {.kind = CHANNEL_ADOPT, .n = 1}, m;
    int fds[CHANNEL_FDS], before;
    char junk[200];

    (void)state;
    before = count_fds();
    memset(junk, 0x5a, sizeof junk);
    assert_int_equal(send(ends[0], junk, sizeof junk, 0), sizeof junk);
    assert_int_equal(channel_receive(ends[1], &m, fds, text), -EBADMSG);
    assert_int_equal(send(ends[0], junk, 3, 0), 3);
    assert_int_equal(channel_receive(ends[1], &m, fds, text), -EBADMSG);

    good.kind = CHANNEL_KINDS; /* unknown, but with a descriptor */
    assert_int_equal(channel_send(ends[0], &good, &ends[0], NULL), 0);
    assert_int_equal(channel_receive(ends[1], &m, fds, text), -EBADMSG);
    good.kind = CHANNEL_ADOPT;
    good.entry[0].what = ADOPT_KINDS;
    assert_int_equal(channel_send(ends[0], &good, &ends[0], NULL), 0);
    assert_int_equal(channel_receive(ends[1], &m, fds, text), -EBADMSG);

    /* It says two and brings none. */
    good = (struct channel_message){.kind = CHANNEL_ADOPT};
    assert_int_equal(channel_send(ends[0], &good, NULL, NULL), 0);
    good.n = 2;
    assert_int_equal(send(ends[0], &good, offsetof(struct channel_message, entry) + 16, 0),
                     offsetof(struct channel_message, entry) + 16);
    assert_int_equal(channel_receive(ends[1], &m, fds, text), 1);
    assert_int_equal(channel_receive(ends[1], &m, fds, text), -EBADMSG);
    assert_int_equal(count_fds(), before);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(message_arrives_with_its_descriptors_and_text),
        TEST(largest_message_fits),
        TEST(too_much_is_refused_by_the_sender),
        TEST(nothing_there_is_not_an_error_and_the_end_is),
        TEST(full_channel_says_so_and_works_again_when_read),
        TEST(nonsense_is_dropped_with_its_descriptors),
    };

    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
