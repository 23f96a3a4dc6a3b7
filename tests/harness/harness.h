/*
 * harness.h - starts the real binary for a cmocka test, talks to it over raw sockets, and looks at
 * what it left behind: its log, its worker processes, its crash records.
 *
 * Nothing here sleeps and hopes: whatever has to be waited for is polled for with a deadline. When
 * something goes wrong these functions print the tail of the server's log and fail the running test,
 * so their results need no checks. What a failed test leaves running is ended when the test
 * executable exits, or dies.
 *
 *     static void a_crash_costs_one_request(void **state)
 *     {
 *         struct server *srv = server_start("listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
 *                                           "modules: {path: [@PLUGINS@]}\n" ...);
 *         struct response *res = server_get(srv, "/boom");
 *
 *         assert_int_equal(res->status, 500);
 *         response_free(&res);
 *         assert_int_equal(server_stop(&srv), 0);
 *     }
 *
 * From the environment, set by the Makefile, absolute paths: BULKHEAD (the binary), BULKHEAD_PLUGINS
 * (the folder of the plugins), BULKHEAD_MODULES (of tests/plugins), BULKHEAD_SDK (sdk/).
 * BULKHEAD_TEST_SCALE multiplies every deadline: sanitizers and valgrind are slow.
 * BULKHEAD_KEEP=1 keeps the temporary folders and says where they are.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <setjmp.h>

#include <cmocka.h>

/* ---- Deadlines ------------------------------------------------------------------------------- */

enum { HARNESS_WAIT_MS = 30000 }; /* for everything, times BULKHEAD_TEST_SCALE */

/* A sanitizer keeps freed memory for a while: what a process has says nothing then. */
bool harness_is_sanitized(void);

int64_t harness_now_ms(void);                    /* monotonic */
int64_t harness_deadline_ms(int64_t timeout_ms); /* now + timeout, scaled */
bool harness_pause(int64_t deadline_ms);         /* 5 ms between two polls; false: it is too late */

/* eventually(cond): polls until cond holds, and fails the test if it does not in time. */
#define eventually(cond)                                                           \
    do {                                                                           \
        int64_t eventually_end_ = harness_deadline_ms(HARNESS_WAIT_MS);            \
                                                                                   \
        while (!(cond)) {                                                          \
            if (!harness_pause(eventually_end_))                                   \
                harness_fail(__FILE__, __LINE__, "%s", "never came true: " #cond); \
        }                                                                          \
    } while (0)

/* Prints the log tails of all running servers, then fails the test. */
void harness_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* ---- Files and commands ---------------------------------------------------------------------- */

/* A new folder, removed with all its content at exit. The caller frees the string. */
char *tmp_dir(void);

/* Whole files; the caller frees, the bytes are followed by a NUL. read: NULL when there is none. */
char *file_read(const char *path);
void file_write(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Runs a shell command. Its stdout and stderr, together, go to *out (freed by the caller; out may
 * be NULL). Exit code, or 128 + signal. */
int run_command(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Compiles C source to DIR/NAME.so against sdk/include, warnings off. Returns the path, freed by the
 * caller. */
char *plugin_build(const char *dir, const char *name, const char *source);

/* A port of 127.0.0.1 that is free now, and that no other test is given while *claim_fd, closed by the caller,
 * is open. */
int free_port_claimed(int *claim_fd);

/* ---- The server ------------------------------------------------------------------------------ */

struct server {
    pid_t pid;       /* the master; 0 once it is reaped */
    int port[8];     /* what @PORT@, @PORT1@ ... @PORT7@ became */
    char *dir;       /* @DIR@: everything of this server; it is its working folder, too, and its
                       RUNTIME_DIRECTORY */
    char *config;    /* DIR/bulkhead.yaml */
    char *log;       /* DIR/server.log: stdout and stderr */
    int status;      /* as from waitpid, once pid is 0 */
    int reserve_fd;  /* keeps everybody else from being given port[0] */
    int claim_fd[8]; /* keep other tests from being given these ports */
    struct server *next;
};

/*
 * Writes the config from a printf template, starts `bulkhead run -c` with it, and returns when
 * @PORT@ accepts connections. Replaced, after formatting: @PORT@ and @PORT1@..@PORT7@ by free ports
 * (chosen anew when one was taken after all), @DIR@, @PLUGINS@, @MODULES@, @SDK@ by folders.
 */
struct server *server_start(const char *config, ...) __attribute__((format(printf, 1, 2)));
/* The same in a folder of the caller's, in which plugins or files may have been put before. */
struct server *server_start_in(const char *dir, const char *config, ...)
    __attribute__((format(printf, 2, 3)));
/* One that has ended, once more: with the same config, folder and ports; its log goes on. */
void server_start_again(struct server *srv);
/* Replaces the config file, with the same ports. Telling the server is the caller's business. */
void server_rewrite_config(struct server *srv, const char *config, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * SIGTERM, then waits for the end, frees, and clears *srvp. Returns the exit code, or 128 + signal.
 * Fails the test when the server does not end, or when a sanitizer reported something to its log.
 */
int server_stop(struct server **srvp);
/* Waits for the end of a server that was sent a signal otherwise. Result as above, nothing freed. */
int server_wait_exit(struct server *srv);
bool server_is_running(struct server *srv);

/* The log as of now (freed by the caller); waiting until a text stands in it. */
char *server_log(const struct server *srv);
void server_wait_log(const struct server *srv, const char *text);

/* The master's children whose command line or thread name contains `kind` (NULL: all). At most max
 * go to pids (may be NULL, with max 0); returns how many there are. */
size_t server_children(const struct server *srv, const char *kind, pid_t *pids, size_t max);

/* Waits until the worker that stands by has loaded the plugins, and is ready: it is there before that. */
void server_wait_standby(const struct server *srv);

/* How often a limit has struck: a counter of `bulkhead status --json`, under "limits". */
long long server_limit(const struct server *srv, const char *name);

/* Crash records: the *.json in DIR/crashes. */
size_t server_crash_count(const struct server *srv);
/* Waits for the nth (from 0, oldest first) and returns its text, freed by the caller. */
char *server_crash_record(const struct server *srv, size_t nth);

/* ---- HTTP ------------------------------------------------------------------------------------ */

struct header {
    char *name;
    char *value;
};

struct response {
    int status;      /* 0: the connection was closed without an answer */
    char *head;      /* status line and headers as received */
    char *body;      /* chunked coding undone; a NUL follows */
    size_t body_len; /* of what arrived */
    struct header *headers;
    size_t n_headers;
    bool truncated; /* closed before the whole body, or the whole head, was there */
    bool closed;    /* the server closed the connection after this response, as far as one can see:
                       it said so, or end of file was reached */
};

void response_free(struct response **resp);
/* The first header of that name, in any case; NULL when there is none. */
const char *response_header(const struct response *res, const char *name);

/* A connection; what was received beyond a response is kept for the next. */
struct conn;

struct conn *conn_open(int port);
struct conn *conn_open_unix(const char *path);
void conn_close(struct conn **connp);
int conn_fd(const struct conn *conn);

/* Exactly these bytes. A connection that the peer has closed is no failure: reading will tell. */
void conn_send(struct conn *conn, const void *bytes, size_t n);
void conn_sendf(struct conn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* No more will be sent. */
void conn_shutdown(struct conn *conn);

/* Reads one response. `method` is what was asked: HEAD has no body. 1xx are skipped. */
struct response *conn_response(struct conn *conn, const char *method);
/* Sends a request with Host, the extra header lines (each ended by \r\n; NULL: none) and, when body
 * is not NULL, Content-Length, then reads the response. The connection stays open for the next. */
struct response *conn_request(struct conn *conn, const char *method, const char *target,
                              const char *extra_headers, const void *body, size_t body_len);
/* Waits for the peer to close. Everything received until then; freed by the caller. */
char *conn_read_all(struct conn *conn, size_t *n);
/* True when the connection stands: not closed by the peer, nothing unread. */
bool conn_is_idle(struct conn *conn);

/* One request on a connection of its own, to port[0]. */
struct response *server_get(struct server *srv, const char *target);
struct response *server_request(struct server *srv, const char *method, const char *target,
                                const char *extra_headers, const void *body, size_t body_len);

#endif
