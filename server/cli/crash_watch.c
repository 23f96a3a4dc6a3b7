#include "cli/crash_watch.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/crash_report.h"
#include "obs/record.h"
#include "obs/record_dir.h"

#define LOOK_MS 500 /* for a folder that is not there yet */

static void print_line(const json_t *record)
{
    const char *plugin = crash_text(record, "plugin.instance"), *hook = crash_text(record, "hook");
    long long repeats = crash_number(record, "repeats.count");
    char line[640], place[256], more[48] = "";

    crash_place(record, place, sizeof place);
    if (repeats > 0)
        snprintf(more, sizeof more, ", %lld more like it", repeats);
    snprintf(line, sizeof line, "%s  %s  %s in %s%s%s%s%s, %s (%s)%s",
             crash_text(record, "time") != NULL ? crash_text(record, "time") : "-",
             crash_text(record, "id") != NULL ? crash_text(record, "id") : "-", crash_how(record),
             plugin != NULL ? "plugin '" : "the server", plugin != NULL ? plugin : "",
             plugin != NULL ? "'" : "", hook != NULL && plugin != NULL ? ", " : "",
             hook != NULL && plugin != NULL ? hook : "", place,
             crash_text(record, "verdict") != NULL ? crash_text(record, "verdict") : "-", more);
    crash_print_clean(stdout, line);
    putchar('\n');
}

/* A file has come there under its name. */
static void show(const char *dir, const char *file, bool as_json)
{
    const char *dot = strrchr(file, '.');
    char id[RECORD_ID_SIZE];
    json_t *record, *summary;

    if (dot == NULL || strcmp(dot, ".json") != 0 || (size_t)(dot - file) >= sizeof id)
        return;
    memcpy(id, file, (size_t)(dot - file));
    id[dot - file] = '\0';
    if (!record_id_is_valid(id) || record_dir_read(dir, id, &record) < 0)
        return;
    if (as_json) {
        summary = crash_summary(record);
        json_dumpf(summary, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(summary);
    } else {
        print_line(record);
    }
    json_decref(record);
}

static int read_events(int fd, const char *dir, bool as_json)
{
    _Alignas(struct inotify_event) char buf[4096];
    ssize_t n = read(fd, buf, sizeof buf);

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (char *p = buf; p < buf + n;) {
        const struct inotify_event *e = (const void *)p;

        if ((e->mask & IN_IGNORED) != 0)
            return -ENOENT; /* the folder is gone */
        if (e->len > 0)
            show(dir, e->name, as_json);
        p += sizeof *e + e->len;
    }
    return fflush(stdout) == 0 ? 0 : -EPIPE;
}

int crash_watch(const char *command, const char *dir, bool as_json)
{
    int fd = inotify_init1(IN_CLOEXEC), r = fd < 0 ? -errno : 0;

    while (r == 0 && inotify_add_watch(fd, dir, IN_MOVED_TO | IN_ONLYDIR) < 0) {
        r = errno == ENOENT ? 0 : -errno;
        if (r == 0)
            poll(NULL, 0, LOOK_MS);
    }
    while (r == 0)
        r = read_events(fd, dir, as_json);
    fd_close(&fd);
    fprintf(stderr, "%s: %s: %s\n", command, dir, strerror(-r));
    return CLI_FAILED;
}
