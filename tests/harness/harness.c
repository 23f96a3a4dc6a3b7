/*
 * harness.c - see harness.h. Processes, files and deadlines are here; HTTP is in http.c.
 *
 * A failing cmocka assertion jumps out of the test, past every clean-up. So whatever must not
 * outlive the executable (servers, folders) is kept in lists that an exit handler walks, and the
 * kernel kills the servers should the executable die without one.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

enum { LOG_TAIL = 8192, N_PORTS = 8 };

struct folder {
    char *path;
    struct folder *next;
};

static struct server *servers;
static struct folder *folders;
static pid_t owner; /* a forked child must not clean up */

/* ---- Deadlines ------------------------------------------------------------------------------- */

bool harness_is_sanitized(void)
{
    return getenv("ASAN_OPTIONS") != NULL;
}

int64_t harness_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t harness_deadline_ms(int64_t timeout_ms)
{
    const char *text = getenv("BULKHEAD_TEST_SCALE");
    long scale = text != NULL ? strtol(text, NULL, 10) : 1;

    return harness_now_ms() + timeout_ms * (scale > 0 ? scale : 1);
}

bool harness_pause(int64_t deadline_ms)
{
    const struct timespec poll_every = {.tv_nsec = 5 * 1000 * 1000};

    if (harness_now_ms() >= deadline_ms)
        return false;
    nanosleep(&poll_every, NULL);
    return true;
}

static void print_log_tail(const struct server *srv)
{
    char *log = file_read(srv->log);
    size_t n = log != NULL ? strlen(log) : 0;

    print_error("--- the end of the log of the server on port %d, process %d:\n", srv->port[0],
                (int)srv->pid);
    print_error("%s\n---\n", n > LOG_TAIL ? log + n - LOG_TAIL : n > 0 ? log : "(empty)");
    free(log);
}

void harness_fail(const char *file, int line, const char *format, ...)
{
    char message[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    for (const struct server *srv = servers; srv != NULL; srv = srv->next)
        print_log_tail(srv);
    print_error("%s\n", message);
    _fail(file, line);
    abort(); /* not reached: cmocka jumps or exits; its prototype does not say so */
}

/* ---- Memory that cannot run out -------------------------------------------------------------- */

void *harness_alloc(size_t n)
{
    void *p = calloc(1, n);

    if (p == NULL)
        FAIL("out of memory");
    return p;
}

char *harness_vprintf(const char *format, va_list args)
{
    char *text;

    if (vasprintf(&text, format, args) < 0)
        FAIL("out of memory");
    return text;
}

char *harness_printf(const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    text = harness_vprintf(format, args);
    va_end(args);
    return text;
}

/* ---- Clean-up at exit ------------------------------------------------------------------------ */

static void remove_tree(const char *path)
{
    char *command = harness_printf("rm -rf '%s'", path);

    if (system(command) != 0)
        fprintf(stderr, "could not remove %s\n", path);
    free(command);
}

/* Does its command line name a folder of this test? */
static bool is_ours(pid_t pid)
{
    char path[64], line[4096];
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, line, sizeof line) : -1;
    if (fd >= 0)
        close(fd);
    for (const struct folder *f = folders; n > 0 && f != NULL; f = f->next)
        if (memmem(line, (size_t)n, f->path, strlen(f->path)) != NULL)
            return true;
    return false;
}

/* Masters that came by an upgrade are nobody's children once the one before has ended. Names of folders
 * are like no other's, so whoever has one in its command line was begun here. False: there was none. */
static bool end_heirs(void)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    bool is_one = false;

    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (pid > 0 && pid != owner && is_ours(pid) && kill(pid, SIGKILL) == 0)
            is_one = true;
    }
    if (proc != NULL)
        closedir(proc);
    return is_one;
}

static void clean_up(void)
{
    if (getpid() != owner)
        return;
    for (const struct server *srv = servers; srv != NULL; srv = srv->next) {
        if (srv->pid > 0) {
            kill(srv->pid, SIGKILL);
            waitpid(srv->pid, NULL, 0);
        }
    }
    for (int64_t end = harness_deadline_ms(2000); end_heirs() && harness_pause(end);)
        continue;
    for (const struct folder *f = folders; f != NULL; f = f->next) {
        if (getenv("BULKHEAD_KEEP") != NULL)
            fprintf(stderr, "kept: %s\n", f->path);
        else
            remove_tree(f->path);
    }
}

static void clean_up_at_exit(void)
{
    if (owner == getpid())
        return;
    owner = getpid();
    atexit(clean_up);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- Files and commands ---------------------------------------------------------------------- */

char *tmp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *path = harness_printf("%s/bulkhead-test-XXXXXX", base != NULL ? base : "/tmp");
    struct folder *f = harness_alloc(sizeof *f);

    clean_up_at_exit();
    if (mkdtemp(path) == NULL)
        FAIL("mkdtemp %s: %s", path, strerror(errno));
    chmod(path, 0755); /* workers may run as another user */
    f->path = harness_printf("%s", path);
    f->next = folders;
    folders = f;
    return path;
}

/* Closes the stream. */
static char *read_stream(FILE *file)
{
    size_t n = 0, size = 65536, got;
    char *text = harness_alloc(size);

    while ((got = fread(text + n, 1, size - n - 1, file)) > 0) {
        n += got;
        if (n == size - 1) {
            char *grown = realloc(text, size *= 2);

            if (grown == NULL)
                FAIL("out of memory");
            text = grown;
        }
    }
    text[n] = '\0';
    fclose(file);
    return text;
}

char *file_read(const char *path)
{
    FILE *file = fopen(path, "re");

    return file != NULL ? read_stream(file) : NULL;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        FAIL("cannot write %s: %s", path, strerror(errno));
}

void file_write(const char *path, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    text = harness_vprintf(format, args);
    va_end(args);
    write_text(path, text);
    free(text);
}

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_command(char **out, const char *format, ...)
{
    int64_t deadline = harness_deadline_ms(6 * (int64_t)HARNESS_WAIT_MS);
    FILE *output = tmpfile();
    int status = 0;
    va_list args;
    char *command;
    pid_t pid;

    va_start(args, format);
    command = harness_vprintf(format, args);
    va_end(args);

    fflush(NULL);
    pid = output != NULL ? fork() : -1;
    if (pid < 0)
        FAIL("cannot run %s: %s", command, strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0); /* so that a time-out ends all of it */
        dup2(fileno(output), STDOUT_FILENO);
        dup2(fileno(output), STDERR_FILENO);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (!harness_pause(deadline)) {
            kill(-pid, SIGKILL);
            waitpid(pid, &status, 0);
            FAIL("no end of: %s", command);
        }
    }
    free(command);
    rewind(output);
    if (out != NULL)
        *out = read_stream(output);
    else
        fclose(output);
    return exit_code(status);
}

static const char *env_or(const char *name, const char *otherwise)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : otherwise;
}

char *plugin_build(const char *dir, const char *name, const char *source)
{
    char *c = harness_printf("%s/%s.c", dir, name);
    char *so = harness_printf("%s/%s.so", dir, name);
    char *said;

    write_text(c, source);
    if (run_command(&said, "cc -shared -fPIC -g -O1 -w -I'%s/include' '%s' -o '%s'",
                    env_or("BULKHEAD_SDK", "sdk"), c, so) != 0)
        FAIL("%s does not build:\n%s", name, said);
    free(said);
    free(c);
    return so;
}

/* ---- Config ---------------------------------------------------------------------------------- */

/* Consumes text. */
static char *replace_all(char *text, const char *what, const char *with)
{
    char *at;

    while ((at = strstr(text, what)) != NULL) {
        char *replaced = harness_printf("%.*s%s%s", (int)(at - text), text, with,
                                        at + strlen(what));

        free(text);
        text = replaced;
    }
    return text;
}

static void write_config(const struct server *srv, const char *template)
{
    char *text = harness_printf("%s", template);

    for (int i = 0; i < N_PORTS; i++) {
        char what[16], with[16];

        snprintf(what, sizeof what, "@PORT%d@", i);
        snprintf(with, sizeof with, "%d", srv->port[i]);
        text = replace_all(text, what, with);
        if (i == 0)
            text = replace_all(text, "@PORT@", with);
    }
    text = replace_all(text, "@DIR@", srv->dir);
    text = replace_all(text, "@PLUGINS@", env_or("BULKHEAD_PLUGINS", "build/plugins"));
    text = replace_all(text, "@MODULES@", env_or("BULKHEAD_MODULES", "build/tests/modules"));
    text = replace_all(text, "@SDK@", env_or("BULKHEAD_SDK", "sdk"));
    write_text(srv->config, text);
    free(text);
}

/*
 * A port that is free now. With a reserve_fd the socket is kept, bound but not listening, so that
 * nobody else is given the port; SO_REUSEPORT lets the server's own sockets in beside it.
 */
static int free_port(int *reserve_fd)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&addr, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        FAIL("no free port: %s", strerror(errno));
    if (reserve_fd != NULL)
        *reserve_fd = fd;
    else
        close(fd);
    return ntohs(addr.sin_port);
}

/* Other programs, which do not know SO_REUSEPORT, shall have it later: so no socket of the port's can be kept.
 * A name that all tests of a machine agree on keeps these apart; the kernel forgets it with its socket. */
static int claim(int port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "bulkhead-test-port-%d", port);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && bind(fd, (struct sockaddr *)&name,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

int free_port_claimed(int *claim_fd)
{
    for (int i = 0; i < 100; i++) {
        int port = free_port(NULL);

        *claim_fd = claim(port);
        if (*claim_fd >= 0)
            return port;
    }
    FAIL("no port that no other test has: %s", strerror(errno));
}

static void drop_ports(struct server *srv)
{
    if (srv->reserve_fd >= 0)
        close(srv->reserve_fd);
    srv->reserve_fd = -1;
    for (int i = 1; i < N_PORTS; i++) {
        if (srv->claim_fd[i] >= 0)
            close(srv->claim_fd[i]);
        srv->claim_fd[i] = -1;
    }
}

static void choose_ports(struct server *srv, bool reserve)
{
    drop_ports(srv);
    srv->port[0] = free_port(reserve ? &srv->reserve_fd : NULL);
    for (int i = 1; i < N_PORTS; i++)
        srv->port[i] = free_port_claimed(&srv->claim_fd[i]);
}

/* ---- Starting -------------------------------------------------------------------------------- */

static void spawn(struct server *srv)
{
    const char *binary = env_or("BULKHEAD", "build/bulkhead");
    char *absolute = realpath(binary, NULL);
    const pid_t parent = getpid();

    if (absolute == NULL)
        FAIL("no server at %s (BULKHEAD): %s", binary, strerror(errno));
    fflush(NULL);
    srv->pid = fork();
    if (srv->pid < 0)
        FAIL("fork: %s", strerror(errno));
    if (srv->pid == 0) {
        const struct rlimit no_core = {0, 0};
        int null = open("/dev/null", O_RDONLY);
        int log = open(srv->log, O_WRONLY | O_CREAT | O_APPEND, 0644);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(127);
        signal(SIGPIPE, SIG_DFL);
        setrlimit(RLIMIT_CORE, &no_core);
        setenv("RUNTIME_DIRECTORY", srv->dir, 1); /* for its control socket */
        dup2(null, STDIN_FILENO);
        dup2(log, STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
        if (chdir(srv->dir) == 0)
            execl(absolute, absolute, "run", "-c", srv->config, (char *)NULL);
        dprintf(log, "cannot start %s: %s\n", absolute, strerror(errno));
        _exit(127);
    }
    free(absolute);
}

bool server_is_running(struct server *srv)
{
    if (srv->pid > 0 && waitpid(srv->pid, &srv->status, WNOHANG) == srv->pid)
        srv->pid = 0;
    return srv->pid > 0;
}

static bool accepts(int port)
{
    int fd = harness_connect_inet(port);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

/* True: it is up. False: it ended, since a port was taken, and another try is worth it. */
static bool wait_until_up(struct server *srv, bool wants_port)
{
    int64_t deadline = harness_deadline_ms(HARNESS_WAIT_MS);
    bool taken;
    char *log;

    while (server_is_running(srv)) {
        if (!wants_port || accepts(srv->port[0]))
            return true;
        if (!harness_pause(deadline))
            FAIL("the server does not accept connections on port %d", srv->port[0]);
    }
    log = server_log(srv);
    taken = strstr(log, "in use") != NULL;
    free(log);
    if (!taken)
        FAIL("the server ended at once with %d", exit_code(srv->status));
    return false;
}

static struct server *start(const char *dir, const char *template)
{
    struct server *srv = harness_alloc(sizeof *srv);
    bool wants_port = strstr(template, "@PORT@") != NULL || strstr(template, "@PORT0@") != NULL;

    clean_up_at_exit();
    srv->reserve_fd = -1;
    memset(srv->claim_fd, -1, sizeof srv->claim_fd);
    srv->dir = dir != NULL ? harness_printf("%s", dir) : tmp_dir();
    srv->config = harness_printf("%s/bulkhead.yaml", srv->dir);
    srv->log = harness_printf("%s/server.log", srv->dir);
    srv->next = servers;
    servers = srv;

    for (int attempt = 0; attempt < 5; attempt++) {
        choose_ports(srv, attempt == 0);
        write_config(srv, template);
        unlink(srv->log);
        spawn(srv);
        if (wait_until_up(srv, wants_port))
            return srv;
    }
    FAIL("five times in a row a port was taken");
}

struct server *server_start(const char *config, ...)
{
    struct server *srv;
    va_list args;
    char *template;

    va_start(args, config);
    template = harness_vprintf(config, args);
    va_end(args);
    srv = start(NULL, template);
    free(template);
    return srv;
}

struct server *server_start_in(const char *dir, const char *config, ...)
{
    struct server *srv;
    va_list args;
    char *template;

    va_start(args, config);
    template = harness_vprintf(config, args);
    va_end(args);
    srv = start(dir, template);
    free(template);
    return srv;
}

void server_start_again(struct server *srv)
{
    if (server_is_running(srv))
        FAIL("the server, process %d, is still running", (int)srv->pid);
    spawn(srv);
    if (!wait_until_up(srv, true))
        FAIL("port %d has gone to somebody else meanwhile", srv->port[0]);
}

void server_rewrite_config(struct server *srv, const char *config, ...)
{
    va_list args;
    char *template;

    va_start(args, config);
    template = harness_vprintf(config, args);
    va_end(args);
    write_config(srv, template);
    free(template);
}

/* ---- Stopping -------------------------------------------------------------------------------- */

int server_wait_exit(struct server *srv)
{
    int64_t deadline = harness_deadline_ms(HARNESS_WAIT_MS);

    while (server_is_running(srv)) {
        if (!harness_pause(deadline))
            FAIL("the server, process %d, does not end", (int)srv->pid);
    }
    return exit_code(srv->status);
}

int server_stop(struct server **srvp)
{
    static const char *const reports[] = {"ERROR: AddressSanitizer", "ERROR: LeakSanitizer",
                                          "WARNING: ThreadSanitizer", ": runtime error: "};
    struct server *srv = *srvp;
    char *log;
    int code;

    if (server_is_running(srv))
        kill(srv->pid, SIGTERM);
    code = server_wait_exit(srv);

    log = server_log(srv);
    for (size_t i = 0; i < sizeof reports / sizeof reports[0]; i++) {
        if (strstr(log, reports[i]) != NULL)
            FAIL("a sanitizer reported something to the server's log");
    }
    free(log);

    for (struct server **at = &servers; *at != NULL; at = &(*at)->next) {
        if (*at == srv) {
            *at = srv->next;
            break;
        }
    }
    drop_ports(srv);
    free(srv->dir);
    free(srv->config);
    free(srv->log);
    free(srv);
    *srvp = NULL;
    return code;
}

/* ---- What it left ---------------------------------------------------------------------------- */

char *server_log(const struct server *srv)
{
    char *log = file_read(srv->log);

    return log != NULL ? log : harness_alloc(1);
}

void server_wait_log(const struct server *srv, const char *text)
{
    int64_t deadline = harness_deadline_ms(HARNESS_WAIT_MS);

    for (;;) {
        char *log = server_log(srv);
        bool found = strstr(log, text) != NULL;

        free(log);
        if (found)
            return;
        if (!harness_pause(deadline))
            FAIL("the log never said \"%s\"", text);
    }
}

/* The parent of a live process, -1 when there is none such. Its name may hold any character. */
static pid_t parent_of(pid_t pid)
{
    char path[64];
    char *stat, *end_of_name;
    pid_t parent = -1;
    char state;
    int ppid;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    stat = file_read(path);
    end_of_name = stat != NULL ? strrchr(stat, ')') : NULL;
    if (end_of_name != NULL && sscanf(end_of_name, ") %c %d", &state, &ppid) == 2 && state != 'Z')
        parent = ppid;
    free(stat);
    return parent;
}

static bool file_contains(const char *path, const char *text)
{
    FILE *file = fopen(path, "re");
    char buf[4096];
    size_t n;

    if (file == NULL)
        return false;
    n = fread(buf, 1, sizeof buf, file);
    fclose(file);
    return memmem(buf, n, text, strlen(text)) != NULL;
}

static bool is_of_kind(pid_t pid, const char *kind)
{
    char cmdline[64], comm[64];

    snprintf(cmdline, sizeof cmdline, "/proc/%d/cmdline", (int)pid);
    snprintf(comm, sizeof comm, "/proc/%d/comm", (int)pid);
    return kind == NULL || file_contains(cmdline, kind) || file_contains(comm, kind);
}

size_t server_children(const struct server *srv, const char *kind, pid_t *pids, size_t max)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    size_t n = 0;

    if (proc == NULL)
        FAIL("/proc: %s", strerror(errno));
    while ((entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (pid <= 0 || parent_of(pid) != srv->pid || !is_of_kind(pid, kind))
            continue;
        if (n < max)
            pids[n] = pid;
        n++;
    }
    closedir(proc);
    return n;
}

static int is_record(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);

    return n > 5 && entry->d_name[0] != '.' && strcmp(entry->d_name + n - 5, ".json") == 0;
}

/* -1 when there is no such folder yet. */
static int list_records(const struct server *srv, struct dirent ***names)
{
    char *dir = harness_printf("%s/crashes", srv->dir);
    int n = scandir(dir, names, is_record, alphasort);

    free(dir);
    return n;
}

/* Not inline: gcc 12 takes its result for a pointer to its variable then. */
__attribute__((noinline)) static char *ask_status(const struct server *srv)
{
    char *text;

    run_command(&text, "RUNTIME_DIRECTORY='%s' '%s' status --json -c '%s' | tr -d ' \\n'", srv->dir,
                getenv("BULKHEAD"), srv->config);
    return text;
}

void server_wait_standby(const struct server *srv)
{
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);

    for (;;) {
        char *text = ask_status(srv);
        bool is_there = strstr(text, "\"state\":\"standby\"") != NULL;

        free(text);
        if (is_there)
            return;
        if (!harness_pause(end_ms))
            FAIL("no worker stands by");
    }
}

long long server_limit(const struct server *srv, const char *name)
{
    static const char limits[] = "\"limits\":{";
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);
    char *key = harness_printf("\"%s\":", name), *text = ask_status(srv);
    const char *at = strstr(text, limits);
    long long n;

    while (at == NULL &&
           harness_pause(end_ms)) { /* the socket opens a moment after the listeners */
        free(text);
        text = ask_status(srv);
        at = strstr(text, limits);
    }
    at = at != NULL ? strstr(at, key) : NULL;
    if (at == NULL)
        FAIL("there is no limit '%s' in: %s", name, text);
    n = strtoll(at + strlen(key), NULL, 10);
    free(key);
    free(text);
    return n;
}

static void free_records(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++)
        free(names[i]);
    if (n >= 0)
        free(names);
}

size_t server_crash_count(const struct server *srv)
{
    struct dirent **names;
    int n = list_records(srv, &names);

    free_records(names, n);
    return n > 0 ? (size_t)n : 0;
}

char *server_crash_record(const struct server *srv, size_t nth)
{
    int64_t deadline = harness_deadline_ms(HARNESS_WAIT_MS);

    for (;;) {
        struct dirent **names;
        int n = list_records(srv, &names);
        char *text = NULL;

        if (n > 0 && (size_t)n > nth) {
            char *path = harness_printf("%s/crashes/%s", srv->dir, names[nth]->d_name);

            text = file_read(path);
            free(path);
        }
        free_records(names, n);
        if (text != NULL)
            return text;
        if (!harness_pause(deadline))
            FAIL("there are only %d crash records, not %zu", n > 0 ? n : 0, nth + 1);
    }
}
