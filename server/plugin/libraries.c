#include "plugin/libraries.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fd.h"
#include "plugin/elf.h"

#define MAX_LIBRARIES 64 /* that one object needs, all levels together */
#define MAX_DEPTH     16
#define CACHE_FILE    "/etc/ld.so.cache"
#define CACHE_MAX     (16u << 20)

static const char *const standard_dirs[] = {
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/local/lib",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
};

struct search {
    struct arena arena;
    const char *done[MAX_LIBRARIES]; /* sonames, in arena */
    int n_done;
    const char **open; /* names not found so far */
    size_t n_open;
    bool is_incomplete; /* some library could not be looked into */
    char *cache;
    size_t cache_size;
};

/* ---- Where a library is ------------------------------------------------------------------- */

/* The layout of ld.so.cache since glibc 2.2 (elf/cache.c, sysdeps/generic/dl-cache.h). */
struct cache_header {
    char magic[20];
    uint32_t n_libs, strings_size, unused[5];
};

struct cache_entry {
    int32_t flags;
    uint32_t key, value, os_version;
    uint64_t hwcap;
};

#define CACHE_X86_64 0x0303 /* ELF libc6, x86-64 */

static const char *cache_string(const struct search *s, uint32_t off)
{
    return off < s->cache_size ? s->cache + off : NULL; /* fd_read_file() put a NUL at the end */
}

static bool find_in_cache(struct search *s, const char *name, char *out, size_t size)
{
    struct cache_header h;
    struct cache_entry e;

    if (s->cache == NULL && fd_read_file(CACHE_FILE, CACHE_MAX, &s->cache, &s->cache_size) < 0)
        return false;
    if (s->cache_size < sizeof h || memcmp(s->cache, "glibc-ld.so.cache1.1", 20) != 0)
        return false;
    memcpy(&h, s->cache, sizeof h);
    for (uint32_t i = 0; i < h.n_libs; i++) {
        size_t at = sizeof h + i * sizeof e;
        const char *key, *value;

        if (at + sizeof e > s->cache_size)
            break;
        memcpy(&e, s->cache + at, sizeof e);
        key = cache_string(s, e.key);
        value = cache_string(s, e.value);
        if (e.flags == CACHE_X86_64 && e.hwcap == 0 && key != NULL && value != NULL &&
            strcmp(key, name) == 0)
            return (size_t)snprintf(out, size, "%s", value) < size && access(out, R_OK) == 0;
    }
    return false;
}

/* A list of folders "a:b:$ORIGIN/c". */
static bool find_in_list(const char *list, const char *object, const char *name, char *out,
                         size_t size)
{
    const char *slash = strrchr(object, '/');
    int origin_len = slash != NULL ? (int)(slash - object) : 1;
    const char *origin = slash != NULL ? object : ".";

    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ":");
        size_t token = strncmp(list, "$ORIGIN", 7) == 0     ? 7
                       : strncmp(list, "${ORIGIN}", 9) == 0 ? 9
                                                            : 0;

        if (n > 0 && n < PATH_MAX && token <= n &&
            (size_t)snprintf(out, size, "%.*s%.*s/%s", token != 0 ? origin_len : 0, origin,
                             (int)(n - token), list + token, name) < size &&
            access(out, R_OK) == 0)
            return true;
        list += n + (list[n] == ':');
    }
    return false;
}

static bool find_library(struct search *s, const struct elf *needed_by, const char *object,
                         const char *name, char *out, size_t size)
{
    if (strchr(name, '/') != NULL)
        return (size_t)snprintf(out, size, "%s", name) < size && access(out, R_OK) == 0;
    if (find_in_list(elf_runpath(needed_by), object, name, out, size) ||
        find_in_list(getenv("LD_LIBRARY_PATH"), object, name, out, size) ||
        find_in_cache(s, name, out, size))
        return true;
    for (size_t i = 0; i < sizeof standard_dirs / sizeof standard_dirs[0]; i++)
        if (find_in_list(standard_dirs[i], object, name, out, size))
            return true;
    return false;
}

/* ---- What it defines ---------------------------------------------------------------------- */

static bool is_done(const struct search *s, const char *name)
{
    for (int i = 0; i < s->n_done; i++)
        if (strcmp(s->done[i], name) == 0)
            return true;
    return false;
}

static bool mark_done(struct search *s, const char *name)
{
    char *copy = s->n_done < MAX_LIBRARIES ? arena_strndup(&s->arena, name, strlen(name)) : NULL;

    if (copy == NULL)
        return false;
    s->done[s->n_done++] = copy;
    return true;
}

static void search_needed(struct search *s, const struct elf *elf, const char *object, int depth);

static void search_library(struct search *s, const char *path, int depth)
{
    char *file, why[128];
    struct elf lib;
    Elf64_Sym sym;
    size_t n;

    if (fd_read_file(path, ELF_MAX_FILE, &file, &n) < 0) {
        s->is_incomplete = true;
        return;
    }
    if (elf_load(file, n, &lib, why, sizeof why) < 0) {
        s->is_incomplete = true;
        free(file);
        return;
    }
    free(file);
    for (size_t i = 0; i < s->n_open;) {
        if (elf_find(&lib, s->open[i], &sym))
            s->open[i] = s->open[--s->n_open];
        else
            i++;
    }
    search_needed(s, &lib, path, depth + 1);
    elf_fini(&lib);
}

static void search_needed(struct search *s, const struct elf *elf, const char *object, int depth)
{
    char path[PATH_MAX];
    const char *name;

    for (unsigned i = 0; s->n_open > 0 && !s->is_incomplete; i++) {
        name = elf_needed(elf, i);
        if (name == NULL)
            break;
        if (is_done(s, name))
            continue;
        s->is_incomplete = depth > MAX_DEPTH || !mark_done(s, name);
        if (s->is_incomplete)
            break;
        if (find_library(s, elf, object, name, path, sizeof path))
            search_library(s, path, depth);
        else
            s->is_incomplete = true;
    }
}

/* Undefined symbols that this process does not offer either: they go to s->open. */
static int collect_undefined(struct search *s, const struct elf *elf)
{
    const char **more, *name;
    size_t cap = 0;
    Elf64_Sym sym;

    for (uint64_t i = 1; i < elf->n_symbols; i++) {
        if (!elf_symbol(elf, i, &sym, &name))
            continue;
        if (sym.st_shndx != SHN_UNDEF || ELF64_ST_BIND(sym.st_info) != STB_GLOBAL ||
            name[0] == '\0' || dlsym(RTLD_DEFAULT, name) != NULL)
            continue;
        if (s->n_open == cap) {
            cap = cap != 0 ? 2 * cap : 64;
            more = reallocarray(s->open, cap, sizeof *more);
            if (more == NULL)
                return -ENOMEM;
            s->open = more;
        }
        s->open[s->n_open++] = name;
    }
    return 0;
}

int libraries_find_missing(const struct elf *elf, const char *path,
                           const char *missing[LIBRARIES_MAX_MISSING], size_t *n, size_t *total)
{
    struct search s = {0};
    int r;

    arena_init(&s.arena, 1u << 20);
    r = collect_undefined(&s, elf);
    if (r == 0) {
        search_needed(&s, elf, path, 0);
        *total = s.is_incomplete ? 0 : s.n_open;
        *n = *total < LIBRARIES_MAX_MISSING ? *total : LIBRARIES_MAX_MISSING;
        for (size_t i = 0; i < *n; i++)
            missing[i] = s.open[i];
    }
    arena_fini(&s.arena);
    free(s.open);
    free(s.cache);
    /* Megabytes were read. What malloc keeps of them every worker would inherit, or not, as chance
     * has it. */
    malloc_trim(0);
    return r;
}
