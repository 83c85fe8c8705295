/* A request of a traced process as the broker receives it, and the answer. */
#ifndef MEMATLAS_COLLECTOR_MESSAGE_H
#define MEMATLAS_COLLECTOR_MESSAGE_H

#include "broker.h"

/* A message as received. Descriptors that nobody took are closed. */
struct message {
	struct trace_request request;
	struct sender sender;
	int fds[TRACE_MAX_DESCRIPTORS];
	unsigned count; /* <= TRACE_MAX_DESCRIPTORS */
	bool is_cut;    /* some of its descriptors could not be received */
};

/* Lets the kernel add to each message of a socket who sent it. */
void message_ask_sender(int fd);
/* Returns the bytes received, or -errno; 0: the other end is closed. */
ssize_t message_receive(int fd, struct message *ret);
void message_close(struct message *message);
/* Sends an answer with up to TRACE_JOINED_MOST descriptors. A peer that does not receive gets none. */
void message_answer(int fd, const struct trace_answer *answer, const int *fds, unsigned count);

#endif
