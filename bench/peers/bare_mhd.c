/*
 * bare_mhd.c - what libmicrohttpd alone can do: the yardstick for everything Bulkhead adds to it.
 *
 * One thread, a host-owned epoll loop around MHD_run, the static library and the daemon options that
 * a worker uses. Not MHD's own epoll_wait: under load that one sleeps on connections that it has
 * collected and not yet served, and would make a very easy yardstick.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static const char body[] = "hello\n";

static enum MHD_Result answer(void *cls, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **request)
{
    static char entered;
    struct MHD_Response *response;
    enum MHD_Result queued;

    (void)cls, (void)url, (void)method, (void)version, (void)upload;
    if (*request == NULL) {
        *request = &entered; /* a reply queued in this first call would close the connection */
        return MHD_YES;
    }
    *upload_size = 0;

    response = MHD_create_response_from_buffer(sizeof body - 1, (void *)body,
                                               MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
    queued = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return queued;
}

static int wait_ms(struct MHD_Daemon *daemon)
{
    MHD_UNSIGNED_LONG_LONG ms;

    if (MHD_get_timeout(daemon, &ms) != MHD_YES)
        return -1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static int serve(struct MHD_Daemon *daemon)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct epoll_event event = {.events = EPOLLIN};
    int loop = epoll_create1(EPOLL_CLOEXEC);

    if (info == NULL || loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, info->epoll_fd, &event) < 0) {
        perror("bare_mhd: epoll");
        return 1;
    }
    for (;;) {
        if (epoll_wait(loop, &event, 1, wait_ms(daemon)) < 0 && errno != EINTR) {
            perror("bare_mhd: epoll_wait");
            return 1;
        }
        if (MHD_run(daemon) != MHD_YES) {
            fputs("bare_mhd: MHD_run failed\n", stderr);
            return 1;
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct MHD_Daemon *daemon;

    if (argc != 2) {
        fputs("usage: bare_mhd PORT   (listens on 127.0.0.1 until it is killed)\n", stderr);
        return 2;
    }
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    signal(SIGPIPE, SIG_IGN);

    daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_TURBO, 0, NULL, NULL, answer, NULL,
                              MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
                              MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_CONNECTION_LIMIT,
                              16384u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16896,
                              MHD_OPTION_END);
    if (daemon == NULL) {
        fprintf(stderr, "bare_mhd: cannot listen on 127.0.0.1:%s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    return serve(daemon);
}
