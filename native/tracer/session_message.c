#define _GNU_SOURCE
#include "session_message.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

#include "../pass_descriptors.h"
#include "descriptor.h"
#include "state.h"
#include "syscall.h"

#define WAIT_S 10 /* for an answer; a thread of the collector does nothing else than answering */
#define STEP_S 1 /* within which a running collector shows that it runs */

/* struct msghdr as the kernel has it: so on 64-bit machines. */
long trace_message_send(int fd, const struct trace_request *request, const int *fds, unsigned count)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * 2)];
		struct cmsghdr aligned;
	} space;
	struct iovec bytes = {(void *)(uintptr_t)request, sizeof *request};
	struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};

	memset(&space, 0, sizeof space);
	pass_descriptors(&header, &space, fds, count);
	long result;
	do
		result = trace_syscall(SYS_sendmsg, fd, &header, MSG_NOSIGNAL);
	while (result == -EINTR);
	return result;
}

/* The space for them is aligned, and may have brought one more. */
static void take_descriptors(struct msghdr *header, struct trace_joining *ret)
{
	size_t taken = 0;

	for (struct cmsghdr *data = CMSG_FIRSTHDR(header); data; data = CMSG_NXTHDR(header, data)) {
		if (data->cmsg_level != SOL_SOCKET || data->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (data->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(data) + i * sizeof fd, sizeof fd);
			if (taken < TRACE_JOINED_MOST)
				ret->fds[taken++] = fd;
			else
				trace_close_descriptor(&fd);
		}
	}
}

void trace_message_close(struct trace_joining *joining)
{
	for (unsigned i = 0; i < TRACE_JOINED_MOST; i++) {
		trace_close_descriptor(&joining->fds[i]);
		joining->fds[i] = -1;
	}
}

static long poll_readable(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	struct timespec left = {.tv_sec = STEP_S}; /* the kernel takes off what has passed */
	long ready;

	do
		ready = trace_syscall(SYS_ppoll, &readable, 1, &left, NULL, 0);
	while (ready == -EINTR);
	return ready;
}

/* A forked child can see whether the collector runs. While that one is stopped, a server has to go on. */
static const uint64_t *heartbeat(void)
{
	return trace_session.in_session ? &trace_session.control->heartbeat : NULL;
}

/* Returns 0 once there is something to receive, or -errno. Signals of the program interrupt the wait,
 * however many come. */
static int wait_for_answer(int fd)
{
	const uint64_t *counter = heartbeat();
	uint64_t last = counter ? __atomic_load_n(counter, __ATOMIC_RELAXED) : 0;

	for (int waited = 0; waited < WAIT_S; waited += STEP_S) {
		long ready = poll_readable(fd);
		if (ready)
			return ready < 0 ? (int)ready : 0;
		uint64_t now = counter ? __atomic_load_n(counter, __ATOMIC_RELAXED) : 0;
		if (counter && now == last)
			break;
		last = now;
	}
	return -ETIMEDOUT;
}

static bool has_room(int fd)
{
	int probes[TRACE_JOINED_MOST];
	int count = 0;

	while (count < (int)TRACE_JOINED_MOST &&
	       (probes[count] = (int)trace_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0)) >= 0)
		count++;
	bool room = count == (int)TRACE_JOINED_MOST;
	while (count > 0)
		trace_syscall(SYS_close, probes[--count]);
	return room;
}

/* Descriptors for which there is no room would be lost, and cannot be received again. */
static long receive_at_once(int fd, struct msghdr *header)
{
	struct rlimit before;
	bool raised = !has_room(fd) && trace_raise_descriptors(&before);
	long size = trace_syscall(SYS_recvmsg, fd, header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (raised)
		trace_restore_descriptors(&before);
	return size;
}

int trace_message_receive(int fd, struct trace_joining *ret)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * TRACE_JOINED_MOST)];
		struct cmsghdr aligned;
	} space;
	struct iovec bytes = {&ret->answer, sizeof ret->answer};
	struct msghdr header = {.msg_iov = &bytes,
				.msg_iovlen = 1,
				.msg_control = &space,
				.msg_controllen = sizeof space};
	long size;

	ret->fds[0] = ret->fds[1] = ret->fds[2] = -1;
	int error = wait_for_answer(fd);
	if (error)
		return error;
	size = receive_at_once(fd, &header);
	if (size <= 0)
		return size ? (int)size : -ECONNRESET;
	take_descriptors(&header, ret);
	if (size != sizeof ret->answer || ret->answer.magic != TRACE_REQUEST_MAGIC ||
	    ret->answer.version != TRACE_VERSION || header.msg_flags & MSG_CTRUNC) {
		trace_message_close(ret);
		return header.msg_flags & MSG_CTRUNC ? -EMFILE : -EPROTO;
	}
	return ret->answer.error;
}

void trace_message_limit_waits(int fd)
{
	const struct timeval wait = {.tv_sec = heartbeat() ? STEP_S : WAIT_S};

	trace_syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
}
