#include "matrix.h"

#include <string.h>

/* ---- the table ------------------------------------------------------------------------------- */

#define FAULTS(...) ((const struct matrix_fault[]){__VA_ARGS__, {0}})
#define ALL "abcdefghjl"

/*                                                        specified       this version */
const struct matrix_row matrix[MATRIX_ROWS] = {
    {"SIGSEGV, bad data address", "RRTQFFQQXXRR", "RRTRFFRXXXRR", "",
     FAULTS({"segv", "fault_segv_null", "SIGSEGV", "abcdefghijkl"},
            {"segv_addr", "fault_segv_addr", "SIGSEGV", "abcdl"},
            {"segv_noncanonical", "fault_segv_noncanonical", "SIGSEGV", "abcdl"},
            {"segv_text", "fault_segv_text", "SIGSEGV", "abcdl"},
            {"qsort", "fault_qsort_comparator", "SIGSEGV", "a"},
            {"bad_ptr", "fault_bad_ptr", "SIGSEGV", "k"},
            {"bad_ptr_reply", "fault_bad_ptr_reply", "SIGSEGV", "k"},
            {"bad_ptr_log", "fault_bad_ptr_log", "SIGSEGV", "k"},
            {"bad_req", "fault_bad_req", "SIGSEGV", "k"})},
    {"SIGSEGV, jump to a bad address", "RRTQFFQQXXRR", "RRTRFFRX.XRR", "",
     FAULTS({"jump", "fault_jump", "SIGSEGV", "abcdefghjkl"})},
    {"SIGBUS (truncated mapping)", "RRTQFFQQXXRR", "RRTRFFRXXXRR", "",
     FAULTS({"bus", "fault_bus", "SIGBUS", "abcdefghijkl"})},
    {"SIGFPE", "RRTQFFQQXXRR", "RRTRFFRX.X.R", "", FAULTS({"fpe", "fault_fpe", "SIGFPE", ALL})},
    {"SIGILL, SIGTRAP, `__builtin_trap`", "RRTQFFQQXXRR", "RRTRFFRX.X.R", "",
     FAULTS({"ill", "fault_ill", "SIGILL", ALL}, {"trap", "fault_trap", "SIGTRAP", ALL})},
    {"abort, assert, stack protector, fortify, glibc's heap checks", "RRTQFFQQXXRR", "RRTRFFRXXX.R",
     "",
     FAULTS({"abort", "fault_abort", "SIGABRT", "abcdefghjl"},
            {"assert", "fault_assert", "SIGABRT", "abcdefghjl"},
            {"stack_smash", "fault_stack_smash", "SIGABRT", "abcdefghjl"},
            {"fortify", "fault_fortify", "SIGABRT", "abcdefghjl"},
            {"double_free", "fault_double_free", "SIGABRT", "abcdefghijl"},
            {"free_fault", "fault_free_fault", "SIGABRT", "abcdefghjl"})},
    {"Stack overflow (deep recursion, one 64 MiB frame)", "RRTQFFQQXXRR", "RRTRFFRXXX.R", "",
     FAULTS({"overflow", "fault_overflow_deeper", "SIGSEGV", "abcdefghijl"},
            {"bigframe", "fault_bigframe", "SIGSEGV", "abcdefghjl"})},
    {"Uncaught C++ exception", "RRTQFFQQ-XXR", "RRTRFFRR-X.R", "",
     FAULTS({"throw:std", "throw_std", "SIGABRT", "abcdehl"},
            {"throw:int", "throw_int", "SIGABRT", "abcdehl"},
            {"throw:noexcept", "throw_std", "SIGABRT", "abcdehl"},
            {"throw:terminate", "throw_and_terminate", "SIGABRT", "abcdehl"},
            {"throw", "inside_throw", "SIGABRT", "fj"})},
    {"exit, _exit, quick_exit", "RRTQFFQQ---R", "RRTRFFRX---R", "",
     FAULTS({"exit", "fault_exit", "exit", "abcdefghl"},
            {"_exit", "fault__exit", "_exit", "abcdefghl"},
            {"quick_exit", "fault_quick_exit", "quick_exit", "abcdefghl"})},
    {"Raw exit_group system call, SIGKILL, out-of-memory kill", "XXXXFFFX.X.X", "XXXXFFFX.X.X", "",
     FAULTS({"exit_group", NULL, "worker_death", ALL}, {"sigkill", NULL, "worker_death", ALL})},
    {"pthread_exit, pthread_cancel(self)", "RRTQFFQR-X-R", "RRTRFFRR-X-R", "",
     FAULTS({"pthread_exit", "fault_pthread_exit", "pthread_exit", ALL},
            {"cancel_self", "fault_cancel_self", "pthread_cancel", ALL})},
    {"Endless loop past the deadline", "RRTQFFQQXXXR", "RRTRFFFN.X.R", "",
     FAULTS({"loop", "fault_loop", "deadline", ALL})},
    {"Blocked system call past the deadline", "RRTQFFQQXXXR", "RRTRFFFN.X.R", "",
     FAULTS({"sleep", "fault_sleep", "deadline", ALL})},
    {"Blocked on a mutex past the deadline", "QQTQFFQQXXXQ", "XXXXFFFN.X.X", "",
     FAULTS({"mutex", "fault_mutex", "deadline", ALL})},
    {"longjmp past the boundary, smashed return address", "QQTQFFQQXXXQ", "XXXXFFFX.X.X", "",
     FAULTS({"longjmp", NULL, "boundary", "abcdefghl"},
            {"smash_return", NULL, "SIGSEGV", "abcdefghl"},
            {"smash_stack", NULL, "SIGSEGV", "abcdefghl"})},
    {"Silent heap corruption", "NNNNNNNNXXNN", "NNNNNNNN....", "",
     FAULTS({"heap_corruption", NULL, NULL, "abcdefghl"})},
    {"Closes a file descriptor of the host", "XXXXFFFX.X.X", "XXXXFFFX-..X", "",
     FAULTS({"close_fds", NULL, NULL, "abcdefghl"})},
    {"Own SIGSEGV handler, blocked signals, other altstack", "QQQQFFQQ---Q", "RRRRRRRR---R", "",
     FAULTS({"sigaction", NULL, NULL, "abcdefghl"}, {"sigmask", NULL, NULL, "abcdefghl"},
            {"altstack", NULL, NULL, "abcdefghl"})},
    {"Leaks memory, threads or descriptors without end", "QQQQFFQQQQQQ", "NNNNNNNN..N.", "",
     FAULTS({"leak", NULL, NULL, "abcdefghl"}, {"leak_fd", NULL, NULL, "abcdefghl"},
            {"leak_thread", NULL, NULL, "abcdefghl"})},
    {"fork() whose child returns into the host", "RRTRFFRR---R", "RRRRRRRR---R", "",
     FAULTS({"fork", NULL, NULL, "abcdefghl"})},
};

int matrix_rank(char outcome)
{
    static const char order[] = "RTQXN";
    const char *at = outcome != '\0' ? strchr(order, outcome) : NULL;

    return at != NULL ? (int)(at - order) : (int)sizeof order;
}

bool matrix_is_better(char actual, char specified)
{
    return matrix_rank(actual) < matrix_rank(specified) && specified != 'N' && specified != 'F';
}
