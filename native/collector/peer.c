#define _GNU_SOURCE
#include "peer.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "message.h"

#define MAX_STRANGERS 128u /* connections that have sent no valid request */

static void unlink_peer(struct broker *broker, struct peer *peer)
{
	*(peer->newer ? &peer->newer->older : &broker->newest) = peer->older;
	*(peer->older ? &peer->older->newer : &broker->oldest) = peer->newer;
	broker->strangers -= !peer->is_known;
}

static void link_peer(struct broker *broker, struct peer *peer)
{
	peer->older = broker->newest;
	*(peer->older ? &peer->older->newer : &broker->oldest) = peer;
	broker->newest = peer;
	broker->strangers += !peer->is_known;
}

/* The sender of a socket may keep it open, so that closing this descriptor does not end its events. */
void peer_drop(struct broker *broker, struct peer *peer)
{
	epoll_ctl(broker->epoll, EPOLL_CTL_DEL, peer->fd, NULL);
	unlink_peer(broker, peer);
	if (peer->first.pidfd >= 0)
		close(peer->first.pidfd);
	close(peer->fd);
	free(peer);
}

void peers_limit_strangers(struct broker *broker)
{
	struct peer *peer = broker->oldest;

	if (broker->strangers < MAX_STRANGERS)
		return;
	while (peer->is_known)
		peer = peer->newer;
	peer_drop(broker, peer);
}

struct peer *peer_add(struct broker *broker, int fd, bool is_known)
{
	struct peer *peer = calloc(1, sizeof *peer);
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};

	message_ask_sender(fd);
	if (!peer || epoll_ctl(broker->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		free(peer);
		close(fd);
		return NULL;
	}
	peer->fd = fd;
	peer->is_known = is_known;
	peer->first.pidfd = -1;
	link_peer(broker, peer);
	return peer;
}
