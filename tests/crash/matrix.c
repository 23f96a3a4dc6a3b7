#include "matrix.h"

#include <string.h>

/* ---- the table ------------------------------------------------------------------------------- */

#define FAULTS(...) ((const struct matrix_fault[]){__VA_ARGS__, {0}})
#define MOST        "abcdefghl"

/* The columns are abcdefghijkl: as specified, as it is, then column h in detail. */
const struct matrix_row matrix[MATRIX_ROWS] = {
    {"SIGSEGV, bad data address", "RRTQFFQQXXRR", "RRTRFFRQRXRR", "RRQQQ",
     FAULTS({"segv", "fault_segv_null", "SIGSEGV", "abcdefghijkl"},
            {"segv_addr", "fault_segv_addr", "SIGSEGV", "abcdl"},
            {"segv_noncanonical", "fault_segv_noncanonical", "SIGSEGV", "abcdl"},
            {"segv_text", "fault_segv_text", "SIGSEGV", "abcdl"},
            {"qsort", "fault_qsort_comparator", "SIGSEGV", "a"},
            {"bad_ptr", "fault_bad_ptr", "SIGSEGV", "k"},
            {"bad_ptr_reply", "fault_bad_ptr_reply", "SIGSEGV", "k"},
            {"bad_ptr_log", "fault_bad_ptr_log", "SIGSEGV", "k"},
            {"bad_req", "fault_bad_req", "SIGSEGV", "k"})},
    {"SIGSEGV, jump to a bad address", "RRTQFFQQXXRR", "RRTRFFRQ.XRR", "RRQQQ",
     FAULTS({"jump", "fault_jump", "SIGSEGV", "abcdefghjkl"})},
    {"SIGBUS (truncated mapping)", "RRTQFFQQXXRR", "RRTRFFRQRXRR", "RRQQQ",
     FAULTS({"bus", "fault_bus", "SIGBUS", "abcdefghijkl"})},
    {"SIGFPE", "RRTQFFQQXXRR", "RRTRFFRQ.X.R", "RRQQQ",
     FAULTS({"fpe", "fault_fpe", "SIGFPE", "abcdefghjl"})},
    {"SIGILL, SIGTRAP, `__builtin_trap`", "RRTQFFQQXXRR", "RRTRFFRQ.X.R", "RRQQQ",
     FAULTS({"ill", "fault_ill", "SIGILL", "abcdefghjl"},
            {"trap", "fault_trap", "SIGTRAP", "abcdefghjl"})},
    {"abort, assert, stack protector, fortify, glibc's heap checks", "RRTQFFQQXXRR", "RRTRFFRQRX.R",
     "RRQQQ",
     FAULTS({"abort", "fault_abort", "SIGABRT", "abcdefghjl"},
            {"assert", "fault_assert", "SIGABRT", "abcdefghjl"},
            {"stack_smash", "fault_stack_smash", "SIGABRT", "abcdefghjl"},
            {"fortify", "fault_fortify", "SIGABRT", "abcdefghjl"},
            {"double_free", "fault_double_free", "SIGABRT", "abcdefghijl"},
            {"free_fault", "fault_free_fault", "SIGABRT", "abcdefghjl"})},
    {"Stack overflow (deep recursion, one 64 MiB frame)", "RRTQFFQQXXRR", "RRTRFFRQRX.R", "RRQQQ",
     FAULTS({"overflow", "fault_overflow_deeper", "SIGSEGV", "abcdefghijl"},
            {"bigframe", "fault_bigframe", "SIGSEGV", "abcdefghjl"})},
    {"Uncaught C++ exception", "RRTQFFQQ-XXR", "RRTRFFRQ-X.R", "RRQ..",
     FAULTS({"throw:std", "throw_std", "SIGABRT", "abcdeghl"},
            {"throw:int", "throw_int", "SIGABRT", "abcdeghl"},
            {"throw:noexcept", "throw_std", "SIGABRT", "abcdeghl"},
            {"throw:terminate", "throw_and_terminate", "SIGABRT", "abcdeghl"},
            {"throw", "inside_throw", "SIGABRT", "fj"})},
    {"exit, _exit, quick_exit", "RRTQFFQQ---R", "RRTRFFRQ---R", "RRQQQ",
     FAULTS({"exit", "fault_exit", "exit", MOST}, {"_exit", "fault__exit", "_exit", MOST},
            {"quick_exit", "fault_quick_exit", "quick_exit", MOST})},
    {"Raw exit_group system call, SIGKILL, out-of-memory kill", "XXXXFFXXXXXX", "XXXXFFFX.X.X",
     "XXXXX",
     FAULTS({"exit_group", NULL, "worker_death", "abcdefghjl"},
            {"sigkill", NULL, "worker_death", "abcdefghjl"})},
    {"pthread_exit, pthread_cancel(self)", "RRTQFFQR-X-R", "RRTRFFRR-X-R", "RRR.R",
     FAULTS({"pthread_exit", "fault_pthread_exit", "pthread_exit", "abcdefghjl"},
            /* In a constructor it only stays pending: cancellation is off. */
            {"cancel_self", "fault_cancel_self", "pthread_cancel", "abcdeghjl"})},
    {"Endless loop past the deadline", "RRTQFFQQXXXR", "RRTRFFRR.X.R", "RR---",
     FAULTS({"loop", "fault_loop", "deadline", "abcdefghjl"})},
    {"Blocked system call past the deadline", "RRTQFFQQXXXR", "RRTRFFRR.X.R", "RR---",
     FAULTS({"sleep", "fault_sleep", "deadline", "abcdefghjl"})},
    {"Blocked on a mutex past the deadline", "QQTQFFQQXXXQ", "QQTQFFQQ.X.Q", "QQ---",
     FAULTS({"mutex", "fault_mutex", "deadline", "abcdefghjl"},
            {"rwlock", "fault_rwlock", "deadline", "a"},
            {"condition", "fault_condition", "deadline", "a"},
            {"semaphore", "fault_semaphore", "deadline", "a"})},
    {"longjmp past the boundary, smashed return address", "QQTQFFQQXXXQ", "XXXXFFFX...X", "XX...",
     FAULTS({"longjmp", "fault_longjmp", "longjmp", "abcdghl", 'R'},
            {"longjmp_unseen", NULL, NULL, MOST},
            {"smash_return", "fault_smash_return", "SIGSEGV", "abcdl", 'R'},
            {"smash_stack", NULL, NULL, "abcdefl"})},
    {"Silent heap corruption", "NNNNNNNNXXNN", "NNNN..NN...N", "NN...",
     FAULTS({"heap_corruption", NULL, NULL, "abcdghl"})},
    {"Closes a file descriptor of the host", "XXXXFFXX-XXX", "RRRRRRRR-..R", "RRRRR",
     FAULTS({"close_fds", NULL, NULL, MOST}, {"dup2_fds", NULL, NULL, MOST},
            {"close_range", NULL, NULL, MOST}, {"close_unseen", NULL, NULL, "abdl", 'X'})},
    {"Own SIGSEGV handler, blocked signals, other altstack", "QQQQFFQQ---Q", "RRRRRRRR---R",
     "RRRRR",
     FAULTS({"sigaction", NULL, NULL, MOST}, {"sigmask", NULL, NULL, MOST},
            {"altstack", NULL, NULL, MOST})},
    {"Leaks memory, threads or descriptors without end", "QQQQFFQQQQQQ", "QQQQFFQQ...Q", "QQQQQ",
     FAULTS({"hoard", NULL, NULL, "abcdeghl"}, {"hoard_fd", NULL, NULL, MOST},
            {"hoard_thread", NULL, NULL, "abcdefhl"}, {"hoard_thread", NULL, NULL, "g", 'F'})},
    {"fork() whose child returns into the host", "RRTRFFRR---R", "RRRRRRRR---R", "RRRRR",
     FAULTS({"fork", NULL, NULL, MOST})},
};

/* ---- why it differs -------------------------------------------------------------------------- */

#define ROW(N)     (1u << (N))
#define ROWS(A, B) ((1u << ((B) + 1)) - (1u << (A)))

static const struct {
    uint32_t rows;
    const char *columns;
    const char *reason;
} differences[] = {
    {ROWS(1, 9) | ROWS(11, 13), "d",
     "on_log and defer run inside the boundary, too, after the client has got its answer: only the "
     "instance is replaced, there is nothing to hand over."},
    {ROWS(1, 9) | ROWS(11, 13), "g",
     "close() runs inside the boundary: what the instance held is lost, its successor is there "
     "already. Destructors of the object run when the worker ends anyhow."},
    {ROWS(1, 7), "i",
     "A plugin allocates from a heap of its own (plugins.NAME.heap), and a fault inside that can be "
     "left: the lock that is held and the tables that are half changed are that heap's alone, nobody "
     "uses it any more, and all of it is given back when the instance is gone. In the server's heap "
     "(`heap: shared`; what libc and other libraries allocate for themselves) it is still X."},
    {ROW(10) | ROW(15), "g",
     "The trial run before the start closes each instance once, in a process of its own. A plugin "
     "that ends that process in close() is refused."},
    {ROWS(12, 13), "h",
     "Jobs, posted and offloaded, have a deadline, and are left like hooks: the request that waits for "
     "one is answered 504, and the thread of the pool takes the next. A thread of the plugin's own, or "
     "a timer, may run and wait for as long as it likes: that is no fault (-)."},
    {ROW(15), "abdl",
     "libc's longjmp() ends the call before a frame of the server's is crossed: R. So does a return "
     "address that is no address at all, which is noticed in the plugin itself. A jump made by hand "
     "(__builtin_longjmp(), assembly) has skipped frames of libmicrohttpd when it is noticed, and so has "
     "a return into frames that were overwritten. What those were about to do is not done, so nothing "
     "can make the loop sound again, and Q is not to be had: the worker is replaced at once. With the "
     "escrow that costs its requests in flight, and no idle connection."},
    {ROW(15), "c",
     "As above: the worker is replaced, and requests of others may have to come again."},
    {ROW(15), "h", "longjmp() out of a job: R. By hand: X, as above."},
    {ROW(17), "abcdefghl",
     "close(), dup2(), close_range() and the like refuse the server's descriptors to plugins (EBADF, a "
     "line in the log that names the plugin, and a failure charged to it): not even that request is "
     "lost. A raw system call goes round this: the worker ends when it notices, X."},
    {ROW(11), "h",
     "In a thread or timer of its own, pthread_exit() is what it is for: nothing is lost. In a job: "
     "R."},
    {ROW(18), "abcdghl",
     "While a plugin runs, sigaction(), sigaltstack() and pthread_sigmask() refuse what belongs to "
     "the server (EPERM, and a warning in the log): not even that request is lost. Raw system calls "
     "go round this."},
    {ROW(18), "ef",
     "As above; what a constructor changed is set right after it, so there is no "
     "reason to refuse the plugin."},
    {ROW(20), "cef",
     "The child ends where it would come back into the server; the parent goes on, so nothing is "
     "lost."},
};

/* Cells that were not run have no outcome to compare. */
static const char unrun[] =
    "No way is known in which a plugin could bring this about (the allocator and the functions of "
    "the host do not divide, trap, loop, call back or exit), or it cannot be told apart from what "
    "is tried elsewhere; the handler judges by the same counters of held locks.";

char matrix_expected(int row, const struct matrix_fault *f, char column)
{
    char actual = matrix[row].actual[column - 'a'];

    if (f->instead == '\0' || strchr("ef", column) != NULL || actual == CELL_NONE)
        return actual;
    return f->instead == 'R' && column == 'c' ? 'T' : f->instead;
}

bool matrix_is_deadline(const struct matrix_fault *f)
{
    return f->cause != NULL && strcmp(f->cause, "deadline") == 0;
}

bool matrix_is_uncharged(int row, const char *place)
{
    /* A lack of descriptors is noticed later, when the plugin that handled a request last is
     * suspected. */
    return row == 17 && (strcmp(place, "offload") == 0 || strcmp(place, "on_error") == 0);
}

/* ---- reading it ------------------------------------------------------------------------------ */

int matrix_rank(char outcome)
{
    static const char order[] = "FRTQXN";
    const char *at = outcome != '\0' ? strchr(order, outcome) : NULL;

    return at == NULL ? (int)sizeof order : at - order < 1 ? 1 : (int)(at - order);
}

static bool has_outcome(char cell)
{
    return cell != CELL_NONE && cell != CELL_UNRUN;
}

/* '+', '-' or ' ' */
static char compare(char actual, char specified)
{
    if (!has_outcome(actual) || actual == specified)
        return ' ';
    if (actual == 'N')
        return '-';
    return specified == 'F' || matrix_rank(actual) < matrix_rank(specified) ? '+' : '-';
}

char matrix_unexplained(int row)
{
    for (int c = 0; c < MATRIX_N_COLUMNS; c++) {
        char actual = matrix[row].actual[c];
        bool is_explained = !has_outcome(actual) || actual == matrix[row].specified[c];

        for (size_t i = 0; !is_explained && i < sizeof differences / sizeof differences[0]; i++)
            is_explained = (differences[i].rows & ROW(row + 1)) != 0 &&
                           strchr(differences[i].columns, MATRIX_COLUMNS[c]) != NULL;
        if (!is_explained)
            return MATRIX_COLUMNS[c];
    }
    return '\0';
}

void matrix_print(FILE *out, char observed[MATRIX_ROWS][MATRIX_N_COLUMNS])
{
    fputs("      ", out);
    for (int c = 0; c < MATRIX_N_COLUMNS; c++)
        fprintf(out, "%c   ", MATRIX_COLUMNS[c]);
    fputc('\n', out);
    for (int row = 0; row < MATRIX_ROWS; row++) {
        const struct matrix_row *r = &matrix[row];

        fprintf(out, " %3d  ", row + 1);
        for (int c = 0; c < MATRIX_N_COLUMNS; c++) {
            char saw = observed[row][c];

            if (has_outcome(saw))
                fprintf(out, "%c%c%c ", saw, compare(saw, r->specified[c]),
                        saw != r->actual[c] ? '!' : ' ');
            else
                fprintf(out, "%c   ", r->actual[c] == CELL_NONE ? CELL_NONE : CELL_UNRUN);
        }
        fprintf(out, " %s\n", r->title);
    }
    fputs("      + better than specified   - worse   ! not as the table of this version says\n",
          out);
}

/* ---- the page -------------------------------------------------------------------------------- */

static const char prose[] =
    "<!-- Written by tests/crash/test_matrix --markdown, from the table that the test runs. -->\n"
    "# What a crash costs\n"
    "\n"
    "Every call into a plugin is made from a *boundary*, a function of the server's that has noted "
    "where to come back to. When the call faults (a signal), or would end the process or the thread "
    "(`exit()`, `abort()`, `pthread_exit()`...), the server judges where it struck. If nothing is "
    "held there, it leaves the call: the changes that the call made to the request are undone, the "
    "`on_error` hooks of the plugins before it are asked for an answer, and else the client gets 500 "
    "(504 when it ran past its deadline). A fresh instance of the plugin takes over. What was on the "
    "plugin's stack is dropped, not unwound: no destructors run.\n"
    "\n"
    "If something is held (the allocator's lock, stdio's, the loader's, or the host itself is in the "
    "middle of a change), leaving could block or corrupt the rest. Then the worker *parks*: it stands "
    "still where it is, a worker that stood by takes its place, and the master moves its connections "
    "there before it ends it. Idle connections do not notice. The request that crashed is answered 500, "
    "by the successor; the others that were being worked on are run again (GET, HEAD and OPTIONS without "
    "a body, of which nothing had been sent: `escrow.replay`), or answered 503 with `Retry-After`; an "
    "answer that had begun is cut. Only a process that is gone at once (SIGKILL, a raw `exit_group`) "
    "takes its connections along. The listening sockets stay open in any case: nobody is refused.\n"
    "\n"
    "Each crash leaves a record in `crash.dir` (`bulkhead crashes list`): when, which plugin, "
    "instance and hook, signal, registers, a backtrace with file and line, the request without its "
    "secrets, the way of the error and who answered. Equal crashes are counted in the first one's "
    "record. It also tells the verdict (R, T, Q or X), and why it was that one. What a worker was doing is published in shared memory before each call, so that even "
    "SIGKILL is charged to the plugin that was running.\n"
    "\n"
    "## What it does not protect from\n"
    "\n"
    "- **Silent corruption** (N). A plugin shares the memory of its worker. A stray write that faults "
    "nowhere can break any request of that worker, or bring about a crash later that is charged to "
    "somebody else. The other workers and the master are not reached.\n"
    "- **Some leaks.** A crash gives back the plugin's own heap and its descriptors. What libc and other "
    "libraries had allocated for it stays, and with `heap: shared` all of it. 10,000 crashes in a row "
    "grow nothing of the server's own.\n"
    "- **Locks of the plugin's own** that it held stay locked. Register their release with "
    "`bh_defer()`, or keep state in the instance, which is replaced.\n"
    "- **Intent.** Raw system calls go round every precaution. This is a bulkhead, not a sandbox: see "
    "[threat-model.md](threat-model.md).\n"
    "- **Requests in flight in a worker that has to end** (X): those that may not be run again are lost, "
    "with an answer that says so. And all connections of a worker that is killed.\n"
    "\n"
    "## Outcomes\n"
    "\n"
    "| | |\n"
    "|---|---|\n"
    "| R | that request gets an error (or what `on_error` made of it); all else goes on |\n"
    "| T | that connection is cut, as its answer had begun; all else goes on |\n"
    "| Q | that request, if it was in one, gets an error; the plugin is ejected, and a fresh worker takes "
    "over gracefully: no connection is lost |\n"
    "| X | the worker is replaced at once: its requests in flight are answered 500 (that one), run again, or "
    "answered 503; its idle connections move to the successor, unless the process was killed |\n"
    "| F | the server refuses to start, and says which plugin did what |\n"
    "| N | not noticed, or only later |\n"
    "| - | cannot occur |\n"
    "| . | not tried |\n"
    "\n"
    "`+`: better than the specification asks for; in parentheses what that asks for where this "
    "version does worse. A cell is the worst of several faults in several places.\n"
    "\n"
    "## Places\n"
    "\n"
    "**a** on_request, **b** on_request_body, **c** on_response_body with the head sent, **d** on_log, "
    "**e** open() and validate(), **f** a constructor of the object, **g** close(), **h** an offloaded "
    "or posted job (R where the cell says Q), a thread that the plugin started, the destructor of "
    "something thread-specific at its end, a timer (SIGEV_THREAD), **i** inside the allocator, **j** inside libc "
    "with a lock held (stdio, loader), **k** inside a function of the host, given a bad pointer, **l** "
    "on_response, on_error, defer.\n"
    "\n"
    "## The matrix\n"
    "\n";

static void write_cell(FILE *out, char actual, char specified)
{
    char mark = compare(actual, specified);

    if (mark == '+')
        fprintf(out, " %c+ |", actual);
    else if (mark == '-')
        fprintf(out, " %c (%c) |", actual, specified);
    else
        fprintf(out, " %c |", actual);
}

/* "1-9, 11" */
static void write_rows(FILE *out, uint32_t rows)
{
    const char *comma = "";

    for (int first = 1; first <= MATRIX_ROWS; first++) {
        int last = first;

        if ((rows & ROW(first)) == 0)
            continue;
        while (last < MATRIX_ROWS && (rows & ROW(last + 1)) != 0)
            last++;
        fprintf(out, "%s%d", comma, first);
        if (last > first)
            fprintf(out, "-%d", last);
        comma = ", ";
        first = last;
    }
}

void matrix_markdown(FILE *out)
{
    fputs(prose, out);
    fputs("| # | Fault |", out);
    for (int c = 0; c < MATRIX_N_COLUMNS; c++)
        fprintf(out, " %c |", MATRIX_COLUMNS[c]);
    fputs("\n|---|---|", out);
    for (int c = 0; c < MATRIX_N_COLUMNS; c++)
        fputs("---|", out);
    fputc('\n', out);
    for (int row = 0; row < MATRIX_ROWS; row++) {
        fprintf(out, "| %d | %s |", row + 1, matrix[row].title);
        for (int c = 0; c < MATRIX_N_COLUMNS; c++)
            write_cell(out, matrix[row].actual[c], matrix[row].specified[c]);
        fputc('\n', out);
    }
    fputs("\n## Where it differs from the specification, and why\n\n", out);
    for (size_t i = 0; i < sizeof differences / sizeof differences[0]; i++) {
        fputs("- Row ", out);
        write_rows(out, differences[i].rows);
        fprintf(out, ", %s: %s\n", differences[i].columns, differences[i].reason);
    }
    fprintf(out, "- `.`: %s\n", unrun);
    fputs(
        "- Row 19: by plugins.NAME.memory, threads and descriptors, which have defaults. Not counted is "
        "what a constructor allocates, what libc and other libraries keep for themselves, and all memory "
        "with `heap: shared`: `recycle.memory` limits the worker as a whole.\n"
        "- Row 19, g: threads that are still there after close() has returned in the trial run are a "
        "reason to refuse the plugin, F.\n"
        "- Row 17: closed by a raw system call, the worker may be deaf without noticing.\n"
        "- Row 10, h: a raw exit in an offloaded job or a thread leaves no trace. If the event loop was "
        "in no call, and all threads beside it worked for one plugin, that one is charged, and the "
        "record says \"suspected\".\n"
        "- Descriptors closed by a raw system call (row 17) are charged to the plugin that last had a "
        "request in on_request or on_request_body, which is not always the one that did it.\n",
        out);
    fputs(
        "\n`make test-crash` proves all of it: each fault in each place, beside three idle "
        "connections, a request that is half sent and one that is paused, which must not notice; "
        "the worker's process id, the crash record and the next requests are checked. It takes 50 "
        "requests after each fault, or as many as `BULKHEAD_MATRIX_REQUESTS` says.\n",
        out);
}
