#include "recorder/unwind.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "obs/record.h"

/* DWARF's numbers of the x86-64 registers, 0 to 16 (System V ABI, figure 3.36). */
static const enum shm_reg dwarf_regs[] = {
    SHM_RAX, SHM_RDX, SHM_RCX, SHM_RBX, SHM_RSI, SHM_RDI, SHM_RBP, SHM_RSP, SHM_R8,
    SHM_R9,  SHM_R10, SHM_R11, SHM_R12, SHM_R13, SHM_R14, SHM_R15, SHM_RIP,
};
#define N_DWARF_REGS (sizeof dwarf_regs / sizeof dwarf_regs[0])
#define DWARF_RSP    7
#define DWARF_RIP    16

/* ---- the objects ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* Objects are loaded from private copies, whose names are "SERIAL-" and the original's. */
static bool is_copy_of(const char *path, const char *object)
{
    const char *name = base_name(path), *original = base_name(object);
    size_t digits = strspn(name, "0123456789");

    if (strcmp(path, object) == 0)
        return true;
    return digits > 0 && name[digits] == '-' && strcmp(name + digits + 1, original) == 0;
}

static bool is_object_of(const struct shm_module *m, const struct recorder_plugin *plugin, int i)
{
    return m->plugin == (uint32_t)i + 1 ||
           (plugin[i].object != NULL && is_copy_of(m->path, plugin[i].object));
}

/* The paths come from a process that crashed: never wait at a FIFO, nor read a device. */
static int open_regular(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool has_build_id(int fd, const char *hex)
{
    const void *id;
    Elf *elf;
    ssize_t n;
    bool same;

    elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    n = elf != NULL ? dwelf_elf_gnu_build_id(elf, &id) : -1;
    same = n > 0 && strlen(hex) == 2 * (size_t)n;
    for (ssize_t i = 0; same && i < n; i++) {
        char byte[3];

        snprintf(byte, sizeof byte, "%02x", ((const unsigned char *)id)[i]);
        same = memcmp(byte, hex + 2 * i, 2) == 0;
    }
    elf_end(elf);
    return same;
}

/* The file of a module, or -1. The recorder runs the same executable as the worker did, which by
 * now may have been replaced on disk; and a private copy is gone once its worker is. */
static int open_object(const struct shm_module *m, const struct recorder_plugin *owner)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    int fd;

    exe[n > 0 ? n : 0] = '\0';
    if (m->path[0] == '\0' || strcmp(m->path, exe) == 0)
        return open_regular("/proc/self/exe");
    if (m->path[0] != '/')
        return -1; /* the vDSO */
    fd = open_regular(m->path);
    if (fd < 0 && owner != NULL && owner->object != NULL && owner->build_id != NULL) {
        fd = open_regular(owner->object);
        if (fd >= 0 && !has_build_id(fd, owner->build_id)) {
            close(fd); /* replaced since: its lines would mislead */
            fd = -1;
        }
    }
    return fd;
}

/* Whose object a module is: that can differ from crash to crash. */
static const struct recorder_plugin *find_owner(struct unwind *u, uint32_t i,
                                                const struct recorder_plugin *plugin, int n_plugins)
{
    const struct shm_module *m = &u->crash->module[i];
    const struct recorder_plugin *owner = NULL;
    struct unwind_object *o = &u->object[i];

    o->is_charged = false;
    for (int p = 0; p < n_plugins; p++) {
        if (!is_object_of(m, plugin, p))
            continue;
        if (owner == NULL)
            owner = &plugin[p];
        o->is_charged |= u->crash->plugin == (uint32_t)p + 1;
    }
    o->is_plugin = owner != NULL;
    o->name = base_name(owner != NULL && owner->object != NULL ? owner->object : m->path);
    return owner;
}

static void report_object(struct unwind *u, uint32_t i, const struct recorder_plugin *owner)
{
    const struct shm_module *m = &u->crash->module[i];
    char name[32];
    int fd = open_object(m, owner);

    if (fd < 0)
        return;
    snprintf(name, sizeof name, "%u", i); /* libdw merges modules of one name */
    u->object[i].mod = dwfl_report_elf(u->dwfl, name, m->path, fd, m->bias, true);
    if (u->object[i].mod == NULL)
        close(fd);
}

static int find_no_elf(Dwfl_Module *mod, void **userdata, const char *name, Dwarf_Addr base,
                       char **file_name, Elf **elfp)
{
    (void)mod;
    (void)userdata;
    (void)name;
    (void)base;
    (void)file_name;
    (void)elfp;
    return -1; /* all were reported with their files */
}

static const Dwfl_Callbacks dwfl_callbacks = {
    .find_elf = find_no_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
};

bool unwind_is_for(const struct unwind *u, const struct shm_crash *crash)
{
    return u->dwfl != NULL && u->made.n == crash->n_modules &&
           memcmp(u->made.module, crash->module, crash->n_modules * sizeof crash->module[0]) == 0;
}

static int open_objects(struct unwind *u, const struct recorder_plugin *plugin, int n_plugins)
{
    const struct shm_crash *crash = u->crash;

    elf_version(EV_CURRENT);
    u->dwfl = dwfl_begin(&dwfl_callbacks);
    if (u->dwfl == NULL)
        return -ENOMEM;
    dwfl_report_begin(u->dwfl);
    for (uint32_t i = 0; i < crash->n_modules; i++)
        report_object(u, i, find_owner(u, i, plugin, n_plugins));
    dwfl_report_end(u->dwfl, NULL, NULL);
    u->made.n = crash->n_modules;
    memcpy(u->made.module, crash->module, crash->n_modules * sizeof crash->module[0]);
    return 0;
}

int unwind_open(struct unwind *u, const struct shm_crash *crash,
                const struct recorder_plugin *plugin, int n_plugins)
{
    int r = 0;

    if (unwind_is_for(u, crash)) {
        u->crash = crash;
        for (uint32_t i = 0; i < crash->n_modules; i++)
            find_owner(u, i, plugin, n_plugins);
    } else {
        unwind_close(u);
        u->crash = crash;
        r = open_objects(u, plugin, n_plugins);
    }
    u->pc = crash->reg[SHM_RIP];
    u->sp = crash->reg[SHM_RSP];
    return r;
}

void unwind_close(struct unwind *u)
{
    dwfl_end(u->dwfl);
    memset(u, 0, sizeof *u);
}

int unwind_object_at(const struct unwind *u, uint64_t addr)
{
    for (uint32_t i = 0; i < u->crash->n_modules; i++) {
        if (addr >= u->crash->module[i].start && addr < u->crash->module[i].end)
            return (int)i;
    }
    return -1;
}

/* ---- memory ---- */

/* The loadable segment of an object's file that holds addr. */
static Elf *find_segment(const struct unwind *u, uint64_t addr, GElf_Phdr *ph, uint64_t *offset)
{
    int i = unwind_object_at(u, addr);
    GElf_Addr bias;
    size_t n = 0;
    Elf *elf;

    if (i < 0 || u->object[i].mod == NULL)
        return NULL;
    elf = dwfl_module_getelf(u->object[i].mod, &bias);
    if (elf == NULL || elf_getphdrnum(elf, &n) < 0)
        return NULL;
    for (size_t k = 0; k < n; k++) {
        if (gelf_getphdr(elf, (int)k, ph) == NULL || ph->p_type != PT_LOAD)
            continue;
        if (addr - bias >= ph->p_vaddr && addr - bias - ph->p_vaddr < ph->p_filesz) {
            *offset = addr - bias - ph->p_vaddr;
            return elf;
        }
    }
    return NULL;
}

bool unwind_is_code(const struct unwind *u, uint64_t addr)
{
    GElf_Phdr ph;
    uint64_t offset;

    return find_segment(u, addr, &ph, &offset) != NULL && (ph.p_flags & PF_X) != 0;
}

bool unwind_read(const struct unwind *u, uint64_t addr, void *to, size_t n)
{
    const struct shm_crash *crash = u->crash;
    uint64_t offset;
    GElf_Phdr ph;
    size_t size;
    char *image;
    Elf *elf;

    if (addr >= crash->stack_addr && addr - crash->stack_addr <= crash->stack_len &&
        n <= crash->stack_len - (addr - crash->stack_addr)) {
        memcpy(to, crash->stack + (addr - crash->stack_addr), n);
        return true;
    }
    elf = find_segment(u, addr, &ph, &offset);
    if (elf == NULL || (ph.p_flags & PF_W) != 0 || n > ph.p_filesz - offset)
        return false;
    image = elf_rawfile(elf, &size);
    if (image == NULL || ph.p_offset > size || offset > size - ph.p_offset ||
        n > size - ph.p_offset - offset)
        return false;
    memcpy(to, image + ph.p_offset + offset, n);
    return true;
}

/* ---- unwinding ---- */

static pid_t next_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
    (void)dwfl;
    if (*thread_arg != NULL)
        return 0;
    *thread_arg = arg;
    return 1; /* any number: there is this one thread */
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **thread_arg)
{
    (void)dwfl;
    (void)tid;
    *thread_arg = arg;
    return true;
}

static bool read_word(Dwfl *dwfl, Dwarf_Addr addr, Dwarf_Word *out, void *arg)
{
    (void)dwfl;
    return unwind_read(arg, addr, out, sizeof *out);
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
    const struct unwind *u = arg;
    Dwarf_Word regs[N_DWARF_REGS];

    for (size_t i = 0; i < N_DWARF_REGS; i++)
        regs[i] = u->crash->reg[dwarf_regs[i]];
    regs[DWARF_RSP] = u->sp;
    regs[DWARF_RIP] = u->pc;
    return dwfl_thread_state_registers(thread, 0, N_DWARF_REGS, regs);
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
    .next_thread = next_thread,
    .get_thread = get_thread,
    .memory_read = read_word,
    .set_initial_registers = set_registers,
};

static int on_frame(Dwfl_Frame *state, void *arg)
{
    struct unwind *u = arg;
    Dwarf_Addr pc;
    Dwarf_Word sp;
    bool is_exact;

    if (!dwfl_frame_pc(state, &pc, &is_exact))
        return DWARF_CB_ABORT;
    if (dwfl_frame_reg(state, DWARF_RSP, &sp) != 0)
        sp = 0;
    u->run.n++;
    if (u->run.each(u->run.arg, pc, !is_exact, sp))
        return DWARF_CB_OK;
    u->run.is_stopped = true;
    return DWARF_CB_ABORT;
}

bool unwind_run(struct unwind *u, unwind_each *each, void *arg)
{
    int r;

    /* The architecture is that of the first module with a file; there has to be one. */
    if (!u->is_attached && !dwfl_attach_state(u->dwfl, NULL, 1, &thread_callbacks, u))
        return false;
    u->is_attached = true;
    u->run.each = each;
    u->run.arg = arg;
    u->run.n = 0;
    u->run.is_stopped = false;
    r = dwfl_getthread_frames(u->dwfl, 1, on_frame, u);
    return u->run.is_stopped || (r == 0 && u->run.n > 0);
}
