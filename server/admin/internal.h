/*
 * internal.h - what the files of the admin process share.
 */
#ifndef ADMIN_INTERNAL_H
#define ADMIN_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "admin/admin.h"
#include "base/address.h"
#include "base/list.h"
#include "http/guard.h" /* which knows nothing of the rest of http/ */
#include "ipc/admin.h"
#include "ipc/control.h"

struct MHD_Connection;
struct MHD_Daemon;
struct MHD_Response;

#define ADMIN_CONNECTIONS 128
#define ADMIN_SPARE       32    /* that end, but that the library has not let go of */
#define ADMIN_HEAD        16384 /* bytes of a request's line and headers */
#define ADMIN_FIELDS      64
#define ADMIN_BODY        65536 /* bytes */
#define ADMIN_QUESTIONS   64    /* that may wait for the master */

struct admin;
struct request;

/* ---- ask.c: the master ---- */

/* result: 0 or -errno, -ETIMEDOUT and -EPIPE among them; text: JSON or NULL, gone after the call. */
typedef void ask_answer(void *arg, int result, const char *text);

struct question {
    ask_answer *answer;
    void *arg;
    int64_t until_ms;
    size_t length; /* of what is sent: */
    struct control_request head;
    char text[]; /* head.text_len bytes; right behind it */
};

struct asker {
    int fd;                                    /* -1: the master is gone */
    struct question *waiting[ADMIN_QUESTIONS]; /* a ring */
    int first, n_waiting;
    struct question *current; /* has been sent, at least in part */
    bool has_news;            /* CONTROL_IS_NEWS: to be set back by who asks for them */
    bool is_given_up;         /* its answer, when it comes, is nobody's */
    size_t n_sent;
    struct control_reply reply;
    char *text;
    size_t n_received;
};

void ask_init(struct asker *k, int fd);
/* text: NULL or what goes with it, at most CONTROL_ASK_MAX. answer() is called later, never from in here. -EAGAIN: too many are waiting; -EPIPE; -ENOMEM. */
int ask(struct asker *k, enum control_command command, int argument, const char *text,
        ask_answer *answer, void *arg);
/* There may be something to read or to write. */
void ask_run(struct asker *k);
void ask_tick(struct asker *k, int64_t now_ms);
bool ask_wants_room(const struct asker *k);

/* ---- visitor.c: connections ---- */

#define VISITOR_PIECE 16384 /* bytes on their way, in either direction */

enum visitor_phase {
    VISITOR_HANDSHAKE, /* of TLS */
    VISITOR_OPEN,
    VISITOR_LINGERS, /* all was said; until the client has gone, too */
    VISITOR_GONE,    /* its descriptors are closed; the library may not know it yet */
};

enum visitor_state { VISITOR_HEAD, VISITOR_REQUEST, VISITOR_STREAM };

struct host {           /* a client address, or a user at a Unix socket */
    struct address who; /* without port; of IPv6 the /64 */
    int n;              /* its connections; 0: free */
};

struct visitor {
    struct list node;
    struct admin *admin;
    struct host *host;
    int fd;                          /* the client's */
    int inner_fd;                    /* the library has the other end of it; -1: closed */
    uint32_t watched, inner_watched; /* EPOLL* */
    enum visitor_phase phase;
    enum visitor_state state;
    int64_t due_ms;      /* HANDSHAKE, LINGERS, HEAD, REQUEST: ended then */
    int64_t send_due_ms; /* by then so much of what waits must have gone out; 0: nothing waits */
    size_t n_sent;       /* since that was set */
    struct guard guard;
    uint32_t n_begun;   /* requests that the library has begun */
    bool is_in_library; /* it holds a pointer to this */
    bool is_known;      /* whoever sends the request that is worked on has a role */
    bool is_waiting;    /* that request waits for the master */
    bool is_cut;        /* the last answer is not whole */
    bool has_ended;     /* the client's side */
    bool inner_is_deaf; /* the library reads no more */
    struct seal *seal;  /* NULL: plain text */
    size_t in_at, in_n, out_at, out_n;
    char in[VISITOR_PIECE], out[VISITOR_PIECE];
};

int visitors_open(struct admin *a, int listen_fd);
void visitors_accept(struct admin *a);
/* Is anybody to be answered, or has not all of an answer? counts_fresh: who has not asked yet counts. */
bool visitors_are_waited_for(const struct admin *a, bool counts_fresh);
/* Moves what can be moved. */
void visitors_run(struct admin *a);
void visitors_tick(struct admin *a, int64_t now_ms);
/* At once, without another word. Not to be used after. */
void visitor_cut(struct visitor *v);
/* The library has forgotten it. */
void visitor_release(struct visitor *v);
/* Why the request that the library began last is refused; REFUSAL_NONE: it is not. */
enum http_refusal visitor_refusal(const struct visitor *v);

/* ---- relay.c: bytes, under visitor.c ---- */

#define RELAY_SEND_MS 10000 /* that much more time, when a client takes nothing (send_due_ms) */

/* Both ways, what can be moved. -errno: the connection is broken. *is_over: set when the library has closed, and
 * all that it had to say went out. */
int relay_move(struct visitor *v, int64_t now_ms, bool *is_over);
bool relay_wants_input(const struct visitor *v);
/* Its request is refused for another reason than the guard's own. */
void relay_refuse(struct visitor *v, enum http_refusal why);

/* ---- seal.c: TLS, under relay.c ---- */

struct seal;
struct tls_set;
/* NULL: no memory. */
struct seal *seal_create(struct tls_set *set, int fd);
void seal_destroy(struct seal **seal);
/* 1: done; 0: not yet; -EPROTO: it failed, and the client was told. */
int seal_shake_hands(struct seal *s);
bool seal_wants_to_write(const struct seal *s);
/* As recv() and send(), but -errno; -EAGAIN: not now. A send that was put off is repeated as it was. */
ssize_t seal_recv(struct seal *s, void *buf, size_t size);
ssize_t seal_send(struct seal *s, const void *buf, size_t size);
/* Nothing more is said. */
void seal_bye(struct seal *s);

/* ---- http.c: requests ---- */

struct request {
    struct admin *admin;
    struct MHD_Connection *mhd;
    struct visitor *visitor;
    char method[16];
    char path[512]; /* decoded */
    enum admin_role role;
    bool is_by_cookie;
    bool has_wrong_token, has_wrong_scheme; /* in its Authorization */
    char *body;                             /* NUL-terminated; NULL: none */
    size_t body_len;
    bool is_too_large;
    bool is_suspended;
    struct MHD_Response *response; /* ready to be sent, with this status */
    unsigned status;
    char argument[256]; /* what stands for {...} in the path of its route */
    void *context;      /* of the handler's; freed with free() */
};

int http_open(struct admin *a);
int http_poll_fd(const struct admin *a);
/* The library gets its end of a connection; 0 or -errno, and then it is closed. */
int http_add(struct visitor *v, int library_fd);
/* Lets the library work; the time until it wants to again, in ms, or -1. */
int http_run(struct admin *a);

/* A header of the request; NULL: none. */
const char *request_header(const struct request *req, const char *name);
/* All Cookie fields are one: the first. */
const char *request_cookie(const struct request *req);
const char *request_query(const struct request *req, const char *name);
/* It is answered later: request_resume() once it has a reply. */
void request_suspend(struct request *req);
void request_resume(struct request *req);

/* One of these for each request. JSON and bodies are taken over. */
void reply_json(struct request *req, unsigned status, json_t *json);
void reply_text(struct request *req, unsigned status, const char *type, char *text, size_t n);
void reply_static(struct request *req, const char *type, const void *p, size_t n, const char *etag);
void reply_empty(struct request *req, unsigned status);
/* RFC 9457. title: short, the same for all of its kind; detail: about this one. */
__attribute__((format(printf, 4, 5))) void reply_problem(struct request *req, unsigned status,
                                                         const char *title, const char *detail,
                                                         ...);
struct MHD_Response;
void reply_response(struct request *req, unsigned status, struct MHD_Response *response,
                    const char *type);
void reply_master_failed(struct request *req, int result);
/* One more header for a reply that is there. */
void reply_header(struct request *req, const char *name, const char *value);

/* ---- auth.c: who may do what ---- */

struct auth;
int auth_create(const struct admin_view *view, const struct admin_seat *seat, struct auth **out);
/* May this request be looked at at all? Host, origin, and, of those who show no right token, rate.
 * False: it has its reply. */
bool auth_admit(struct auth *auth, struct request *req, int64_t now_ms);
/* Who asks: req->role. False: a wrong token; it has its reply. */
bool auth_identify(struct auth *auth, struct request *req, int64_t now_ms);
/* A browser logs in with a token, and out. */
void auth_login(struct auth *auth, struct request *req, const char *token, int64_t now_ms);
void auth_logout(struct auth *auth, struct request *req);
const char *auth_role_name(enum admin_role role);

/* ---- api.c ---- */

/* The request is whole, and its sender known. */
void api_handle(struct request *req);

struct api_route {
    const char *method, *path; /* "/api/v1/crashes/{id}" */
    enum admin_role role;      /* at least */
    void (*handle)(struct request *req);
};

extern const struct api_route api_routes[]; /* ends with method NULL */

/* ---- handlers ---- */

void get_status(struct request *req);   /* status.c */
void get_plugins(struct request *req);  /* plugins.c */
void get_config(struct request *req);   /* config.c */
void get_crashes(struct request *req);  /* crashes.c */
void get_crash(struct request *req);    /* crashes.c */
void get_healthz(struct request *req);  /* health.c */
void get_readyz(struct request *req);   /* health.c */
void get_session(struct request *req);  /* session.c */
void post_session(struct request *req); /* session.c */
void delete_session(struct request *req);
void post_workers_recycle(struct request *req); /* actions.c, as are these */
void post_worker_recycle(struct request *req);
void post_reload(struct request *req);
void get_reload(struct request *req);
void post_breaker(struct request *req);
void get_alerts(struct request *req);
void get_log_level(struct request *req);
void put_log_level(struct request *req);
void get_rollout(struct request *req); /* rollout.c */
void post_rollout(struct request *req);
void post_rollout_action(struct request *req);
void get_history(struct request *req);     /* events.c */
void get_generations(struct request *req); /* plugins.c */
void get_events(struct request *req);      /* events.c */
void get_openapi(struct request *req);     /* assets.c */
void get_index(struct request *req);
void get_asset(struct request *req);

void get_metrics(struct request *req); /* numbers.c */

/* ---- numbers.c ---- */

/* What the last second was like, as JSON; malloc'd. NULL: this is the first look, or no memory. */
char *numbers_text(struct admin *a, int64_t now_ms);

/* ---- events.c ---- */

void events_init(void);
void events_tick(struct admin *a, int64_t now_ms);
/* Streams of browsers end; those that are still logged in come again. */
void events_end_sessions(void);

/* ---- actions.c ---- */

/* The body, an object; NULL: it is none, and there is a reply. The caller decrefs. */
json_t *request_json(struct request *req);
/* Asks the master; answer(req, ...) has to reply and to resume. */
void request_ask(struct request *req, enum control_command command, int argument,
                 ask_answer *answer);
/* The same with a text, which is copied. */
void request_ask_with(struct request *req, enum control_command command, int argument,
                      const char *text, ask_answer *answer);

/* The master's status, at most 200 ms old: answer() may be called at once. */
void status_ask(struct admin *a, ask_answer *answer, void *arg);

/* The same for a request, which may be suspended meanwhile: answer(req, ...) has to reply, and to
 * resume it if it is. */
void request_await_status(struct request *req, ask_answer *answer);

/* Summaries of the latest crash records; *n_all: how many there are. */
json_t *crashes_json(const struct config *cfg, int limit, int *n_all);

/* The place of a plugin in the config, from 1; 0: there is none. */
int plugin_place(const struct config *cfg, const char *name);

/* The config as it is in force, without secrets. NULL: no memory. */
json_t *config_json(const struct admin_view *view);

/* Routes that are answered 503 as long as a breaker is open; *n_routes: of all. */
int health_count_blocked(const struct admin *a, int *n_routes);

/* ---- admin.c ---- */

struct status_waiter {
    ask_answer *answer;
    void *arg;
};

struct admin {
    const struct admin_view *view;
    const struct config *cfg;
    const struct shm *shm;
    int listen_fd, epoll_fd, signal_fd, relay_fd;
    struct MHD_Daemon *daemon;
    struct tls_set *tls;  /* NULL: it speaks none */
    char hsts[64];        /* Strict-Transport-Security; "": none */
    struct list visitors; /* longest there first */
    int n_visitors;
    struct host host[ADMIN_CONNECTIONS + ADMIN_SPARE];
    struct visitor *arriving; /* being given to the library */
    int n_open;               /* requests that are not answered yet */
    bool is_ending;
    struct asker asker;
    struct auth *auth;
    struct {
        char *text;
        int64_t at_ms;
        bool is_asked;
        struct status_waiter waiter[ADMIN_CONNECTIONS];
        int n_waiters;
    } status;
};

#endif
