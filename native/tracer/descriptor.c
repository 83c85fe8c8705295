/* Descriptors of the tracer in the traced program's table. */
#define _GNU_SOURCE
#include "descriptor.h"

#include <fcntl.h>
#include <stddef.h>

#include "process_lock.h"
#include "syscall.h"

#define HIGH_FD 1000u /* above the descriptors that programs expect to be given next */
#define MORE 64u
#define MOST_LIMIT 4096u /* beyond, a table up to there would be large, and every fork copies it */

/* The process one of whose threads has raised the limit; 0: none. */
static _Atomic pid_t raising;

static struct rlimit raise_limit(const struct rlimit *before)
{
	rlim_t raised = before->rlim_cur + MORE;

	return (struct rlimit){raised, before->rlim_max < raised ? raised : before->rlim_max};
}

bool trace_raise_descriptors(struct rlimit *before)
{
	if (getrlimit(RLIMIT_NOFILE, before) != 0 || before->rlim_cur >= RLIM_INFINITY - MORE ||
	    !trace_process_lock(&raising))
		return false;
	struct rlimit raised = raise_limit(before);
	if (trace_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, NULL) == 0)
		return true;
	atomic_store(&raising, 0);
	return false;
}

/* A limit that the program has set in between stays. */
void trace_restore_descriptors(const struct rlimit *before)
{
	struct rlimit now, raised = raise_limit(before);

	if (getrlimit(RLIMIT_NOFILE, &now) != 0 ||
	    (now.rlim_cur == raised.rlim_cur && now.rlim_max == raised.rlim_max))
		trace_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, before, NULL);
	atomic_store(&raising, 0);
}

int trace_move_descriptor(int fd, bool inherited)
{
	struct rlimit before;

	if (fd < 0)
		return fd;
	bool raised = getrlimit(RLIMIT_NOFILE, &before) == 0 && before.rlim_cur <= MOST_LIMIT &&
		      trace_raise_descriptors(&before);
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
