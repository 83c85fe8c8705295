/* Requests of traced processes to the collector. They come over SOCK_SEQPACKET sockets of AF_UNIX, so
 * that a session has no file: the kernel tells who asks, and passes sealed memory by descriptor.
 *
 *   $MEMATLAS_SESSION   "NAME:TOKEN" or "NAME:TOKEN:FD". NAME is that of the collector's listening
 *                       socket in the abstract namespace, TOKEN 32 hexadecimal digits, FD a descriptor
 *                       of a socket of another traced process, inherited by exec.
 *
 * A process connects by NAME or, where that is out of reach (another network namespace), sends the
 * request over a socket that it inherited, with one end of a pair of its own to be answered on. Either
 * way the socket it was answered on is its own from then on: forked children may send theirs over it. */
#ifndef MEMATLAS_TRACE_REQUEST_H
#define MEMATLAS_TRACE_REQUEST_H

#include <stdint.h>

#include "trace_format.h"

#define TRACE_REQUEST_MAGIC 0x747365757165726dull
#define TRACE_NAME_BYTES 64u
#define TRACE_TOKEN_DIGITS 32u
#define TRACE_MAX_DESCRIPTORS 4u /* with one message */

enum trace_request_kind {
	TRACE_JOIN = 1,     /* answered with the descriptors of enum trace_joined */
	TRACE_EVENTS = 2,   /* with descriptors of perf events, to be held open; no answer */
	TRACE_REFUSED = 3,  /* `reason`: why the process runs untraced; no answer */
	TRACE_LIBRARY = 4   /* answered with a descriptor of the tracer's library */
};

struct trace_request {
	uint64_t magic;
	uint32_t version; /* TRACE_VERSION */
	uint32_t kind;    /* enum trace_request_kind */
	uint64_t token[2];
	uint64_t image;       /* JOIN: the parent's, of a forked child; EVENTS: the sender's; else 0 */
	uint64_t fork_serial; /* JOIN of a forked child: of the FORK record in the parent's ring; else 0 */
	uint32_t rings;       /* JOIN: what the process can map */
	uint32_t unused;
	char reason[128];
};

/* Descriptors of an answer to JOIN, in order. */
enum trace_joined {
	TRACE_JOINED_CONTROL = 0, /* struct trace_control, read-only */
	TRACE_JOINED_MEMORY = 1,  /* struct trace_process and its rings, of fixed size */
	TRACE_JOINED_COMMON = 2,  /* struct trace_common */
	TRACE_JOINED_MOST = 3
};

struct trace_answer {
	uint64_t magic;
	uint32_t version;
	int32_t error;  /* 0 or -errno; -EAGAIN: send the request once more, over this socket */
	uint64_t image; /* JOIN: number of this process image in the session, from 1 */
	uint32_t rings; /* JOIN: what the memory has space for; <= the request's */
	uint32_t unused;
};

_Static_assert(sizeof(struct trace_request) == 184, "layout of a request");
_Static_assert(sizeof(struct trace_answer) == 32, "layout of an answer");

#endif
