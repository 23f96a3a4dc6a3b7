/*
 * followers.h - who is told of events as they happen: CONTROL_FOLLOW of the control socket.
 *
 * A client of the socket becomes a follower, which has a place of its own, so that those who stay keep
 * nobody out who only asks. What a newcomer would get wrong: a follower holds no more memory than one
 * reply. The next one is made when that has gone out, of whatever the ring of events has then; who does
 * not read it in time is dropped, and may come again with the number of the last that it knows.
 */
#ifndef MASTER_FOLLOWERS_H
#define MASTER_FOLLOWERS_H

#include <stdbool.h>
#include <stdint.h>

#include "master/control.h"

void followers_init(struct control *c);
/* Its request is whole. False: it does not ask for this, or there is no place. */
bool followers_begin(struct master *m, struct control_client *client);
/* Something has happened at the connection of follower i. */
void followers_run(struct master *m, int i, uint32_t epoll_events);
/* Tells all of what they do not know; cheap when there is nothing. */
void followers_push(struct master *m);
bool followers_is_sending(const struct control *c);
void followers_drop_late(struct control *c, int64_t now_ms);
void followers_close(struct control *c);
/* In a child: only the descriptors. */
void followers_forget(struct control *c);

#endif
