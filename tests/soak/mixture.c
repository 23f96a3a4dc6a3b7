#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "harness.h"

#define N(ARRAY) (sizeof(ARRAY) / sizeof(ARRAY)[0])

const char *const soak_victim_names[N_VICTIMS] = {"plain", "guarded", "open", "inside", "cxx"};
const char *const soak_what_names[N_WHATS] = {"text", "sum", "stream", "offload", "file", "head"};
const char *const soak_outcome_names[N_OUTCOMES] = {
    "R", "R after the answer", "T", "Q (lock)", "R (deadline)", "X", "killed", "nothing"};

/* ---- faults ---- */

#define PLACES_R(FAULT, WEIGHT)                                                    \
    {FAULT, "on_request", VICTIM_PLAIN, OUTCOME_R, false, WEIGHT, false},          \
        {FAULT, "on_request", VICTIM_GUARDED, OUTCOME_R, false, WEIGHT, false},    \
        {FAULT, "on_request", VICTIM_OPEN, OUTCOME_R, false, WEIGHT, true},        \
        {FAULT, "on_request_body", VICTIM_PLAIN, OUTCOME_R, false, WEIGHT, false}, \
        {FAULT, "on_response", VICTIM_PLAIN, OUTCOME_R, false, WEIGHT, false},     \
        {FAULT, "offload", VICTIM_PLAIN, OUTCOME_R, false, WEIGHT, false},         \
        {FAULT, "on_log", VICTIM_PLAIN, OUTCOME_LATE, false, WEIGHT, false},       \
        {FAULT, "defer", VICTIM_PLAIN, OUTCOME_LATE, false, WEIGHT, false},        \
        {FAULT, "post", VICTIM_PLAIN, OUTCOME_LATE, false, WEIGHT, true},          \
    {                                                                              \
        FAULT, "on_response_body", VICTIM_PLAIN, OUTCOME_T, false, WEIGHT, false   \
    }

#define AT_ONCE(FAULT, OUTCOME, VIOLENT, WEIGHT)                           \
    {                                                                      \
        FAULT, "on_request", VICTIM_PLAIN, OUTCOME, VIOLENT, WEIGHT, false \
    }

/* Weights: of the gentle ones among themselves, and of the violent ones. */
const struct soak_trick soak_tricks[] = {
    PLACES_R("segv", 4),
    PLACES_R("segv_addr", 2),
    PLACES_R("jump", 2),
    PLACES_R("bus", 2),
    PLACES_R("fpe", 2),
    PLACES_R("ill", 2),
    PLACES_R("trap", 2),
    PLACES_R("abort", 2),
    PLACES_R("assert", 2),
    PLACES_R("stack_smash", 2),
    PLACES_R("fortify", 2),
    PLACES_R("double_free", 2),
    PLACES_R("overflow", 2),
    PLACES_R("bigframe", 2),
    PLACES_R("exit", 2),
    PLACES_R("_exit", 2),
    PLACES_R("pthread_exit", 2),
    PLACES_R("cancel_self", 2),
    PLACES_R("longjmp", 2),
    AT_ONCE("qsort", OUTCOME_R, false, 4),
    AT_ONCE("bad_ptr", OUTCOME_R, false, 4),
    AT_ONCE("bad_ptr_reply", OUTCOME_R, false, 4),
    AT_ONCE("bad_req", OUTCOME_R, false, 4),
    AT_ONCE("smash_return", OUTCOME_R, false, 4),
    AT_ONCE("loop", OUTCOME_TIME, false, 3),
    AT_ONCE("sleep", OUTCOME_TIME, false, 3),
    {"loop", "offload", VICTIM_PLAIN, OUTCOME_TIME, false, 3, false},
    {"sleep", "offload", VICTIM_PLAIN, OUTCOME_TIME, false, 3, false},
    AT_ONCE("sigaction", OUTCOME_NOTHING, false, 4),
    AT_ONCE("sigmask", OUTCOME_NOTHING, false, 4),
    AT_ONCE("altstack", OUTCOME_NOTHING, false, 4),
    AT_ONCE("close_fds", OUTCOME_NOTHING, false, 4),
    AT_ONCE("fork", OUTCOME_NOTHING, false, 1),
    {"std", "on_request", VICTIM_CXX, OUTCOME_R, false, 10, false},

    {"segv", "thread", VICTIM_PLAIN, OUTCOME_LATE, true, 3, true},
    {"abort", "thread_end", VICTIM_PLAIN, OUTCOME_LATE, true, 3, true},
    {"exit", "timer", VICTIM_PLAIN, OUTCOME_LATE, true, 3, true},
    AT_ONCE("mutex", OUTCOME_LOCK, true, 3),
    AT_ONCE("semaphore", OUTCOME_LOCK, true, 2),
    {"mutex", "offload", VICTIM_PLAIN, OUTCOME_LOCK, true, 3, false},
    /* In a heap of the instance's own. */
    {"double_free", "allocator", VICTIM_INSIDE, OUTCOME_R, false, 6, false},
    {"abort", "loader", VICTIM_INSIDE, OUTCOME_X, true, 4, false},
    {"fpe", "stdio", VICTIM_INSIDE, OUTCOME_X, true, 4, false},
    {"x", "gone", VICTIM_INSIDE, OUTCOME_X, true, 4, false},
    AT_ONCE("longjmp_unseen", OUTCOME_X, true, 4),
    /* Beside the loop, wherever that is just then. */
    {"stdio_lock", "offload", VICTIM_PLAIN, OUTCOME_X, true, 6, false},
    AT_ONCE("smash_stack", OUTCOME_X, true, 4),
    AT_ONCE("exit_group", OUTCOME_KILLED, true, 2),
    AT_ONCE("sigkill", OUTCOME_KILLED, true, 2),
};

/* ---- choosing ---- */

uint64_t soak_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool is_among(const struct soak_trick *t, bool is_violent, bool is_calm)
{
    /* A plugin with a breaker that crashes again and again is ejected in the end: no calm. */
    return t->is_violent == is_violent &&
           (!is_calm || (t->victim != VICTIM_GUARDED && t->victim != VICTIM_OPEN));
}

static const struct soak_trick *pick_trick(uint64_t *random, bool is_violent, bool is_calm)
{
    uint64_t total = 0, left;

    for (size_t i = 0; i < N(soak_tricks); i++)
        if (is_among(&soak_tricks[i], is_violent, is_calm))
            total += (uint64_t)soak_tricks[i].weight;
    if (total == 0)
        abort(); /* the table has some of every sort */
    left = soak_random(random) % total;
    for (size_t i = 0; i < N(soak_tricks); i++) {
        const struct soak_trick *t = &soak_tricks[i];

        if (!is_among(t, is_violent, is_calm))
            continue;
        if (left < (uint64_t)t->weight)
            return t;
        left -= (uint64_t)t->weight;
    }
    return &soak_tricks[0];
}

/* Many small answers, few large ones. */
static uint32_t pick_size(uint64_t *random)
{
    uint64_t r = soak_random(random);

    switch (r % 8) {
    case 0: return 0;
    case 1: return (uint32_t)(r >> 8) % 200000;
    case 2:
    case 3: return (uint32_t)(r >> 8) % 20000;
    default: return (uint32_t)(r >> 8) % 1000;
    }
}

static enum soak_what what_for(const struct soak_trick *t)
{
    if (strcmp(t->at, "on_request_body") == 0)
        return ASK_SUM;
    if (strcmp(t->at, "on_response_body") == 0)
        return ASK_STREAM;
    return ASK_TEXT;
}

void soak_pick(uint64_t *random, bool with_fault, bool is_violent_allowed, struct soak_ask *out)
{
    uint64_t r = soak_random(random);

    memset(out, 0, sizeof *out);
    out->key = soak_random(random) >> 1;
    out->n = pick_size(random);
    if (with_fault) {
        out->trick = pick_trick(random, is_violent_allowed && r % 32 == 0, !is_violent_allowed);
        out->victim = out->trick->victim;
        out->what = what_for(out->trick);
        if (out->what == ASK_STREAM) { /* the third piece is at fault */
            out->n = 40000;
            out->key |= 1;
        }
        out->n |= out->what == ASK_SUM; /* there is a body */
        return;
    }
    out->what = r % 16 < 5    ? ASK_TEXT
                : r % 16 < 9  ? ASK_SUM
                : r % 16 < 11 ? ASK_STREAM
                : r % 16 < 13 ? ASK_OFFLOAD
                : r % 16 < 15 ? ASK_HEAD
                              : ASK_FILE;
    out->victim = (enum soak_victim)((r >> 8) % 3);
    out->is_chunked = (r >> 16) % 3 == 0;
    out->is_last = (r >> 20) % 32 == 0;
    out->n |= out->what == ASK_SUM;
    if (out->what == ASK_FILE) {
        out->key = SOAK_FILE_KEY;
        out->n = SOAK_FILE_SIZE;
    }
}

/* ---- writing ---- */

static void write_body(FILE *out, const struct soak_ask *ask)
{
    char piece[3000];

    for (uint32_t at = 0, n; at < ask->n; at += n) {
        n = ask->n - at < sizeof piece ? ask->n - at : (uint32_t)sizeof piece;
        answer_fill(ask->key, at, piece, n);
        if (ask->is_chunked)
            fprintf(out, "%x\r\n", n);
        fwrite(piece, 1, n, out);
        if (ask->is_chunked)
            fputs("\r\n", out);
    }
    if (ask->is_chunked)
        fputs("0\r\n\r\n", out);
}

static void write_target(FILE *out, const struct soak_ask *ask)
{
    const struct soak_trick *t = ask->trick;

    if (ask->what == ASK_FILE)
        fputs("/file/answer.bin", out);
    else
        fprintf(out, "/%s/%s?key=%llu&n=%u", soak_victim_names[ask->victim],
                ask->what == ASK_HEAD ? "text" : soak_what_names[ask->what],
                (unsigned long long)ask->key, ask->what == ASK_SUM ? 0 : ask->n);
    if (t != NULL)
        fprintf(out, "&fault=%s&at=%s%s", t->fault, t->at,
                strcmp(t->at, "on_response_body") == 0 ? "&chunk=3" : "");
}

char *soak_write(const struct soak_ask *ask, size_t *n)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, n);

    if (out == NULL)
        abort();
    fputs(ask->what == ASK_SUM ? "POST " : ask->what == ASK_HEAD ? "HEAD " : "GET ", out);
    write_target(out, ask);
    fprintf(
        out, " HTTP/1.1\r\nHost: soak\r\nAccept: application/json\r\nX-Padding: %.*s\r\n",
        (int)(ask->key % 300),
        "----------------------------------------------------------------------------------------"
        "----------------------------------------------------------------------------------------"
        "----------------------------------------------------------------------------------------"
        "--------------------------------------");
    if (ask->is_last)
        fputs("Connection: close\r\n", out);
    if (ask->what != ASK_SUM)
        fputs("\r\n", out);
    else if (ask->is_chunked)
        fputs("Transfer-Encoding: chunked\r\n\r\n", out);
    else
        fprintf(out, "Content-Length: %u\r\n\r\n", ask->n);
    if (ask->what == ASK_SUM)
        write_body(out, ask);
    fclose(out);
    return text;
}

char *soak_config(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    if (out == NULL)
        abort();
    fputs(
        "plugins:\n"
        "  pages: {module: error_pages}\n"
        "  checked: {module: checked}\n"
        "  site: {module: static, config: {root: www, cache_size: 0}}\n"
        "  plain: {module: fault, deadline: 400ms, breaker: {crashes: 0}, config: {from_request: true, reply: false}}\n"
        "  guarded: {module: fault, breaker: {crashes: 5, window: 3s, open: 500ms, trials: 2},\n"
        "    config: {from_request: true, reply: false}}\n"
        "  open: {module: fault, on_error: fail_open, breaker: {crashes: 5, window: 3s, open: 500ms},\n"
        "    config: {from_request: true, reply: false}}\n"
        "  inside: {module: inside, breaker: {crashes: 0}}\n"
        "  cxx: {module: throw, breaker: {crashes: 0}, config: {reply: false}}\n"
        "routes:\n"
        "  - {match: {path: /plain/**}, chain: [pages, plain, checked]}\n"
        "  - {name: one, match: {path: /guarded/text}, chain: [pages, guarded, checked]}\n"
        "  - {match: {path: /guarded/**}, chain: [pages, guarded, checked]}\n"
        "  - {match: {path: /open/**}, chain: [pages, open, checked]}\n"
        "  - {match: {path: /inside/**}, chain: [pages, inside]}\n"
        "  - {match: {path: /cxx/**}, chain: [pages, cxx, checked]}\n"
        "  - {match: {path: /file/**}, chain: [pages, site]}\n",
        out);
    fclose(out);
    return text;
}
