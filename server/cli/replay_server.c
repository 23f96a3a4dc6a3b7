#include "cli/replay_server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/roles.h"
#include "conf/config.h"
#include "plugin/object.h"
#include "plugin/setup.h"

#define START_MS  30000
#define ANSWER_MS 10000 /* beyond limits.timeouts.request */
#define END_MS    20000
#define LOG_MAX   (64u << 10)

/* ---- its config ---- */

static const char frame[] =
    "version: 1\n"
    "server: {workers: 1}\n"
    "listeners: [{name: replay, address: \"unix:%1$s/http.sock\", mode: 0600}]\n"
    "plugins: {plugin: {module: respond}}\n"
    "routes: [{chain: [plugin]}]\n"
    "crash: {dir: \"%1$s/crashes\", keep: 1000}\n"
    "state: {dir: \"%1$s/state\"}\n"
    "control: {socket: off}\n"
    "escrow: {standby: 0}\n"
    "breaker: {crashes: 0}\n";

static int find_plugin(const struct config *cfg, const char *instance)
{
    size_t n = strcspn(instance, "@"); /* "NAME@next": the candidate of a rollout */

    for (int i = 0; i < cfg->n_plugins; i++)
        if (strlen(cfg->plugin[i].name) == n && strncmp(cfg->plugin[i].name, instance, n) == 0)
            return i;
    return -1;
}

static void adopt_plugin(struct config_plugin *p, const struct replay_wish *wish)
{
    p->breaker.crashes = 0;
    p->plan = (struct plan){.n_steps = 0};
    for (int h = 0; h < HOOK_N && wish->no_deadlines; h++)
        p->deadline_ms[h] = 0;
}

/* What a plugin can notice is as the given config has it. */
static void adopt(struct replay_server *s, const struct replay_wish *wish, int i)
{
    struct config *cfg = s->cfg, *given = s->given;

    cfg->path = given->path;
    cfg->dir = given->dir;
    cfg->user = given->user;
    cfg->limits = given->limits;
    cfg->module_path = given->module_path;
    cfg->n_module_paths = given->n_module_paths;
    if (wish->whole_chain) {
        cfg->plugin = given->plugin;
        cfg->n_plugins = given->n_plugins;
        cfg->route = given->route;
        cfg->n_routes = given->n_routes;
        cfg->last_route = given->last_route;
        s->plugin = i;
    } else {
        cfg->plugin[0] = given->plugin[i];
        s->plugin = 0;
    }
    if (wish->module != NULL)
        cfg->plugin[s->plugin].module = wish->module;
    for (int k = 0; k < cfg->n_plugins; k++)
        adopt_plugin(&cfg->plugin[k], wish);
}

static int make_config(struct replay_server *s, const struct replay_wish *wish, struct diag *diag)
{
    char path[sizeof s->dir + 16];
    FILE *f;
    int i;

    if (config_load(wish->config, diag, &s->given) < 0)
        return -EINVAL;
    i = find_plugin(s->given, wish->instance);
    if (i < 0) {
        diag_add(diag, wish->config, 0, 0, "name the config that the server ran with: -c FILE",
                 "there is no plugin '%s' in it", wish->instance);
        return -ENOENT;
    }
    snprintf(path, sizeof path, "%s/replay.yaml", s->dir);
    f = fopen(path, "we");
    if (f == NULL)
        return -errno;
    fprintf(f, frame, s->dir);
    if (fclose(f) != 0 || config_load(path, diag, &s->cfg) < 0)
        return -EINVAL;
    adopt(s, wish, i);
    if (setup_create(s->cfg, NULL, diag, &s->setup) < 0 ||
        setup_copy(s->cfg, s->setup, NULL, diag) < 0)
        return -EINVAL;
    return 0;
}

/* ---- its life ---- */

static int make_folder(struct replay_server *s)
{
    const char *tmp = getenv("TMPDIR");

    /* Short, for the socket's sake, and nothing that YAML would take for its own. */
    if (tmp == NULL || tmp[0] != '/' || strlen(tmp) > 30 || strpbrk(tmp, "\"\\$\n") != NULL)
        tmp = "/tmp";
    snprintf(s->dir, sizeof s->dir, "%s/bulkhead-replay-XXXXXX", tmp);
    if (mkdtemp(s->dir) == NULL)
        return -errno;
    return chmod(s->dir, 0711) < 0 ? -errno : 0; /* for server.user */
}

static _Noreturn void serve(const struct replay_server *s)
{
    struct master_roles roles = cli_roles;
    char path[sizeof s->dir + 16];
    int log, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    snprintf(path, sizeof path, "%s/log", s->dir);
    log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    setpgid(0, 0); /* Ctrl-C is the debugger's */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    unsetenv("NOTIFY_SOCKET");
    if (log < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0)
        _exit(CLI_FAILED);
    roles.load = NULL;
    roles.admin = NULL;
    roles.argv = NULL;
    exit(master_run(s->cfg, s->setup, &roles));
}

static int connect_to(const struct replay_server *s)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/http.sock", s->dir);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&addr, sizeof addr) < 0)
        fd_close(&fd);
    return fd;
}

static bool has_ended(struct replay_server *s)
{
    if (s->master > 0 && waitpid(s->master, NULL, WNOHANG) == s->master)
        s->master = 0;
    return s->master <= 0;
}

/* It says "serving on" when the worker is ready, and the log is a file. */
static bool is_serving(const struct replay_server *s)
{
    char path[sizeof s->dir + 16], *text;
    bool is_there;
    size_t n;

    snprintf(path, sizeof path, "%s/log", s->dir);
    if (fd_read_file(path, 1u << 20, &text, &n) < 0)
        return false;
    is_there = strstr(text, " serving on ") != NULL;
    free(text);
    return is_there;
}

int replay_start(struct replay_server *s, const struct replay_wish *wish)
{
    int64_t end_ms = clock_mono_ms() + START_MS;
    struct diag diag;
    int r;

    r = make_folder(s);
    if (r < 0) {
        fprintf(stderr, "%s: cannot make a folder (TMPDIR says where): %s\n", s->command,
                strerror(-r));
        return CLI_FAILED;
    }
    diag_init(&diag);
    r = make_config(s, wish, &diag);
    diag_print(&diag, stderr);
    diag_fini(&diag);
    if (r < 0) {
        replay_clean(s);
        return CLI_BAD_INPUT;
    }
    fflush(NULL);
    s->master = fork();
    if (s->master == 0)
        serve(s);
    while (s->master > 0 && !has_ended(s) && !is_serving(s) && clock_mono_ms() < end_ms)
        poll(NULL, 0, 5);
    if (s->master > 0 && is_serving(s))
        return CLI_OK;
    fprintf(stderr, "%s: the server for the replay did not start; it said:\n", s->command);
    replay_print_log(s);
    replay_end(s);
    replay_clean(s);
    return CLI_FAILED;
}

int replay_send(const struct replay_server *s, const char *request, size_t len, int *status)
{
    int64_t end_ms = clock_mono_ms() + s->cfg->limits.request_ms + ANSWER_MS;
    char head[32] = "", buf[4096];
    int fd = connect_to(s), r = 0;
    struct timeval patience = {ANSWER_MS / 1000, 0};
    size_t n_head = 0;

    *status = 0;
    if (fd < 0)
        return -ECONNREFUSED;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    signal(SIGPIPE, SIG_IGN);
    fd_write_all(fd, request, len); /* who answers before it has read all is read all the same */
    while (r == 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left_ms = end_ms - clock_mono_ms();
        ssize_t n;

        if (left_ms <= 0 || poll(&p, 1, (int)left_ms) == 0) {
            r = -ETIMEDOUT;
            break;
        }
        n = read(fd, buf, sizeof buf);
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n && n_head < sizeof head - 1; i++)
            head[n_head++] = buf[i];
    }
    fd_close(&fd);
    if (strncmp(head, "HTTP/1.", 7) == 0)
        *status = (int)strtol(head + 9, NULL, 10);
    return r;
}

pid_t replay_worker(const struct replay_server *s)
{
    char path[64], comm[32], *list = NULL, *text, *save;
    pid_t worker = -1;
    size_t n;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)s->master, (int)s->master);
    if (fd_read_file(path, 1u << 16, &list, &n) < 0)
        return -1;
    for (char *p = strtok_r(list, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save)) {
        snprintf(path, sizeof path, "/proc/%.10s/comm", p);
        if (fd_read_file(path, 1u << 10, &text, &n) < 0)
            continue;
        snprintf(comm, sizeof comm, "%s", text);
        free(text);
        if (strncmp(comm, "bh-worker", 9) == 0)
            worker = (pid_t)strtol(p, NULL, 10);
    }
    free(list);
    return worker;
}

void replay_end(struct replay_server *s)
{
    int64_t end_ms = clock_mono_ms() + END_MS;

    if (s->master <= 0)
        return;
    kill(s->master, SIGTERM);
    while (!has_ended(s)) {
        if (clock_mono_ms() >= end_ms)
            kill(-s->master, SIGKILL); /* the group is all its own */
        poll(NULL, 0, 5);
    }
}

/* Two levels is all there is. */
static void remove_folder(const char *dir, int depth)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    char path[PATH_MAX];

    while (d != NULL && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (unlink(path) < 0 && depth > 0)
            remove_folder(path, depth - 1);
    }
    if (d != NULL)
        closedir(d);
    rmdir(dir);
}

void replay_clean(struct replay_server *s)
{
    remove_folder(s->dir, 2);
    object_dir_remove();
    setup_destroy(&s->setup);
    config_destroy(&s->cfg);
    config_destroy(&s->given);
}

void replay_crashes(const struct replay_server *s, char dir[PATH_MAX])
{
    snprintf(dir, PATH_MAX, "%s/crashes", s->dir);
}

void replay_print_log(const struct replay_server *s)
{
    char path[sizeof s->dir + 16], *text;
    size_t n;

    snprintf(path, sizeof path, "%s/log", s->dir);
    if (fd_read_file(path, LOG_MAX, &text, &n) < 0)
        return;
    fwrite(text, 1, n, stderr);
    free(text);
}
