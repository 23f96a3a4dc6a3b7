#include "plugin/symbol.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"

struct file {
    const unsigned char *p;
    uint64_t n;
};

/* n bytes at `at`, or NULL where the file has no such place. */
static const void *at(const struct file *f, uint64_t at, uint64_t n)
{
    return at <= f->n && n <= f->n - at ? f->p + at : NULL;
}

static const char *string_at(const struct file *f, const Elf64_Shdr *strings, uint32_t offset)
{
    const char *s;

    if (offset >= strings->sh_size)
        return NULL;
    s = at(f, strings->sh_offset, strings->sh_size);
    return s != NULL && memchr(s + offset, '\0', strings->sh_size - offset) != NULL ? s + offset
                                                                                    : NULL;
}

static const char *find_in_table(const struct file *f, const Elf64_Shdr *table,
                                 const Elf64_Shdr *strings, uint64_t address)
{
    for (uint64_t i = 0; i < table->sh_size / sizeof(Elf64_Sym); i++) {
        const void *p = at(f, table->sh_offset + i * sizeof(Elf64_Sym), sizeof(Elf64_Sym));
        Elf64_Sym sym;

        if (p == NULL)
            return NULL;
        memcpy(&sym, p, sizeof sym);
        if (ELF64_ST_TYPE(sym.st_info) == STT_FUNC && sym.st_shndx != SHN_UNDEF &&
            sym.st_value == address)
            return string_at(f, strings, sym.st_name);
    }
    return NULL;
}

static bool read_section(const struct file *f, const Elf64_Ehdr *eh, uint32_t i, Elf64_Shdr *out)
{
    const void *p = i < eh->e_shnum && eh->e_shentsize == sizeof *out
                        ? at(f, eh->e_shoff + (uint64_t)i * sizeof *out, sizeof *out)
                        : NULL;

    if (p == NULL)
        return false;
    memcpy(out, p, sizeof *out);
    return true;
}

static const char *find(const struct file *f, uint64_t address)
{
    const void *p = at(f, 0, sizeof(Elf64_Ehdr));
    Elf64_Shdr table, strings;
    Elf64_Ehdr eh;

    if (p == NULL)
        return NULL;
    memcpy(&eh, p, sizeof eh);
    for (uint32_t i = 0; read_section(f, &eh, i, &table); i++) {
        const char *name = NULL;

        if ((table.sh_type == SHT_SYMTAB || table.sh_type == SHT_DYNSYM) &&
            read_section(f, &eh, table.sh_link, &strings))
            name = find_in_table(f, &table, &strings, address);
        if (name != NULL && name[0] != '\0')
            return name;
    }
    return NULL;
}

const char *symbol_name(const void *function, char *buf, size_t size)
{
    struct file f = {.p = MAP_FAILED};
    const char *name = NULL, *base;
    struct stat st;
    Dl_info info;
    uint64_t address;
    int fd;

    if (dladdr(function, &info) == 0 || info.dli_fname == NULL) {
        snprintf(buf, size, "%p", function);
        return buf;
    }
    address = (uint64_t)((uintptr_t)function - (uintptr_t)info.dli_fbase);
    fd = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
        f.n = (uint64_t)st.st_size;
        f.p = mmap(NULL, f.n, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    if (f.p != MAP_FAILED)
        name = find(&f, address);
    base = strrchr(info.dli_fname, '/');
    if (name != NULL)
        snprintf(buf, size, "%s()", name);
    else
        snprintf(buf, size, "%s+0x%llx", base != NULL ? base + 1 : info.dli_fname,
                 (unsigned long long)address);
    if (f.p != MAP_FAILED)
        munmap((void *)(uintptr_t)f.p, f.n);
    fd_close(&fd);
    return buf;
}
