#include "plugin/elf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Addresses ---------------------------------------------------------------------------- */

const void *elf_at(const struct elf *elf, uint64_t addr, uint64_t n)
{
    uint64_t off = addr - elf->base;

    if (addr < elf->base || off > elf->size || n > elf->size - off)
        return NULL;
    return elf->image + off;
}

const char *elf_string(const struct elf *elf, uint64_t addr, size_t max)
{
    const char *s = elf_at(elf, addr, 1);
    uint64_t left;

    if (s == NULL)
        return NULL;
    left = elf->size - (addr - elf->base);
    return memchr(s, '\0', left < max ? left : max) != NULL ? s : NULL;
}

bool elf_is_code(const struct elf *elf, uint64_t addr)
{
    for (int i = 0; i < elf->n_segments; i++) {
        const Elf64_Phdr *p = &elf->segment[i];

        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && addr >= p->p_vaddr &&
            addr - p->p_vaddr < p->p_memsz)
            return true;
    }
    return false;
}

/* The ith element of a table of T; false when it lies outside. */
#define READ(elf, table, i, out) read_entry(elf, table, (uint64_t)(i), sizeof *(out), out)

static bool read_entry(const struct elf *elf, uint64_t table, uint64_t i, size_t size, void *out)
{
    uint64_t off;
    const void *p;

    if (__builtin_mul_overflow(i, (uint64_t)size, &off) ||
        __builtin_add_overflow(table, off, &off) || (p = elf_at(elf, off, size)) == NULL)
        return false;
    memcpy(out, p, size);
    return true;
}

/* ---- Loading ------------------------------------------------------------------------------ */

static int check_header(const unsigned char *file, size_t n, Elf64_Ehdr *eh, char *why, size_t size)
{
    const char *what = NULL;

    if (n < SELFMAG || memcmp(file, ELFMAG, SELFMAG) != 0)
        what = "is not an ELF file";
    else if (n < sizeof *eh)
        what = "is truncated: it ends within its header";
    if (what == NULL) {
        memcpy(eh, file, sizeof *eh);
        if (eh->e_ident[EI_CLASS] != ELFCLASS64)
            what = "is a 32-bit object; this server is a 64-bit program";
        else if (eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_machine != EM_X86_64)
            what = "is built for another machine; this server runs on x86-64";
        else if (eh->e_type != ET_DYN)
            what = "is not a shared object: link it with -shared";
        else if (eh->e_phnum == 0 || eh->e_phnum > ELF_MAX_SEGMENTS ||
                 eh->e_phentsize != sizeof(Elf64_Phdr))
            what = "is damaged: its program headers make no sense";
        else if (eh->e_phoff > n || eh->e_phnum * sizeof(Elf64_Phdr) > n - eh->e_phoff)
            what = "is truncated: it ends before its program headers";
        /* Not needed to load it, but the last thing in a file: tells whether the copy is whole. */
        else if (eh->e_shoff != 0 && eh->e_shentsize == sizeof(Elf64_Shdr) &&
                 (eh->e_shoff > n || eh->e_shnum * sizeof(Elf64_Shdr) > n - eh->e_shoff))
            what = "is truncated: it ends before its section headers";
    }
    if (what != NULL)
        snprintf(why, size, "%s", what);
    return what != NULL ? -ENOEXEC : 0;
}

/* Copies PT_LOAD segments to where they belong. */
static int load_segments(const unsigned char *file, size_t n, struct elf *elf, char *why,
                         size_t size)
{
    uint64_t low = UINT64_MAX, high = 0;

    for (int i = 0; i < elf->n_segments; i++) {
        const Elf64_Phdr *p = &elf->segment[i];

        if (p->p_type != PT_LOAD)
            continue;
        if (p->p_filesz > p->p_memsz || p->p_vaddr + p->p_memsz < p->p_vaddr ||
            (p->p_offset - p->p_vaddr) % 4096 != 0) {
            snprintf(why, size, "is damaged: segment %d makes no sense", i);
            return -ENOEXEC;
        }
        if (p->p_offset > n || p->p_filesz > n - p->p_offset) {
            snprintf(why, size, "is truncated: it ends within segment %d", i);
            return -ENOEXEC;
        }
        low = p->p_vaddr < low ? p->p_vaddr : low;
        high = p->p_vaddr + p->p_memsz > high ? p->p_vaddr + p->p_memsz : high;
    }
    if (low >= high || high - low > ELF_MAX_FILE) {
        snprintf(why, size,
                 low >= high ? "is damaged: it has nothing to load"
                             : "is too large: more than 256 MiB in memory");
        return -ENOEXEC;
    }
    elf->base = low;
    elf->size = high - low;
    elf->image = calloc(1, elf->size);
    if (elf->image == NULL)
        return -ENOMEM;
    for (int i = 0; i < elf->n_segments; i++) {
        const Elf64_Phdr *p = &elf->segment[i];

        if (p->p_type == PT_LOAD && p->p_filesz > 0)
            memcpy(elf->image + (p->p_vaddr - low), file + p->p_offset, p->p_filesz);
    }
    return 0;
}

static bool read_dynamic(struct elf *elf)
{
    Elf64_Dyn d;

    for (int i = 0; i < elf->n_segments; i++) {
        if (elf->segment[i].p_type == PT_DYNAMIC) {
            elf->dynamic = elf->segment[i].p_vaddr;
            elf->n_dynamic = elf->segment[i].p_memsz / sizeof(Elf64_Dyn);
        }
    }
    for (uint64_t i = 0; i < elf->n_dynamic && READ(elf, elf->dynamic, i, &d); i++) {
        switch (d.d_tag) {
        case DT_NULL: return elf->symtab != 0 && elf->strtab != 0;
        case DT_SYMTAB: elf->symtab = d.d_un.d_ptr; break;
        case DT_STRTAB: elf->strtab = d.d_un.d_ptr; break;
        case DT_STRSZ: elf->strsz = d.d_un.d_val; break;
        case DT_HASH: elf->hash = d.d_un.d_ptr; break;
        case DT_GNU_HASH: elf->gnu_hash = d.d_un.d_ptr; break;
        case DT_RELA: elf->rela = d.d_un.d_ptr; break;
        case DT_RELASZ: elf->relasz = d.d_un.d_val; break;
        case DT_FLAGS: elf->flags = d.d_un.d_val; break;
        case DT_FLAGS_1: elf->flags_1 = d.d_un.d_val; break;
        case DT_RPATH: elf->runpath = elf->runpath != 0 ? elf->runpath : d.d_un.d_val; break;
        case DT_RUNPATH: elf->runpath = d.d_un.d_val; break;
        default: break;
        }
    }
    return elf->symtab != 0 && elf->strtab != 0;
}

/* Header of DT_GNU_HASH; then `bloom` words of 8 bytes, the buckets, the chains. */
struct gnu_hash {
    uint32_t n_buckets, first, n_bloom, shift;
};

static bool gnu_hash_tables(const struct elf *elf, struct gnu_hash *h, uint64_t *buckets,
                            uint64_t *chains)
{
    if (elf->gnu_hash == 0 || !READ(elf, elf->gnu_hash, 0, h))
        return false;
    *buckets = elf->gnu_hash + sizeof *h + 8ull * h->n_bloom;
    *chains = *buckets + 4ull * h->n_buckets;
    return elf_at(elf, *buckets, 4ull * h->n_buckets) != NULL;
}

/* The dynamic section does not say how many symbols there are; its hash table knows. */
static uint64_t count_symbols(const struct elf *elf)
{
    uint32_t header[2], bucket, value, last = 0;
    uint64_t buckets, chains;
    struct gnu_hash h;

    if (elf->hash != 0 && READ(elf, elf->hash, 0, &header))
        return header[1];
    if (!gnu_hash_tables(elf, &h, &buckets, &chains))
        return 0;
    for (uint32_t i = 0; i < h.n_buckets && READ(elf, buckets, i, &bucket); i++)
        last = bucket > last ? bucket : last;
    if (last < h.first)
        return h.first;
    while (READ(elf, chains, last - h.first, &value)) {
        last++;
        if (value & 1)
            break;
    }
    return last;
}

/*
 * Pointers in the image become the addresses they were linked with. DT_RELR and the in-place part
 * of all else need nothing: with a load bias of 0 they hold that address already.
 */
static void relocate(struct elf *elf)
{
    Elf64_Rela rel;

    for (uint64_t i = 0; i < elf->relasz / sizeof rel && READ(elf, elf->rela, i, &rel); i++) {
        uint64_t value = (uint64_t)rel.r_addend, off = rel.r_offset - elf->base;
        const char *name;
        Elf64_Sym sym;

        if (elf_at(elf, rel.r_offset, sizeof value) == NULL)
            continue;
        switch (ELF64_R_TYPE(rel.r_info)) {
        case R_X86_64_RELATIVE: break;
        case R_X86_64_64:
        case R_X86_64_GLOB_DAT:
            if (!elf_symbol(elf, ELF64_R_SYM(rel.r_info), &sym, &name))
                continue;
            if (sym.st_shndx != SHN_UNDEF)
                value += sym.st_value;
            else if (ELF64_ST_BIND(sym.st_info) != STB_WEAK)
                value = ELF_ELSEWHERE;
            break;
        default: continue;
        }
        memcpy(elf->image + off, &value, sizeof value);
    }
}

int elf_load(const void *file, size_t n, struct elf *elf, char *why, size_t size)
{
    Elf64_Ehdr eh;
    int r;

    memset(elf, 0, sizeof *elf);
    r = check_header(file, n, &eh, why, size);
    if (r < 0)
        return r;
    elf->n_segments = eh.e_phnum;
    memcpy(elf->segment, (const char *)file + eh.e_phoff, eh.e_phnum * sizeof(Elf64_Phdr));
    r = load_segments(file, n, elf, why, size);
    if (r < 0)
        return r;
    if (!read_dynamic(elf)) {
        snprintf(why, size, "is damaged: it has no dynamic section");
        elf_fini(elf);
        return -ENOEXEC;
    }
    elf->n_symbols = count_symbols(elf);
    if (elf->n_symbols > elf->size / sizeof(Elf64_Sym)) /* a lie */
        elf->n_symbols = elf->size / sizeof(Elf64_Sym);
    relocate(elf);
    return 0;
}

void elf_fini(struct elf *elf)
{
    free(elf->image);
    memset(elf, 0, sizeof *elf);
}

/* ---- Symbols ------------------------------------------------------------------------------ */

static const char *name_at(const struct elf *elf, uint64_t off)
{
    return off < elf->strsz ? elf_string(elf, elf->strtab + off, elf->strsz - off) : NULL;
}

bool elf_symbol(const struct elf *elf, uint64_t i, Elf64_Sym *sym, const char **name)
{
    if (i >= elf->n_symbols || !READ(elf, elf->symtab, i, sym))
        return false;
    *name = name_at(elf, sym->st_name);
    return *name != NULL;
}

static bool is_match(const struct elf *elf, uint64_t i, const char *wanted, Elf64_Sym *sym)
{
    unsigned bind;
    const char *name;

    if (!elf_symbol(elf, i, sym, &name) || strcmp(name, wanted) != 0)
        return false;
    bind = ELF64_ST_BIND(sym->st_info);
    return sym->st_shndx != SHN_UNDEF &&
           (bind == STB_GLOBAL || bind == STB_WEAK || bind == STB_GNU_UNIQUE);
}

static bool find_gnu(const struct elf *elf, const char *name, Elf64_Sym *sym)
{
    uint64_t buckets, chains;
    uint32_t hash = 5381, i, value;
    struct gnu_hash h;

    if (!gnu_hash_tables(elf, &h, &buckets, &chains) || h.n_buckets == 0)
        return false;
    for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; c++)
        hash = hash * 33 + *c;
    if (!READ(elf, buckets, hash % h.n_buckets, &i) || i < h.first)
        return false;
    for (; READ(elf, chains, i - h.first, &value); i++) {
        if ((value | 1) == (hash | 1) && is_match(elf, i, name, sym))
            return true;
        if (value & 1)
            break;
    }
    return false;
}

static bool find_sysv(const struct elf *elf, const char *name, Elf64_Sym *sym)
{
    uint32_t header[2], hash = 0, i;

    if (!READ(elf, elf->hash, 0, &header) || header[0] == 0)
        return false;
    for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; c++) {
        hash = (hash << 4) + *c;
        hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
    }
    if (!READ(elf, elf->hash + 8, hash % header[0], &i))
        return false;
    for (uint32_t steps = 0; i != STN_UNDEF && steps <= header[1]; steps++) {
        if (is_match(elf, i, name, sym))
            return true;
        if (!READ(elf, elf->hash + 8 + 4ull * header[0], i, &i))
            break;
    }
    return false;
}

bool elf_find(const struct elf *elf, const char *name, Elf64_Sym *sym)
{
    return elf->gnu_hash != 0 ? find_gnu(elf, name, sym)
                              : elf->hash != 0 && find_sysv(elf, name, sym);
}

const char *elf_needed(const struct elf *elf, unsigned i)
{
    Elf64_Dyn d;

    for (uint64_t k = 0; k < elf->n_dynamic && READ(elf, elf->dynamic, k, &d); k++) {
        if (d.d_tag == DT_NULL)
            break;
        if (d.d_tag == DT_NEEDED && i-- == 0)
            return name_at(elf, d.d_un.d_val);
    }
    return NULL;
}

const char *elf_runpath(const struct elf *elf)
{
    return elf->runpath != 0 ? name_at(elf, elf->runpath) : NULL;
}

/* ---- Notes -------------------------------------------------------------------------------- */

bool elf_note(const struct elf *elf, const char *name, uint32_t type, size_t min,
              const unsigned char **desc, size_t *n)
{
    for (int i = 0; i < elf->n_segments; i++) {
        const Elf64_Phdr *p = &elf->segment[i];
        uint64_t align = p->p_align == 8 ? 8 : 4, at = 0;
        const unsigned char *notes;
        Elf64_Nhdr nh;

        if (p->p_type != PT_NOTE || (notes = elf_at(elf, p->p_vaddr, p->p_filesz)) == NULL)
            continue;
        while (at + sizeof nh <= p->p_filesz) {
            uint64_t text_at = at + sizeof nh, desc_at;

            memcpy(&nh, notes + at, sizeof nh);
            desc_at = (text_at + nh.n_namesz + align - 1) & ~(align - 1);
            if (desc_at + nh.n_descsz > p->p_filesz)
                break;
            if (nh.n_type == type && nh.n_namesz == strlen(name) + 1 && nh.n_descsz >= min &&
                memcmp(notes + text_at, name, nh.n_namesz) == 0) {
                *desc = notes + desc_at;
                *n = nh.n_descsz;
                return true;
            }
            at = (desc_at + nh.n_descsz + align - 1) & ~(align - 1);
        }
    }
    return false;
}
