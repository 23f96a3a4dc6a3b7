/*
 * refusal.h - why a connection's request was refused before any chain saw it, or in spite of it.
 *
 * One list for those who find the reason (http/guard.c, time and size limits), those who answer, and
 * those who count. Reasons are numbers in shared memory only while one server runs: new ones go where
 * they belong.
 */
#ifndef IPC_REFUSAL_H
#define IPC_REFUSAL_H

/* constant, name (of the counter), status, what the client is told */
#define REFUSALS(X)                                                                               \
    X(NONE, "none", 0, "")                                                                        \
    X(TLS, "tls_on_plain_port", 400, "this port speaks HTTP, not TLS")                            \
    X(LINE_END, "line_end", 400, "a line does not end with CR LF")                                \
    X(METHOD, "method", 400, "the method is not a token, or not followed by one space")           \
    X(METHOD_LONG, "method_long", 501, "no method has a name as long as that")                    \
    X(TARGET, "target", 400, "the request target has characters that a URI cannot have")          \
    X(VERSION, "version", 400, "the request line does not end with HTTP/1.1 or HTTP/1.0")         \
    X(VERSION_MAJOR, "version_major", 505, "this server speaks HTTP/1.1 and HTTP/1.0")            \
    X(FIELD_NAME, "field_name", 400, "the name of a header field is not a token")                 \
    X(FIELD_SPACE, "field_space", 400, "there is space before the colon of a header field")       \
    X(FIELD_FOLD, "field_fold", 400, "a header line begins with space")                           \
    X(FIELD_VALUE, "field_value", 400, "a header field has a control character in its value")     \
    X(HOST_MISSING, "host_missing", 400, "HTTP/1.1 wants a Host field")                           \
    X(HOST_MANY, "host_many", 400, "there is more than one Host field")                           \
    X(HOST, "host", 400, "the Host field is not a host with an optional port")                    \
    X(LENGTH, "content_length", 400, "Content-Length is not a number that can be")                \
    X(LENGTH_MANY, "content_length_many", 400, "there is more than one Content-Length field")     \
    X(LENGTH_AND_CODING, "length_and_coding", 400,                                                \
      "Content-Length and Transfer-Encoding exclude each other")                                  \
    X(CODING, "transfer_encoding", 400, "Transfer-Encoding does not end with chunked, once")      \
    X(CODING_UNKNOWN, "transfer_coding_unknown", 501, "the only transfer coding here is chunked") \
    X(CODING_OLD, "transfer_encoding_http_1_0", 400, "HTTP/1.0 has no Transfer-Encoding")         \
    X(EXPECT, "expect", 417, "the only expectation that is met here is 100-continue")             \
    X(CHUNK_SIZE, "chunk_size", 400, "the size of a chunk is not a hexadecimal number")           \
    X(CHUNK_EXTENSION, "chunk_extension", 400, "a chunk extension is malformed, or too long")     \
    X(CHUNK_END, "chunk_end", 400, "a chunk is not as long as it says")                           \
    X(TRAILER, "trailer", 400, "the trailer of the body is malformed, or too long")               \
    X(URI_LONG, "uri_long", 414, "the request target is longer than this server reads")           \
    X(HEAD_LARGE, "head_large", 431, "the header fields are larger than this server reads")       \
    X(FIELDS_MANY, "fields_many", 431, "there are more header fields than this server reads")     \
    X(BODY_LARGE, "body_large", 413, "the body is larger than limits.body")                       \
    X(HEAD_TIME, "head_timeout", 408, "the head of the request did not come in time")             \
    X(BODY_TIME, "body_too_slow", 408, "the body came too slowly")                                \
    X(PER_IP, "per_ip", 503, "there are too many connections from this address")                  \
    X(BODY_UNREAD, "body_unread", 0, "") /* the answer was there before its end: not replaced */

enum http_refusal {
#define REFUSAL(constant, name, status, detail) REFUSAL_##constant,
    REFUSALS(REFUSAL)
#undef REFUSAL
        REFUSAL_COUNT
};

const char *refusal_name(enum http_refusal r);
int refusal_status(enum http_refusal r);
const char *refusal_detail(enum http_refusal r);

#endif
