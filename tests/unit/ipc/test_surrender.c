/* A worker at its end sends what it has: everything that is open, and a word when that was all. */
#include "ipc/surrender.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/channel.h"

enum { SLOT = 1, MANY = 3 * CHANNEL_FDS + 5 };

static struct shm *shm;
static int ends[2], conns[MANY];
static char text[CHANNEL_TEXT + 1];

static int setup(void **state)
{
    (void)state;
    if (shm_create(2, 1, &shm) < 0)
        return -1;
    for (int i = 0; i < MANY; i++) {
        struct shm_conn *conn;

        conns[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        conn = shm_conn(shm, SLOT, conns[i]);
        if (conn == NULL)
            return -1;
        atomic_store(&conn->flags, SHM_CONN_OPEN);
    }
    return channel_open(ends);
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < MANY; i++)
        close(conns[i]); /* some are closed already */
    close(ends[0]);
    close(ends[1]);
    shm_destroy(&shm);
    return 0;
}

/* Their number, up to the word that this was all; -1: it was not said. */
static int receive_all(int *highest)
{
    struct channel_message m;
    int fds[CHANNEL_FDS], total = 0;

    *highest = -1;
    while (channel_receive(ends[1], &m, fds, text) == 1) {
        assert_int_equal(m.kind, CHANNEL_SURRENDER);
        if (m.n == 0)
            return total;
        for (uint32_t i = 0; i < m.n; i++, total++) {
            assert_true(m.entry[i].fd > *highest);
            *highest = m.entry[i].fd;
            close(fds[i]);
        }
    }
    return -1;
}

static void every_open_connection_is_sent_once_with_its_number(void **state)
{
    int highest;

    (void)state;
    assert_int_equal(surrender(shm, SLOT, ends[0], 1000), 0);
    assert_int_equal(receive_all(&highest), MANY);
    assert_int_equal(highest, conns[MANY - 1]);
}

static void closed_ones_keep_none_of_the_others_back(void **state)
{
    int highest;

    (void)state;
    close(conns[3]);
    close(conns[CHANNEL_FDS + 1]);
    assert_int_equal(surrender(shm, SLOT, ends[0], 1000), 0);
    assert_int_equal(receive_all(&highest), MANY - 2);
}

static void other_slots_are_left_alone(void **state)
{
    int highest;

    (void)state;
    assert_int_equal(surrender(shm, 0, ends[0], 1000), 0);
    assert_int_equal(receive_all(&highest), 0);
}

static void fill_channel(void)
{
    struct channel_message m = {.kind = CHANNEL_GIVE};

    while (channel_send(ends[0], &m, NULL, NULL) == 0)
        continue;
}

static void full_channel_is_waited_for_only_so_long(void **state)
{
    (void)state;
    fill_channel();
    assert_int_equal(surrender(shm, SLOT, ends[0], 20), -EAGAIN);
}

static void *read_the_filling(void *arg)
{
    struct channel_message m;
    int fds[CHANNEL_FDS];

    (void)arg;
    for (;;) {
        int r = channel_receive(ends[1], &m, fds, text);

        if (r < 0 || (r == 1 && m.kind == CHANNEL_SURRENDER && m.n == 0))
            return NULL;
        for (uint32_t i = 0; r == 1 && i < m.n; i++)
            close(fds[i]);
    }
}

static void full_channel_that_is_read_meanwhile_takes_all(void **state)
{
    pthread_t reader;

    (void)state;
    fill_channel();
    assert_int_equal(pthread_create(&reader, NULL, read_the_filling, NULL), 0);
    assert_int_equal(surrender(shm, SLOT, ends[0], 10000), 0);
    assert_int_equal(pthread_join(reader, NULL), 0);
}

static void end_of_the_master_is_an_error(void **state)
{
    (void)state;
    close(ends[1]);
    assert_true(surrender(shm, SLOT, ends[0], 1000) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_open_connection_is_sent_once_with_its_number, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(closed_ones_keep_none_of_the_others_back, setup, teardown),
        cmocka_unit_test_setup_teardown(other_slots_are_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(full_channel_is_waited_for_only_so_long, setup, teardown),
        cmocka_unit_test_setup_teardown(full_channel_that_is_read_meanwhile_takes_all, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(end_of_the_master_is_an_error, setup, teardown),
    };

    return cmocka_run_group_tests_name("surrender", tests, NULL, NULL);
}
