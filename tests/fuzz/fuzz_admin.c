/*
 * fuzz_admin.c - any bytes of a client of the admin interface, and what becomes of them: at the master,
 * and in the answers.
 *
 * libFuzzer. The first byte chooses who listens (an address, or a Unix socket) and how the master answers,
 * the second how the rest is cut into pieces. All of the admin process is there but its loop: visitors, the
 * wire guard, libmicrohttpd, tokens, sessions, routes, JSON. Of what comes out at the other side must hold:
 * the master is asked only what admin processes may ask, well-formed; nobody acts who did not show the
 * operators' token or session, or by a session without a page of this server; every answer is whole and
 * has its security headers; and no secret of the config is in any. Seeds: tests/fuzz/corpus/admin.
 */
/* For what an address has left of its budget, and for a session of known id. */
#include "admin/auth.c" /* NOLINT(bugprone-suspicious-include) */

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fd.h"
#include "ipc/shm.h"
#include "obs/metrics_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define OPERATOR_TOKEN   "operators-token"
#define READER_TOKEN     "readers-token"
#define OPERATOR_SESSION "operators-session"
#define READER_SESSION   "readers-session"
#define SECRET           "ThisIsTheSecret"
#define INPUT_MAX        8192
#define OUTPUT_MAX       (8u << 20)

static const char config_text[] =
    "version: 1\n"
    "listeners:\n"
    "  - {address: \"127.0.0.1:8080\"}\n"
    "plugins:\n"
    "  site: {module: respond, config: {body: hello, password: " SECRET "}}\n"
    "  hooks: {module: other, config: {hush: " SECRET ", url: \"http://u:" SECRET "@h/?key=" SECRET
    "\"}}\n"
    "routes:\n"
    "  - {match: {path: /**}, chain: [hooks, site]}\n"
    "store: {backend: redis, redis: {address: \"127.0.0.1:6379\", password: " SECRET "}}\n"
    "tracing: {endpoint: \"http://127.0.0.1:4318\", headers: {Authorization: " SECRET "}}\n"
    "crash: {dir: crashes}\n"
    "admin: {listen: \"%s\", token_file: t, hosts: [admin.example]}\n";

static const char record_text[] =
    "{\"id\":\"20260101-1\",\"time\":\"2026-01-01T00:00:00Z\",\"plugin\":\"site\",\"hook\":\"on_request\","
    "\"request\":[\"GET / HTTP/1.1\",\"Host: h\"],\"verdict\":\"R\",\"status\":500}";

static const char status_text[] =
    "{\"state\":\"serving\",\"generation\":2,\"workers\":[{\"slot\":0,\"state\":\"serving\",\"generation\":2},"
    "{\"slot\":1,\"state\":\"retiring\",\"generation\":1}],\"plugins\":[{\"name\":\"site\"},{\"name\":\"?\"}],"
    "\"reload\":null}";

/* What is wrong, for whoever looks at the crash. */
static void is_wrong(const char *what)
{
    fprintf(stderr, "fuzz_admin: %s\n", what);
    abort();
}

/* ---- two admin processes, so to speak ---- */

struct place {
    struct config *cfg;
    struct admin_view view;
    struct admin admin;
    struct session session[SESSIONS]; /* as they are at first */
    struct sockaddr_un addr;
    socklen_t addr_len;
    int master_fd;
};

static struct place by_address, by_socket;
static struct shm *shm;
static char dir[] = "/dev/shm/fuzz-admin-XXXXXX";

static bool is_hush(const void *context, int i, const char *option)
{
    (void)context;
    return i == 1 && strcmp(option, "hush") == 0;
}

__attribute__((format(printf, 2, 3))) static void write_file(const char *name, const char *fmt, ...)
{
    char path[256];
    va_list args;
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "w");
    va_start(args, fmt);
    if (f == NULL || vfprintf(f, fmt, args) < 0 || fclose(f) != 0)
        is_wrong("no file");
    va_end(args);
}

static void add_session(const struct auth *auth, struct session *s, const char *id,
                        enum admin_role role)
{
    *s = (struct session){.end_ns = INT64_MAX, .role = role};
    memcpy(s->of_token, auth->token[role].sum, sizeof s->of_token);
    if (!sum_of(id, s->sum))
        is_wrong("no digest");
}

static int listen_at(struct place *p, const char *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    p->addr.sun_family = AF_UNIX;
    p->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                              (size_t)snprintf(p->addr.sun_path + 1, sizeof p->addr.sun_path - 1,
                                               "fuzz-admin-%d-%s", (int)getpid(), name));
    if (fd < 0 || bind(fd, (struct sockaddr *)&p->addr, p->addr_len) < 0 || listen(fd, 8) < 0)
        is_wrong("no socket");
    return fd;
}

static void open_place(struct place *p, const char *name, const char *listen_text, bool has_tokens)
{
    struct admin_seat seat = {.keys_fd = -1, .sessions_fd = memfd_create("sessions", MFD_CLOEXEC)};
    static const struct admin_plugin plugins[2] = {{.version = "1", .hooks = "on_request"}};
    struct admin *a = &p->admin;
    struct diag diag;
    char path[256];
    int pair[2];

    write_file(name, config_text, listen_text);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    diag_init(&diag);
    if (config_load(path, &diag, &p->cfg) < 0)
        is_wrong(diag.n > 0 ? diag.item[0].what : "no config");
    diag_fini(&diag);
    p->view = (struct admin_view){.cfg = p->cfg, .plugin = plugins, .is_secret = is_hush};
    if (has_tokens) {
        seat.operator_token.is_set = seat.reader_token.is_set = true;
        sum_of(OPERATOR_TOKEN, seat.operator_token.sum);
        sum_of(READER_TOKEN, seat.reader_token.sum);
    }
    if (ftruncate(seat.sessions_fd, ADMIN_SESSIONS_SIZE) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        is_wrong("no descriptors");
    *a = (struct admin){.view = &p->view, .cfg = p->cfg, .shm = shm};
    p->master_fd = pair[1];
    ask_init(&a->asker, pair[0]);
    if (auth_create(&p->view, &seat, &a->auth) < 0 || visitors_open(a, listen_at(p, name)) < 0 ||
        http_open(a) < 0)
        is_wrong("it does not open");
    add_session(a->auth, &p->session[0], OPERATOR_SESSION, ADMIN_OPERATOR);
    add_session(a->auth, &p->session[SESSIONS / 2], READER_SESSION, ADMIN_READER);
}

static void remove_files(void)
{
    static const char *const names[] = {"crashes/20260101-1.json", "crashes", "address", "socket",
                                        ""};
    char path[256];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        remove(path);
    }
}

static void open_both(void)
{
    char path[256];

    if (mkdtemp(dir) == NULL || shm_create(2, 2, &shm) < 0)
        is_wrong("no room");
    atexit(remove_files);
    snprintf(path, sizeof path, "%s/crashes", dir);
    mkdir(path, 0700);
    write_file("crashes/20260101-1.json", "%s", record_text);
    log_open("/dev/null", LOG_DEBUG, LOG_JSON);
    events_init();
    open_place(&by_address, "address", "127.0.0.1:9900", true);
    open_place(&by_socket, "socket", "unix:admin.sock", false);
}

/* As if nobody had come yet. */
static void forget_all(struct place *p)
{
    struct auth *auth = p->admin.auth;

    memset(auth->client, 0, sizeof auth->client);
    for (int i = 0; i <= ADMIN_OPERATOR; i++)
        auth->budget[i] = (struct budget){.requests = BURST};
    memcpy(auth->session, p->session, sizeof p->session);
    free(p->admin.status.text);
    p->admin.status.text = NULL;
}

/* ---- the master ---- */

struct input {
    const uint8_t *data;
    size_t n;
    unsigned mood;
};

static bool has(const struct input *in, const char *text)
{
    return memmem(in->data, in->n, text, strlen(text)) != NULL;
}

static bool has_either_case(const struct input *in, const char *text)
{
    for (size_t i = 0; i + strlen(text) <= in->n; i++)
        if (strncasecmp((const char *)in->data + i, text, strlen(text)) == 0)
            return true;
    return false;
}

static void check_question(const struct place *p, const struct input *in,
                           const struct control_request *q, const char *text)
{
    bool acts = true;
    json_t *json;

    switch (q->command) {
    case CONTROL_STATUS:
    case CONTROL_RELOAD_RESULT:
    case CONTROL_ROLLOUT_STATUS:
    case CONTROL_ALERTS: acts = false; break;
    case CONTROL_EVENTS: acts = false; break;
    case CONTROL_RECYCLE:
        if (q->argument < -1 || q->argument > 65535)
            is_wrong("a worker that there cannot be");
        break;
    case CONTROL_RELOAD:
        if ((q->argument & ~1) != 0)
            is_wrong("a reload with flags that it has not");
        break;
    case CONTROL_BREAKER:
        if (q->argument >> 8 < 1 || q->argument >> 8 > 2 ||
            (q->argument & 0xff) > CONTROL_BREAKER_OPEN)
            is_wrong("a breaker of no plugin");
        break;
    case CONTROL_LOG_LEVEL:
        acts = q->argument != -1;
        if (acts && (q->argument < 0 || q->argument >> 8 > 2 || (q->argument & 0xff) > LOG_DEBUG))
            is_wrong("a level that there is not");
        break;
    case CONTROL_ROLLOUT_START:
        json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(json) || json_string_value(json_object_get(json, "by")) == NULL)
            is_wrong("a rollout that is no object");
        if (json_string_value(json_object_get(json, "module")) != NULL &&
            strchr(json_string_value(json_object_get(json, "module")), '/') != NULL)
            is_wrong("a rollout of a path");
        json_decref(json);
        break;
    case CONTROL_ROLLOUT_DO:
        if (q->argument < 0 || q->argument > CONTROL_ROLLOUT_BACK)
            is_wrong("an action that there is not");
        break;
    default: is_wrong("a command that is none of the admin process's");
    }
    if (q->command != CONTROL_ROLLOUT_START && q->command != CONTROL_ROLLOUT_DO && q->text_len > 0)
        is_wrong("a text where none belongs");
    if (!acts || p == &by_socket)
        return;
    if (has(in, OPERATOR_TOKEN))
        return;
    if (!has(in, OPERATOR_SESSION))
        is_wrong("somebody acts who is no operator");
    if (!has_either_case(in, "\norigin:") && !has_either_case(in, "\nsec-fetch-site:"))
        is_wrong("a cookie alone acts");
}

static void answer_question(const struct place *p, unsigned mood, const struct control_request *q)
{
    static const int results[] = {0, -EBUSY, -ENOENT, -EOPNOTSUPP};
    struct control_reply reply = {
        .magic = CONTROL_MAGIC, .version = CONTROL_VERSION, .result = results[mood & 3]};
    const char *text = q->command == CONTROL_STATUS   ? status_text
                       : q->command == CONTROL_EVENTS ? "{\"events\":[{\"number\":7}],\"last\":7}"
                       : q->command == CONTROL_ROLLOUT_DO ? "{\"error\":\"no\",\"is_input\":false}"
                       : q->command == CONTROL_RELOAD     ? "{\"id\":3}"
                       : q->command == CONTROL_BREAKER    ? ""
                                                          : "{\"says\":\"yes\"}";

    if (reply.result == 0 && (mood & 4) == 0)
        reply.text_len = (uint32_t)strlen(text);
    if (send(p->master_fd, &reply, sizeof reply, 0) != sizeof reply ||
        send(p->master_fd, text, reply.text_len, 0) != (ssize_t)reply.text_len)
        is_wrong("the answer does not fit");
}

/* As master/control.c reads it; each question is whole at once, being small. */
static void be_master(const struct place *p, const struct input *in)
{
    static char text[CONTROL_ASK_MAX + 1];
    struct control_request q;
    ssize_t n;

    while ((n = recv(p->master_fd, &q, sizeof q, MSG_DONTWAIT)) > 0) {
        if (n != sizeof q || q.magic != CONTROL_MAGIC || q.version != CONTROL_VERSION ||
            q.text_len > CONTROL_ASK_MAX)
            is_wrong("no question");
        if (recv(p->master_fd, text, q.text_len, q.text_len > 0 ? MSG_WAITALL : MSG_DONTWAIT) !=
                (ssize_t)q.text_len &&
            q.text_len > 0)
            is_wrong("half a question");
        text[q.text_len] = '\0';
        check_question(p, in, &q, text);
        answer_question(p, in->mood, &q);
    }
}

/* ---- the client ---- */

static char output[OUTPUT_MAX + 1];
static size_t n_output;

static bool collect(int fd)
{
    ssize_t n;

    do {
        n = recv(fd, output + n_output, OUTPUT_MAX - n_output, MSG_DONTWAIT);
        if (n > 0)
            n_output += (size_t)n;
    } while (n > 0 && n_output < OUTPUT_MAX);
    output[n_output] = '\0';
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void turn(struct place *p, const struct input *in, int fd, int64_t now_ms)
{
    struct admin *a = &p->admin;

    for (int i = 0; i < 4; i++) {
        visitors_accept(a);
        ask_run(&a->asker);
        be_master(p, in);
        ask_run(&a->asker);
        http_run(a);
        events_tick(a, now_ms);
        visitors_run(a);
    }
    if (fd >= 0)
        collect(fd);
}

static const char *field(const char *head, const char *end, const char *name)
{
    for (const char *p = head; p != NULL && p < end; p = strstr(p, "\r\n")) {
        p += p == head ? 0 : 2;
        if (strncasecmp(p, name, strlen(name)) == 0 && p[strlen(name)] == ':')
            return p + strlen(name) + 2;
        if (p == head)
            p++;
    }
    return NULL;
}

/* Requests without bodies in their answers, and those that were cut off, are not told apart here. */
static void check_output(const struct input *in)
{
    const char *p = output;
    bool has_head = has(in, "HEAD");

    if (memmem(output, n_output, SECRET, strlen(SECRET)) != NULL && !has(in, SECRET))
        is_wrong("a secret is told");
    while (*p != '\0' && !has_head) {
        const char *end = strstr(p, "\r\n\r\n"), *length, *type;
        size_t n;

        if (strncmp(p, "HTTP/1.", 7) != 0)
            is_wrong("no answer");
        if (end == NULL)
            return;
        if (strncmp(p + 8, " 100", 4) == 0) {
            p = end + 4;
            continue;
        }
        if (field(p, end, "Content-Security-Policy") == NULL ||
            field(p, end, "X-Content-Type-Options") == NULL)
            is_wrong("an answer without its security headers");
        length = field(p, end, "Content-Length");
        type = field(p, end, "Content-Type");
        if (length == NULL)
            return; /* a stream */
        n = strtoul(length, NULL, 10);
        p = end + 4;
        if (n > n_output - (size_t)(p - output))
            return;
        if (type != NULL && strncmp(type, "application/", 12) == 0 && n > 0) {
            json_t *json = json_loadb(p, n, JSON_DECODE_ANY, NULL);

            if (json == NULL)
                is_wrong("an answer that is no JSON");
            json_decref(json);
        }
        p += n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int64_t later_ms = clock_mono_ms() + 3600 * 1000;
    struct input in = {.data = data};
    struct place *p;
    size_t step;
    int fd;

    if (shm == NULL)
        open_both();
    if (n < 2 || n > INPUT_MAX)
        return 0;
    p = (data[0] & 1) != 0 ? &by_socket : &by_address;
    in.mood = data[0] >> 1;
    step = data[1] == 0 ? n : 1u + data[1] * 16u;
    in.data = data += 2;
    in.n = n -= 2;
    forget_all(p);
    n_output = 0;
    output[0] = '\0';

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&p->addr, p->addr_len) < 0)
        is_wrong("nobody is there");
    for (size_t at = 0; at < n; at += step) {
        (void)send(fd, data + at, step < n - at ? step : n - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        turn(p, &in, fd, later_ms);
    }
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 3; i++)
        turn(p, &in, fd, later_ms);
    check_output(&in);
    close(fd);
    for (int i = 0; p->admin.n_visitors > 0; i++) { /* streams end when their time is over */
        turn(p, &in, -1, later_ms + i * 3600 * 1000);
        if (i > 100)
            is_wrong("a connection that does not end");
    }
    if (p->admin.n_open != 0)
        is_wrong("a request that does not end");
    return 0;
}
