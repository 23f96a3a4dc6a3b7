/*
 * reload_json.c - how a reload went, as JSON.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "master/internal.h"

static json_t *changes_json(const struct changes *changes)
{
    static const char *const whats[] = {"added", "removed", "changed"};
    json_t *list = json_array();

    for (int i = 0; i < changes->n; i++) {
        const struct change *c = &changes->item[i];
        char path[sizeof c->path], from[CHANGE_TEXT], to[CHANGE_TEXT];

        text_printable(path, sizeof path, c->path);
        text_printable(from, sizeof from, c->from);
        text_printable(to, sizeof to, c->to);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:s}", "path", path, "what",
                                        whats[c->what == '+'   ? 0
                                              : c->what == '-' ? 1
                                                               : 2],
                                        "from", from, "to", to, "how", change_how_text(c->how)));
    }
    return list;
}

static void add_lines(json_t *list, const char *text)
{
    while (text != NULL && *text != '\0') {
        size_t n = strcspn(text, "\n");
        char line[1024], clean[1024];

        snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), text);
        text_printable(clean, sizeof clean, line);
        if (clean[0] != '\0')
            json_array_append_new(list, json_string(clean));
        text += n + (text[n] == '\n');
    }
}

char *reload_tell(const struct reload *r, const char *state, const char *stage, uint64_t generation,
                  const char *errors, char *why, size_t size)
{
    json_t *list = json_array(), *json;
    const char *first;
    char *text;

    add_lines(list, errors);
    first = json_string_value(json_array_get(list, 0));
    snprintf(why, size, "%s", first != NULL ? first : "");
    json = json_pack("{s:I, s:s, s:s, s:o*, s:I, s:I, s:o, s:o}", "id", (json_int_t)r->id, "state",
                     state, "reason", r->reason, "stage", stage != NULL ? json_string(stage) : NULL,
                     "generation", (json_int_t)generation, "took_ms",
                     (json_int_t)(clock_mono_ms() - r->began_ms), "changes",
                     changes_json(&r->changes), "errors", list);
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
