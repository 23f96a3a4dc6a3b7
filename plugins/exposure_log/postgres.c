/*
 * postgres.c - lines into a table of PostgreSQL, each once.
 *
 * A batch is one transaction: COPY into a temporary table, then INSERT ... ON CONFLICT DO NOTHING by
 * event id. So a batch that comes again, because its acknowledgement was lost, changes nothing.
 */
#include "backend.h"

#include <errno.h>
#include <stdlib.h>

#if __has_include(<libpq-fe.h>)
#include <libpq-fe.h>
#elif __has_include(<postgresql/libpq-fe.h>)
#include <postgresql/libpq-fe.h>
#else
#define NO_LIBPQ
#endif

#ifdef NO_LIBPQ

int postgres_open(const struct postgres_options *o, struct backend *out, char why[WHY_SIZE])
{
    (void)o, (void)out;
    snprintf(why, WHY_SIZE, "this exposure_log was built without libpq (package libpq-dev)");
    return -ENOSYS;
}

#else

/* In the order of names. */
struct libpq {
    PGconn *(*connect)(const char *const *, const char *const *, int);
    ConnStatusType (*status)(const PGconn *);
    char *(*error)(const PGconn *);
    void (*finish)(PGconn *);
    PGresult *(*exec)(PGconn *, const char *);
    ExecStatusType (*result)(const PGresult *);
    char *(*field)(const PGresult *, int);
    void (*clear)(PGresult *);
    int (*put)(PGconn *, const char *, int);
    int (*put_end)(PGconn *, const char *);
    PGresult *(*next)(PGconn *);
    char *(*quote)(PGconn *, const char *, size_t);
    void (*free)(void *);
    PQconninfoOption *(*parse)(const char *, char **);
    void (*free_parsed)(PQconninfoOption *);
};

static const char *const names[] = {"PQconnectdbParams",
                                    "PQstatus",
                                    "PQerrorMessage",
                                    "PQfinish",
                                    "PQexec",
                                    "PQresultStatus",
                                    "PQresultErrorField",
                                    "PQclear",
                                    "PQputCopyData",
                                    "PQputCopyEnd",
                                    "PQgetResult",
                                    "PQescapeIdentifier",
                                    "PQfreemem",
                                    "PQconninfoParse",
                                    "PQconninfoFree",
                                    NULL};

struct postgres {
    struct libpq pq;
    struct postgres_options o;
    PGconn *conn;
    char insert[2048];
};

static const char columns[] =
    "event_id uuid PRIMARY KEY, time timestamptz NOT NULL, experiment text NOT NULL,"
    " \"group\" text NOT NULL, id text NOT NULL, reason text NOT NULL, bucket integer,"
    " fallback boolean, request_time timestamptz, gateway_time timestamptz, status integer,"
    " request_id text";

static const char selected[] =
    "SELECT (l->>'event_id')::uuid, to_timestamp((l->>'time')::float8), l->>'experiment',"
    " l->>'group', l->>'id', l->>'reason', (l->>'bucket')::integer, (l->>'fallback')::boolean,"
    " to_timestamp((l->>'request_time')::float8), to_timestamp((l->>'gateway_time')::float8),"
    " (l->>'status')::integer, l->>'request_id'"
    " FROM (SELECT line::jsonb AS l FROM bulkhead_lines) AS lines ON CONFLICT (event_id) DO NOTHING";

/* The first line of a message, without its newline. */
static void say(char why[WHY_SIZE], const char *what, const char *message)
{
    snprintf(why, WHY_SIZE, "%s: %.*s", what, (int)strcspn(message, "\n"), message);
}

/* 0, or -EINVAL: the data are at fault (classes 22, 23), or -EIO: anything else. */
static int check(struct postgres *p, PGresult *res, ExecStatusType wanted, char why[WHY_SIZE])
{
    const char *state;
    int r = 0;

    if (res == NULL || p->pq.result(res) != wanted) {
        state = res != NULL ? p->pq.field(res, PG_DIAG_SQLSTATE) : NULL;
        r = state != NULL && (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0)
                ? -EINVAL
                : -EIO;
        say(why, "PostgreSQL", p->pq.error(p->conn));
    }
    p->pq.clear(res);
    return r;
}

static int command(struct postgres *p, const char *sql, char why[WHY_SIZE])
{
    return check(p, p->pq.exec(p->conn, sql), PGRES_COMMAND_OK, why);
}

static void disconnect(struct postgres *p)
{
    if (p->conn != NULL)
        p->pq.finish(p->conn);
    p->conn = NULL;
}

static int prepare(struct postgres *p, char why[WHY_SIZE])
{
    char sql[2048], *table = p->pq.quote(p->conn, p->o.table, strlen(p->o.table));
    int r;

    if (table == NULL) {
        say(why, "table", p->pq.error(p->conn));
        return -EINVAL;
    }
    snprintf(p->insert, sizeof p->insert, "INSERT INTO %s %s", table, selected);
    snprintf(sql, sizeof sql, "CREATE TABLE IF NOT EXISTS %s (%s)", table, columns);
    p->pq.free(table);
    r = command(p, "SET statement_timeout = '30s'; SET client_min_messages = warning", why);
    if (r == 0 && p->o.create)
        r = command(p, sql, why);
    if (r == 0)
        r = command(p, "CREATE TEMPORARY TABLE bulkhead_lines (line text) ON COMMIT DELETE ROWS",
                    why);
    return r;
}

static int connect_to(struct postgres *p, char why[WHY_SIZE])
{
    /* What stands in conninfo comes later, and counts. A host that is gone without a word is noticed within
     * half a minute, not after the quarter of an hour that TCP would go on sending. */
    const char *keys[] = {
        "connect_timeout",  "keepalives_idle", "keepalives_interval",       "keepalives_count",
        "tcp_user_timeout", "dbname",          "fallback_application_name", NULL};
    const char *values[] = {"5", "10", "5", "4", "30000", p->o.conninfo, "bulkhead", NULL};
    int r;

    if (p->conn != NULL && p->pq.status(p->conn) == CONNECTION_OK)
        return 0;
    disconnect(p);
    p->conn = p->pq.connect(keys, values, 1);
    if (p->pq.status(p->conn) != CONNECTION_OK) {
        say(why, "PostgreSQL", p->pq.error(p->conn)); /* of a sound string: no password */
        disconnect(p);
        return -EIO;
    }
    r = prepare(p, why);
    if (r < 0)
        disconnect(p);
    return r < 0 ? -EIO : 0;
}

/* CSV with two control characters for quote and delimiter, which no line contains: no escaping. */
static int copy(struct postgres *p, const bh_str *line, size_t n, char why[WHY_SIZE])
{
    int r = check(p,
                  p->pq.exec(p->conn, "COPY bulkhead_lines FROM STDIN WITH (FORMAT csv, "
                                      "QUOTE e'\\x01', DELIMITER e'\\x02')"),
                  PGRES_COPY_IN, why);

    if (r < 0)
        return r;
    for (size_t i = 0; i < n && r == 0; i++) {
        if (p->pq.put(p->conn, line[i].p, (int)line[i].n) != 1 || p->pq.put(p->conn, "\n", 1) != 1)
            r = -EIO;
    }
    if (r < 0 || p->pq.put_end(p->conn, NULL) != 1) {
        say(why, "PostgreSQL", p->pq.error(p->conn));
        return -EIO;
    }
    r = check(p, p->pq.next(p->conn), PGRES_COMMAND_OK, why);
    for (PGresult *more; (more = p->pq.next(p->conn)) != NULL;)
        p->pq.clear(more);
    return r;
}

static int transaction(struct postgres *p, const bh_str *line, size_t n, char why[WHY_SIZE])
{
    char ignored[WHY_SIZE];
    int r = command(p, "BEGIN", why);

    if (r == 0)
        r = copy(p, line, n, why);
    if (r == 0)
        r = command(p, p->insert, why);
    if (r == 0)
        r = command(p, "COMMIT", why);
    if (r == -EINVAL && command(p, "ROLLBACK", ignored) < 0)
        r = -EIO;
    if (r == -EIO)
        disconnect(p); /* whatever state it is in */
    return r;
}

/* One line that is never taken must not hold up the others: they are halved until it is alone. */
static int insert(struct postgres *p, const bh_str *line, size_t n, size_t *refused,
                  char why[WHY_SIZE])
{
    int r = transaction(p, line, n, why);

    if (r != -EINVAL)
        return r;
    if (n == 1) {
        (*refused)++;
        return 0;
    }
    r = insert(p, line, n / 2, refused, why);
    return r == 0 ? insert(p, line + n / 2, n - n / 2, refused, why) : r;
}

static int postgres_send(void *state, const struct batch *b, size_t *refused, char why[WHY_SIZE])
{
    struct postgres *p = state;
    int r = connect_to(p, why);

    return r == 0 && b->n > 0 ? insert(p, b->line, b->n, refused, why) : r;
}

static void postgres_close(void *state)
{
    disconnect(state);
    free(state);
}

/* What libpq says of one that makes no sense quotes it, and so does the server of what is taken for the name of
 * a database: with the password that may stand there. */
static int check_conninfo(struct postgres *p, const char *text, char why[WHY_SIZE])
{
    char *said = NULL;
    PQconninfoOption *parsed = p->pq.parse(text, &said);
    int is_sound = parsed != NULL;

    if (said != NULL)
        p->pq.free(said);
    if (parsed != NULL)
        p->pq.free_parsed(parsed);
    if (is_sound)
        return 0;
    snprintf(
        why, WHY_SIZE,
        "that is no connection string (it is not shown); one is: host=... dbname=... user=..., or "
        "postgresql://...");
    return -EINVAL;
}

int postgres_open(const struct postgres_options *o, struct backend *out, char why[WHY_SIZE])
{
    struct postgres *p = calloc(1, sizeof *p);
    int r;

    if (p == NULL) {
        snprintf(why, WHY_SIZE, "no memory");
        return -ENOMEM;
    }
    _Static_assert(sizeof p->pq == (sizeof names / sizeof names[0] - 1) * sizeof(void *),
                   "a function for each name");
    r = backend_load("libpq.so.5", "libpq5", names, (void **)&p->pq, why);
    if (r == 0)
        r = check_conninfo(p, o->conninfo, why);
    if (r < 0) {
        free(p);
        return r;
    }
    p->o = *o;
    *out = (struct backend){"postgres", p, postgres_send, postgres_close};
    return 0;
}

#endif
