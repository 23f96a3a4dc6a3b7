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

/* Content-Length, the empty line, the body. */
static void put_body(FILE *f, const json_t *headers, const char *body, size_t body_len,
                     json_t *notes)
{
    bool is_chunked;
    long long length = body_length(headers, &is_chunked);
    char text[160];

    if (body == NULL && length <= 0 && !is_chunked) {
        fputs(length == 0 ? "Content-Length: 0\r\n\r\n" : "\r\n", f);
        return;
    }
    if (body != NULL) {
        fprintf(f, "Content-Length: %zu\r\n\r\n", body_len);
        fwrite(body, 1, body_len, f);
        return;
    }
    if (length <= 0)
        length = 1;
    if (length > REPLAY_BODY_MAX)
        length = REPLAY_BODY_MAX;
    snprintf(text, sizeof text,
             "records have no bodies: %lld bytes \"x\" are sent; --body FILE has "
             "another",
             length);
    note(notes, text);
    fprintf(f, "Content-Length: %lld\r\n\r\n", length);
    for (long long i = 0; i < length; i++)
        fputc('x', f);
}

int replay_request(const json_t *record, const char *body, size_t body_len, json_t *notes,
                   char **out, size_t *len)
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
    put_body(f, headers, body, body_len, notes);
    if (protocol == NULL || protocol[0] == '\0')
        note(notes, "the worker died: of its request only method and path are on record");
    if (is_redacted || strstr(target, REDACTED) != NULL)
        note(notes,
             "secrets were redacted when the record was made: they are sent as they stand there");
    if (fclose(f) != 0) {
        free(*out);
        return -ENOMEM;
    }
    return 0;
}
