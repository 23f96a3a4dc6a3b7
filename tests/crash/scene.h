/*
 * scene.h - a server with one worker, and the company in which a plugin of it crashes: three idle
 * keep-alive connections, a request whose body is half sent, and one that waits for a ticket.
 */
#ifndef CRASH_SCENE_H
#define CRASH_SCENE_H

#include "harness.h"

struct json_t;

struct scene {
    struct server *srv;
    pid_t worker;
    size_t n_records; /* that were there before the fault at hand */
    struct conn *idle[3], *half, *held;
};

/* The routes are those of scene.c: /f /e /g/FAULT /inside /throw/PLACE/WHAT, and hold.c's. */
void scene_open(struct scene *scene);
/* Also checks that the server ends in order. */
void scene_close(struct scene *scene);

/* The company takes its places (again). */
void scene_gather(struct scene *scene);
void scene_disperse(struct scene *scene);
/* NULL when all of them are served as if nothing had happened, else what went wrong. */
const char *scene_harm(struct scene *scene);
/* The same for outcome Q, when their worker leaves: idle ones change hands, the half sent request is
 * answered, the paused one is given up. They disperse, for the worker waits for those it serves. */
const char *scene_harm_of_leaving(struct scene *scene);
/* NULL when the next n requests are answered right. */
const char *scene_next(struct scene *scene, int n);

/* True once there is a worker with another process id; takes it over. */
bool scene_has_new_worker(struct scene *scene);
/* The same, after killing the worker: the next fault finds a clean one. */
void scene_renew_worker(struct scene *scene);

/* Does a child of this process run, that is no zombie? */
bool scene_has_child(pid_t pid);

/* Waits for the first new record of that process (0: any), that hook and that verdict (NULL, 0: any);
 * the caller decrefs. NULL: none came in time. */
struct json_t *scene_record(struct scene *scene, pid_t worker, const char *hook, char verdict);

#endif
