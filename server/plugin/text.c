#include "plugin/text.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#define MAX_RANGES 512

struct range {
    uintptr_t lo, hi;
    uint32_t plugin;
    uintptr_t base; /* of the object */
};

static struct {
    struct range plugin[MAX_RANGES];
    _Atomic int n_plugin; /* grows only; what is below it does not change */
    struct range waiting[32];
    int n_waiting;
} text;

void text_init(void)
{
    static const char *const names[] = {
        "nanosleep", "clock_nanosleep", "poll",    "ppoll",    "select",      "pselect", "epoll_wait",
        "read",      "write",           "recv",    "recvfrom", "recvmsg",     "send",    "sendto",
        "sendmsg",   "accept",          "accept4", "connect",  "epoll_pwait", "pause",   "wait4",
        "sigsuspend"};

    text.n_waiting = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *p = dlsym(RTLD_DEFAULT, names[i]);
        const ElfW(Sym) *sym = NULL;
        Dl_info info;

        if (p == NULL || dladdr1(p, &info, (void **)&sym, RTLD_DL_SYMENT) == 0 || sym == NULL ||
            sym->st_size == 0)
            continue;
        text.waiting[text.n_waiting++] =
            (struct range){(uintptr_t)p, (uintptr_t)p + sym->st_size, 0, 0};
    }
}

struct add_object {
    const char *path;
    uint32_t plugin;
};

static int add_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
    const struct add_object *a = arg;

    (void)size;
    if (strcmp(info->dlpi_name, a->path) != 0)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        int n = atomic_load(&text.n_plugin);

        if (ph->p_type != PT_LOAD || (ph->p_flags & PF_X) == 0 || n == MAX_RANGES)
            continue;
        text.plugin[n] = (struct range){info->dlpi_addr + ph->p_vaddr,
                                        info->dlpi_addr + ph->p_vaddr + ph->p_memsz, a->plugin,
                                        info->dlpi_addr};
        atomic_store(&text.n_plugin, n + 1);
    }
    return 1;
}

void text_add_object(const char *path, uint32_t plugin)
{
    struct add_object a = {path, plugin};

    dl_iterate_phdr(add_segments, &a);
}

uint32_t text_owner(uintptr_t pc)
{
    int n = atomic_load(&text.n_plugin);

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

bool text_is_waiting(uintptr_t pc)
{
    for (int i = 0; i < text.n_waiting; i++)
        if (pc >= text.waiting[i].lo && pc < text.waiting[i].hi)
            return true;
    return false;
}
