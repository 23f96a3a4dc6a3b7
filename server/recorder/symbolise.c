#include "recorder/symbolise.h"

#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/shm.h"
#include "obs/record.h"
#include "recorder/unwind.h"

#define MAX_GUESSES 16
#define N_OPEN      4
#define MAX_FILE    200 /* of a trace's 64 frames; longer paths lose their front */

struct trace {
    struct unwind *u;
    struct record_trace *out;
    uint64_t last_sp; /* of the outermost frame so far */
    bool is_first_a_call;
};

/* Of the last crashes: the next, of the same worker, is likely to have the same. */
static struct unwind objects[N_OPEN];

/* How a thread gets from where the fault is to where it was noticed. Prefixes when they end in '*'. */
static const char *const machinery[] = {
    "raise",           "gsignal",
    "abort",           "__pthread_kill*",
    "pthread_kill",    "__assert_*",
    "__stack_chk_*",   "__fortify_*",
    "__chk_fail",      "__libc_message*",
    "__libc_fatal",    "malloc_printerr*",
    "recover_*",       "interpose_*",
    "capture_*",       "exit",
    "_exit",           "_Exit",
    "quick_exit",      "pthread_exit",
    "pthread_cancel",  "_Unwind_*",
    "__cxa_*",         "__cxxabiv1*",
    "std::terminate*", "terminate",
    "_ZSt9terminatev", "_ZN10__cxxabiv1*",
    "__gxx_*",         "__verbose_terminate_handler",
    "_ZN9__gnu_cxx*",  "__ubsan_*",
    "__asan_*",        "__restore_rt",
};

static bool is_machinery(const char *function)
{
    for (size_t i = 0; i < sizeof machinery / sizeof machinery[0]; i++) {
        size_t n = strlen(machinery[i]);

        if (machinery[i][n - 1] == '*' ? strncmp(function, machinery[i], n - 1) == 0
                                       : strcmp(function, machinery[i]) == 0)
            return true;
    }
    return false;
}

static void copy_string(char *to, size_t size, const char *from)
{
    if (from != NULL)
        snprintf(to, size, "%s", from);
}

static struct record_frame *add_frame(struct trace *t, uint64_t pc)
{
    struct record_frame *f;

    if (t->out->n == RECORD_MAX_FRAMES)
        return NULL;
    f = &t->out->frame[t->out->n++];
    memset(f, 0, sizeof *f);
    f->pc = pc;
    return f;
}

/* ---- names ---- */

static void set_place(struct record_frame *f, const char *file, int line)
{
    size_t n = file != NULL ? strlen(file) : 0;

    if (n == 0)
        return;
    if (strncmp(file, "./", 2) == 0) {
        file += 2;
        n -= 2;
    }
    snprintf(f->file, sizeof f->file, "%s%s", n > MAX_FILE ? "..." : "",
             n > MAX_FILE ? file + n - MAX_FILE : file);
    f->line = line > 0 ? (uint32_t)line : 0;
}

/* The scopes around pc as they stand in the machine code, innermost first; an inlined call is one
 * of them. *scopes is malloc'd. */
static int find_scopes(Dwfl_Module *mod, uint64_t pc, Dwarf_Die **scopes)
{
    Dwarf_Addr bias;
    Dwarf_Die *cu = dwfl_module_addrdie(mod, pc, &bias), innermost;
    int n;

    *scopes = NULL;
    if (cu == NULL)
        return 0;
    n = dwarf_getscopes(cu, pc - bias, scopes);
    if (n <= 0)
        return 0;
    /* Past an inlined call these are the scopes of its definition: ask again, from the innermost. */
    innermost = (*scopes)[0];
    free(*scopes);
    *scopes = NULL;
    n = dwarf_getscopes_die(&innermost, scopes);
    return n > 0 ? n : 0;
}

static int call_attribute(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attr;
    Dwarf_Word value;

    if (dwarf_formudata(dwarf_attr(die, name, &attr), &value) != 0 || value > INT32_MAX)
        return 0;
    return (int)value;
}

static const char *call_file(Dwarf_Die *die)
{
    Dwarf_Files *files;
    Dwarf_Die cu;
    size_t n;
    int i = call_attribute(die, DW_AT_call_file);

    if (dwarf_diecu(die, &cu, NULL, NULL) == NULL || dwarf_getsrcfiles(&cu, &files, &n) != 0 ||
        (size_t)i >= n)
        return NULL;
    return dwarf_filesrc(files, (size_t)i, NULL, NULL);
}

/*
 * Names the frame that was added last; every call that was inlined there makes it one more frame:
 * the inlined function first, then who called it, at the place of that call.
 */
static void name_by_scopes(struct trace *t, Dwfl_Module *mod, uint64_t at, const char *symbol)
{
    struct record_frame *f = &t->out->frame[t->out->n - 1];
    Dwarf_Die *scopes;
    int n = find_scopes(mod, at, &scopes);

    for (int i = 0; i < n; i++) {
        struct record_frame *caller;
        int tag = dwarf_tag(&scopes[i]);

        if (tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine)
            continue;
        /* C++'s symbols tell the class as well; C's may end in ".constprop.0" or ".cold". */
        if (tag == DW_TAG_inlined_subroutine || symbol == NULL || strncmp(symbol, "_Z", 2) != 0)
            copy_string(f->function, sizeof f->function, dwarf_diename(&scopes[i]));
        else
            copy_string(f->function, sizeof f->function, symbol);
        if (tag == DW_TAG_subprogram)
            break;
        caller = add_frame(t, f->pc);
        if (caller == NULL)
            break;
        *caller = *f;
        caller->function[0] = caller->file[0] = '\0';
        caller->line = 0;
        f->is_inline = true;
        f->offset = 0;
        set_place(caller, call_file(&scopes[i]), call_attribute(&scopes[i], DW_AT_call_line));
        f = caller;
    }
    free(scopes);
}

static void name_frame(struct trace *t, struct record_frame *f, int object, bool is_call)
{
    const struct unwind_object *o = &t->u->object[object];
    uint64_t at = f->pc - is_call;
    int first = t->out->n - 1, line = 0;
    Dwfl_Line *found;
    const char *symbol, *file;
    GElf_Off offset = 0;
    GElf_Sym sym;

    f->is_plugin = o->is_plugin;
    f->is_charged = o->is_charged;
    copy_string(f->module, sizeof f->module, o->name);
    if (o->mod == NULL)
        return;
    symbol = dwfl_module_addrinfo(o->mod, at, &offset, &sym, NULL, NULL, NULL);
    f->offset = symbol != NULL ? offset + is_call : at - t->u->crash->module[object].bias;
    found = dwfl_module_getsrc(o->mod, at);
    file = found != NULL ? dwfl_lineinfo(found, NULL, &line, NULL, NULL, NULL) : NULL;
    set_place(f, file, line);
    copy_string(f->function, sizeof f->function, symbol);
    name_by_scopes(t, o->mod, at, symbol);
    for (int i = first; i < t->out->n; i++)
        t->out->frame[i].is_machinery = is_machinery(t->out->frame[i].function);
}

/* ---- the way up ---- */

static void add_pc(struct trace *t, uint64_t pc, bool is_call, bool is_guess)
{
    int object = unwind_object_at(t->u, pc - is_call);
    struct record_frame *f = add_frame(t, pc);

    if (f == NULL)
        return;
    /* An object whose file could not be read gets the benefit of the doubt. */
    f->is_code = object >= 0 &&
                 (t->u->object[object].mod == NULL || unwind_is_code(t->u, pc - is_call));
    f->is_guess = is_guess;
    if (object >= 0)
        name_frame(t, f, object, is_call);
}

static bool on_unwound(void *arg, uint64_t pc, bool is_call, uint64_t sp)
{
    struct trace *t = arg;

    if (t->is_first_a_call) { /* see skip_bad_jump() */
        t->is_first_a_call = false;
        is_call = true;
        pc++;
    }
    if (sp != 0)
        t->last_sp = sp;
    add_pc(t, pc, is_call, false);
    return t->out->n < RECORD_MAX_FRAMES;
}

/* Does a call instruction end at this address? */
static bool is_after_call(const struct unwind *u, uint64_t pc)
{
    uint8_t b[7];

    if (!unwind_read(u, pc - sizeof b, b, sizeof b))
        return false;
    if (b[2] == 0xe8)
        return true;               /* call rel32 */
    for (int n = 2; n <= 7; n++) { /* call through a register or memory: ff /2 */
        if (b[7 - n] == 0xff && ((b[8 - n] >> 3) & 7) == 2)
            return true;
    }
    return false;
}

static bool is_return_address(const struct unwind *u, uint64_t value)
{
    return value > 8 && unwind_is_code(u, value) && is_after_call(u, value);
}

/* A call to where no code is has only pushed its return address: show the bad address, go back to
 * the caller. */
static void skip_bad_jump(struct trace *t)
{
    uint64_t from;

    if (unwind_object_at(t->u, t->u->pc) >= 0 && unwind_is_code(t->u, t->u->pc))
        return;
    add_pc(t, t->u->pc, false, false);
    t->last_sp = t->u->sp;
    if (!unwind_read(t->u, t->u->sp, &from, sizeof from) || !is_return_address(t->u, from))
        return;
    /* libdw takes the first frame for one that was interrupted, not for one that has called. One
     * byte back is within the call, where tables and lines are those of the caller. */
    t->u->pc = from - 1;
    t->u->sp += 8;
    t->is_first_a_call = true;
}

static void guess_rest(struct trace *t)
{
    const struct shm_crash *crash = t->u->crash;
    uint64_t value, last = t->out->n > 0 ? t->out->frame[t->out->n - 1].pc : 0;
    uint64_t from = t->last_sp > crash->stack_addr ? t->last_sp : crash->stack_addr;
    int n = 0;

    for (uint64_t at = (from + 7) & ~UINT64_C(7); n < MAX_GUESSES; at += 8) {
        if (at < crash->stack_addr || at - crash->stack_addr + 8 > crash->stack_len)
            break;
        memcpy(&value, crash->stack + (at - crash->stack_addr), sizeof value);
        if (value == last || !is_return_address(t->u, value))
            continue;
        add_pc(t, value, true, true);
        last = value;
        n++;
    }
}

static struct unwind *find_open(const struct shm_crash *crash)
{
    static unsigned next;

    for (int i = 0; i < N_OPEN; i++) {
        if (unwind_is_for(&objects[i], crash))
            return &objects[i];
    }
    return &objects[next++ % N_OPEN];
}

void symbolise(const struct shm_crash *crash, const struct recorder_plugin *plugin, int n_plugins,
               struct record_trace *out)
{
    struct trace t = {.u = find_open(crash), .out = out};
    bool is_complete;

    out->n = 0;
    if (unwind_open(t.u, crash, plugin, n_plugins) < 0) {
        add_frame(&t, crash->reg[SHM_RIP]);
        return;
    }
    skip_bad_jump(&t);
    is_complete = (t.is_first_a_call || out->n == 0) && unwind_run(t.u, on_unwound, &t);
    if (out->n == 0)
        add_pc(&t, t.u->pc, false, false);
    if (!is_complete)
        guess_rest(&t);
}

void symbolise_rest(void)
{
    for (int i = 0; i < N_OPEN; i++)
        unwind_close(&objects[i]);
}
