/*
 * elf.h - a bounds-checked reader of x86-64 shared objects.
 *
 * Works on a copy of the loadable segments as they would lie in memory, at the addresses they were
 * linked for (load bias 0). Everything is found through the program headers and the dynamic
 * section, as the run-time linker does it: stripped objects are fine. Nothing in the file is
 * trusted, and nothing is executed.
 */
#ifndef PLUGIN_ELF_H
#define PLUGIN_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_MAX_FILE     (256u << 20)
#define ELF_MAX_SEGMENTS 128
/* What a relocation against another object's symbol leaves: an address, but of something else. */
#define ELF_ELSEWHERE UINT64_MAX

struct elf {
    unsigned char *image;
    uint64_t base, size; /* addresses [base, base + size) */
    Elf64_Phdr segment[ELF_MAX_SEGMENTS];
    int n_segments;
    /* Of the dynamic section; 0: not there. */
    uint64_t symtab, strtab, strsz, hash, gnu_hash, rela, relasz, flags, flags_1, soname, runpath;
    uint64_t n_symbols;
    uint64_t dynamic, n_dynamic;
};

/* 0, or -ENOEXEC and why ("is truncated", "is not an ELF file": to follow the file's name), or
 * -ENOMEM. The file's bytes are not needed after the call. Relocations are applied. */
int elf_load(const void *file, size_t n, struct elf *elf, char *why, size_t size);
void elf_fini(struct elf *elf);

/* n bytes of the image at addr, or NULL when they are not all inside. Unaligned. */
const void *elf_at(const struct elf *elf, uint64_t addr, uint64_t n);
/* The NUL-terminated string at addr, or NULL when it has no end within max bytes. */
const char *elf_string(const struct elf *elf, uint64_t addr, size_t max);
bool elf_is_code(const struct elf *elf, uint64_t addr);

/* The ith symbol and its name; false past the end or out of bounds. */
bool elf_symbol(const struct elf *elf, uint64_t i, Elf64_Sym *sym, const char **name);
/* A defined symbol by name, through the hash table. */
bool elf_find(const struct elf *elf, const char *name, Elf64_Sym *sym);

/* The ith DT_NEEDED name, NULL past the last. */
const char *elf_needed(const struct elf *elf, unsigned i);
/* DT_RUNPATH or DT_RPATH; NULL: none. */
const char *elf_runpath(const struct elf *elf);

/* A note's descriptor; false when there is none of at least min bytes. */
bool elf_note(const struct elf *elf, const char *name, uint32_t type, size_t min,
              const unsigned char **desc, size_t *n);

#endif
