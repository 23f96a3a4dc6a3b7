/*
 * hold.c - keeps many idle connections open: hold PORT N.
 *
 * Each sends one request and reads its answer, as a browser would that comes back later. Says "ready"
 * when all of them stand, or why not, and ends with its standard input.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
    struct sockaddr_in to = {.sin_family = AF_INET};
    int n = argc == 3 ? atoi(argv[2]) : 0;
    struct rlimit limit;
    char answer[1024];

    if (n < 1) {
        fprintf(stderr, "usage: hold PORT N\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((in_port_t)atoi(argv[1]));
    for (int i = 0; i < n; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ||
            send(fd, request, sizeof request - 1, 0) < 0 ||
            recv(fd, answer, sizeof answer, 0) < 12 || memcmp(answer + 9, "200", 3) != 0) {
            printf("only %d of %d connections stand\n", i, n);
            return 1;
        }
    }
    printf("ready\n");
    fflush(stdout);
    while (read(STDIN_FILENO, answer, sizeof answer) > 0)
        ;
    return 0;
}
