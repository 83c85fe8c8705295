/* The connections of a broker, newest first. Its lock `serving` guards them. */
#ifndef MEMATLAS_COLLECTOR_PEER_H
#define MEMATLAS_COLLECTOR_PEER_H

#include "broker.h"

struct peer {
	int fd;
	bool is_known; /* sent a valid request, or was adopted */
	struct sender first; /* of a JOIN to be repeated, on a kernel that gives no pidfd */
	struct peer *newer, *older;
};

/* The socket becomes the peer's, also on failure: NULL. */
struct peer *peer_add(struct broker *broker, int fd, bool is_known);
void peer_drop(struct broker *broker, struct peer *peer);
/* Anybody may connect and be silent, so the oldest stranger makes room for a new one. */
void peers_limit_strangers(struct broker *broker);

#endif
