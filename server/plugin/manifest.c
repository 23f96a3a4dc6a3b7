#include "plugin/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/diag.h"
#include "base/fd.h"
#include "base/text.h"
#include "obs/utf8.h"
#include "plugin/elf.h"
#include "plugin/libraries.h"
#include "plugin/options.h"

#define ARENA_LIMIT (4u << 20)
#define MAX_STRING  4096
#define NOTE_NAME   "bulkhead"
#define NOTE_TYPE   1
#define STR_(x)     #x
#define STR(x)      STR_(x)
#define ABI_TEXT    STR(BH_ABI_MAJOR) "." STR(BH_ABI_MINOR)

/* One object being read. */
struct reader {
    struct elf elf;
    struct manifest *m;
    struct diag *diag;
};

__attribute__((format(printf, 3, 4))) static int refuse(struct reader *rd, const char *hint,
                                                        const char *fmt, ...)
{
    char what[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    diag_add(rd->diag, rd->m->path, 0, 0, hint, "%s", what);
    return -ENOEXEC;
}

static int no_memory(struct reader *rd)
{
    refuse(rd, NULL, "no memory left to read it");
    return -ENOMEM;
}

/* ---- Notes -------------------------------------------------------------------------------- */

static int read_abi_note(struct reader *rd)
{
    struct manifest *m = rd->m;
    const unsigned char *desc;
    uint16_t v[4]; /* major, minor, min_minor, sizeof(void *): see bh__note_t */
    size_t n;

    if (!elf_note(&rd->elf, NOTE_NAME, NOTE_TYPE, sizeof v, &desc, &n))
        return refuse(rd, "plugins include bulkhead.h and have one BH_PLUGIN(...)",
                      "has no Bulkhead ABI note: it is not a Bulkhead plugin");
    memcpy(v, desc, sizeof v);
    m->abi_major = v[0];
    m->abi_minor = v[1];
    m->min_minor = v[2];
    if (m->abi_major != BH_ABI_MAJOR)
        return refuse(rd, "build it with this server's bulkhead.h",
                      "is built for plugin ABI %u.%u; this server has " ABI_TEXT, m->abi_major,
                      m->abi_minor);
    if (m->min_minor > BH_ABI_MINOR)
        return refuse(rd, "use a newer server, or build it with a smaller BH_TARGET_MINOR",
                      "needs plugin ABI %u.%u at least; this server has " ABI_TEXT, m->abi_major,
                      m->min_minor);
    if (v[3] != sizeof(void *))
        return refuse(rd, NULL, "is built for pointers of %u bytes", v[3]);
    return 0;
}

static void read_build_id(struct reader *rd)
{
    const unsigned char *desc;
    char *hex = rd->m->build_id;
    size_t n;

    if (!elf_note(&rd->elf, ELF_NOTE_GNU, NT_GNU_BUILD_ID, 1, &desc, &n))
        return;
    for (size_t i = 0; i < n && 2 * i + 2 < sizeof rd->m->build_id; i++)
        snprintf(hex + 2 * i, 3, "%02x", desc[i]);
}

/* ---- The descriptor ----------------------------------------------------------------------- */

/* Text that can go to a terminal and into JSON: UTF-8 without control characters. */
static bool is_plain_text(const char *s)
{
    for (size_t n = strlen(s), len; n > 0; s += len, n -= len) {
        len = utf8_length(s, n);
        if (len == 0 || (unsigned char)s[0] < 0x20 || s[0] == 0x7f ||
            (s[0] == '\xc2' && (unsigned char)s[1] < 0xa0))
            return false;
    }
    return true;
}

/* Replaces a pointer of the image, which is an address there, by a copy of the string. */
static int take_string(struct reader *rd, const char **s, const char *what)
{
    uint64_t addr = (uint64_t)(uintptr_t)*s;
    const char *text;

    if (addr == 0)
        return 0;
    *s = NULL;
    text = elf_string(&rd->elf, addr, MAX_STRING);
    if (text == NULL)
        return refuse(rd, NULL,
                      "malformed descriptor: %s lies outside of the object, or has no end", what);
    if (!is_plain_text(text))
        return refuse(rd, NULL, "malformed descriptor: %s is not plain UTF-8 text", what);
    *s = arena_strndup(rd->m->arena, text, strlen(text));
    return *s != NULL ? 0 : no_memory(rd);
}

static int take_option(struct reader *rd, bh_opt *o)
{
    int r = take_string(rd, &o->name, "an option's name");

    if (r == 0)
        r = take_string(rd, &o->def, "an option's default");
    if (r == 0)
        r = take_string(rd, &o->choices, "an option's list of choices");
    if (r == 0)
        r = take_string(rd, &o->help, "an option's help");
    return r;
}

static int take_options(struct reader *rd, bh_plugin *desc)
{
    uint64_t addr = (uint64_t)(uintptr_t)desc->options;
    bh_opt *options, o;
    const void *p;
    int n = 0, r;

    desc->options = NULL;
    if (addr == 0)
        return 0;
    for (;; n++) {
        p = n <= OPTIONS_MAX ? elf_at(&rd->elf, addr + (uint64_t)n * sizeof o, sizeof o) : NULL;
        if (p == NULL)
            return refuse(rd,
                          "the table ends with BH_OPT_END; at most " STR(OPTIONS_MAX) " options",
                          "malformed descriptor: its table of options has no end");
        memcpy(&o, p, sizeof o);
        if (o.name == NULL)
            break;
    }
    options = arena_zalloc(rd->m->arena, ((size_t)n + 1) * sizeof *options);
    if (options == NULL)
        return no_memory(rd);
    for (int i = 0; i < n; i++) {
        memcpy(&options[i], elf_at(&rd->elf, addr + (uint64_t)i * sizeof o, sizeof o), sizeof o);
        r = take_option(rd, &options[i]);
        if (r < 0)
            return r;
    }
    desc->options = options;
    return 0;
}

/* The members from validate on are functions: each is absent, code of this object, or elsewhere. */
static int check_hooks(struct reader *rd, const bh_plugin *desc)
{
    for (size_t off = offsetof(bh_plugin, validate); off < sizeof *desc; off += sizeof(void *)) {
        uint64_t addr;

        memcpy(&addr, (const char *)desc + off, sizeof addr);
        if (addr != 0 && addr != ELF_ELSEWHERE && !elf_is_code(&rd->elf, addr))
            return refuse(rd, NULL,
                          "malformed descriptor: a hook is not a function of this object");
    }
    return 0;
}

static int read_descriptor(struct reader *rd)
{
    bh_plugin *desc;
    char why[256];
    uint32_t size;
    Elf64_Sym sym;
    const void *p;
    int r;

    if (!elf_find(&rd->elf, "bh_plugin_v1", &sym) || !elf_is_code(&rd->elf, sym.st_value))
        return refuse(rd, "BH_PLUGIN(...) defines it; do not hide it with a linker script",
                      "has no entry point bh_plugin_v1");
    if (!elf_find(&rd->elf, "bh_plugin_v1_descriptor", &sym))
        return refuse(rd, "BH_PLUGIN(...) defines it; do not hide it with a linker script",
                      "has no descriptor bh_plugin_v1_descriptor");
    p = elf_at(&rd->elf, sym.st_value, sizeof size);
    size = 0;
    if (p != NULL)
        memcpy(&size, p, sizeof size);
    /* Larger: of a later minor; what it has more is for later hosts. */
    if (size < sizeof *desc || (p = elf_at(&rd->elf, sym.st_value, sizeof *desc)) == NULL)
        return refuse(rd, NULL, "malformed descriptor: its struct_size is %u, not %zu or more",
                      size, sizeof *desc);
    desc = arena_alloc(rd->m->arena, sizeof *desc);
    if (desc == NULL)
        return no_memory(rd);
    memcpy(desc, p, sizeof *desc);
    if (desc->abi_major != rd->m->abi_major || desc->min_minor != rd->m->min_minor)
        return refuse(rd, NULL, "malformed descriptor: its ABI version is not that of the note");
    r = take_string(rd, &desc->name, "the name");
    if (r == 0)
        r = take_string(rd, &desc->version, "the version");
    if (r == 0)
        r = take_string(rd, &desc->summary, "the summary");
    if (r == 0)
        r = take_string(rd, &desc->caps, "the list of caps");
    if (r == 0)
        r = take_options(rd, desc);
    if (r == 0)
        r = check_hooks(rd, desc);
    if (r < 0)
        return r;
    if (desc->name == NULL || desc->name[0] == '\0' || desc->version == NULL)
        return refuse(rd, NULL, "malformed descriptor: it has no name or no version");
    if (desc->cfg_size > (1u << 20) || desc->ctx_size > (1u << 20))
        return refuse(rd, NULL, "malformed descriptor: cfg_size or ctx_size is over 1 MiB");
    if (options_check(desc, why, sizeof why) < 0)
        return refuse(rd, NULL, "malformed descriptor: %s", why);
    rd->m->desc = desc;
    return 0;
}

/* ---- The whole ---------------------------------------------------------------------------- */

static int read_needed(struct reader *rd)
{
    struct arena *arena = rd->m->arena;
    unsigned n = 0;

    while (n < 256 && elf_needed(&rd->elf, n) != NULL)
        n++;
    rd->m->needed = arena_zalloc(arena, (n + 1) * sizeof rd->m->needed[0]);
    if (rd->m->needed == NULL)
        return no_memory(rd);
    for (unsigned i = 0; i < n; i++) {
        const char *name = elf_needed(&rd->elf, i);

        if (!is_plain_text(name))
            return refuse(rd, NULL, "is damaged: the name of a library is not plain text");
        rd->m->needed[i] = arena_strndup(arena, name, strlen(name));
        if (rd->m->needed[i] == NULL)
            return no_memory(rd);
    }
    return 0;
}

static int check_symbols(struct reader *rd)
{
    const char *missing[LIBRARIES_MAX_MISSING];
    size_t n, total, len = 0;
    char names[400];
    int r;

    r = libraries_find_missing(&rd->elf, rd->m->path, missing, &n, &total);
    if (r < 0)
        return no_memory(rd);
    if (total == 0)
        return 0;
    for (size_t i = 0; i < n && len < sizeof names; i++)
        len += (size_t)snprintf(names + len, sizeof names - len, "%s%.100s", i > 0 ? ", " : "",
                                missing[i]);
    return refuse(rd, "link it with the library that has them (-lNAME)", "undefined symbol%s: %s%s",
                  total > 1 ? "s" : "", names, total > n ? ", ..." : "");
}

static struct manifest *manifest_create(const char *path)
{
    struct arena *arena = malloc(sizeof *arena);
    struct manifest *m;

    if (arena == NULL)
        return NULL;
    arena_init(arena, ARENA_LIMIT);
    m = arena_zalloc(arena, sizeof *m);
    if (m == NULL || (m->path = arena_strndup(arena, path, strlen(path))) == NULL) {
        arena_fini(arena);
        free(arena);
        return NULL;
    }
    m->arena = arena;
    return m;
}

void manifest_destroy(struct manifest **mp)
{
    struct arena *arena;

    if (*mp == NULL)
        return;
    arena = (*mp)->arena; /* the manifest itself lies in it */
    arena_fini(arena);
    free(arena);
    *mp = NULL;
}

static void read_traits(struct reader *rd)
{
    struct manifest *m = rd->m;
    const char *name;
    Elf64_Sym sym;

    m->stays_mapped = (rd->elf.flags_1 & DF_1_NODELETE) != 0;
    m->has_static_tls = (rd->elf.flags & DF_STATIC_TLS) != 0;
    for (uint64_t i = 0; elf_symbol(&rd->elf, i, &sym, &name); i++) {
        if (ELF64_ST_BIND(sym.st_info) != STB_GNU_UNIQUE || sym.st_shndx == SHN_UNDEF)
            continue;
        if (m->n_unique++ == 0)
            text_printable(m->unique, sizeof m->unique, name);
    }
}

bool manifest_trait(const struct manifest *m, int i, char *buf, size_t size)
{
    if (m->n_unique > 0 && i-- == 0) {
        snprintf(
            buf, size,
            "defines %u unique symbol%s (%s%s): two versions of it in one process, as in a "
            "rollout, share these variables, and a fresh copy after crashes does not get fresh "
            "ones; build it with -fno-gnu-unique",
            m->n_unique, m->n_unique == 1 ? "" : "s", m->unique, m->n_unique == 1 ? "" : ", ...");
        return true;
    }
    if (m->has_static_tls && i-- == 0) {
        snprintf(
            buf, size,
            "needs static TLS: the loader has little of it, so copies or versions side by side "
            "may find none; build it without -ftls-model=initial-exec");
        return true;
    }
    if (m->stays_mapped && i-- == 0) {
        snprintf(buf, size,
                 "is never unmapped (NODELETE): its memory goes with the worker; reloads are not "
                 "affected, since workers are replaced");
        return true;
    }
    return false;
}

int manifest_parse(const void *file, size_t n, const char *path, const char *known,
                   struct diag *diag, struct manifest **out)
{
    struct reader rd = {.diag = diag};
    char why[128];
    int r;

    rd.m = manifest_create(path);
    if (rd.m == NULL)
        return -ENOMEM;
    r = elf_load(file, n, &rd.elf, why, sizeof why);
    if (r < 0) {
        r = r == -ENOMEM ? no_memory(&rd) : refuse(&rd, NULL, "%s", why);
        manifest_destroy(&rd.m);
        return r;
    }
    if (rd.elf.flags_1 & DF_1_PIE)
        r = refuse(&rd, "link it with -shared", "is a program, not a shared object");
    if (r == 0)
        r = read_abi_note(&rd);
    if (r == 0)
        r = read_descriptor(&rd);
    if (r == 0)
        r = read_needed(&rd);
    if (r == 0 && digest_bytes(file, n, rd.m->sha256) < 0)
        r = no_memory(&rd);
    if (r == 0 && (known == NULL || strcmp(known, rd.m->sha256) != 0))
        r = check_symbols(&rd);
    if (r == 0)
        read_build_id(&rd);
    if (r == 0)
        read_traits(&rd);
    elf_fini(&rd.elf);
    if (r < 0)
        manifest_destroy(&rd.m);
    else
        *out = rd.m;
    return r;
}

int manifest_read(const char *path, const char *known, struct diag *diag, struct manifest **out)
{
    char *file;
    size_t n;
    int r;

    r = fd_read_file(path, ELF_MAX_FILE, &file, &n);
    if (r < 0) {
        if (r == -EFBIG)
            diag_add(diag, path, 0, 0, NULL, "is larger than 256 MiB");
        else
            diag_add(diag, path, 0, 0, NULL, "cannot be read: %s", strerror(-r));
        return r;
    }
    if (n == 0) {
        diag_add(diag, path, 0, 0, NULL, "is empty, and so is not an ELF file");
        r = -ENOEXEC;
    } else {
        r = manifest_parse(file, n, path, known, diag, out);
    }
    free(file);
    return r;
}

/* ---- Finding objects ---------------------------------------------------------------------- */

static int take_object(const char *path, char *out, size_t size)
{
    char real[PATH_MAX];
    struct stat st;

    if (realpath(path, real) == NULL || stat(real, &st) < 0 || S_ISDIR(st.st_mode))
        return -ENOENT;
    return (size_t)snprintf(out, size, "%s", real) < size ? 0 : -ENOENT;
}

int manifest_find(const char *module, const char *const *dirs, int n_dirs, char *out, size_t size)
{
    char path[PATH_MAX];

    if (strchr(module, '/') != NULL)
        return take_object(module, out, size);
    for (int i = 0; i < n_dirs; i++)
        if ((size_t)snprintf(path, sizeof path, "%s/%s.so", dirs[i], module) < sizeof path &&
            take_object(path, out, size) == 0)
            return 0;
    return -ENOENT;
}

struct names {
    char **v;
    size_t n;
};

static int add_name(struct names *names, const char *name, size_t len)
{
    char **v;

    for (size_t i = 0; i < names->n; i++)
        if (strncmp(names->v[i], name, len) == 0 && names->v[i][len] == '\0')
            return 0;
    v = reallocarray(names->v, names->n + 2, sizeof *v);
    if (v == NULL)
        return -ENOMEM;
    names->v = v;
    v[names->n] = strndup(name, len);
    if (v[names->n] == NULL)
        return -ENOMEM;
    v[++names->n] = NULL;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **manifest_list(const char *const *dirs, int n_dirs)
{
    struct names names = {calloc(1, sizeof(char *)), 0};
    int r = names.v != NULL ? 0 : -ENOMEM;

    for (int i = 0; i < n_dirs && r == 0; i++) {
        DIR *dir = opendir(dirs[i]);
        const struct dirent *e;

        while (dir != NULL && r == 0 && (e = readdir(dir)) != NULL) {
            size_t n = strlen(e->d_name);

            if (n > 3 && n < 64 && strcmp(e->d_name + n - 3, ".so") == 0 && names.n < 1024)
                r = add_name(&names, e->d_name, n - 3);
        }
        if (dir != NULL)
            closedir(dir);
    }
    if (r < 0)
        manifest_list_free(&names.v);
    else
        qsort(names.v, names.n, sizeof *names.v, compare_names);
    return names.v;
}

void manifest_list_free(char ***listp)
{
    for (char **name = *listp; name != NULL && *name != NULL; name++)
        free(*name);
    free(*listp);
    *listp = NULL;
}
