/*
 * guard.c - what the wire guard costs: nanoseconds for a head as wrk, curl and a browser send it, and for
 * a body in chunks.
 *
 * The guard writes into the buffer it reads (a cookie's name is hidden), so each batch begins with a
 * fresh copy, whose time is taken by itself and subtracted. The median of many batches is shown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/guard.h"

enum { BATCH = 512, BATCHES = 2001 };

static const struct guard_limits limits = {
    .uri = 8192, .head = 8192, .fields = 100, .memory = 16384, .body = 8 << 20};

static const char wrk[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
static const char curl[] = "GET /index.html HTTP/1.1\r\nHost: localhost:8080\r\n"
                           "User-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
static const char browser[] =
    "GET /assets/site.css?v=20240501 HTTP/1.1\r\nHost: www.example.org\r\nConnection: keep-alive\r\n"
    "sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/124.0.0.0 Safari/537.36\r\nsec-ch-ua-platform: \"Linux\"\r\nAccept: text/css,*/*;q=0.1\r\n"
    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: style\r\n"
    "Referer: https://www.example.org/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nCookie: session=0123456789abcdef0123456789abcdef; "
    "theme=dark; consent=yes\r\nIf-None-Match: \"5f3c-60b\"\r\n\r\n";
static const char chunks[] =
    "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    "20\r\n0123456789abcdef0123456789abcdef\r\n20\r\n0123456789abcdef0123456789abcdef\r\n0\r\n\r\n";

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;

    return d < 0 ? -1 : d > 0;
}

static void measure(const char *what, const char *text, size_t n)
{
    static double ns[BATCHES];
    static char buf[1024];
    struct guard g;

    guard_init(&g);
    for (int b = 0; b < BATCHES; b++) {
        double begun = now_ns(), copied;

        for (int i = 0; i < BATCH; i++) {
            memcpy(buf, text, n);
            __asm__ volatile("" : : "r"(buf) : "memory");
        }
        copied = now_ns();
        for (int i = 0; i < BATCH; i++) {
            memcpy(buf, text, n);
            __asm__ volatile("" : : "r"(buf) : "memory");
            guard_pass(&g, &limits, buf, buf, n);
        }
        ns[b] = (now_ns() - copied - (copied - begun)) / BATCH;
    }
    if (g.refusal != REFUSAL_NONE)
        abort();
    qsort(ns, BATCHES, sizeof ns[0], by_size);
    printf("%-28s %4zu bytes %7.1f ns (10 %%: %.1f, 90 %%: %.1f)\n", what, n, ns[BATCHES / 2],
           ns[BATCHES / 10], ns[BATCHES * 9 / 10]);
}

int main(void)
{
    measure("a request of wrk's", wrk, sizeof wrk - 1);
    measure("a request of curl's", curl, sizeof curl - 1);
    measure("a request of a browser's", browser, sizeof browser - 1);
    measure("two chunks", chunks, sizeof chunks - 1);
    return 0;
}
