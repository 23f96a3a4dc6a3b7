/*
 * ask.c - questions to the master, one after the other over one stream.
 *
 * What a newcomer would get wrong: a question whose time is over is answered to its asker, but the
 * stream still owes its reply, which is read and thrown away before the next one is sent.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "base/fd.h"

#define PATIENCE_MS 5000

_Static_assert(offsetof(struct question, text) ==
                   offsetof(struct question, head) + sizeof(struct control_request),
               "they are sent as one");

void ask_init(struct asker *k, int fd)
{
    *k = (struct asker){.fd = fd};
}

int ask(struct asker *k, enum control_command command, int argument, const char *text,
        ask_answer *answer, void *arg)
{
    size_t n = text != NULL ? strlen(text) : 0;
    struct question *q;

    if (k->fd < 0)
        return -EPIPE;
    if (k->n_waiting >= ADMIN_QUESTIONS)
        return -EAGAIN;
    if (n > CONTROL_ASK_MAX)
        return -EMSGSIZE;
    q = calloc(1, sizeof *q + n);
    if (q == NULL)
        return -ENOMEM;
    q->length = sizeof q->head + n;
    q->head = (struct control_request){.magic = CONTROL_MAGIC,
                                       .version = CONTROL_VERSION,
                                       .command = (uint16_t)command,
                                       .argument = argument,
                                       .text_len = (uint32_t)n};
    if (n > 0)
        memcpy(q->text, text, n);
    q->answer = answer;
    q->arg = arg;
    q->until_ms = clock_mono_ms() + PATIENCE_MS;
    k->waiting[(k->first + k->n_waiting++) % ADMIN_QUESTIONS] = q;
    return 0;
}

bool ask_wants_room(const struct asker *k)
{
    return k->fd >= 0 && ((k->current == NULL && k->n_waiting > 0) ||
                          (k->current != NULL && k->n_sent < k->current->length));
}

static void finish(struct asker *k, int result, const char *text)
{
    struct question *q = k->current;

    k->current = NULL;
    if (!k->is_given_up)
        q->answer(q->arg, result, text);
    free(q);
}

static struct question *take_first(struct asker *k)
{
    struct question *q = k->waiting[k->first];

    k->first = (k->first + 1) % ADMIN_QUESTIONS;
    k->n_waiting--;
    return q;
}

static void give_up_all(struct asker *k, int result)
{
    if (k->current != NULL)
        finish(k, result, NULL);
    free(k->text);
    k->text = NULL;
    while (k->n_waiting > 0) {
        struct question *q = take_first(k);

        q->answer(q->arg, result, NULL);
        free(q);
    }
}

static void begin_next(struct asker *k)
{
    k->current = take_first(k);
    k->is_given_up = false;
    k->n_sent = 0;
}

/* 1: some went; 0: not now; or -errno. */
static int send_some(struct asker *k)
{
    const char *p = (const char *)k->current + offsetof(struct question, head);
    ssize_t n = send(k->fd, p + k->n_sent, k->current->length - k->n_sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    k->n_sent += (size_t)n;
    return 1;
}

static int receive_some(struct asker *k)
{
    size_t head = sizeof k->reply;
    char *to;
    size_t room;
    ssize_t n;

    if (k->n_received < head) {
        to = (char *)&k->reply + k->n_received;
        room = head - k->n_received;
    } else {
        to = k->text + (k->n_received - head);
        room = k->reply.text_len - (k->n_received - head);
    }
    n = recv(k->fd, to, room, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -EPIPE;
    k->n_received += (size_t)n;
    if (k->n_received == head) {
        if (k->reply.magic != CONTROL_MAGIC || k->reply.text_len > CONTROL_TEXT_MAX)
            return -EPROTO;
        if ((k->reply.flags & CONTROL_IS_NEWS) != 0) {
            k->has_news = true;
            k->n_received = 0;
            return 1;
        }
        if (k->current == NULL)
            return -EPROTO;
        k->text = malloc((size_t)k->reply.text_len + 1);
        if (k->text == NULL)
            return -ENOMEM;
    }
    if (k->current != NULL && k->n_received >= head && k->n_received - head == k->reply.text_len) {
        char *text = k->text;

        k->text = NULL;
        k->n_received = 0;
        text[k->reply.text_len] = '\0';
        finish(k, k->reply.result, k->reply.text_len > 0 ? text : NULL);
        free(text);
    }
    return 1;
}

void ask_run(struct asker *k)
{
    int r = 1;

    while (k->fd >= 0 && r > 0) {
        if (k->current == NULL && k->n_waiting > 0)
            begin_next(k);
        /* Nothing may be owed: then it is news, or its end. */
        r = k->current != NULL && k->n_sent < k->current->length ? send_some(k) : receive_some(k);
    }
    if (r < 0) {
        fd_close(&k->fd);
        give_up_all(k, -EPIPE);
    }
}

void ask_tick(struct asker *k, int64_t now_ms)
{
    struct question *q = k->current;

    if (q != NULL && !k->is_given_up && q->until_ms <= now_ms) {
        k->is_given_up = true;
        q->answer(q->arg, -ETIMEDOUT, NULL);
    }
    while (k->n_waiting > 0 && k->waiting[k->first]->until_ms <= now_ms) {
        q = take_first(k);
        q->answer(q->arg, -ETIMEDOUT, NULL);
        free(q);
    }
}
