#include "cli/replay_request.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/crash_report.h"

#define REDACTED "[redacted " /* obs/redact.c */

/* Nothing in a record shall become a second request: they may come from elsewhere. */
static bool is_token(const char *s)
{
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789!#$%&'*+-.^_`|~";

    return s != NULL && s[0] != '\0' && s[strspn(s, token)] == '\0';
}

static bool is_target(const char *s)
{
    if (s == NULL || s[0] == '\0')
        return false;
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
    return true;
}

/* "[redacted 5 bytes]" may stand in it. */
static void put_target(FILE *f, const char *s)
{
    for (; *s != '\0'; s++)
        if (strchr(" []", *s) != NULL)
            fprintf(f, "%%%02X", (unsigned char)*s);
        else
            fputc(*s, f);
}

static void put_value(FILE *f, const char *s)
{
    for (; *s != '\0'; s++)
        fputc(((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f ? ' ' : *s, f);
}

/* Of the connection, or said anew. */
static bool is_left_out(const char *name)
{
    static const char *const names[] = {"Connection", "Content-Length", "Transfer-Encoding",
                                        "Expect",     "Keep-Alive",     "Upgrade",
                                        "TE",         "Trailer"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static void note(json_t *notes, const char *text)
{
    json_array_append_new(notes, json_string(text));
}

/* How long a body it had, or -1: none; *is_chunked: nobody knows. */
static long long body_length(const json_t *headers, bool *is_chunked)
{
    long long length = -1;
    const json_t *header;
    size_t i;

    *is_chunked = false;
    json_array_foreach(headers, i, header)
    {
        const char *name = json_string_value(json_array_get(header, 0));
        const char *value = json_string_value(json_array_get(header, 1));

        if (name == NULL || value == NULL)
            continue;
        if (strcasecmp(name, "Content-Length") == 0)
            length = strtoll(value, NULL, 10);
        *is_chunked |= strcasecmp(name, "Transfer-Encoding") == 0;
    }
    return length;
}

static void note_body(json_t *notes, const json_t *record, const struct replay_body *body,
                      long long length, long long filled)
{
    long long came = crash_number(record, "body.received"), n = (long long)body->n;
    json_t *text = NULL;

    if (body->p == NULL && json_is_object(json_object_get(record, "body")) && came > 0)
        text = json_sprintf("the recorded body cannot be read: %lld bytes \"x\" are sent; --body "
                            "FILE has another",
                            filled);
    else if (body->p == NULL)
        text = json_sprintf("the body is not on record (crash.record_body): %lld bytes \"x\" are "
                            "sent; --body FILE has another",
                            filled);
    else if (n < came)
        text = json_sprintf(
            "the body was cut for the record: its first %lld of %lld bytes are sent, "
            "then %lld bytes \"x\"",
            n, length > came ? length : came, filled);
    else if (filled > 0)
        text = json_sprintf(
            "%lld of %lld bytes of the body had come when it crashed: they are sent, "
            "then %lld bytes \"x\"",
            n, length, filled);
    if (text != NULL)
        json_array_append_new(notes, text);
}

/* How it is framed, the empty line, the body. */
static void put_body(FILE *f, const json_t *record, const struct replay_body *body, json_t *notes)
{
    const json_t *headers = json_object_get(json_object_get(record, "request"), "headers");
    long long came = crash_number(record, "body.received"), filled;
    bool is_chunked;
    long long length = body_length(headers, &is_chunked), total = length;

    if (!body->is_given && length <= 0 && !is_chunked) {
        fputs(length == 0 ? "Content-Length: 0\r\n\r\n" : "\r\n", f);
        return;
    }
    if (body->is_given) {
        fprintf(f, "Content-Length: %zu\r\n\r\n", body->n);
        fwrite(body->p, 1, body->n, f);
        return;
    }
    if (is_chunked) /* how much there would have been nobody knows */
        total = body->p != NULL ? came : 1;
    if (total > REPLAY_BODY_MAX)
        total = REPLAY_BODY_MAX;
    filled = total > (long long)body->n ? total - (long long)body->n : 0;
    total = (long long)body->n + filled;
    note_body(notes, record, body, length, filled);
    if (!is_chunked)
        fprintf(f, "Content-Length: %lld\r\n\r\n", total);
    else
        fprintf(f, "Transfer-Encoding: chunked\r\n\r\n");
    if (is_chunked && total > 0)
        fprintf(f, "%llx\r\n", (unsigned long long)total);
    if (body->n > 0)
        fwrite(body->p, 1, body->n, f);
    for (long long i = 0; i < filled; i++)
        fputc('x', f);
    if (is_chunked)
        fprintf(f, "%s0\r\n\r\n", total > 0 ? "\r\n" : "");
}

int replay_request(const json_t *record, const struct replay_body *body, json_t *notes, char **out,
                   size_t *len)
{
    const char *method = crash_text(record, "request.method");
    const char *target = crash_text(record, "request.target");
    const char *protocol = crash_text(record, "request.protocol");
    const json_t *headers = json_object_get(json_object_get(record, "request"), "headers"), *header;
    bool has_host = false, is_redacted = false;
    size_t i;
    FILE *f;

    if (!json_is_object(json_object_get(record, "request")))
        return -ENOENT;
    if (!is_token(method) || !is_target(target))
        return -EBADMSG;
    *out = NULL;
    f = open_memstream(out, len);
    if (f == NULL)
        return -ENOMEM;
    fprintf(f, "%s ", method);
    put_target(f, target);
    fputs(" HTTP/1.1\r\n", f);
    json_array_foreach(headers, i, header)
    {
        const char *name = json_string_value(json_array_get(header, 0));
        const char *value = json_string_value(json_array_get(header, 1));

        if (!is_token(name) || value == NULL || is_left_out(name))
            continue;
        has_host |= strcasecmp(name, "Host") == 0;
        is_redacted |= strstr(value, REDACTED) != NULL;
        fprintf(f, "%s: ", name);
        put_value(f, value);
        fputs("\r\n", f);
    }
    if (!has_host)
        fputs("Host: replay\r\n", f);
    fputs("Connection: close\r\n", f);
    put_body(f, record, body, notes);
    if (protocol == NULL || protocol[0] == '\0')
        note(notes, "the worker was killed: of its request only method and path are on record");
    if (is_redacted || strstr(target, REDACTED) != NULL)
        note(notes,
             "secrets were redacted when the record was made: they are sent as they stand there");
    if (fclose(f) != 0) {
        free(*out);
        return -ENOMEM;
    }
    return 0;
}
