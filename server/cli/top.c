/*
 * top.c - `bulkhead top`: what the running server does just now, drawn anew every second.
 *
 * All numbers are differences between two answers to CONTROL_STATUS. What a newcomer would get wrong:
 * a counter may begin anew (an upgrade, a place that another plugin has got), so a smaller number is not
 * a negative rate.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/table.h"

static const char help[] =
    "usage: bulkhead top [-c FILE | --socket PATH] [--interval SECONDS] [--once] [--json]\n"
    "\n"
    "Shows what the running server does just now: requests per second and their times by listener,\n"
    "calls, times, crashes and breakers by plugin, those that hurt first. q ends it. Times of plugins\n"
    "are those of one request in 64.\n"
    "\n"
    "  -c, --config FILE        the config that the server runs with; default:\n"
    "                           /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH        its control socket\n"
    "      --interval SECONDS   between two looks, 0.1 to 60; default: 1\n"
    "      --once               print one interval, and end\n"
    "      --json               one interval as JSON\n"
    "\n"
    "Exit status: 0 done, 1 no server answers, 2 the arguments are wrong.\n";

#define FIRST_MS 300 /* the first interval: somebody waits */

static volatile sig_atomic_t must_end, must_enter;

static json_t *ask_status(const struct ask *ask)
{
    json_t *status = NULL;
    char *text = NULL;
    int result;

    if (ask_server(ask, CONTROL_STATUS, 0, &result, &text) < 0)
        return NULL;
    if (result == 0 && text != NULL)
        status = json_loads(text, 0, NULL);
    free(text);
    if (status == NULL)
        fprintf(stderr, "%s: the server could not tell: %s\n", ask->command,
                result < 0 ? strerror(-result) : "its answer makes no sense");
    return status;
}

/* ---- differences ---- */

static json_int_t since(const json_t *now, const json_t *before, const char *name)
{
    json_int_t a = json_integer_value(json_object_get(now, name));
    json_int_t b = json_integer_value(json_object_get(before, name));

    return a >= b ? a - b : a;
}

static const json_t *find_named(const json_t *list, const char *name)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        const char *its = json_string_value(json_object_get(item, "name"));

        if (its != NULL && name != NULL && strcmp(its, name) == 0)
            return item;
    }
    return NULL;
}

/* How often a value fell into the bucket with that bound. */
static json_int_t count_in(const json_t *buckets, json_int_t bound)
{
    const json_t *pair;
    size_t i;

    json_array_foreach(buckets, i, pair)
    {
        if (json_integer_value(json_array_get(pair, 0)) == bound)
            return json_integer_value(json_array_get(pair, 1));
    }
    return 0;
}

/* In us; -1: there were no values. */
static double quantile(const json_t *now, const json_t *before, double q)
{
    const json_t *a = json_object_get(now, "buckets_ns"),
                 *b = json_object_get(before, "buckets_ns");
    json_int_t total = 0, seen = 0;
    const json_t *pair;

    for (int round = 0; round < 2; round++) {
        size_t i;

        json_array_foreach(a, i, pair)
        {
            json_int_t bound = json_integer_value(json_array_get(pair, 0));
            json_int_t n = json_integer_value(json_array_get(pair, 1)), old = count_in(b, bound);

            n = n >= old ? n - old : n;
            if (round == 0)
                total += n;
            else if ((double)(seen += n) >= q * (double)total && total > 0)
                return (double)bound / 1000;
        }
    }
    return -1;
}

static json_t *times(const json_t *now, const json_t *before)
{
    static const struct {
        const char *name;
        double q;
    } parts[] = {{"p50_us", 0.5}, {"p99_us", 0.99}, {"p999_us", 0.999}};
    json_t *json = json_object();

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        double us = quantile(now, before, parts[i].q);

        json_object_set_new(json, parts[i].name, us >= 0 ? json_real(us) : json_null());
    }
    return json;
}

static json_t *listener_rates(const json_t *now, const json_t *before, double s)
{
    const json_t *requests = json_object_get(now, "requests");
    const json_t *old = json_object_get(before, "requests");
    json_t *json = times(json_object_get(now, "duration"), json_object_get(before, "duration"));
    const char *code;
    json_t *count;
    double n = 0;

    json_object_foreach((json_t *)(uintptr_t)requests, code, count)
    {
        n += (double)since(requests, old, code);
    }
    json_object_set(json, "name", json_object_get(now, "name"));
    json_object_set(json, "connections", json_object_get(now, "connections"));
    json_object_set(json, "in_flight", json_object_get(now, "in_flight"));
    json_object_set_new(json, "requests_per_s", json_real(n / s));
    json_object_set_new(json, "4xx_per_s", json_real((double)since(requests, old, "4xx") / s));
    json_object_set_new(json, "5xx_per_s", json_real((double)since(requests, old, "5xx") / s));
    json_object_set_new(json, "aborted_per_s",
                        json_real((double)since(requests, old, "aborted") / s));
    json_object_set_new(json, "sent_bytes_per_s",
                        json_real((double)since(now, before, "sent_bytes") / s));
    return json;
}

/* The share of one CPU is an estimate: of the calls that were timed, for all of them. */
static json_t *plugin_rates(const json_t *now, const json_t *before, double s)
{
    json_t *json = times(json_object_get(now, "call_duration"),
                         json_object_get(before, "call_duration"));
    double calls = (double)since(now, before, "calls");
    double all_us = json_real_value(json_object_get(now, "timed_us"));
    double all_timed = (double)json_integer_value(json_object_get(now, "timed_calls"));

    json_object_set(json, "name", json_object_get(now, "name"));
    json_object_set_new(json, "calls_per_s", json_real(calls / s));
    json_object_set_new(json, "cpu_percent",
                        json_real(all_timed > 0 ? all_us / all_timed * calls / s / 1e4 : 0));
    json_object_set_new(json, "crashes", json_integer(since(now, before, "crashes")));
    json_object_set_new(json, "crashes_total", json_incref(json_object_get(now, "crashes")));
    json_object_set_new(json, "failures", json_integer(since(now, before, "failures")));
    json_object_set_new(json, "deadlines", json_integer(since(now, before, "deadlines")));
    json_object_set(json, "breaker", json_object_get(json_object_get(now, "breaker"), "state"));
    json_object_set_new(
        json, "blocked_routes",
        json_integer((json_int_t)json_array_size(json_object_get(now, "blocked_routes"))));
    json_object_set(json, "memory_kib", json_object_get(now, "memory_kib"));
    return json;
}

static json_t *rates(const json_t *now, const json_t *before, double s)
{
    json_t *listeners = json_array(), *plugins = json_array(), *item;
    const json_t *list = json_object_get(now, "listeners");
    size_t i;

    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));

        json_array_append_new(
            listeners,
            listener_rates(item, find_named(json_object_get(before, "listeners"), name), s));
    }
    list = json_object_get(now, "plugins");
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));

        json_array_append_new(
            plugins, plugin_rates(item, find_named(json_object_get(before, "plugins"), name), s));
    }
    return json_pack("{s:O, s:O, s:O, s:f, s:O, s:o, s:o}", "state", json_object_get(now, "state"),
                     "generation", json_object_get(now, "generation"), "uptime_s",
                     json_object_get(now, "uptime_s"), "interval_s", s, "problems",
                     json_object_get(now, "problems"), "listeners", listeners, "plugins", plugins);
}

/* ---- for people ---- */

static double number(const json_t *json, const char *name)
{
    return json_number_value(json_object_get(json, name));
}

static const char *show_number(double v, char buf[32])
{
    snprintf(buf, 32, v >= 100 || v == (double)(int)v ? "%.0f" : "%.1f", v);
    return buf;
}

static const char *show_us(const json_t *json, const char *name, char buf[32])
{
    const json_t *v = json_object_get(json, name);
    double us = json_number_value(v);

    if (!json_is_number(v))
        return "-";
    if (us >= 1e6)
        snprintf(buf, 32, "%.2f s", us / 1e6);
    else if (us >= 1000)
        snprintf(buf, 32, "%.1f ms", us / 1000);
    else
        snprintf(buf, 32, us >= 10 ? "%.0f us" : "%.2f us", us);
    return buf;
}

/* Its own breaker says more than those of routes, as in the dashboard. */
static const char *show_breaker(const json_t *p, char buf[32])
{
    const char *breaker = json_string_value(json_object_get(p, "breaker"));
    double n_blocked = number(p, "blocked_routes");

    if (n_blocked == 0 || (breaker != NULL && strcmp(breaker, "closed") != 0))
        return breaker;
    snprintf(buf, 32, "%.0f blocked", n_blocked);
    return buf;
}

/* What hurts comes first, then what takes time. */
static double pain(const json_t *p)
{
    char buf[32];
    const char *breaker = show_breaker(p, buf);
    bool is_out = breaker != NULL && strcmp(breaker, "closed") != 0 && strcmp(breaker, "off") != 0;

    return (is_out ? 1e12 : 0) + 1e9 * (number(p, "crashes") + number(p, "deadlines")) +
           1e6 * number(p, "failures") + number(p, "cpu_percent") + number(p, "calls_per_s") / 1e9;
}

static int by_pain(const void *a, const void *b)
{
    double x = pain(*(json_t *const *)a), y = pain(*(json_t *const *)b);

    return (x < y) - (x > y);
}

static void show_listeners(const json_t *r, FILE *out)
{
    const json_t *list = json_object_get(r, "listeners"), *l;
    struct table t;
    size_t i;

    table_init(&t, 10);
    table_row(&t, "LISTENER", "REQ/S", "4XX/S", "5XX/S", "ABORTED/S", "P50", "P99", "P99.9", "OPEN",
              "IN FLIGHT");
    json_array_foreach(list, i, l)
    {
        char b[9][32];

        table_row(
            &t, json_string_value(json_object_get(l, "name")),
            show_number(number(l, "requests_per_s"), b[0]),
            show_number(number(l, "4xx_per_s"), b[1]), show_number(number(l, "5xx_per_s"), b[2]),
            show_number(number(l, "aborted_per_s"), b[3]), show_us(l, "p50_us", b[4]),
            show_us(l, "p99_us", b[5]), show_us(l, "p999_us", b[6]),
            show_number(number(l, "connections"), b[7]), show_number(number(l, "in_flight"), b[8]));
    }
    table_print(&t, out);
}

/* So that what hurts stays to be seen beside a long name. width: of the screen; 0: none. */
static const char *cut_name(const char *name, int width, char *buf, size_t size)
{
    size_t room = width == 0 ? size - 1 : width > 64 + 10 ? (size_t)width - 64 : 10;

    if (name == NULL)
        name = "?";
    if (room > size - 1)
        room = size - 1;
    if (strlen(name) <= room)
        return name;
    snprintf(buf, size, "%.*s~", (int)room - 1, name);
    return buf;
}

static void show_plugins(const json_t *r, int width, FILE *out)
{
    const json_t *list = json_object_get(r, "plugins");
    size_t n = json_array_size(list);
    json_t **sorted = calloc(n + 1, sizeof *sorted);
    struct table t;

    if (sorted == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        sorted[i] = json_array_get(list, i);
    qsort(sorted, n, sizeof *sorted, by_pain);
    table_init(&t, 10);
    table_row(&t, "PLUGIN", "BREAKER", "CALLS/S", "CPU %", "P50", "P99", "CRASHES", "FAILED",
              "LATE", "MEMORY");
    for (size_t i = 0; i < n; i++) {
        const json_t *p = sorted[i], *memory = json_object_get(p, "memory_kib");
        char b[8][32], breaker[32], name[64];

        snprintf(b[6], 32, "%.1f MiB", json_number_value(memory) / 1024);
        snprintf(b[2], 32, "%.0f (%.0f)", number(p, "crashes"), number(p, "crashes_total"));
        table_row(&t,
                  cut_name(json_string_value(json_object_get(p, "name")), width, name, sizeof name),
                  show_breaker(p, breaker), show_number(number(p, "calls_per_s"), b[0]),
                  show_number(number(p, "cpu_percent"), b[1]), show_us(p, "p50_us", b[3]),
                  show_us(p, "p99_us", b[4]), b[2], show_number(number(p, "failures"), b[5]),
                  show_number(number(p, "deadlines"), b[7]), json_is_null(memory) ? "-" : b[6]);
    }
    table_print(&t, out);
    free(sorted);
}

static void show(const json_t *r, int width, FILE *out)
{
    const json_t *problems = json_object_get(r, "problems"), *problem;
    size_t i;

    fprintf(out, "bulkhead %s, up %.0f s, generation %.0f, over %.1f s\n",
            json_string_value(json_object_get(r, "state")), number(r, "uptime_s"),
            number(r, "generation"), number(r, "interval_s"));
    json_array_foreach(problems, i, problem)
    {
        fprintf(out, "%s%s\n", i == 0 ? "amiss: " : "       ", json_string_value(problem));
    }
    fputc('\n', out);
    show_listeners(r, out);
    fputc('\n', out);
    show_plugins(r, width, out);
}

/* What fits, so that nothing scrolls; each line is cleared behind its text. */
static void draw(const json_t *r)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    char *text = NULL, *line, *save = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    int row = 0;

    if (out == NULL)
        return;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row < 2 || size.ws_col < 2)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    show(r, size.ws_col, out);
    fclose(out);
    fputs("\033[H", stdout);
    save = text;
    for (line = strsep(&save, "\n"); line != NULL && row < size.ws_row - 1;
         line = strsep(&save, "\n"), row++)
        printf("%.*s\033[K\n", size.ws_col - 1, line);
    fputs("\033[J", stdout);
    fflush(stdout);
    free(text);
}

/* ---- the terminal ---- */

#define SCREEN_ENTER "\033[?1049h\033[?25l\033[2J" /* another screen, without a cursor */
#define SCREEN_LEAVE "\033[?25h\033[?1049l"

static struct {
    struct termios keys; /* as it was */
    bool has_keys;
    int stderr_fd; /* of this process, while `errors` stands in for it; -1 */
    int errors;    /* what is said to stderr would tear the picture: it is shown in it */
} terminal = {.stderr_fd = -1, .errors = -1};

/* Async-signal-safe. */
static void leave_screen(void)
{
    static const char text[] = SCREEN_LEAVE;

    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
        return; /* it is gone */
    if (terminal.has_keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.keys);
}

static void enter_screen(void)
{
    struct termios raw = terminal.keys;

    if (terminal.has_keys) {
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    fputs(SCREEN_ENTER, stdout);
    fflush(stdout);
}

static void on_signal(int signo)
{
    if (signo != SIGWINCH)
        must_end = signo;
}

/* Crashes, and what else ends it at once: the shell gets its terminal back all the same. */
static void on_death(int signo)
{
    leave_screen();
    raise(signo); /* SA_RESETHAND: once this returns, it ends by it */
}

/* Ctrl-Z, and what follows `fg`. */
static void on_stop(int signo)
{
    int saved = errno;

    leave_screen();
    raise(SIGSTOP);
    must_enter = 1;
    errno = saved;
    (void)signo;
}

static void take_signals(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    static const int deaths[] = {SIGQUIT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction end = {.sa_handler = on_signal}, stop = {.sa_handler = on_stop};
    struct sigaction death = {.sa_handler = on_death, .sa_flags = (int)SA_RESETHAND};

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        sigaction(ends[i], &end, NULL);
    for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++)
        sigaction(deaths[i], &death, NULL);
    sigaction(SIGTSTP, &stop, NULL);
}

static void terminal_begin(void)
{
    terminal.has_keys = tcgetattr(STDIN_FILENO, &terminal.keys) == 0;
    take_signals();
    terminal.errors = memfd_create("stderr", MFD_CLOEXEC);
    if (terminal.errors >= 0) {
        terminal.stderr_fd = dup(STDERR_FILENO);
        dup2(terminal.errors, STDERR_FILENO);
    }
    enter_screen();
}

static void terminal_end(void)
{
    fflush(stdout);
    leave_screen();
    if (terminal.stderr_fd >= 0) {
        dup2(terminal.stderr_fd, STDERR_FILENO);
        close(terminal.stderr_fd);
        close(terminal.errors);
    }
}

/* What has been said to stderr, one line, and no more of it. */
static void take_errors(char *text, size_t size)
{
    ssize_t n = terminal.errors >= 0 ? pread(terminal.errors, text, size - 1, 0) : 0;

    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (terminal.errors >= 0 && ftruncate(terminal.errors, 0) == 0)
        lseek(terminal.errors, 0, SEEK_SET);
}

/* Until it is time, or a key or a signal comes. */
static void wait_for(int64_t until_ms, bool has_keys)
{
    struct pollfd key = {.fd = has_keys ? STDIN_FILENO : -1, .events = POLLIN};
    int64_t left_ms;

    while (must_end == 0 && must_enter == 0 && (left_ms = until_ms - clock_mono_ms()) > 0) {
        char c = 0;

        if (poll(&key, 1, (int)left_ms) < 0)
            return; /* another size, or the end */
        if (key.revents != 0 && (read(STDIN_FILENO, &c, 1) <= 0 || c == 'q'))
            must_end = 1;
    }
}

static json_t *look(const struct ask *ask, json_t **before, int64_t *before_ms)
{
    int64_t now_ms = clock_mono_ms();
    json_t *now = ask_status(ask), *r;

    if (now == NULL)
        return NULL;
    r = rates(now, *before, (double)(now_ms > *before_ms ? now_ms - *before_ms : 1) / 1000);
    json_decref(*before);
    *before = now;
    *before_ms = now_ms;
    return r;
}

static int run_once(const struct ask *ask, int interval_ms, bool as_json)
{
    int64_t before_ms = clock_mono_ms();
    json_t *before = ask_status(ask), *r;

    if (before == NULL)
        return CLI_FAILED;
    wait_for(before_ms + interval_ms, false);
    r = look(ask, &before, &before_ms);
    json_decref(before);
    if (r == NULL)
        return CLI_FAILED;
    if (as_json)
        return cli_print_json(r);
    show(r, 0, stdout);
    json_decref(r);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

/* A server that is restarted comes again; so it is asked on, until somebody has had enough. */
static void show_trouble(int64_t since_ms)
{
    char why[512];

    take_errors(why, sizeof why);
    printf("\033[H\033[2Jbulkhead top: no answer for %lld s; asking on, q ends it\n\n%s\n",
           (long long)((clock_mono_ms() - since_ms) / 1000), why);
    fflush(stdout);
}

static int run(const struct ask *ask, int interval_ms)
{
    int64_t before_ms = clock_mono_ms(), answered_ms = before_ms, next_ms = before_ms + FIRST_MS;
    json_t *before = ask_status(ask), *r = NULL;

    if (before == NULL)
        return CLI_FAILED;
    terminal_begin();
    while (must_end == 0) {
        wait_for(next_ms, terminal.has_keys);
        if (must_enter != 0) {
            must_enter = 0;
            enter_screen();
        }
        if (must_end == 0 && clock_mono_ms() >= next_ms) {
            next_ms = clock_mono_ms() + interval_ms;
            json_decref(r);
            r = look(ask, &before, &before_ms);
            if (r != NULL)
                answered_ms = before_ms;
        }
        if (must_end == 0 && r != NULL)
            draw(r);
        else if (must_end == 0 && clock_mono_ms() - answered_ms > interval_ms)
            show_trouble(answered_ms);
    }
    terminal_end();
    json_decref(before);
    json_decref(r);
    return CLI_OK;
}

int cli_top(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"socket", required_argument, NULL, 's'},
                                            {"interval", required_argument, NULL, 'i'},
                                            {"once", no_argument, NULL, 'o'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct ask ask = {.command = argv[0]};
    bool is_once = false, as_json = false;
    double interval_s = 1;
    char *end;
    int c;

    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (c) {
        case 'c': ask.config = optarg; break;
        case 's': ask.socket = optarg; break;
        case 'i':
            interval_s = strtod(optarg, &end);
            if (end == optarg || *end != '\0' || !(interval_s >= 0.1 && interval_s <= 60)) {
                fprintf(stderr, "%s: '%s' is no number of seconds from 0.1 to 60\n", argv[0],
                        optarg);
                return CLI_BAD_INPUT;
            }
            break;
        case 'o': is_once = true; break;
        case 'j': as_json = true; break;
        case 'h': return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    if (optind < argc || (ask.config != NULL && ask.socket != NULL))
        return cli_usage_error(argv);
    if (!is_once && !as_json && !isatty(STDOUT_FILENO)) {
        fprintf(stderr, "%s: this is no terminal; --once or --json print one interval\n", argv[0]);
        return CLI_BAD_INPUT;
    }
    return is_once || as_json ? run_once(&ask, (int)(interval_s * 1000), as_json)
                              : run(&ask, (int)(interval_s * 1000));
}
