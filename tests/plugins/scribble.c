/*
 * scribble.c - a plugin that has been taken over: it writes nonsense over all the memory that it shares
 * with the master and the processes beside the workers.
 *
 * ?with=ones, text, small or noise; &then=stay or die. It finds the memory as anybody could, in
 * /proc/self/maps; the page that is read-only it leaves so.
 */
#include <bulkhead.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST ((size_t)64 << 20) /* bytes of one mapping */

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed >> 16;
}

static void scribble(unsigned char *p, size_t n, const char *with, uint64_t seed)
{
    if (n > MOST)
        n = MOST;
    if (strcmp(with, "ones") == 0)
        memset(p, 0xff, n);
    else if (strcmp(with, "text") == 0)
        memset(p, '<', n);
    else
        for (size_t i = 0; i + 8 <= n; i += 8) {
            uint64_t v = next(&seed);

            if (strcmp(with, "small") == 0) /* what looks like numbers that could be */
                v = (v & 7) | (v >> 8 & 7) << 32;
            memcpy(p + i, &v, sizeof v);
        }
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    char line[512], with[16] = "", then[16] = "";
    unsigned char *from[64];
    size_t size[64];
    int n = 0;
    bh_str way = bh_query(req, "with"), end_of = bh_query(req, "then");
    FILE *maps = fopen("/proc/self/maps", "r");

    (void)self;
    (void)ctx;
    snprintf(with, sizeof with, "%.*s", (int)way.n, way.n > 0 ? way.p : "");
    snprintf(then, sizeof then, "%.*s", (int)end_of.n, end_of.n > 0 ? end_of.p : "");
    while (maps != NULL && n < 64 && fgets(line, sizeof line, maps) != NULL) {
        unsigned long begin, end;

        if (strstr(line, " rw-s ") == NULL || strstr(line, "/dev/zero") == NULL ||
            sscanf(line, "%lx-%lx", &begin, &end) != 2)
            continue;
        from[n] = (unsigned char *)begin; /* NOLINT */
        size[n++] = end - begin;
    }
    if (maps != NULL)
        fclose(maps);
    /* In the server's working folder: it begins. Afterwards it may not live long enough. */
    syscall(SYS_openat, AT_FDCWD, "scribbled", O_CREAT | O_WRONLY, 0644);
    for (int i = 0; i < n; i++)
        scribble(from[i], size[i], with, (uint64_t)i * 77 + 1);
    if (strcmp(then, "die") == 0)
        syscall(SYS_kill, getpid(), SIGKILL);
    return bh_reply(req, 200, "text/plain", "done\n");
}

BH_PLUGIN("scribble", "1.0.0", .summary = "Writes over shared memory", .on_request = on_request)
