/*
 * response.c - from a reply to libmicrohttpd's response.
 *
 * Bytes go out as they lie in the request's arena, files by sendfile(2). Streams, and files that a
 * plugin wants to see, go through read_body(), which runs the on_response_body hooks: they are
 * called inside a callback of the library, so a crash there lands inside it too and only then makes
 * the library close the connection.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/internal.h"
#include "plugin/chain.h"
#include "plugin/host.h"
#include "plugin/stream.h"

#define BLOCK_SIZE 32768

static void on_stream_data(void *arg)
{
    struct exchange *x = arg;

    if (x->waits_for_stream) {
        x->waits_for_stream = false;
        exchange_resume(x);
    }
}

/* The next piece of the source. False: nothing just now. */
static bool next_chunk(struct exchange *x, bh_str *chunk, char *buf, size_t max)
{
    struct reply *reply = &x->req.reply;

    if (reply->kind == REPLY_STREAM) {
        if (stream_peek(reply->stream, &chunk->p, &chunk->n)) {
            x->out_is_block = true;
            return true;
        }
        if (stream_is_broken(reply->stream))
            x->is_gone = true; /* what was announced does not come: the client must see it */
        else if (!stream_has_ended(reply->stream))
            return false;
        x->source_ended = true;
        *chunk = bh_s("");
        return true;
    }
    if (max > reply->len - x->file_pos)
        max = (size_t)(reply->len - x->file_pos);
    if (max > 0) {
        ssize_t n = pread(reply->fd, buf, max, (off_t)(reply->offset + x->file_pos));

        if (n > 0) {
            x->file_pos += (uint64_t)n;
            *chunk = bh_sn(buf, (size_t)n);
            return true;
        }
        x->is_gone = true; /* the file shrank: the client must see that the answer is cut short */
    }
    x->source_ended = true;
    *chunk = bh_s("");
    return true;
}

/* Ends the answer short of its end. Where the reader's first call fails, libmicrohttpd 0.9.75 marks
 * the connection closed and forgets it until there is an event. The shutdown would be one, but not for
 * a connection that has not had to wait yet: that is in no epoll set, and would stay for ever. */
static ssize_t cut(const struct exchange *x)
{
    if (x->req.reply.kind == REPLY_STREAM)
        stream_lose(x->req.reply.stream);
    if (x->conn != NULL) {
        shutdown(x->conn->fd, SHUT_RDWR);
        wire_poke(x->conn);
    }
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* By the end of the connection, where there are no chunks: there it is forgotten as well. */
static ssize_t end(const struct exchange *x)
{
    if (x->conn != NULL && strcmp(x->req.protocol.p, "HTTP/1.0") == 0)
        wire_poke(x->conn);
    return MHD_CONTENT_READER_END_OF_STREAM;
}

/* The plugin that streams is asked for more, if it wants to be. */
static bool write_more(struct exchange *x)
{
    bool is_good;

    if (!stream_has_wish(x->req.reply.stream))
        return true;
    exchange_publish(x);
    is_good = chain_writable(&x->req);
    exchange_unpublish(x);
    return is_good;
}

static ssize_t read_body(void *arg, uint64_t pos, char *buf, size_t max)
{
    struct exchange *x = arg;
    char block[BLOCK_SIZE];

    (void)pos;
    if (x->is_gone)
        return cut(x);
    while (x->out.n == 0) {
        bh_str chunk;
        bool is_good;

        if (x->out_is_block) {
            x->out_is_block = false;
            stream_pop(x->req.reply.stream);
        }
        if (x->source_ended)
            return end(x);
        if (x->req.reply.kind == REPLY_STREAM && !write_more(x))
            return cut(x);
        if (!next_chunk(x, &chunk, block, max < sizeof block ? max : sizeof block)) {
            x->waits_for_stream = true;
            if (x->waited_ns == 0) /* an end that came while bytes still went out is no leaving */
                x->waited_ns = host_loop_mono_ns;
            exchange_suspend(x);
            return 0;
        }
        exchange_publish(x);
        is_good = !x->is_gone && chain_response_chunk(&x->req, &chunk, x->source_ended);
        exchange_unpublish(x);
        if (!is_good)
            return cut(x);
        if (chunk.p == block) { /* unchanged: copied out at once, it fits */
            memcpy(buf, chunk.p, chunk.n);
            x->req.bytes_sent += chunk.n;
            return (ssize_t)chunk.n;
        }
        x->out = chunk;
    }
    if (max > x->out.n)
        max = x->out.n;
    memcpy(buf, x->out.p, max);
    x->out.p += max;
    x->out.n -= max;
    x->req.bytes_sent += max;
    return (ssize_t)max;
}

static struct MHD_Response *create_reader(struct exchange *x, uint64_t len,
                                          MHD_ContentReaderCallback read)
{
    struct MHD_Response *response = MHD_create_response_from_callback(
        len == UINT64_MAX ? MHD_SIZE_UNKNOWN : len, BLOCK_SIZE, read, x, NULL);

    /* After a head that promises chunks and has no body libmicrohttpd 0.9.75 sends the
     * last chunk all the same, and the client would take it for the next answer: wire.c drops it. */
    if (response == NULL || len != UINT64_MAX || !x->req.is_head)
        return response;
    if (x->conn != NULL)
        x->conn->drops_last_chunk = true;
    else /* no framing is announced, and the connection ends */
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    return response;
}

static bool has_no_body(int32_t status)
{
    return status == 204 || status == 205 || status == 304;
}

static struct MHD_Response *create_body(struct exchange *x)
{
    struct reply *reply = &x->req.reply;
    struct MHD_Response *response;
    bool is_filtered = chain_filters_body(&x->req);

    if (has_no_body(reply->status)) {
        /* Of a 205 the length says so (RFC 9110 15.3.6). That of a 304 would be its 200's (8.6), and
         * some clients wait for as many bytes: there is to be none, wire.c cuts it out. */
        if (reply->status == 304 && x->conn != NULL)
            x->conn->cuts_length = true;
        return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    }
    if (reply->kind == REPLY_BYTES)
        return MHD_create_response_from_buffer((size_t)reply->len, (void *)(uintptr_t)reply->bytes,
                                               MHD_RESPMEM_PERSISTENT);
    if (reply->kind == REPLY_FILE && !is_filtered) {
        response = MHD_create_response_from_fd_at_offset64(reply->len, reply->fd, reply->offset);
        if (response != NULL)
            reply->fd = -1; /* the library's now */
        return response;
    }
    if (reply->kind == REPLY_STREAM)
        stream_on_data(reply->stream, on_stream_data, x);
    return create_reader(x, is_filtered ? UINT64_MAX : reply->len, read_body);
}

/* A body should be said to be of some type (RFC 9110 8.3); of this one nobody has said it. */
static bool wants_type(const struct bh_req *req)
{
    return req->reply.len > 0 && !has_no_body(req->reply.status);
}

struct MHD_Response *response_create(struct exchange *x)
{
    struct MHD_Response *response = create_body(x);
    const struct fields *f = &x->req.hdr[BH_RESP];
    bool has_type = !wants_type(&x->req);

    if (response == NULL)
        return NULL;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct field *field = &f->v[i];

        if (field->name.p == NULL)
            continue;
        /* The library takes no empty value; a space means the same. */
        MHD_add_response_header(response, field->name.p, field->value.n > 0 ? field->value.p : " ");
        if (field->name.n == 12 && strncasecmp(field->name.p, "content-type", 12) == 0)
            has_type = true;
    }
    if (!has_type)
        MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    if (x->listener->hsts[0] != '\0' && fields_find(f, "strict-transport-security", 25, 0) == NULL)
        MHD_add_response_header(response, "Strict-Transport-Security", x->listener->hsts);
    /* The client does not know yet, and may be sending its next request. */
    if (x->is_last || x->listener->front->is_draining || (x->conn != NULL && x->conn->is_last)) {
        MHD_add_response_header(response, "Connection", "close");
        if (x->conn != NULL)
            x->conn->lingers = true;
    }
    return response;
}
