/*
 * keys.c - the keys of a file, and the search among them.
 *
 * A key is kept in a buffer of fixed size, padded with zeros, with its length beside it. Comparing
 * is a matter of xor and or over whole buffers: no branch and no address depends on a key's bytes.
 */
#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORDS    (KEY_MAX / sizeof(uint64_t))
#define FILE_MAX ((size_t)4 << 20)

struct key {
    union {
        char text[KEY_MAX];
        uint64_t word[WORDS];
    } u;
    uint64_t len;
    uint32_t name_len;
    char name[NAME_MAX_LEN + 1];
};

/* What tells one state of a file from another. */
struct stamp {
    int64_t mtime_s, mtime_ns, size;
    uint64_t ino;
};

struct keys {
    struct stamp stamp;
    int is_public;
    size_t n;
    struct key *v;
};

static struct stamp stamp_of(const struct stat *st)
{
    struct stamp s = {st->st_mtim.tv_sec, st->st_mtim.tv_nsec, st->st_size, st->st_ino};

    return s;
}

/* The whole file; NULL with errno. */
static char *read_file(const char *path, struct stat *st, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = NULL;
    size_t n = 0;
    ssize_t got = 1;

    if (fd < 0)
        return NULL;
    if (fstat(fd, st) < 0)
        goto fail;
    errno = !S_ISREG(st->st_mode) ? EINVAL : (size_t)st->st_size > FILE_MAX ? EFBIG : 0;
    if (errno != 0 || (text = malloc((size_t)st->st_size + 1)) == NULL)
        goto fail;
    while (n < (size_t)st->st_size && (got = read(fd, text + n, (size_t)st->st_size - n)) != 0) {
        if (got < 0 && errno != EINTR)
            goto fail;
        n += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    text[n] = '\0';
    *size = n;
    return text;

fail:
    free(text);
    got = errno;
    close(fd);
    errno = (int)got;
    return NULL;
}

/* NULL: fine; *k is empty for a line without a key. */
static const char *parse_line(const char *line, size_t n, unsigned number, struct key *k)
{
    const char *colon;
    int is_named;

    memset(k, 0, sizeof *k);
    while (n > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        n--;
    }
    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t' || line[n - 1] == '\r'))
        n--;
    if (n == 0 || *line == '#')
        return NULL;

    colon = memchr(line, ':', n);
    is_named = colon != NULL;
    if (is_named) {
        k->name_len = (uint32_t)(colon - line);
        if (k->name_len == 0 || colon - line > NAME_MAX_LEN)
            return "the name is empty or longer than 64 bytes";
        memcpy(k->name, line, k->name_len);
        n -= k->name_len + 1;
        line = colon + 1;
    } else {
        k->name_len = (uint32_t)snprintf(k->name, sizeof k->name, "line-%u", number);
    }
    if (n < KEY_MIN || n > KEY_MAX)
        return "the key is shorter than 16 bytes or longer than 128";
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)line[i] <= 0x20 || (unsigned char)line[i] >= 0x7f)
            return "the key has a character other than printable ASCII";
    }
    memcpy(k->u.text, line, n);
    k->len = n;
    return NULL;
}

static const char *add_key(struct keys *keys, size_t *room, const struct key *k)
{
    bh_str name;

    if (keys->n == KEYS_MAX)
        return "there are more than 10000 keys";
    if (keys_find(keys, bh_sn(k->u.text, k->len), &name))
        return "the key is there already";
    if (keys->n == *room) {
        /* Not realloc(): it would leave a copy behind that nobody wipes. */
        size_t more = *room ? *room * 2 : 16;
        struct key *v = calloc(more, sizeof *v);

        if (v == NULL)
            return "out of memory";
        if (keys->n > 0) {
            memcpy(v, keys->v, keys->n * sizeof *v);
            explicit_bzero(keys->v, keys->n * sizeof *v);
        }
        free(keys->v);
        keys->v = v;
        *room = more;
    }
    keys->v[keys->n++] = *k;
    return NULL;
}

struct keys *keys_load(const char *path, char *why, size_t why_size)
{
    struct keys *keys = calloc(1, sizeof *keys);
    struct stat st;
    struct key k;
    size_t size = 0, room = 0;
    unsigned number = 1;
    const char *fault = NULL;
    char *text = NULL;

    if (keys == NULL || (text = read_file(path, &st, &size)) == NULL) {
        snprintf(why, why_size, "%s", strerror(errno));
        free(keys);
        return NULL;
    }
    keys->stamp = stamp_of(&st);
    keys->is_public = (st.st_mode & S_IROTH) != 0;
    for (const char *line = text; fault == NULL && line < text + size; number++) {
        const char *end = memchr(line, '\n', (size_t)(text + size - line));
        size_t n = (size_t)((end ? end : text + size) - line);

        fault = parse_line(line, n, number, &k);
        if (fault == NULL && k.len > 0)
            fault = add_key(keys, &room, &k);
        if (fault != NULL)
            snprintf(why, why_size, "line %u: %s", number, fault);
        line += n + 1;
    }
    explicit_bzero(&k, sizeof k);
    explicit_bzero(text, size);
    free(text);
    if (fault != NULL) {
        keys_destroy(keys);
        return NULL;
    }
    return keys;
}

void keys_destroy(struct keys *keys)
{
    if (keys == NULL)
        return;
    if (keys->n > 0)
        explicit_bzero(keys->v, keys->n * sizeof *keys->v);
    free(keys->v);
    free(keys);
}

size_t keys_count(const struct keys *keys)
{
    return keys->n;
}

int keys_are_public(const struct keys *keys)
{
    return keys->is_public;
}

int keys_changed(struct keys *keys, const char *path)
{
    struct stat st;
    struct stamp now;

    if (stat(path, &st) < 0)
        return 0;
    now = stamp_of(&st);
    if (now.mtime_s == keys->stamp.mtime_s && now.mtime_ns == keys->stamp.mtime_ns &&
        now.size == keys->stamp.size && now.ino == keys->stamp.ino)
        return 0;
    keys->stamp = now;
    return 1;
}

int keys_find(const struct keys *keys, bh_str key, bh_str *name)
{
    struct key wanted;
    uint64_t found = 0; /* the index, counted from 1 */

    if (key.n == 0 || key.n > KEY_MAX)
        return 0;
    memset(&wanted.u, 0, sizeof wanted.u);
    memcpy(wanted.u.text, key.p, key.n);

    for (size_t i = 0; i < keys->n; i++) {
        uint64_t diff = keys->v[i].len ^ key.n, is_equal;

        for (size_t w = 0; w < WORDS; w++)
            diff |= keys->v[i].u.word[w] ^ wanted.u.word[w];
        /* The compiler must not see that a non-zero diff could end this early. */
        __asm__("" : "+r"(diff));
        is_equal = ((diff | (0 - diff)) >> 63) ^ 1;
        found |= (0 - is_equal) & (i + 1);
    }
    explicit_bzero(&wanted.u, sizeof wanted.u);
    if (found == 0)
        return 0;
    *name = bh_sn(keys->v[found - 1].name, keys->v[found - 1].name_len);
    return 1;
}
