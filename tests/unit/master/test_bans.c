#include "master/kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/config.h"
#include "conf/overlay.h"

static char dir[] = "/tmp/bulkhead-bans-XXXXXX";
static char state_dir[64], path[96];
static struct config cfg = {.path = "bulkhead.yaml", .dir = "/etc/bulkhead"};
static struct bans bans;

static int set_up(void **state)
{
    (void)state;
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(state_dir, sizeof state_dir, "%s/state", dir);
    snprintf(path, sizeof path, "%s/quarantine.json", state_dir);
    cfg.state.dir = state_dir;
    memset(&bans, 0, sizeof bans);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static struct ban ban_of(int i)
{
    struct ban ban = {.plugin = "v", .version = "2", .when = "then", .why = "it crashed"};

    snprintf(ban.sha256, sizeof ban.sha256, "%064d", i);
    return ban;
}

static void put(const char *text)
{
    FILE *f;

    mkdir(state_dir, 0700);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void what_was_banned_is_there_after_a_restart(void **state)
{
    struct ban ban = ban_of(7);
    struct bans again;

    (void)state;
    assert_int_equal(bans_add(&cfg, &bans, &ban), 0);
    bans_load(&cfg, &again);
    assert_int_equal(again.n, 1);
    assert_non_null(bans_find(&again, ban.sha256));
    assert_string_equal(bans_find(&again, ban.sha256)->why, "it crashed");
    assert_null(bans_find(&again, ban_of(8).sha256));
}

static void one_that_is_lifted_is_gone(void **state)
{
    struct ban ban = ban_of(1), other = ban_of(2);
    struct bans again;

    (void)state;
    assert_int_equal(bans_add(&cfg, &bans, &ban), 0);
    assert_int_equal(bans_add(&cfg, &bans, &other), 0);
    assert_int_equal(bans_lift(&cfg, &bans, ban.sha256), 0);
    bans_load(&cfg, &again);
    assert_null(bans_find(&again, ban.sha256));
    assert_non_null(bans_find(&again, other.sha256));
}

static void what_another_server_has_banned_stays(void **state)
{
    struct bans others = {.n = 0};
    struct ban theirs = ban_of(1), ours = ban_of(2);

    (void)state;
    assert_int_equal(bans_add(&cfg, &others, &theirs), 0);
    assert_int_equal(bans_add(&cfg, &bans, &ours), 0);
    assert_non_null(bans_find(&bans, theirs.sha256));
    bans_load(&cfg, &others);
    assert_int_equal(others.n, 2);
}

static void the_oldest_make_room(void **state)
{
    (void)state;
    for (int i = 0; i < BANS_MAX + 3; i++) {
        struct ban ban = ban_of(i);

        if (bans.n < BANS_MAX - 1) /* a file for each would take long */
            bans.ban[bans.n++] = ban;
        else
            assert_int_equal(bans_add(&cfg, &bans, &ban), 0);
    }
    assert_int_equal(bans.n, BANS_MAX);
    assert_null(bans_find(&bans, ban_of(2).sha256));
    assert_non_null(bans_find(&bans, ban_of(BANS_MAX + 2).sha256));
}

static void without_a_folder_it_holds_in_memory(void **state)
{
    struct ban ban = ban_of(1);

    (void)state;
    cfg.state.dir = "/dev/null/state";
    assert_true(bans_add(&cfg, &bans, &ban) < 0);
    assert_non_null(bans_find(&bans, ban.sha256));
}

static void what_makes_no_sense_is_moved_aside(void **state)
{
    static const char *const texts[] = {"", "{", "[]", "{\"version\": 2}",
                                        "{\"version\": 1, \"version\": 1}"};
    char aside[128];

    (void)state;
    snprintf(aside, sizeof aside, "%s.bad", path);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        put(texts[i]);
        bans_load(&cfg, &bans);
        assert_int_equal(bans.n, 0);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_int_equal(access(aside, F_OK), 0);
        assert_int_equal(unlink(aside), 0);
    }
}

static void entries_that_make_no_sense_are_left_out(void **state)
{
    (void)state;
    put("{\"version\": 1, \"objects\": [3, {}, {\"sha256\": \"abc\"}, {\"sha256\": "
        "\"0000000000000000000000000000000000000000000000000000000000000007\", \"why\": 5}]}");
    bans_load(&cfg, &bans);
    assert_int_equal(bans.n, 1);
    assert_string_equal(bans.ban[0].why, "");
}

static void an_object_is_kept_once_and_mended(void **state)
{
    char from[128], *kept, sha256[DIGEST_TEXT];
    struct stat st;
    FILE *f;

    (void)state;
    snprintf(from, sizeof from, "%s/v.so", dir);
    f = fopen(from, "w");
    assert_non_null(f);
    fputs("bytes", f);
    fclose(f);
    assert_int_equal(digest_file(from, sha256), 0);
    assert_int_equal(kept_object(&cfg, from, sha256, &kept), 0);
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_size, 5);
    assert_int_equal(unlink(kept), 0);
    f = fopen(kept, "w"); /* half of it, as after a crash without our care */
    assert_non_null(f);
    fputs("by", f);
    fclose(f);
    free(kept);
    assert_int_equal(kept_object(&cfg, from, sha256, &kept), 0);
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_size, 5);
    free(kept);
}

static void nothing_kept_is_nothing_to_apply(void **state)
{
    struct overlay overlay;
    char interrupted[64] = "x";

    (void)state;
    kept_load(&cfg, &overlay, interrupted, sizeof interrupted);
    assert_int_equal(overlay.n, 0);
    assert_string_equal(interrupted, "");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_was_banned_is_there_after_a_restart), TEST(one_that_is_lifted_is_gone),
        TEST(what_another_server_has_banned_stays),     TEST(the_oldest_make_room),
        TEST(without_a_folder_it_holds_in_memory),      TEST(what_makes_no_sense_is_moved_aside),
        TEST(entries_that_make_no_sense_are_left_out),  TEST(an_object_is_kept_once_and_mended),
        TEST(nothing_kept_is_nothing_to_apply),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
