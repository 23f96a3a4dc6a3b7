/*
 * status.c - what the master says about itself, and about the others.
 *
 * Asked for by pages, by load balancers several times a second, and by anybody at /readyz: so the
 * master is asked once, and the answer is good for all who want it at that time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "base/must.h"

#define FRESH_MS 200

static void take_status(void *arg, int result, const char *text)
{
    struct admin *a = arg;
    int n = a->status.n_waiters;
    struct status_waiter waiter[ADMIN_CONNECTIONS];

    memcpy(waiter, a->status.waiter, (size_t)n * sizeof waiter[0]);
    a->status.n_waiters = 0;
    a->status.is_asked = false;
    free(a->status.text);
    a->status.text = result == 0 && text != NULL ? strdup(text) : NULL;
    a->status.at_ms = clock_mono_ms();
    if (result == 0 && a->status.text == NULL)
        result = -ENOMEM;
    for (int i = 0; i < n; i++)
        waiter[i].answer(waiter[i].arg, result, a->status.text);
}

void status_ask(struct admin *a, ask_answer *answer, void *arg)
{
    int r = 0;

    if (a->status.text != NULL && clock_mono_ms() - a->status.at_ms < FRESH_MS) {
        answer(arg, 0, a->status.text);
        return;
    }
    if (!a->status.is_asked)
        r = ask(&a->asker, CONTROL_STATUS, 0, NULL, take_status, a);
    if (r < 0 || a->status.n_waiters == ADMIN_CONNECTIONS) {
        answer(arg, r < 0 ? r : -EAGAIN, NULL);
        return;
    }
    a->status.is_asked = true;
    a->status.waiter[a->status.n_waiters++] = (struct status_waiter){answer, arg};
}

void reply_master_failed(struct request *req, int result)
{
    if (result == -ETIMEDOUT)
        reply_problem(req, 504, "Gateway Timeout", "the master does not answer: is it stopped?");
    else
        reply_problem(req, 503, "Service Unavailable", "the master could not be asked: %s",
                      strerror(-result));
}

static void send_status(void *arg, int result, const char *text)
{
    struct request *req = arg;

    if (result < 0)
        reply_master_failed(req, result);
    else
        reply_text(req, 200, "application/json", strdup(text), strlen(text));
    if (req->is_suspended)
        request_resume(req);
}

void request_await_status(struct request *req, ask_answer *answer)
{
    status_ask(req->admin, answer, req);
    if (req->response == NULL)
        request_suspend(req);
}

void get_status(struct request *req)
{
    request_await_status(req, send_status);
}
