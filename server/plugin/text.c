#include "plugin/text.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>

#define MAX_RANGES 512

struct range {
    uintptr_t lo, hi;
    uint32_t plugin;
    uintptr_t base; /* of the object */
    bool has_tls;
};

static struct {
    struct range plugin[MAX_RANGES];
    _Atomic int n_plugin;     /* grows only; what is below it does not change */
    _Atomic uintptr_t lo, hi; /* of all of them: most addresses are outside */
    struct range waiting[32];
    int n_waiting;
    struct { /* the executable segment */
        uintptr_t lo, hi;
        enum text_system which;
    } object[3];
    int n_objects;
    struct range cxx[4];
    _Atomic int n_cxx;
} text;

static int add_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    uintptr_t in_libc = (uintptr_t)arg;

    (void)size;
    for (int i = 0; i < info->dlpi_phnum && text.n_objects < 3; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr, hi = lo + ph->p_memsz;
        enum text_system which = TEXT_ELSEWHERE;

        if (ph->p_type != PT_LOAD || (ph->p_flags & PF_X) == 0)
            continue;
        if (in_libc >= lo && in_libc < hi)
            which = TEXT_LIBC;
        else if ((uintptr_t)text_init >= lo && (uintptr_t)text_init < hi)
            which = TEXT_HOST;
        else if (info->dlpi_addr == getauxval(AT_BASE))
            which = TEXT_LOADER;
        if (which == TEXT_ELSEWHERE)
            continue;
        text.object[text.n_objects].lo = lo;
        text.object[text.n_objects].hi = hi;
        text.object[text.n_objects++].which = which;
    }
    return 0;
}

void text_init(void)
{
    static const char *const names[] = {
        "nanosleep", "clock_nanosleep", "poll",    "ppoll",       "select",
        "pselect",   "epoll_wait",      "read",    "write",       "recv",
        "recvfrom",  "recvmsg",         "send",    "sendto",      "sendmsg",
        "accept",    "accept4",         "connect", "epoll_pwait", "pause",
        "wait4",     "sigsuspend",      "syscall"}; /* syscall(): the futex waits of C++ (atomics, futures) */

    text.n_objects = 0;
    dl_iterate_phdr(add_object, dlsym(RTLD_DEFAULT, "gnu_get_libc_version"));
    text.n_waiting = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *p = dlsym(RTLD_NEXT, names[i]); /* libc's, not an interposer */
        const ElfW(Sym) *sym = NULL;
        Dl_info info;

        if (p == NULL || dladdr1(p, &info, (void **)&sym, RTLD_DL_SYMENT) == 0 || sym == NULL ||
            sym->st_size == 0)
            continue;
        text.waiting[text.n_waiting++] = (struct range){.lo = (uintptr_t)p,
                                                        .hi = (uintptr_t)p + sym->st_size};
    }
}

struct add_object {
    const char *path;
    uint32_t plugin;
};

static int add_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
    const struct add_object *a = arg;

    bool has_tls = false;

    (void)size;
    if (strcmp(info->dlpi_name, a->path) != 0)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        has_tls |= info->dlpi_phdr[i].p_type == PT_TLS;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        int n = atomic_load(&text.n_plugin);

        if (ph->p_type != PT_LOAD || (ph->p_flags & PF_X) == 0 || n == MAX_RANGES)
            continue;
        text.plugin[n] = (struct range){info->dlpi_addr + ph->p_vaddr,
                                        info->dlpi_addr + ph->p_vaddr + ph->p_memsz, a->plugin,
                                        info->dlpi_addr, has_tls};
        if (n == 0 || text.plugin[n].lo < atomic_load(&text.lo))
            atomic_store(&text.lo, text.plugin[n].lo);
        if (text.plugin[n].hi > atomic_load(&text.hi))
            atomic_store(&text.hi, text.plugin[n].hi);
        atomic_store(&text.n_plugin, n + 1);
    }
    return 1;
}

/* The C++ run-time comes with the first plugin that needs it. */
static int add_cxx(struct dl_phdr_info *info, size_t size, void *arg)
{
    const char *name = strrchr(info->dlpi_name, '/');

    (void)size, (void)arg;
    if (name == NULL ||
        (strncmp(name, "/libstdc++.so", 13) != 0 && strncmp(name, "/libc++.so", 10) != 0 &&
         strncmp(name, "/libc++abi.so", 13) != 0))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + ph->p_vaddr;
        int n = atomic_load(&text.n_cxx);

        if (ph->p_type != PT_LOAD || (ph->p_flags & PF_X) == 0 || text_is_tenant(lo) || n == 4)
            continue;
        text.cxx[n] = (struct range){.lo = lo, .hi = lo + ph->p_memsz};
        atomic_store(&text.n_cxx, n + 1);
    }
    return 0;
}

void text_add_object(const char *path, uint32_t plugin)
{
    struct add_object a = {path, plugin};

    dl_iterate_phdr(add_segments, &a);
    dl_iterate_phdr(add_cxx, NULL);
}

uint32_t text_owner(uintptr_t pc)
{
    int n = atomic_load(&text.n_plugin);

    if (pc >= atomic_load_explicit(&text.hi, memory_order_relaxed) ||
        pc < atomic_load_explicit(&text.lo, memory_order_relaxed))
        return 0;
    for (int i = 0; i < n; i++)
        if (pc >= text.plugin[i].lo && pc < text.plugin[i].hi)
            return text.plugin[i].plugin;
    return 0;
}

uintptr_t text_object(uintptr_t pc)
{
    int n = atomic_load(&text.n_plugin);

    for (int i = 0; i < n; i++)
        if (pc >= text.plugin[i].lo && pc < text.plugin[i].hi)
            return text.plugin[i].base;
    return 0;
}

bool text_is_tenant(uintptr_t pc)
{
    int n = atomic_load(&text.n_cxx);

    for (int i = 0; i < n; i++)
        if (pc >= text.cxx[i].lo && pc < text.cxx[i].hi)
            return true;
    return text_owner(pc) != 0;
}

bool text_has_tls(uintptr_t object)
{
    int n = atomic_load(&text.n_plugin);

    for (int i = 0; i < n; i++)
        if (text.plugin[i].base == object)
            return text.plugin[i].has_tls;
    return false;
}

bool text_range(uintptr_t object, uintptr_t *lo, uintptr_t *size)
{
    int n = atomic_load(&text.n_plugin);

    for (int i = 0; i < n; i++) {
        if (text.plugin[i].base != object)
            continue;
        *lo = text.plugin[i].lo;
        *size = text.plugin[i].hi - text.plugin[i].lo;
        return true;
    }
    return false;
}

bool text_is_waiting(uintptr_t pc)
{
    for (int i = 0; i < text.n_waiting; i++)
        if (pc >= text.waiting[i].lo && pc < text.waiting[i].hi)
            return true;
    return false;
}

enum text_system text_system(uintptr_t pc)
{
    for (int i = 0; i < text.n_objects; i++)
        if (pc >= text.object[i].lo && pc < text.object[i].hi)
            return text.object[i].which;
    return TEXT_ELSEWHERE;
}
