#include "conf/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void overlay_variant_fini(struct overlay_variant *v)
{
    free(v->plugin);
    free(v->module);
    free(v->options);
    free(v->object);
    *v = (struct overlay_variant){.plugin = NULL};
}

static bool copy_text(const char *from, char **out)
{
    *out = from != NULL ? strdup(from) : NULL;
    return from == NULL || *out != NULL;
}

int overlay_variant_copy(const struct overlay_variant *from, struct overlay_variant *out)
{
    *out = *from;
    out->plugin = out->module = out->options = out->object = NULL;
    if (copy_text(from->plugin, &out->plugin) && copy_text(from->module, &out->module) &&
        copy_text(from->options, &out->options) && copy_text(from->object, &out->object))
        return 0;
    overlay_variant_fini(out);
    return -ENOMEM;
}

void overlay_end_rollout(struct overlay *o)
{
    overlay_variant_fini(&o->rollout.candidate);
    free(o->rollout.key_name);
    memset(&o->rollout, 0, sizeof o->rollout);
}

void overlay_fini(struct overlay *o)
{
    for (int i = 0; i < o->n; i++)
        overlay_variant_fini(&o->variant[i]);
    overlay_end_rollout(o);
    o->n = 0;
}

int overlay_copy(const struct overlay *from, struct overlay *out)
{
    int r = 0;

    memset(out, 0, sizeof *out);
    for (int i = 0; r == 0 && i < from->n; i++) {
        r = overlay_variant_copy(&from->variant[i], &out->variant[i]);
        out->n += r == 0;
    }
    if (r == 0 && from->rollout.number != 0) {
        out->rollout = from->rollout;
        out->rollout.key_name = NULL;
        r = overlay_variant_copy(&from->rollout.candidate, &out->rollout.candidate);
        if (r == 0 && !copy_text(from->rollout.key_name, &out->rollout.key_name))
            r = -ENOMEM;
    }
    if (r < 0)
        overlay_fini(out);
    return r;
}

struct overlay_variant *overlay_find(struct overlay *o, const char *plugin)
{
    for (int i = 0; i < o->n; i++)
        if (strcmp(o->variant[i].plugin, plugin) == 0)
            return &o->variant[i];
    return NULL;
}

int overlay_put(struct overlay *o, struct overlay_variant *v)
{
    struct overlay_variant *at = overlay_find(o, v->plugin);

    if (at == NULL && o->n == OVERLAY_VARIANTS)
        return -ENOSPC;
    if (at != NULL)
        overlay_variant_fini(at);
    else
        at = &o->variant[o->n++];
    *at = *v;
    *v = (struct overlay_variant){.plugin = NULL};
    return 0;
}

void overlay_drop_all(struct overlay *o)
{
    for (int i = o->n - 1; i >= 0; i--)
        if (o->rollout.number == 0 ||
            strcmp(o->variant[i].plugin, o->rollout.candidate.plugin) != 0)
            overlay_drop(o, o->variant[i].plugin);
}

void overlay_drop(struct overlay *o, const char *plugin)
{
    struct overlay_variant *at = overlay_find(o, plugin);

    if (at == NULL)
        return;
    overlay_variant_fini(at);
    *at = o->variant[--o->n];
    o->variant[o->n] = (struct overlay_variant){.plugin = NULL};
}
