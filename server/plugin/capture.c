#include "plugin/capture.h"

#include <link.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/crash_id.h"
#include "plugin/hook.h"
#include "plugin/text.h"

#define FULL_PER_MINUTE 8 /* records of one fingerprint; the rest is counted */

enum { UNCHANGED = 1, FULL };

static struct {
    struct shm *shm;
    struct shm_worker *worker;
    int index;
    struct { /* beside worker->fold[]: this process alone */
        int64_t window_ns;
        uint32_t n_full;
    } fold[SHM_FOLDS];
    /* Two lists: objects may be loaded while another thread crashes. */
    struct modules {
        uint64_t adds, subs; /* the loader's own count of what came and went */
        uint32_t n;
        struct shm_module module[SHM_MODULES];
    } modules[2];
    _Atomic uint32_t current; /* of the two */
} capture;

void capture_init(struct shm *shm, int worker)
{
    capture.shm = shm;
    capture.worker = &shm->worker[worker];
    capture.index = worker;
    /* A predecessor's fingerprints belong to its address space. */
    for (int i = 0; i < SHM_FOLDS; i++)
        if (atomic_load_explicit(&capture.worker->fold[i].fp, memory_order_relaxed) != 0)
            atomic_store(&capture.worker->fold[i].fp, 0);
    capture_modules();
}

static const struct modules *modules_now(void)
{
    return &capture.modules[atomic_load(&capture.current) & 1];
}

/* As the list before has it. What is read of an object is a page of the file, which a fork has to
 * fault in again, for each of some thirty objects. */
static bool is_as_before(const struct dl_phdr_info *info, const struct modules *before, uint32_t i)
{
    const struct shm_module *m = &before->module[i];

    return i < before->n && i > 0 && m->bias == info->dlpi_addr &&
           strncmp(m->path, info->dlpi_name, sizeof m->path - 1) == 0;
}

static void find_module(const struct dl_phdr_info *info, bool is_first, struct shm_module *m)
{
    const char *path = info->dlpi_name;

    *m = (struct shm_module){.bias = info->dlpi_addr, .start = UINT64_MAX};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

        if (ph->p_type != PT_LOAD)
            continue;
        if (info->dlpi_addr + ph->p_vaddr < m->start)
            m->start = info->dlpi_addr + ph->p_vaddr;
        if (info->dlpi_addr + ph->p_vaddr + ph->p_memsz > m->end)
            m->end = info->dlpi_addr + ph->p_vaddr + ph->p_memsz;
    }
    if (path[0] == '\0' && is_first) {
        if (readlink("/proc/self/exe", m->path, sizeof m->path - 1) < 0)
            m->path[0] = '\0';
    } else {
        strncpy(m->path, path, sizeof m->path - 1);
    }
}

static bool is_same(const struct shm_module *a, const struct shm_module *b)
{
    return a->bias == b->bias && a->start == b->start && a->end == b->end &&
           strcmp(a->path, b->path) == 0;
}

static int add_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    const struct modules *before = modules_now();
    struct modules *list = arg;
    struct shm_module m;

    (void)size;
    if (list->n == 0) {
        if (before->n > 0 && before->adds == info->dlpi_adds && before->subs == info->dlpi_subs)
            return UNCHANGED;
        list->adds = info->dlpi_adds;
        list->subs = info->dlpi_subs;
    }
    if (list->n == SHM_MODULES)
        return FULL;
    if (is_as_before(info, before, list->n))
        m = before->module[list->n];
    else
        find_module(info, list->n == 0, &m);
    /* A page that is not written is not copied after a fork. */
    if (!is_same(&list->module[list->n], &m))
        list->module[list->n] = m;
    list->n++;
    return 0;
}

void capture_modules(void)
{
    uint32_t other = (atomic_load(&capture.current) & 1) ^ 1;

    capture.modules[other].n = 0;
    if (dl_iterate_phdr(add_module, &capture.modules[other]) != UNCHANGED)
        atomic_store(&capture.current, other);
}

void capture_registers(const ucontext_t *uc, uint64_t *reg)
{
    static const int from[SHM_REGS] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
                                       REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                       REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP, REG_EFL};

    for (int i = 0; i < SHM_REGS; i++)
        reg[i] = (uint64_t)uc->uc_mcontext.gregs[from[i]];
}

/* A plugin's object may be loaded more than once, anywhere in the list: its number says nothing. */
static uint64_t module_offset(uint64_t pc)
{
    const struct modules *list = modules_now();
    uintptr_t base = text_object(pc);

    if (base != 0)
        return pc - base + (UINT64_C(0xffff) << 48);
    for (uint32_t i = 0; i < list->n; i++)
        if (pc >= list->module[i].start && pc < list->module[i].end)
            return pc - list->module[i].start + ((uint64_t)i << 48);
    return pc;
}

uint64_t capture_fingerprint(const struct capture *c)
{
    uint64_t part[4] = {c->plugin, c->hook, (uint64_t)c->signo << 32 | (uint8_t)c->kind[0],
                        module_offset(c->place != 0 ? c->place : c->reg[SHM_RIP])};
    uint64_t h = 0xcbf29ce484222325u;

    for (int i = 0; i < 4; i++) {
        h = (h ^ part[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h != 0 ? h : 1;
}

static struct shm_fold *find_fold(uint64_t fp)
{
    struct shm_fold *fold = capture.worker->fold;

    for (uint32_t k = 0; k < SHM_FOLDS; k++) {
        struct shm_fold *f = &fold[(fp + k) % SHM_FOLDS];
        uint64_t have = atomic_load(&f->fp);

        if (have == fp)
            return f;
        if (have == 0) {
            memset(f->id, 0, sizeof f->id);
            atomic_store(&f->count, 0);
            f->written = 0;
            capture.fold[f - fold].n_full = 0;
            atomic_store(&f->fp, fp);
            return f;
        }
    }
    return NULL; /* a plugin that crashes in 64 places: all recorded as slots allow */
}

/* Reads own memory that may not be there (an overflown stack): the kernel checks, not we. */
static uint32_t copy_stack(uint64_t from, uint8_t *to, uint64_t *start)
{
    uint64_t at = from & ~(uint64_t)7;
    uint32_t got = 0;

    *start = at;
    while (got < SHM_STACK_COPY) {
        /* Page by page, so that the end of the mapping cuts only the rest. */
        size_t n = 4096 - ((at + got) & 4095);
        struct iovec local, remote = {(void *)(uintptr_t)(at + got), 0};
        ssize_t r;

        if (n > SHM_STACK_COPY - got)
            n = SHM_STACK_COPY - got;
        local.iov_base = to + got;
        local.iov_len = remote.iov_len = n;
        r = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
        if (r > 0) {
            got += (uint32_t)r;
            continue;
        }
        if (got == 0 && *start == at && at - from < 65536) {
            /* rsp itself is below the mapping: the first page that is there. */
            at = (at + 4096) & ~(uint64_t)4095;
            *start = at;
            if (at - from < 65536)
                continue;
        }
        break;
    }
    return got;
}

static void copy_text(char *to, size_t size, const char *from)
{
    size_t n = from != NULL ? strnlen(from, size - 1) : 0;

    if (n > 0)
        memcpy(to, from, n);
    to[n] = '\0';
}

/* The last one is for the end of the worker: whatever crashes before it, that shall be on record. */
static struct shm_crash *claim_slot(bool is_last)
{
    for (int i = 0; i < (is_last ? SHM_CRASH_SLOTS : SHM_CRASH_SLOTS - 1); i++) {
        struct shm_crash *s = &capture.worker->crash[i];
        uint32_t free_state = SHM_CRASH_FREE;

        if (atomic_compare_exchange_strong(&s->state, &free_state, SHM_CRASH_FILLING))
            return s;
    }
    return NULL;
}

void capture_label(struct shm_crash *s)
{
    const char *label = capture.worker->call.request;
    size_t n = strnlen(label, sizeof capture.worker->call.request);

    if (s->request_len > 0 || s->verdict != SHM_WORKER_DIED || s->tid != s->pid || n == 0 ||
        n + 2 > sizeof s->request || !hook_is_for_request(s->hook))
        return;
    memcpy(s->request, label, n);
    memcpy(s->request + n, " \n", 2);
    s->request_len = (uint32_t)n + 2;
}

static void fill(struct shm_crash *s, const struct capture *c)
{
    const struct modules *list = modules_now();

    s->time_ns = clock_real_ns();
    record_id_make(s->id, capture.index, s->time_ns);
    s->pid = getpid();
    s->tid = (int32_t)syscall(SYS_gettid);
    s->plugin = c->plugin;
    s->hook = c->hook;
    s->signo = c->signo;
    s->code = c->code;
    s->verdict = c->verdict;
    s->fault_addr = c->fault_addr;
    copy_text(s->kind, sizeof s->kind, c->kind);
    copy_text(s->reason, sizeof s->reason, c->reason);
    copy_text(s->message, sizeof s->message, c->message);
    memcpy(s->reg, c->reg, sizeof s->reg);
    s->stack_len = copy_stack(c->reg[SHM_RSP], s->stack, &s->stack_addr);
    s->n_modules = list->n;
    memcpy(s->module, list->module, list->n * sizeof s->module[0]);
    s->request_len = 0; /* plugin/evidence.c */
    s->has_body = 0;
    s->body_len = 0;
    s->body_seen = 0;
    s->n_steps = 0;
    s->answered_by = 0;
    s->status = 0;
}

void capture_crash(const struct capture *c, struct shm_crash **record, char *id)
{
    struct shm_fold *f;
    int64_t now = clock_read_ns(CLOCK_MONOTONIC_COARSE);
    int i;

    *record = NULL;
    id[0] = '\0';
    if (capture.worker == NULL)
        return;
    f = find_fold(c->fingerprint != 0 ? c->fingerprint : capture_fingerprint(c));
    if (f != NULL) {
        i = (int)(f - capture.worker->fold);
        if (capture.fold[i].n_full == 0 || now - capture.fold[i].window_ns > 60000000000) {
            capture.fold[i].window_ns = now;
            capture.fold[i].n_full = 0;
        }
        /* The last act of a worker always has its own record. */
        if (capture.fold[i].n_full >= FULL_PER_MINUTE && c->verdict != SHM_WORKER_DIED) {
            memcpy(id, f->id, sizeof f->id);
            atomic_store_explicit(&f->last_ns, clock_read_ns(CLOCK_REALTIME_COARSE),
                                  memory_order_relaxed);
            atomic_fetch_add(&f->count, 1);
            shm_kick(capture.shm);
            return;
        }
    }
    *record = claim_slot(c->verdict == SHM_WORKER_DIED);
    if (*record == NULL) { /* the recorder is behind */
        if (f != NULL) {
            memcpy(id, f->id, sizeof f->id);
            atomic_fetch_add(&f->count, 1);
        }
        return;
    }
    fill(*record, c);
    memcpy(id, (*record)->id, sizeof(*record)->id);
    if (f != NULL) {
        capture.fold[i].n_full++;
        memcpy(f->id, id, sizeof f->id);
        atomic_store(&f->count, 0);
        f->written = 0;
    }
}
