/* Descriptors of the tracer in the traced program's table. */
#define _GNU_SOURCE
#include "descriptor.h"

#include <fcntl.h>
#include <stddef.h>

#include "syscall.h"

#define HIGH_FD 1000u /* above the descriptors that programs expect to be given next */
#define MORE 64u

bool trace_raise_descriptors(struct rlimit *before)
{
	if (getrlimit(RLIMIT_NOFILE, before) != 0)
		return false;
	struct rlimit raised = {.rlim_cur = before->rlim_cur + MORE, .rlim_max = before->rlim_max};
	if (raised.rlim_max < raised.rlim_cur)
		raised.rlim_max = raised.rlim_cur;
	return trace_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, NULL) == 0;
}

void trace_restore_descriptors(const struct rlimit *before)
{
	trace_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, before, NULL);
}

int trace_move_descriptor(int fd, bool inherited)
{
	struct rlimit before;

	if (fd < 0)
		return fd;
	bool raised = trace_raise_descriptors(&before);
	int moved = (int)trace_syscall(SYS_fcntl, fd, inherited ? F_DUPFD : F_DUPFD_CLOEXEC,
				       raised ? before.rlim_cur : HIGH_FD);
	if (raised)
		trace_restore_descriptors(&before);
	if (moved < 0)
		return fd;
	trace_syscall(SYS_close, fd);
	return moved;
}

bool trace_descriptor_is_out_of_the_way(int fd)
{
	struct rlimit limit;

	return fd >= (int)HIGH_FD ||
	       (getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd >= limit.rlim_cur);
}
