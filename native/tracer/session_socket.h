/* The tracer's end of trace_request.h. Everything here works by the tracer's own system calls, in a thread
 * that may hold any lock of the program. */
#ifndef MEMATLAS_TRACER_SESSION_SOCKET_H
#define MEMATLAS_TRACER_SESSION_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "../include/trace_request.h"

/* "NAME:TOKEN:FD:COOKIE" and its NUL. */
#define TRACE_SESSION_TEXT (TRACE_NAME_BYTES + TRACE_TOKEN_DIGITS + 48u)

/* Takes over the text of TRACE_SESSION_VARIABLE. False: it is none. */
bool trace_socket_set(const char *text);

/* Closes the socket, if there is one. */
void trace_socket_close(void);

struct trace_joining {
	struct trace_answer answer;
	int fds[TRACE_JOINED_MOST]; /* < 0: none */
};

/* Joins as a new image; `image` and `fork_serial` as in struct trace_request. The socket is kept. Returns
 * 0 or -errno. */
int trace_socket_join(uint64_t image, uint64_t fork_serial, struct trace_joining *ret);

/* Messages without an answer. They are lost where the collector cannot be reached. */
void trace_socket_send_events(const int *fds, unsigned count);
void trace_socket_refuse(const char *reason);

/* Formats the session for a program that this process executes, in TRACE_SESSION_TEXT bytes. In another
 * network namespace that program inherits this process's socket. */
void trace_socket_format(char *text);

/* Opens the tracer's library by the collector, for a program that cannot reach its path: an inherited
 * descriptor out of the way, or -errno. */
int trace_socket_library(void);

#endif
