/* One message to the collector, and one answer. */
#ifndef MEMATLAS_TRACER_SESSION_MESSAGE_H
#define MEMATLAS_TRACER_SESSION_MESSAGE_H

#include "session_socket.h"

/* Returns a negative error, or the bytes sent. */
long trace_message_send(int fd, const struct trace_request *request, const int *fds,
			unsigned count);
/* Returns 0, the collector's error, or -errno; descriptors are to be closed after 0 only. */
int trace_message_receive(int fd, struct trace_joining *ret);
/* Closes the descriptors of an answer. */
void trace_message_close(struct trace_joining *joining);
/* Limits how long a message waits for space in the socket. */
void trace_message_limit_waits(int fd);

#endif
