/*
 * postgres.c - a PostgreSQL of the test's own: data and socket in a temporary folder, no TCP.
 */
#include "postgres.h"

#include "harness.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Its programs refuse to run as root. It ends with this test, also when that dies. */
static const char *as_nobody(void)
{
    return geteuid() == 0 ? "setpriv --pdeathsig=QUIT --reuid=65534 --regid=65534 --clear-groups"
                          : "setpriv --pdeathsig=QUIT";
}

int postgres_sql(const struct postgres *pg, char **out, const char *query)
{
    return run_command(out, "psql -X -q -A -t -h %s -p 5432 -U pg -d postgres -c \"%s\" 2>&1",
                       pg->dir, query);
}

void postgres_start(struct postgres *pg)
{
    char log[500], *command;

    snprintf(log, sizeof log, "%s/log", pg->dir);
    assert_true(asprintf(&command,
                         "exec %s %s/postgres -D %s/data -k %s -c listen_addresses= -c fsync=off "
                         "-c shared_buffers=8MB",
                         as_nobody(), pg->bin, pg->dir, pg->dir) > 0);
    pg->pid = fork();
    if (pg->pid == 0) {
        dup2(open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), STDOUT_FILENO);
        dup2(STDOUT_FILENO, STDERR_FILENO);
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    free(command);
    eventually(postgres_sql(pg, NULL, "SELECT 1") == 0);
}

/* Immediately: as after a power cut. */
void postgres_stop(struct postgres *pg)
{
    kill(pg->pid, SIGQUIT);
    waitpid(pg->pid, NULL, 0);
}

static struct postgres shared;

/* One for all tests, started by the first, without the table. */
struct postgres *postgres_shared(void)
{
    struct postgres *pg = &shared;
    const char *sdk = getenv("BULKHEAD_SDK");
    char unpacked[4096], path[8192];
    glob_t found = {0};

    if (pg->pid > 0) {
        assert_int_equal(postgres_sql(pg, NULL, "DROP TABLE IF EXISTS exposures"), 0);
        return pg;
    }
    /* `make test` unpacks it there, if it is not installed. */
    snprintf(unpacked, sizeof unpacked, "%s/../build/unpacked/usr/lib/postgresql/*/bin", sdk);
    if ((glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) != 0 &&
         glob(unpacked, 0, NULL, &found) != 0) ||
        run_command(NULL, "ldd %s/postgres %s/psql | grep 'not found'", found.gl_pathv[0],
                    found.gl_pathv[0]) == 0) {
        globfree(&found);
        print_message("PostgreSQL is not installed\n");
        skip();
    }
    snprintf(pg->bin, sizeof pg->bin, "%s", found.gl_pathv[0]);
    globfree(&found);
    snprintf(path, sizeof path, "%s:%s", pg->bin, getenv("PATH"));
    setenv("PATH", path, 1);
    pg->dir = tmp_dir();
    if (geteuid() == 0)
        assert_int_equal(chown(pg->dir, 65534, 65534), 0);
    assert_int_equal(
        run_command(NULL,
                    "cd %s && HOME=%s %s %s/initdb -D %s/data -U pg -A trust -N -E UTF8 "
                    "--no-locale --no-instructions >%s/initdb.log 2>&1",
                    pg->dir, pg->dir, as_nobody(), pg->bin, pg->dir, pg->dir),
        0);
    postgres_start(pg);
    return pg;
}

int postgres_end(void **state)
{
    (void)state;
    if (shared.pid > 0)
        postgres_stop(&shared);
    free(shared.dir);
    return 0;
}

long postgres_number(const struct postgres *pg, const char *query)
{
    char *out = NULL;
    long n = postgres_sql(pg, &out, query) == 0 ? strtol(out, NULL, 10) : -1;

    free(out);
    return n;
}
