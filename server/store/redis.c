#include "store/redis.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/must.h"

#if __has_include(<hiredis/hiredis.h>)
#include <hiredis/hiredis.h>

#include "store/redis_protocol.h"
#define HAS_HIREDIS 1
#else
#define HAS_HIREDIS 0
#endif

#if HAS_HIREDIS

#define PAUSE_FIRST_MS 100
#define PAUSE_LAST_MS  10000
#define LOOK_MS        5 /* between two looks at a name that is being looked up */
#define NS_PER_MS      1000000ll
#define SHA            40
/* What an answer may be at most; values of ours have 63,000 bytes, arrays two or three elements. At the
 * other end is a network: a loop must not read, nor keep, what somebody sends there without end. */
#define REPLY_MAX (1u << 20)
#define READS_MAX 16 /* in one turn, of 64 KiB */

enum state { DOWN, CONNECTING, LOGGING_IN, UP };

#define NO_SCRIPT  (-1)
#define WHAT_IT_IS (-2) /* its own description */

struct command { /* waits for its answer */
    struct command *next;
    redis_done *done; /* NULL: part of the log-in */
    void *arg;
    int64_t due_ns;
    int script; /* whose hash comes; or one of these */
};

struct redis {
    const struct redis_options *o;
    struct link *link;
    redisReader *reader;
    size_t partial; /* bytes that came since the last whole answer */
    bool has_more;  /* the loop's turn was over before all had been read */
    enum state state;
    bool was_told; /* that it is down */
    int64_t retry_ns;
    uint32_t pause_ms;
    char sha[REDIS_SCRIPTS][SHA + 1];
    struct command *first, **last;
    int n_queued;
    char *out; /* not sent yet, from out_at on */
    size_t out_n, out_at, out_cap;
    char *held; /* commands that came before the log-in was done */
    size_t held_n, held_cap;
    struct command *held_first, **held_last;
    char why[300];
    void (*tell)(bool is_up, const char *why);
};

static struct command *command_new(redis_done *done, void *arg, int64_t due_ns)
{
    struct command *c = calloc(1, sizeof *c);

    if (c != NULL)
        *c = (struct command){.done = done, .arg = arg, .due_ns = due_ns, .script = NO_SCRIPT};
    return c;
}

static void queue(struct command ***last, struct command *c)
{
    **last = c;
    *last = &c->next;
}

/* ---- up and down ---- */

static void drop_all(struct redis *r, struct command *c, int error)
{
    struct command *next;

    for (; c != NULL; c = next) {
        next = c->next;
        if (c->done != NULL) {
            r->n_queued--;
            c->done(c->arg, error, NULL);
        }
        free(c);
    }
}

__attribute__((format(printf, 4, 5))) static void go_down(struct redis *r, int64_t now_ns,
                                                          int error, const char *fmt, ...)
{
    struct command *first = r->first, *held = r->held_first;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(r->why, sizeof r->why, fmt, ap);
    va_end(ap);
    link_close(&r->link);
    if (r->reader != NULL)
        redis_hi.destroy(r->reader);
    r->reader = NULL;
    r->partial = 0;
    r->has_more = false;
    r->state = DOWN;
    r->pause_ms = r->pause_ms == 0                  ? PAUSE_FIRST_MS
                  : r->pause_ms * 2 > PAUSE_LAST_MS ? PAUSE_LAST_MS
                                                    : r->pause_ms * 2;
    r->retry_ns = now_ns + r->pause_ms * NS_PER_MS;
    r->first = r->held_first = NULL;
    r->last = &r->first;
    r->held_last = &r->held_first;
    r->out_n = r->out_at = r->held_n = 0;
    if (!r->was_told && r->tell != NULL)
        r->tell(false, r->why);
    r->was_told = true;
    drop_all(r, first, error);
    drop_all(r, held, error == -ETIMEDOUT ? -ENOTCONN : error);
}

static void begin(struct redis *r, int64_t now_ns)
{
    r->link = link_open(&r->o->link);
    r->reader = redis_reader_open();
    r->state = CONNECTING;
    r->retry_ns = now_ns + r->o->timeout_ms * NS_PER_MS; /* has to be up by then */
    if (r->link == NULL || r->reader == NULL)
        go_down(r, now_ns, -ENOTCONN, "out of memory");
}

static bool say(struct redis *r, int64_t due_ns, int script, const char *const *words, int n)
{
    struct redis_arg args[4];
    struct command *c;

    for (int i = 0; i < n; i++)
        args[i] = (struct redis_arg){words[i], strlen(words[i])};
    c = command_new(NULL, NULL, due_ns);
    if (c == NULL || !redis_format(&r->out, &r->out_n, &r->out_cap, args, n)) {
        free(c);
        return false;
    }
    c->script = script;
    queue(&r->last, c);
    return true;
}

static bool log_in(struct redis *r, int64_t due_ns)
{
    const struct redis_options *o = r->o;
    char number[16];
    bool ok = true;

    r->state = LOGGING_IN;
    if (o->password != NULL && o->user != NULL)
        ok = say(r, due_ns, NO_SCRIPT, (const char *[]){"AUTH", o->user, o->password}, 3);
    else if (o->password != NULL)
        ok = say(r, due_ns, NO_SCRIPT, (const char *[]){"AUTH", o->password}, 2);
    ok = ok && say(r, due_ns, WHAT_IT_IS, (const char *[]){"INFO"}, 1);
    snprintf(number, sizeof number, "%u", o->database);
    if (ok && o->database != 0)
        ok = say(r, due_ns, NO_SCRIPT, (const char *[]){"SELECT", number}, 2);
    for (int i = 0; ok && i < REDIS_SCRIPTS && o->script[i] != NULL; i++)
        ok = say(r, due_ns, i, (const char *[]){"SCRIPT", "LOAD", o->script[i]}, 3);
    return ok && say(r, due_ns, NO_SCRIPT, (const char *[]){"PING"}, 1);
}

/* The server has taken all it was told: what was held goes out. */
static void go_up(struct redis *r)
{
    r->state = UP;
    if (r->was_told && r->tell != NULL)
        r->tell(true, "");
    r->was_told = false;
    if (buffer_append_to(&r->out, &r->out_n, &r->out_cap, r->held != NULL ? r->held : "",
                         r->held_n)) {
        r->held_n = 0;
        *r->last = r->held_first;
        if (r->held_first != NULL)
            r->last = r->held_last;
        r->held_first = NULL;
        r->held_last = &r->held_first;
    }
}

/* ---- answers ---- */

/* NULL, or why a server that says this of itself is of no use. */
static const char *unfit(const char *info)
{
    if (strstr(info, "cluster_enabled:1") != NULL)
        return "it is part of a Redis Cluster, whose redirections are not followed: name a server "
               "that is none, or a proxy in front of the cluster";
    if (strstr(info, "slave_read_only:1") != NULL)
        return "it is a replica, which takes no writes: name the primary";
    return NULL;
}

/* Errors that tell of the server, not of the command: whatever is asked next fails as well. */
static bool is_servers_fault(const char *error)
{
    static const char *const faults[] = {"READONLY", "LOADING",    "MASTERDOWN", "MISCONF",
                                         "MOVED",    "ASK",        "TRYAGAIN",   "CLUSTERDOWN",
                                         "NOAUTH",   "NOREPLICAS", "CROSSSLOT"};
    size_t n = strcspn(error, " ");

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (strlen(faults[i]) == n && memcmp(error, faults[i], n) == 0)
            return true;
    return false;
}

/* false: the connection is of no use. */
static bool take_login(struct redis *r, const struct command *c, const redisReply *reply,
                       int64_t now_ns)
{
    const char *why = NULL;

    if (c->script == WHAT_IT_IS && reply->type == REDIS_REPLY_STRING)
        why = unfit(reply->str);
    if (why != NULL) {
        go_down(r, now_ns, -ENOTCONN, "%s", why);
        return false;
    }
    /* A user that may not ask INFO finds out later. */
    if (reply->type == REDIS_REPLY_ERROR &&
        (c->script != WHAT_IT_IS || strncmp(reply->str, "NOPERM", 6) != 0)) {
        /* Redis' words do not repeat what was sent. */
        go_down(r, now_ns, -ENOTCONN, "it refuses: %.200s", reply->str);
        return false;
    }
    if (c->script >= 0 && reply->type == REDIS_REPLY_STRING && reply->len == SHA)
        memcpy(r->sha[c->script], reply->str, SHA + 1);
    if (c->next == NULL && r->state == LOGGING_IN)
        go_up(r);
    return true;
}

static bool take_reply(struct redis *r, const redisReply *reply, int64_t now_ns)
{
    struct command *c = r->first;
    bool is_ok = true;

    if (c == NULL) {
        go_down(r, now_ns, -ENOTCONN, "an answer to nothing: is it a Redis server?");
        return false;
    }
    if (c->done == NULL) {
        is_ok = take_login(r, c, reply, now_ns);
        if (!is_ok)
            return false; /* c is gone with the others */
        r->first = c->next;
        if (r->first == NULL)
            r->last = &r->first;
        free(c);
        return true;
    }
    if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOSCRIPT", 8) == 0) {
        go_down(r, now_ns, -ENOTCONN, "its scripts were flushed");
        return false; /* a new connection loads them again */
    }
    if (reply->type == REDIS_REPLY_ERROR && is_servers_fault(reply->str)) {
        go_down(r, now_ns, -ENOTCONN, "it refuses: %.200s", reply->str);
        return false;
    }
    if (reply->type != REDIS_REPLY_ERROR)
        r->pause_ms = 0; /* not before: it would else be tried again and again */
    r->first = c->next;
    if (r->first == NULL)
        r->last = &r->first;
    r->n_queued--;
    c->done(c->arg, 0, reply);
    free(c);
    return true;
}

/* All whole answers among what has come. false: the connection is of no use. */
static bool take_replies(struct redis *r, int64_t now_ns)
{
    for (;;) {
        void *reply = NULL;
        bool is_ok;

        if (redis_hi.reply(r->reader, &reply) != REDIS_OK) {
            go_down(r, now_ns, -ENOTCONN, "%s: is it a Redis server?", r->reader->errstr);
            return false;
        }
        if (reply == NULL)
            break;
        r->partial = r->reader->len - r->reader->pos;
        is_ok = take_reply(r, reply, now_ns);
        redis_hi.free_reply(reply);
        if (!is_ok)
            return false;
    }
    if (r->partial <= REPLY_MAX)
        return true;
    go_down(r, now_ns, -ENOTCONN, "an answer of more than %u bytes: is it a Redis server?",
            REPLY_MAX);
    return false;
}

static void receive(struct redis *r, int64_t now_ns)
{
    static char buf[65536];
    ssize_t n = -EAGAIN;

    r->has_more = false;
    for (int i = 0; i < READS_MAX && (n = link_read(r->link, buf, sizeof buf)) > 0; i++) {
        if (redis_hi.feed(r->reader, buf, (size_t)n) != REDIS_OK) {
            go_down(r, now_ns, -ENOTCONN, "%s", r->reader->errstr);
            return;
        }
        r->partial += (size_t)n;
        if (!take_replies(r, now_ns))
            return;
    }
    r->has_more = n > 0;
    if (n < 0 && n != -EAGAIN)
        go_down(r, now_ns, -ENOTCONN, "%s", link_error(r->link));
}

static void transmit(struct redis *r, int64_t now_ns)
{
    while (r->out_at < r->out_n) {
        ssize_t n = link_write(r->link, r->out + r->out_at, r->out_n - r->out_at);

        if (n == -EAGAIN)
            return;
        if (n < 0) {
            go_down(r, now_ns, -ENOTCONN, "%s", link_error(r->link));
            return;
        }
        r->out_at += (size_t)n;
    }
    r->out_at = r->out_n = 0;
}

/* ---- from outside ---- */

int redis_open(const struct redis_options *o, char *why, size_t size, struct redis **out)
{
    struct redis *r;
    int e = redis_protocol_load(why, size);

    if (e < 0)
        return e;
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return -ENOMEM;
    r->o = o;
    r->last = &r->first;
    r->held_last = &r->held_first;
    *out = r;
    return 0;
}

void redis_on_change(struct redis *r, void (*tell)(bool is_up, const char *why))
{
    r->tell = tell;
}

void redis_close(struct redis **rp)
{
    struct redis *r = *rp;

    *rp = NULL;
    if (r == NULL)
        return;
    r->tell = NULL;
    go_down(r, 0, -ENOTCONN, "closed");
    free(r->out);
    free(r->held);
    free(r);
}

int redis_send(struct redis *r, const struct redis_arg *args, int n, redis_done *done, void *arg,
               int64_t now_ns)
{
    bool is_up = r->state == UP;
    struct command *c;

    if (r->state == DOWN && now_ns < r->retry_ns)
        return -ENOTCONN;
    if (r->n_queued >= REDIS_QUEUE_MAX || r->out_n - r->out_at + r->held_n > REDIS_BYTES_MAX)
        return -EAGAIN;
    c = command_new(done, arg, now_ns + r->o->timeout_ms * NS_PER_MS);
    if (c == NULL || !(is_up ? redis_format(&r->out, &r->out_n, &r->out_cap, args, n)
                             : redis_format(&r->held, &r->held_n, &r->held_cap, args, n))) {
        free(c);
        return -ENOMEM;
    }
    queue(is_up ? &r->last : &r->held_last, c);
    r->n_queued++;
    return 0;
}

int redis_eval(struct redis *r, int script, const struct redis_arg *args, int n, redis_done *done,
               void *arg, int64_t now_ns)
{
    struct redis_arg all[16] = {{"EVALSHA", 7}, {r->sha[script], SHA}, {"1", 1}};

    must(n + 3 <= 16 && script < REDIS_SCRIPTS);
    if (r->sha[script][0] == '\0') /* before the first connection is up: the text does as well */
        all[0] = (struct redis_arg){"EVAL", 4},
        all[1] = (struct redis_arg){r->o->script[script], strlen(r->o->script[script])};
    memcpy(all + 3, args, (size_t)n * sizeof *args);
    return redis_send(r, all, n + 3, done, arg, now_ns);
}

bool redis_is_up(const struct redis *r)
{
    return r->state == UP;
}

int redis_fd(const struct redis *r)
{
    return r->link != NULL ? link_fd(r->link) : -1;
}

uint64_t redis_serial(const struct redis *r)
{
    return r->link != NULL ? link_serial(r->link) : 0;
}

short redis_events(const struct redis *r)
{
    return r->link != NULL ? link_events(r->link, r->out_at < r->out_n) : 0;
}

static int left_ms(int64_t at_ns, int64_t now_ns)
{
    return at_ns <= now_ns ? 0 : (int)((at_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

int redis_timeout_ms(const struct redis *r, int64_t now_ns)
{
    if (r->state == DOWN)
        return left_ms(r->retry_ns, now_ns);
    if (r->has_more) /* perhaps in GnuTLS's hands, where nobody can poll for it */
        return 0;
    if (r->link != NULL && link_state(r->link) == LINK_RESOLVING)
        return LOOK_MS;
    if (r->state != UP)
        return left_ms(r->retry_ns, now_ns);
    return r->first != NULL ? left_ms(r->first->due_ns, now_ns) : -1;
}

void redis_run(struct redis *r, int64_t now_ns)
{
    if (r->state == DOWN && now_ns >= r->retry_ns)
        begin(r, now_ns);
    if (r->state == CONNECTING) {
        enum link_state s = link_run(r->link);

        if (s == LINK_FAILED)
            go_down(r, now_ns, -ENOTCONN, "%s", link_error(r->link));
        else if (s == LINK_OPEN && !log_in(r, r->retry_ns))
            go_down(r, now_ns, -ENOTCONN, "out of memory");
    }
    if (r->state == LOGGING_IN || r->state == UP)
        transmit(r, now_ns);
    if (r->state == LOGGING_IN || r->state == UP)
        receive(r, now_ns);
    if (r->state == UP) /* what receive() has let go out */
        transmit(r, now_ns);
    if (r->state == UP && r->first != NULL && r->first->due_ns <= now_ns)
        go_down(r, now_ns, -ETIMEDOUT, "no answer within %u ms", r->o->timeout_ms);
    if ((r->state == CONNECTING || r->state == LOGGING_IN) && r->retry_ns <= now_ns)
        go_down(r, now_ns, -ENOTCONN, "no connection within %u ms", r->o->timeout_ms);
}

#else

int redis_open(const struct redis_options *o, char *why, size_t size, struct redis **out)
{
    (void)o, (void)out;
    snprintf(why, size, "this build has no Redis: install libhiredis-dev and build it again");
    return -ENOSYS;
}

/* None of these can be called, since there is none of these. */
void redis_close(struct redis **rp)
{
    *rp = NULL;
}

void redis_on_change(struct redis *r, void (*tell)(bool is_up, const char *why))
{
    (void)r, (void)tell;
}

bool redis_is_up(const struct redis *r)
{
    return r == NULL;
}

int redis_fd(const struct redis *r)
{
    return r == NULL ? -1 : 0;
}

uint64_t redis_serial(const struct redis *r)
{
    return r == NULL ? 0 : 1;
}

short redis_events(const struct redis *r)
{
    return r == NULL ? 0 : 1;
}

int redis_timeout_ms(const struct redis *r, int64_t now_ns)
{
    (void)r, (void)now_ns;
    return -1;
}

void redis_run(struct redis *r, int64_t now_ns)
{
    (void)r, (void)now_ns;
}

#endif
