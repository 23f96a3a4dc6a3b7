/*
 * story.c - reads the server's log (level debug): who died when, and what was out of order how long.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "soak.h"

#define MAX_SLOTS 64

struct reader {
    struct soak_story *out;
    int64_t now_ms;
    pid_t pid_of[MAX_SLOTS];
};

static struct soak_death *add(struct reader *r, int kind, pid_t pid)
{
    struct soak_story *s = r->out;

    s->v = realloc(s->v, (s->n + 1) * sizeof *s->v);
    if (s->v == NULL)
        abort();
    s->v[s->n] = (struct soak_death){
        .from_ms = r->now_ms, .to_ms = INT64_MAX, .told_ms = r->now_ms, .pid = pid};
    s->v[s->n].kind = kind;
    return &s->v[s->n++];
}

static void end_of(struct reader *r, pid_t pid)
{
    for (size_t i = 0; i < r->out->n; i++)
        if (r->out->v[i].pid == pid && r->out->v[i].to_ms == INT64_MAX)
            r->out->v[i].to_ms = r->now_ms;
}

static bool find_victim(const char *line, enum soak_victim *out)
{
    const char *name = strstr(line, "plugin '");

    for (int i = 0; name != NULL && i < N_VICTIMS; i++) {
        size_t n = strlen(soak_victim_names[i]);

        if (strncmp(name + 8, soak_victim_names[i], n) == 0 && name[8 + n] == '\'') {
            *out = (enum soak_victim)i;
            return true;
        }
    }
    return false;
}

/* "worker 3 (pid 22585): serving -> parked" */
static void read_duty(struct reader *r, const char *line)
{
    const char *at = strstr(line, "worker ");
    char from[16], to[16];
    int slot, pid;

    if (at == NULL || sscanf(at, "worker %d (pid %d): %15s -> %15s", &slot, &pid, from, to) != 4 ||
        slot < 0 || slot >= MAX_SLOTS)
        return;
    r->pid_of[slot] = pid;
    if (strcmp(to, "parked") == 0) {
        add(r, STORY_PARKED, pid);
        r->out->n_parked++;
    } else if (strcmp(to, "retiring") == 0 || strcmp(to, "leaving") == 0) {
        add(r, STORY_LEFT, pid);
        r->out->n_left += strcmp(to, "leaving") == 0;
    } else if (strcmp(to, "none") == 0) {
        end_of(r, pid);
    }
}

/* "worker 3 (pid 22585) was killed by SIGKILL ...; crash record" */
static void read_end(struct reader *r, const char *line)
{
    const char *at = strstr(line, "worker ");
    int slot, pid, n = 0;

    if (at == NULL || sscanf(at, "worker %d (pid %d) %n", &slot, &pid, &n) < 2 || n == 0)
        return;
    if (strncmp(at + n, "was killed by", 13) == 0 || strncmp(at + n, "ended with", 10) == 0) {
        add(r, STORY_KILLED, pid);
        end_of(r, pid);
        r->out->n_killed++;
    }
}

static void read_ejection(struct reader *r, const char *line)
{
    const char *worker = strstr(line, " worker ");
    int slot = worker != NULL ? atoi(worker + 8) : -1;
    enum soak_victim victim;

    if (slot < 0 || slot >= MAX_SLOTS || !find_victim(line, &victim))
        return;
    add(r, STORY_EJECTED, r->pid_of[slot])->victim = victim;
    r->out->n_ejected++;
}

/* One at a time for each plugin; what is blocked longest counts. */
static void read_breaker(struct reader *r, const char *line)
{
    bool opens = strstr(line, " opens") != NULL || strstr(line, "blocked: ") != NULL;
    bool closes = strstr(line, " closes: ") != NULL || strstr(line, "is free again: ") != NULL;
    enum soak_victim victim;

    if ((!opens && !closes) || !find_victim(line, &victim) || strstr(line, "crash record") != NULL)
        return;
    if (opens) {
        add(r, STORY_BREAKER, 0)->victim = victim;
        return;
    }
    for (size_t i = 0; i < r->out->n; i++) {
        struct soak_death *d = &r->out->v[i];

        if (d->kind == STORY_BREAKER && d->victim == victim && d->to_ms == INT64_MAX)
            d->to_ms = r->now_ms;
    }
}

/* The new master's plugins are judged anew. */
static void read_upgrade(struct reader *r, const char *line)
{
    if (strstr(line, "SIGUSR2: upgrading") != NULL)
        add(r, STORY_UPGRADE, 0);
    if (strstr(line, "the old master is gone") == NULL)
        return;
    for (size_t i = 0; i < r->out->n; i++) {
        struct soak_death *d = &r->out->v[i];

        if ((d->kind == STORY_BREAKER || d->kind == STORY_UPGRADE) && d->to_ms == INT64_MAX)
            d->to_ms = r->now_ms;
    }
}

static int64_t read_time(const char *line)
{
    struct tm tm = {0};
    int ms = 0;

    if (sscanf(line, "%d-%d-%dT%d:%d:%d.%dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec, &ms) != 7)
        return -1;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (int64_t)timegm(&tm) * 1000 + ms;
}

void soak_story_read(const char *log, struct soak_story *out)
{
    struct reader r = {.out = out};
    char line[2048];

    memset(out, 0, sizeof *out);
    for (const char *p = log, *end; *p != '\0'; p = end + (*end != '\0')) {
        int64_t at;

        end = p + strcspn(p, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(end - p), p);
        at = read_time(line);
        if (at < 0)
            continue;
        r.now_ms = at;
        if (strstr(line, " master: ") != NULL) {
            read_duty(&r, line);
            read_end(&r, line);
            read_upgrade(&r, line);
        }
        if (strstr(line, "is taken out of this worker") != NULL)
            read_ejection(&r, line);
        else
            read_breaker(&r, line);
    }
}

void soak_story_date(struct soak_story *s, struct soak_group *const *groups, int n)
{
    s->groups = groups;
    s->n_groups = n;
    for (size_t i = 0; i < s->n; i++) {
        struct soak_death *d = &s->v[i];
        int64_t heard_ms = 0;

        if (d->kind != STORY_PARKED && d->kind != STORY_KILLED)
            continue;
        for (int k = 0; k < n; k++) {
            int64_t at_ms = soak_witness_last(soak_group_witness(groups[k]), d->pid);

            heard_ms = at_ms > heard_ms ? at_ms : heard_ms;
        }
        if (heard_ms != 0 && heard_ms < d->from_ms)
            d->from_ms = heard_ms;
    }
}

void soak_story_free(struct soak_story *s)
{
    free(s->v);
    memset(s, 0, sizeof *s);
}
