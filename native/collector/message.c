#define _GNU_SOURCE
#include "message.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../pass_descriptors.h"

/* Linux 6.5 */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

#define MOST_PASSED 253u /* descriptors with one message: the kernel's SCM_MAX_FD */

void message_ask_sender(int fd)
{
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &one, sizeof one);
}

void message_close(struct message *message)
{
	for (unsigned i = 0; i < message->count; i++)
		if (message->fds[i] >= 0)
			close(message->fds[i]);
	if (message->sender.pidfd >= 0)
		close(message->sender.pidfd);
}

/* A sender may pass as many as the kernel allows, whatever a request is to bring. */
static void take_descriptors(const struct cmsghdr *data, struct message *message)
{
	size_t count = (data->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < count; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(data) + i * sizeof fd, sizeof fd);
		if (message->count < TRACE_MAX_DESCRIPTORS)
			message->fds[message->count++] = fd;
		else
			close(fd);
	}
}

static void take_control_data(struct msghdr *header, struct message *message)
{
	for (struct cmsghdr *data = CMSG_FIRSTHDR(header); data; data = CMSG_NXTHDR(header, data)) {
		if (data->cmsg_level != SOL_SOCKET)
			continue;
		if (data->cmsg_type == SCM_RIGHTS) {
			take_descriptors(data, message);
		} else if (data->cmsg_type == SCM_CREDENTIALS) {
			struct ucred who;
			memcpy(&who, CMSG_DATA(data), sizeof who);
			message->sender.pid = who.pid;
			message->sender.uid = who.uid;
		} else if (data->cmsg_type == SCM_PIDFD) {
			memcpy(&message->sender.pidfd, CMSG_DATA(data), sizeof(int));
		}
	}
}

/* The kernel writes the descriptors before the pidfd, so there is space for all that a message can bring. */
ssize_t message_receive(int fd, struct message *message)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int)) +
			   CMSG_SPACE(sizeof(int) * MOST_PASSED)];
		struct cmsghdr aligned;
	} space;
	struct iovec bytes = {&message->request, sizeof message->request};
	struct msghdr header = {.msg_iov = &bytes,
				.msg_iovlen = 1,
				.msg_control = &space,
				.msg_controllen = sizeof space};

	*message = (struct message){.sender.pidfd = -1};
	ssize_t size = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (size < 0)
		return -errno;
	take_control_data(&header, message);
	message->is_cut = header.msg_flags & MSG_CTRUNC;
	message->request.reason[sizeof message->request.reason - 1] = 0;
	return size;
}

void message_answer(int fd, const struct trace_answer *answer, const int *fds, unsigned count)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * TRACE_JOINED_MOST)];
		struct cmsghdr aligned;
	} space = {.bytes = {0}};
	struct iovec bytes = {(void *)(uintptr_t)answer, sizeof *answer};
	struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};

	pass_descriptors(&header, &space, fds, count);
	sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}
