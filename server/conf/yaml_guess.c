/*
 * yaml_guess.c - what somebody meant whose text is no YAML.
 *
 * libyaml says where it gave up, in words of its grammar. What a newcomer would get wrong: that place is
 * often not the mistake's; a line that is indented too little is noticed at the next one.
 */
#include "conf/yaml_guess.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The text of line `n`, the first being 0; NULL: there is none. */
static const char *line_of(const char *text, size_t n)
{
    const char *line = text;

    for (size_t i = 0; i < n && line != NULL; i++) {
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return line;
}

/* Is there a "${" outside of quotes? The commonest mistake of all: '{' ends a plain scalar within
 * brackets. */
static bool has_bare_reference(const char *line, const char *end)
{
    char quote = '\0';

    for (const char *p = line; p < end; p++) {
        if (quote == '\0' && p[0] == '$' && p[1] == '{')
            return true;
        if (quote == '\0' && (*p == '"' || *p == '\''))
            quote = *p;
        else if (*p == quote)
            quote = '\0';
        else if (quote == '"' && *p == '\\')
            p++;
    }
    return false;
}

const char *yaml_guess(const yaml_parser_t *p, const char *text, char *buf, size_t size)
{
    yaml_mark_t at = p->problem_mark, since = p->context_mark;
    const char *line = line_of(text, at.line), *end, *what = p->problem != NULL ? p->problem : "";
    bool is_first;

    if (line == NULL)
        return NULL;
    end = strchrnul(line, '\n');
    if (memchr(line, '\t', (size_t)(end - line)) != NULL)
        return "YAML is indented with spaces, not with tabs";
    if (has_bare_reference(line, end))
        return "within [] or {}, ${...} needs double quotes";
    is_first = strspn(line, " ") >= at.column;
    if (p->context != NULL && strstr(p->context, "block") != NULL && is_first &&
        at.column != since.column) {
        snprintf(buf, size,
                 "the indentation: what began in line %zu stands in column %zu, this in column %zu",
                 since.line + 1, since.column + 1, at.column + 1);
        return buf;
    }
    if (p->context != NULL && strstr(p->context, "block") != NULL && is_first)
        return "a list has '- ' before each of its items, a mapping 'key: ' before each of its values";
    if (p->context != NULL && strstr(p->context, "block") != NULL)
        return "a value ends with its quotes or brackets; what follows belongs within them";
    if (strstr(what, "mapping values") != NULL)
        return "a line above is indented otherwise, or lacks its ':'; a value with ': ' in it needs quotes";
    if (strstr(what, "end of stream") != NULL) {
        snprintf(buf, size, "the quote of line %zu is not closed", since.line + 1);
        return buf;
    }
    if (strstr(what, "cannot start any token") != NULL)
        return "a value that begins with one of %@`|> needs quotes";
    if (p->context != NULL && strstr(p->context, "flow") != NULL)
        return "each [ needs its ], each { its }, with commas between";
    return NULL;
}
