/* Descriptors that a message of AF_UNIX takes along. */
#ifndef MEMATLAS_PASS_DESCRIPTORS_H
#define MEMATLAS_PASS_DESCRIPTORS_H

#include <string.h>
#include <sys/socket.h>

/* Adds `count` descriptors, if any, to a message. `space`: of CMSG_SPACE() bytes for as many, aligned as
 * struct cmsghdr and zeroed. */
static inline void pass_descriptors(struct msghdr *header, void *space, const int *fds,
				    unsigned count)
{
	if (!count)
		return;
	header->msg_control = space;
	header->msg_controllen = CMSG_SPACE(sizeof *fds * count);
	struct cmsghdr *data = CMSG_FIRSTHDR(header);
	data->cmsg_level = SOL_SOCKET;
	data->cmsg_type = SCM_RIGHTS;
	data->cmsg_len = CMSG_LEN(sizeof *fds * count);
	memcpy(CMSG_DATA(data), fds, sizeof *fds * count);
}

#endif
