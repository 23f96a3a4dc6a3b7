/*
 * master_run() as a whole, with roles made for it: workers that answer "pong" and do as the stage
 * says, and a recorder that keeps what it finds.
 */
#include "master/master.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/urgency.h"
#include "ipc/channel.h"
#include "ipc/shm.h"
#include "ipc/surrender.h"
#include "master/internal.h"
#include "scene.h"

#define WORKERS     2
#define MAX_RECORDS 16
#define HOOK        7

struct record {
    uint32_t plugin, hook;
    int32_t signo, pid;
    char kind[32], request[64], id[40], verdict;
};

/* Shared by the test, the master and all its children. */
static struct stage {
    /* said by the test */
    _Atomic int refuse_ready; /* a worker says why not */
    _Atomic int die_early;    /* a worker dies before it is ready */
    _Atomic int go;           /* ends "slow" */
    _Atomic int yields_late;  /* who stands by: comes to it when it is to be over */
    _Atomic int n_deaf;       /* so many that stood by die with their first connections unread */
    /* said by the children */
    _Atomic int pid[WORKERS]; /* serving, by post */
    _Atomic int n_starts[WORKERS];
    _Atomic unsigned uid;
    _Atomic int n_standby; /* stood by so far */
    _Atomic int standby_pid;
    _Atomic int n_left; /* workers that were told to hand over */
    _Atomic int stuck;  /* pid of the worker that hangs */
    _Atomic int is_slow;
    _Atomic int recorder_pid;
    _Atomic int n_reopened;
    _Atomic int n_workers_at_end; /* alive when the recorder ended; -1: it did not */
    _Atomic uint64_t worker_deaths;
    _Atomic int n_records;
    struct record record[MAX_RECORDS];
} * stage;

static struct config_plugin plugin = {.name = "shaky", .module = "shaky", .pos = {12, 5}};
static struct config_listener listener;
static struct config cfg;
static char dir[64], crash_dir[96], log_path[96], notify_path[96];
static pid_t master;

/* ---- The roles ---- */

static volatile sig_atomic_t is_told;

static void note(int signo)
{
    is_told = signo;
}

static void put_call(struct shm_worker *w, uint32_t plugin_number, const char *request)
{
    snprintf(w->call.request, sizeof w->call.request, "%s", request);
    atomic_store(&w->call.hook, plugin_number != 0 ? HOOK : 0);
    atomic_store(&w->call.plugin, plugin_number);
}

static _Noreturn void hang(void)
{
    signal(SIGTERM, SIG_IGN);
    atomic_store(&stage->stuck, getpid());
    alarm(120); /* whatever becomes of the test */
    for (;;)
        pause();
}

static struct {
    struct shm *shm;
    const struct worker_seat *seat;
} self;

/* Keeps the connection open, and says in the table what it is about. */
static bool keep(const char *request, int fd)
{
    static const struct {
        const char *request;
        uint32_t flags;
    } kinds[] = {{"idle", SHM_CONN_OPEN},
                 {"busy", SHM_CONN_OPEN | SHM_CONN_BUSY},
                 {"sent", SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_SENT},
                 {"again", SHM_CONN_OPEN | SHM_CONN_BUSY | SHM_CONN_AGAIN | SHM_CONN_EXTRA},
                 {"tls", SHM_CONN_OPEN | SHM_CONN_TLS}};
    static const char text[] = "GET / HTTP/1.1";
    uint32_t slot = (uint32_t)self.seat->slot;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct shm_conn *conn = shm_conn(self.shm, slot, fd);
        char *replay = shm_replay(self.shm, slot);

        if (conn == NULL || replay == NULL || strcmp(request, kinds[i].request) != 0)
            continue;
        memcpy(replay + 100, text, sizeof text);
        conn->replay_at = 100;
        conn->replay_len = strlen(text);
        atomic_store(&conn->flags, kinds[i].flags);
        return write(fd, "kept\n", 5) == 5;
    }
    return false;
}

/* As plugin/park.c does. */
static _Noreturn void stand_still(void)
{
    signal(SIGTERM, SIG_IGN);
    alarm(120); /* whatever becomes of the test */
    while (atomic_load(&self.shm->worker[self.seat->slot].give_up) == 0)
        scene_pause();
    surrender(self.shm, (uint32_t)self.seat->slot, self.seat->channel_fd, 1000);
    for (;;)
        pause();
}

/* A fault that cannot be recovered. */
static _Noreturn void park_here(int fd)
{
    struct channel_message m = {.kind = CHANNEL_PARKED};
    struct shm_conn *conn = shm_conn(self.shm, (uint32_t)self.seat->slot, fd);

    if (conn != NULL)
        atomic_store(&conn->flags, SHM_CONN_OPEN | SHM_CONN_BUSY);
    atomic_store(&self.shm->worker[self.seat->slot].call.fd, fd);
    channel_send(self.seat->channel_fd, &m, NULL, NULL);
    stand_still();
}

/* Each says how it came here. */
static void adopt(const struct channel_message *m, const int *fds, const char *text)
{
    for (uint32_t i = 0; i < m->n; i++) {
        dprintf(fds[i], "adopted %d %u %s\n", m->entry[i].what, m->entry[i].is_last, text);
        close(fds[i]);
    }
}

static bool must_leave;

static int read_channel(int post)
{
    static char text[CHANNEL_TEXT + 1];
    struct channel_message m;
    int fds[CHANNEL_FDS];

    while (channel_receive(self.seat->channel_fd, &m, fds, text) > 0) {
        if (m.kind == CHANNEL_SERVE)
            post = m.number;
        if (m.kind == CHANNEL_SERVE && atomic_fetch_sub(&stage->n_deaf, 1) > 0) {
            struct pollfd pfd = {.fd = self.seat->channel_fd, .events = POLLIN};

            poll(&pfd, 1, 20000);
            raise(SIGKILL);
        }
        if (m.kind == CHANNEL_ADOPT)
            adopt(&m, fds, text);
        if (m.kind == CHANNEL_HAND_OVER)
            must_leave = true;
    }
    return post;
}

/* What it kept goes to the master. */
static void give_all_back(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct shm_conn *conn = shm_conn(self.shm, (uint32_t)self.seat->slot, fd);
        struct channel_message m = {.kind = CHANNEL_GIVE, .n = 1};

        if (conn != NULL && (atomic_load(&conn->flags) & SHM_CONN_OPEN) != 0)
            channel_send(self.seat->channel_fd, &m, &fd, NULL);
    }
    atomic_fetch_add(&stage->n_left, 1);
}

/* True: the connection is kept. */
static bool answer(struct shm_worker *w, int fd)
{
    char request[32] = "";
    ssize_t n = read(fd, request, sizeof request - 1);

    if (n <= 0)
        return false;
    request[strcspn(request, "\n")] = '\0';
    if (keep(request, fd))
        return true;
    put_call(w, 1, "GET /x\033y");
    if (strcmp(request, "park") == 0)
        park_here(fd);
    if (strcmp(request, "hang") == 0)
        hang();
    if (strcmp(request, "exit") == 0)
        _exit(0);
    if (strcmp(request, "last words") == 0) {
        w->crash[3].pid = getpid();
        w->crash[3].plugin = 1;
        w->crash[3].verdict = SHM_WORKER_DIED;
        strcpy(w->crash[3].id, "its-own");
        atomic_store(&w->crash[3].state, SHM_CRASH_FILLING);
        raise(SIGSEGV);
    }
    put_call(w, 0, "");
    if (strcmp(request, "stop turning") == 0)
        stand_still();
    if (strcmp(request, "replace") == 0)
        _exit(WORKER_REPLACE);
    if (strcmp(request, "ask") == 0)
        channel_send(self.seat->channel_fd,
                     &(struct channel_message){.kind = CHANNEL_REPLACE, .number = 1, .text_len = 3},
                     NULL, "why");
    if (strcmp(request, "slow") == 0) {
        atomic_store(&stage->is_slow, 1);
        while (!atomic_load(&stage->go))
            scene_pause();
    }
    if (write(fd, "pong\n", 5) < 0)
        return false;
    return false;
}

/* As one that had not had the CPU until then. */
static void yield_late(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 3 * MASTER_YIELD_MS * 1000000L}, NULL);
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}); /* SCHED_IDLE may need rights */
    while (sched_getscheduler(0) != SCHED_OTHER)
        scene_pause();
}

static int fake_worker(const struct config *c, const struct setup *setup, struct shm *shm,
                       const struct worker_seat *seat)
{
    struct shm_worker *w = &shm->worker[seat->slot];
    int post = seat->post, ready_fd = seat->ready_fd;

    (void)c;
    (void)setup;
    if (sigaction(SIGTERM, &(struct sigaction){.sa_handler = note}, NULL) < 0)
        return 1;
    self.shm = shm;
    self.seat = seat;
    if (post >= 0)
        atomic_fetch_add(&stage->n_starts[post], 1);
    if (atomic_load(&stage->refuse_ready)) {
        static const char why[] = "plugin 'shaky' is shy";

        return write(ready_fd, why, sizeof why - 1) > 0 ? WORKER_NOT_READY : 1;
    }
    if (atomic_load(&stage->die_early)) {
        put_call(w, 1, "");
        raise(SIGSEGV);
    }
    atomic_store(&stage->uid, geteuid());
    if (post < 0 && atomic_load(&stage->yields_late))
        yield_late();
    urgency_return(NULL, 0, 0); /* as the real one: it has stood by, or not */
    if (write(ready_fd, "+", 1) != 1)
        return 1;
    close(ready_fd);
    if (post < 0) {
        atomic_store(&stage->standby_pid, getpid());
        atomic_fetch_add(&stage->n_standby, 1);
    }
    while (post < 0 && !is_told) {
        post = read_channel(post);
        scene_pause();
    }
    if (post >= 0)
        atomic_store(&stage->pid[post], getpid());
    for (;;) {
        struct pollfd pfd = {.fd = post >= 0 ? seat->listen_fds[post] : -1, .events = POLLIN};
        bool is_last = is_told; /* then: what is queued, and no more */
        int fd;

        read_channel(post);
        if (must_leave) {
            give_all_back();
            return WORKER_STOPPED;
        }
        atomic_fetch_add(&w->beat, 1);
        poll(&pfd, 1, is_last ? 0 : 5);
        while ((fd = accept4(pfd.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
            if (!answer(w, fd))
                close(fd);
        }
        if (is_last)
            return WORKER_STOPPED;
    }
}

static void collect(struct shm *shm)
{
    for (uint32_t i = 0; i < shm->n_workers; i++) {
        for (int j = 0; j < SHM_CRASH_SLOTS; j++) {
            struct shm_crash *s = &shm->worker[i].crash[j];
            struct record *r = &stage->record[stage->n_records % MAX_RECORDS];

            if (atomic_load(&s->state) != SHM_CRASH_FULL)
                continue;
            *r = (struct record){s->plugin, s->hook, s->signo, s->pid, .verdict = s->verdict};
            memcpy(r->kind, s->kind, sizeof r->kind);
            memcpy(r->request, s->request, sizeof r->request);
            memcpy(r->id, s->id, sizeof r->id);
            atomic_store(&s->state, SHM_CRASH_FREE);
            atomic_fetch_add(&stage->n_records, 1);
        }
    }
    atomic_store(&stage->worker_deaths, atomic_load(&shm->plugin[0].worker_deaths));
}

static void note_reopen(int signo)
{
    (void)signo;
    atomic_fetch_add(&stage->n_reopened, 1);
}

static int fake_recorder(const struct recorder_view *view, struct shm *shm)
{
    int alive = 0;

    (void)view;
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = note}, NULL);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = note_reopen}, NULL);
    atomic_store(&stage->recorder_pid, getpid());
    while (!is_told) {
        collect(shm);
        scene_pause();
    }
    collect(shm);
    for (uint32_t i = 0; i < shm->n_workers; i++)
        alive += atomic_load(&shm->worker[i].pid) != 0;
    atomic_store(&stage->n_workers_at_end, alive);
    return 0;
}

static int fake_preflight(const struct config *c, const struct setup *setup, struct shm *shm,
                          int report_fd, int validate_only)
{
    (void)c;
    (void)setup;
    (void)shm;
    (void)validate_only;
    return write(report_fd, "ok\n", 3) == 3 ? 0 : 1;
}

static int bad_preflight(const struct config *c, const struct setup *setup, struct shm *shm,
                         int report_fd, int validate_only)
{
    (void)c;
    (void)setup;
    (void)shm;
    (void)validate_only;
    return write(report_fd, "error: shaky is too shaky\n", 26) == 26 ? 1 : 2;
}

static const char *fake_hook_name(unsigned hook)
{
    return hook == HOOK ? "on_request" : "?";
}

static struct master_roles roles;

/* ---- The scene ---- */

static bool has_no_ptrace; /* the master's fate in this test */

static int setup(void **state)
{
    (void)state;
    memset(stage, 0, sizeof *stage);
    has_no_ptrace = false;
    posts_stuck_ms = 15000;
    stuck_helper_ms = 30000;
    atomic_store(&stage->n_workers_at_end, -1);
    strcpy(dir, "/tmp/master-XXXXXX");
    if (mkdtemp(dir) == NULL || chmod(dir, 0755) < 0)
        return -1;
    snprintf(crash_dir, sizeof crash_dir, "%s/crashes", dir);
    snprintf(log_path, sizeof log_path, "%s/log", dir);
    snprintf(notify_path, sizeof notify_path, "%s/notify", dir);
    cfg = (struct config){
        .path = "test.yaml",
        .n_workers = WORKERS,
        .listener = &listener,
        .n_listeners = 1,
        .plugin = &plugin,
        .n_plugins = 1,
        .limits.drain_ms = 60000,
        .store.size = 2 << 20,
        .log = {.path = "-", .level = 4},
        .crash.dir = crash_dir,
        .control.socket = "off",
        .respawn = {.restarts = 1000, .window_ms = 10000},
    };
    roles = (struct master_roles){.worker = fake_worker,
                                  .recorder = fake_recorder,
                                  .preflight = fake_preflight,
                                  .hook_name = fake_hook_name};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (master > 0) { /* a test failed; SIGQUIT takes the workers along */
        kill(master, SIGQUIT);
        waitpid(master, NULL, 0);
        master = 0;
    }
    unlink(log_path);
    unlink(notify_path);
    rmdir(crash_dir);
    return rmdir(dir);
}

/* Then pidfd_getfd() of another user's process is denied. */
static void give_up_ptrace(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct cap[2];

    if (syscall(SYS_capget, &header, cap) < 0)
        _exit(99);
    cap[0].effective &= ~(1u << CAP_SYS_PTRACE);
    cap[0].permitted &= ~(1u << CAP_SYS_PTRACE);
    if (syscall(SYS_capset, &header, cap) < 0)
        _exit(99);
}

static void start(void)
{
    scene_listener_tcp(&listener, INADDR_LOOPBACK, 0);
    fflush(NULL);
    master = fork();
    assert_true(master >= 0);
    if (master == 0) {
        int fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0600);

        prctl(PR_SET_PDEATHSIG, SIGQUIT);
        if (has_no_ptrace)
            give_up_ptrace();
        dup2(fd, STDERR_FILENO);
        close(fd);
        _exit(master_run(&cfg, NULL, &roles));
    }
}

static const char *find_in_log(const char *text)
{
    static char log[1 << 20];
    FILE *f = fopen(log_path, "re");
    size_t n = f != NULL ? fread(log, 1, sizeof log - 1, f) : 0;

    if (f != NULL)
        fclose(f);
    log[n] = '\0';
    return strstr(log, text);
}

static bool log_has(const char *text)
{
    return find_in_log(text) != NULL;
}

static int is_serving(int worker)
{
    int pid = atomic_load(&stage->pid[worker]);

    return pid > 0 && kill(pid, 0) == 0;
}

static void start_and_wait(void)
{
    static const char url[] = "open http://127.0.0.1:";

    start();
    eventually(log_has(url));
    listener.addr.in.sin_port = htons((uint16_t)strtol(find_in_log(url) + strlen(url), NULL, 10));
    eventually(is_serving(0) && is_serving(1));
}

/* Exit status, or 128 + signal. */
static int wait_end(void)
{
    int status;

    eventually(waitpid(master, &status, WNOHANG) == master);
    master = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int send_request(const char *text)
{
    int fd = scene_connect(&listener);

    assert_true(fd >= 0);
    assert_true(write(fd, text, strlen(text)) > 0);
    return fd;
}

/* True for "pong", false when the connection ended without. Closes it. */
static bool read_answer(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    char buf[16];
    ssize_t n;

    assert_int_equal(poll(&pfd, 1, (int)(scene_deadline(10000) - clock_mono_ms())), 1);
    n = read(fd, buf, sizeof buf);
    close(fd);
    return n == 5 && memcmp(buf, "pong\n", 5) == 0;
}

static bool ask(const char *text)
{
    return read_answer(send_request(text));
}

static void kill_and_wait_for_successor(int worker)
{
    int pid = atomic_load(&stage->pid[worker]);

    kill(pid, SIGKILL);
    eventually(atomic_load(&stage->pid[worker]) != pid);
}

/* A connection that some worker keeps, as that kind. */
static int send_kept(const char *kind)
{
    int fd = send_request(kind);
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    char buf[8];

    assert_int_equal(poll(&pfd, 1, (int)(scene_deadline(10000) - clock_mono_ms())), 1);
    assert_int_equal(read(fd, buf, 5), 5);
    assert_memory_equal(buf, "kept\n", 5);
    return fd;
}

/* What became of it, up to the end of the connection. */
static const char *read_fate(int fd)
{
    static char buf[256];
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    ssize_t n;

    assert_int_equal(poll(&pfd, 1, (int)(scene_deadline(10000) - clock_mono_ms())), 1);
    n = read(fd, buf, sizeof buf - 1);
    close(fd);
    buf[n > 0 ? n : 0] = '\0';
    return buf;
}

/* ---- Tests ---- */

static void starts_serves_and_stops(void **state)
{
    (void)state;
    start_and_wait();
    for (int i = 0; i < 100; i++)
        assert_true(ask("ping\n"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_true(log_has("(2 workers); open http://127.0.0.1:"));
    assert_int_equal(stage->n_records, 0);
}

static void ctrl_c_stops_like_sigterm(void **state)
{
    (void)state;
    start_and_wait();
    kill(master, SIGINT);
    for (int i = 0; i < WORKERS; i++)
        kill(stage->pid[i], SIGINT); /* the terminal sends it to all */
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_int_equal(stage->n_records, 0);
}

static void killed_worker_under_load_refuses_nobody(void **state)
{
    enum { KILLS = 20 };
    int n_lost = 0, n_asked = 0;

    (void)state;
    start_and_wait();
    for (int i = 0; i < KILLS; i++) {
        int pid = atomic_load(&stage->pid[i % WORKERS]);
        int64_t end_ms = scene_deadline(10000);

        kill(pid, SIGKILL);
        do { /* send_request() fails the test when the connection is refused */
            int fd[8];

            for (int j = 0; j < 8; j++)
                fd[j] = send_request("ping\n");
            for (int j = 0; j < 8; j++)
                n_lost += !read_answer(fd[j]);
            n_asked += 8;
            assert_true(clock_mono_ms() < end_ms);
        } while (atomic_load(&stage->pid[i % WORKERS]) == pid);
    }
    /* Only what a worker had accepted when it died: it works on one at a time here. */
    assert_true(n_asked >= KILLS * 8);
    assert_true(n_lost <= KILLS);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    /* Those that struck it between two calls are nobody's fault, but recorded as well. */
    assert_true(stage->n_records >= KILLS);
    assert_true(stage->worker_deaths <= KILLS);
}

static void sigkill_is_charged_to_the_plugin_that_ran(void **state)
{
    const struct record *r = &stage->record[0];
    int fd;

    (void)state;
    start_and_wait();
    fd = send_request("hang\n");
    eventually(stage->stuck > 0);
    kill(stage->stuck, SIGKILL);
    assert_false(read_answer(fd));
    eventually(stage->n_records == 1 && stage->worker_deaths == 1);
    assert_int_equal(r->plugin, 1);
    assert_int_equal(r->hook, HOOK);
    assert_int_equal(r->signo, SIGKILL);
    assert_int_equal(r->verdict, SHM_WORKER_DIED);
    assert_string_equal(r->kind, "worker_death");
    assert_string_equal(r->request, "GET /x?y \n");
    assert_int_equal(strlen(r->id), strlen("20260131T235959-123456-w3"));
    eventually(log_has("was killed by SIGKILL in plugin 'shaky', on_request, at GET /x?y; crash "
                       "record 20"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void raw_exit_in_a_plugin_is_charged_though_its_status_is_0(void **state)
{
    (void)state;
    start_and_wait();
    assert_false(ask("exit\n"));
    eventually(stage->worker_deaths == 1 && stage->n_records == 1);
    assert_int_equal(stage->record[0].signo, 0);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void last_words_of_a_worker_are_the_one_record(void **state)
{
    (void)state;
    start_and_wait();
    assert_false(ask("last words\n"));
    eventually(stage->worker_deaths == 1);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_int_equal(stage->n_records, 1);
    assert_string_equal(stage->record[0].id, "its-own");
    assert_true(log_has("crash record its-own"));
}

static void worker_that_asks_for_it_is_replaced_uncharged(void **state)
{
    int before;

    (void)state;
    start_and_wait();
    before = stage->n_starts[0] + stage->n_starts[1];
    ask("replace\n");
    eventually(stage->n_starts[0] + stage->n_starts[1] == before + 1);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_int_equal(stage->worker_deaths, 0);
    assert_int_equal(stage->n_records, 0);
}

static void graceful_stop_finishes_what_was_begun_and_the_recorder_is_last(void **state)
{
    int fd;

    (void)state;
    start_and_wait();
    fd = send_request("slow\n");
    eventually(stage->is_slow);
    kill(master, SIGTERM);
    eventually(log_has("SIGTERM: stopping"));
    assert_int_equal(stage->n_workers_at_end, -1);
    atomic_store(&stage->go, 1);
    assert_true(read_answer(fd));
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_int_equal(stage->n_workers_at_end, 0);
    assert_int_equal(scene_connect(&listener), -1);
}

static void second_signal_stops_at_once(void **state)
{
    int fd;

    (void)state;
    start_and_wait();
    fd = send_request("hang\n");
    eventually(stage->stuck > 0);
    kill(master, SIGTERM);
    eventually(log_has("SIGTERM: stopping"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED); /* drain_ms is a minute */
    assert_true(log_has("stopping at once"));
    close(fd);
}

static void sigquit_stops_at_once(void **state)
{
    int fd;

    (void)state;
    start_and_wait();
    fd = send_request("hang\n");
    eventually(stage->stuck > 0);
    kill(master, SIGQUIT);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_int_equal(stage->worker_deaths, 0);
    close(fd);
}

static void worker_that_does_not_drain_is_killed_and_named(void **state)
{
    int fd;

    (void)state;
    cfg.limits.drain_ms = 1;
    start_and_wait();
    fd = send_request("hang\n");
    eventually(stage->stuck > 0);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_true(log_has("did not finish in time (in plugin 'shaky', on_request"));
    close(fd);
}

static void worker_that_is_not_ready_stops_the_start(void **state)
{
    (void)state;
    atomic_store(&stage->refuse_ready, 1);
    start();
    assert_int_equal(wait_end(), MASTER_FAILED);
    assert_true(log_has("is not ready: plugin 'shaky' is shy; nothing was started"));
    assert_false(log_has("serving on"));
}

static void crash_before_ready_stops_the_start(void **state)
{
    (void)state;
    atomic_store(&stage->die_early, 1);
    start();
    assert_int_equal(wait_end(), MASTER_FAILED);
    assert_true(log_has("was killed by SIGSEGV in plugin 'shaky', on_request; crash record"));
    assert_true(log_has("is not ready: was killed by SIGSEGV; nothing was started"));
}

static void successor_that_is_not_ready_is_tried_again_and_again(void **state)
{
    (void)state;
    start_and_wait();
    atomic_store(&stage->refuse_ready, 1);
    kill(stage->pid[0], SIGKILL);
    eventually(log_has("worker 0 is started again in 200 ms: it was not ready"));
    assert_true(log_has("worker 0 is not ready: plugin 'shaky' is shy"));
    atomic_store(&stage->refuse_ready, 0);
    eventually(is_serving(0));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void worker_that_dies_too_often_is_started_later(void **state)
{
    (void)state;
    cfg.respawn.restarts = 3;
    start_and_wait();
    for (int i = 0; i < 4; i++)
        kill_and_wait_for_successor(0);
    assert_true(
        log_has("worker 0 is started again in 100 ms: it ended more than 3 times within 10000 ms"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void failed_preflight_starts_nothing(void **state)
{
    (void)state;
    roles.preflight = bad_preflight;
    start();
    assert_int_equal(wait_end(), MASTER_FAILED);
    assert_true(log_has("error: shaky is too shaky"));
    assert_int_equal(stage->n_starts[0], 0);
}

static void recorder_is_respawned(void **state)
{
    int before;

    (void)state;
    start_and_wait();
    eventually(stage->recorder_pid > 0);
    before = stage->recorder_pid;
    kill(before, SIGKILL);
    eventually(stage->recorder_pid != before);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_int_equal(stage->n_workers_at_end, 0);
}

/* That of this test never tells that it turns. */
static void recorder_that_stands_still_is_replaced(void **state)
{
    int before;

    (void)state;
    stuck_helper_ms = 300;
    start_and_wait();
    eventually(stage->recorder_pid > 0);
    before = stage->recorder_pid;
    eventually(stage->recorder_pid != before);
    assert_true(log_has("has not moved for 300 ms: killed"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void recorder_that_somebody_has_stopped_is_named_and_left_alone(void **state)
{
    int before;

    (void)state;
    stuck_helper_ms = 300;
    start_and_wait();
    eventually(stage->recorder_pid > 0);
    before = stage->recorder_pid;
    kill(before, SIGSTOP);
    eventually(log_has("is stopped, by a signal or a debugger"));
    assert_int_equal(stage->recorder_pid, before);
    kill(before, SIGCONT);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void sigusr1_reaches_the_recorder_and_sighup_is_survived(void **state)
{
    (void)state;
    start_and_wait();
    eventually(stage->recorder_pid > 0);
    kill(master, SIGHUP);
    kill(master, SIGUSR1);
    eventually(stage->n_reopened == 1);
    eventually(log_has("SIGHUP: no reload"));
    assert_true(ask("ping\n"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void taken_address_is_explained(void **state)
{
    pid_t first;

    (void)state;
    start_and_wait();
    first = master;
    fflush(NULL);
    master = fork();
    if (master == 0) {
        int fd = open(log_path, O_WRONLY | O_CLOEXEC | O_APPEND);

        dup2(fd, STDERR_FILENO);
        _exit(master_run(&cfg, NULL, &roles));
    }
    assert_int_equal(wait_end(), MASTER_FAILED);
    master = first;
    assert_true(log_has("test.yaml:7:3: error: listener 'test': cannot listen on"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void root_gives_its_rights_away(void **state)
{
    const struct passwd *nobody = getpwnam("nobody");
    uid_t uid = nobody != NULL ? nobody->pw_uid : 0;
    struct stat st;

    (void)state;
    if (geteuid() != 0 || uid == 0)
        skip();
    cfg.user = "nobody";
    start_and_wait();
    assert_int_equal(stage->uid, uid);
    assert_int_equal(stat(crash_dir, &st), 0);
    assert_int_equal(st.st_uid, uid);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void workers_follow_a_master_that_is_killed(void **state)
{
    int pid[WORKERS];

    (void)state;
    start_and_wait();
    for (int i = 0; i < WORKERS; i++)
        pid[i] = stage->pid[i];
    kill(master, SIGKILL);
    assert_int_equal(wait_end(), 128 + SIGKILL);
    for (int i = 0; i < WORKERS; i++)
        eventually(kill(pid[i], 0) < 0);
}

static void systemd_is_told(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 20};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char text[32] = "";

    (void)state;
    snprintf(un.sun_path, sizeof un.sun_path, "%s", notify_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setenv("NOTIFY_SOCKET", notify_path, 1);
    start();
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(recv(fd, text, sizeof text, 0), 7);
    assert_memory_equal(text, "READY=1", 7);
    kill(master, SIGTERM);
    assert_int_equal(recv(fd, text, sizeof text, 0), 10);
    assert_memory_equal(text, "STOPPING=1", 10);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    close(fd);
}

static void check_fates_after_parking(void)
{
    int idle, busy, sent, again, tls, culprit;

    idle = send_kept("idle");
    busy = send_kept("busy");
    sent = send_kept("sent");
    again = send_kept("again");
    tls = send_kept("tls");
    culprit = send_request("park\n");
    assert_string_equal(read_fate(idle), "adopted 0 0 \n");
    assert_string_equal(read_fate(busy), "adopted 2 0 \n");
    assert_string_equal(read_fate(sent), "adopted 4 0 \n");
    assert_string_equal(read_fate(again), "adopted 1 1 GET / HTTP/1.1\n");
    assert_string_equal(read_fate(tls), "adopted 5 0 \n");
    assert_memory_equal(read_fate(culprit), "adopted 3 0 20", 14); /* the record's id */
    eventually(
        log_has("worker 0: 1 idle connections move, 1 requests are run again, 2 are refused, "
                "2 cut"));
    eventually(stage->worker_deaths == 1);
    eventually(stage->n_records == 1);
}

static void start_with_one_worker(void)
{
    static const char url[] = "open http://127.0.0.1:";

    start();
    eventually(log_has(url));
    listener.addr.in.sin_port = htons((uint16_t)strtol(find_in_log(url) + strlen(url), NULL, 10));
    eventually(is_serving(0));
}

static void one_that_comes_to_yield_when_it_should_not_any_more_is_hurried(void **state)
{
    (void)state;
    cfg.n_workers = 1;
    cfg.escrow.standby = 1;
    stage->yields_late = 1;
    start_with_one_worker();
    eventually(stage->standby_pid > 0);
    assert_false(log_has("is not ready"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void connections_of_a_parked_worker_go_to_the_one_that_stood_by(void **state)
{
    int standby;

    (void)state;
    cfg.n_workers = 1;
    cfg.escrow.standby = 1;
    start_with_one_worker();
    eventually(stage->standby_pid > 0);
    standby = stage->standby_pid;
    check_fates_after_parking();
    eventually(stage->pid[0] == standby);
    eventually(stage->n_standby == 2);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void connections_of_a_parked_worker_wait_for_one_that_is_started(void **state)
{
    (void)state;
    cfg.n_workers = 1;
    start_with_one_worker();
    check_fates_after_parking();
    assert_int_equal(stage->n_starts[0], 2);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void connections_that_a_successor_did_not_live_to_take_go_to_the_next(void **state)
{
    int idle, again;

    (void)state;
    cfg.n_workers = 1;
    cfg.escrow.standby = 1;
    atomic_store(&stage->n_deaf, 1);
    start_with_one_worker();
    eventually(stage->standby_pid > 0);
    idle = send_kept("idle");
    again = send_kept("again");
    close(send_request("park\n"));
    assert_string_equal(read_fate(idle), "adopted 0 0 \n");
    assert_string_equal(read_fate(again), "adopted 1 1 GET / HTTP/1.1\n");
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

/* True: in this test the master can't. */
static bool deny_taking(void)
{
    if (geteuid() != 0 || getpwnam("nobody") == NULL)
        return false;
    has_no_ptrace = true;
    cfg.user = "nobody";
    cfg.n_workers = 1;
    cfg.escrow.standby = 1;
    return true;
}

static void parked_worker_hands_over_by_itself_where_the_master_may_not_take(void **state)
{
    (void)state;
    if (!deny_taking())
        skip();
    start_with_one_worker();
    eventually(stage->standby_pid > 0);
    check_fates_after_parking();
    assert_true(log_has("the master may not take over the connections of worker 0 (pidfd_getfd: "));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void worker_that_stands_still_does_so_too(void **state)
{
    int idle, before, stuck;

    (void)state;
    if (!deny_taking())
        skip();
    posts_stuck_ms = 300;
    start_with_one_worker();
    eventually(stage->standby_pid > 0);
    before = stage->pid[0];
    idle = send_kept("idle");
    stuck = send_request("stop turning\n");
    assert_string_equal(read_fate(idle), "adopted 0 0 \n");
    eventually(kill(before, 0) < 0);
    close(stuck);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void worker_that_asks_hands_over_when_its_successor_serves(void **state)
{
    int idle, before;

    (void)state;
    cfg.n_workers = 1;
    cfg.escrow.standby = 1;
    start_with_one_worker();
    eventually(stage->standby_pid > 0);
    before = stage->pid[0];
    idle = send_kept("idle");
    assert_true(ask("ask\n"));
    assert_string_equal(read_fate(idle), "adopted 0 0 \n");
    eventually(kill(before, 0) < 0);
    eventually(stage->pid[0] != before);
    assert_int_equal(stage->n_left, 1);
    assert_int_equal(stage->worker_deaths, 0);
    assert_true(log_has("asks to be replaced: why"));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_int_equal(stage->n_records, 0);
}

static void worker_whose_loop_stands_still_is_replaced_and_its_connections_move(void **state)
{
    int idle, before, stuck;

    (void)state;
    cfg.n_workers = 1;
    cfg.escrow.standby = 1;
    posts_stuck_ms = 300;
    start_with_one_worker();
    eventually(stage->standby_pid > 0);
    before = stage->pid[0];
    idle = send_kept("idle");
    stuck = send_request("stop turning\n");
    assert_string_equal(read_fate(idle), "adopted 0 0 \n");
    eventually(kill(before, 0) < 0);
    assert_true(log_has("has not moved for 300 ms, outside of plugins; it is replaced"));
    close(stuck);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

static void standby_that_dies_is_replaced_and_charged_to_nobody(void **state)
{
    int first;

    (void)state;
    cfg.escrow.standby = 1;
    start_and_wait();
    eventually(stage->standby_pid > 0);
    first = stage->standby_pid;
    kill(first, SIGKILL);
    eventually(stage->standby_pid != first);
    assert_true(is_serving(0) && is_serving(1));
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
    assert_int_equal(stage->worker_deaths, 0);
}

static bool is_stopped(int pid)
{
    char path[64], state = '\0';
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    f = fopen(path, "re");
    if (f == NULL || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
        state = '\0';
    if (f != NULL)
        fclose(f);
    return state == 'T';
}

static void standby_that_is_stopped_does_not_take_over(void **state)
{
    int first, before;

    (void)state;
    cfg.n_workers = 1;
    cfg.escrow.standby = 1;
    start_with_one_worker();
    eventually(stage->standby_pid > 0);
    first = stage->standby_pid;
    before = stage->pid[0];
    kill(first, SIGSTOP);
    eventually(is_stopped(first));
    kill(before, SIGKILL);
    eventually(stage->pid[0] != before && is_serving(0));
    assert_int_not_equal(stage->pid[0], first);
    kill(first, SIGCONT);
    kill(master, SIGTERM);
    assert_int_equal(wait_end(), MASTER_STOPPED);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(starts_serves_and_stops),
        TEST(ctrl_c_stops_like_sigterm),
        TEST(killed_worker_under_load_refuses_nobody),
        TEST(sigkill_is_charged_to_the_plugin_that_ran),
        TEST(raw_exit_in_a_plugin_is_charged_though_its_status_is_0),
        TEST(last_words_of_a_worker_are_the_one_record),
        TEST(worker_that_asks_for_it_is_replaced_uncharged),
        TEST(graceful_stop_finishes_what_was_begun_and_the_recorder_is_last),
        TEST(second_signal_stops_at_once),
        TEST(sigquit_stops_at_once),
        TEST(worker_that_does_not_drain_is_killed_and_named),
        TEST(worker_that_is_not_ready_stops_the_start),
        TEST(crash_before_ready_stops_the_start),
        TEST(successor_that_is_not_ready_is_tried_again_and_again),
        TEST(worker_that_dies_too_often_is_started_later),
        TEST(failed_preflight_starts_nothing),
        TEST(recorder_is_respawned),
        TEST(recorder_that_stands_still_is_replaced),
        TEST(recorder_that_somebody_has_stopped_is_named_and_left_alone),
        TEST(standby_that_is_stopped_does_not_take_over),
        TEST(sigusr1_reaches_the_recorder_and_sighup_is_survived),
        TEST(taken_address_is_explained),
        TEST(root_gives_its_rights_away),
        TEST(workers_follow_a_master_that_is_killed),
        TEST(systemd_is_told),
        TEST(one_that_comes_to_yield_when_it_should_not_any_more_is_hurried),
        TEST(connections_of_a_parked_worker_go_to_the_one_that_stood_by),
        TEST(connections_that_a_successor_did_not_live_to_take_go_to_the_next),
        TEST(connections_of_a_parked_worker_wait_for_one_that_is_started),
        TEST(parked_worker_hands_over_by_itself_where_the_master_may_not_take),
        TEST(worker_that_stands_still_does_so_too),
        TEST(worker_that_asks_hands_over_when_its_successor_serves),
        TEST(worker_whose_loop_stands_still_is_replaced_and_its_connections_move),
        TEST(standby_that_dies_is_replaced_and_charged_to_nobody),
    };

    stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stage == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests_name("master", tests, NULL, NULL);
}
