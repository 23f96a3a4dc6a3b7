#include "exporter/echo.h"

#include <string.h>

#define PATH_WORD 8 /* bytes of one that may be a key */
#define WORD      4

/* One of the words of [p, p + n), with at least so many bytes. */
static bool has_word(const char *text, const char *p, size_t n, const char *between, size_t least)
{
    for (size_t at = 0; at < n;) {
        size_t len = 0;

        while (at + len < n && strchr(between, p[at + len]) == NULL)
            len++;
        if (len >= least && memmem(text, strlen(text), p + at, len) != NULL)
            return true;
        at += len + 1;
    }
    return false;
}

bool echo_has_url(const char *text, const char *url)
{
    const char *scheme = strstr(url, "://"), *path, *query;

    path = scheme != NULL ? scheme + 3 : url;
    path += strcspn(path, "/?#");
    query = path + strcspn(path, "?#");
    if (has_word(text, path, (size_t)(query - path), "/", PATH_WORD))
        return true;
    while (*query != '\0') { /* values only: names are no secret */
        size_t n = strcspn(query + 1, "&#"), name = strcspn(query + 1, "=&#");

        if (name < n && has_word(text, query + 2 + name, n - name - 1, "", WORD))
            return true;
        if (name == n && has_word(text, query + 1, n, "", WORD))
            return true;
        query += 1 + n;
    }
    return false;
}

bool echo_has_header(const char *text, const char *line)
{
    const char *value = strchr(line, ':');

    return value != NULL && has_word(text, value + 1, strlen(value + 1), " ", PATH_WORD);
}
