/* A child that is stopped at its program's entry point, after the loader and the constructors of its
 * libraries: -errno out. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mematlas.h"

int mematlas_trace_me(void)
{
	return ptrace(PTRACE_TRACEME, 0, 0, 0) < 0 ? -errno : 0;
}

#ifdef __aarch64__
#define BREAKPOINT 0xd4200000ull /* brk #0 */
#define BREAKPOINT_MASK 0xffffffffull
#else
#define BREAKPOINT 0xccull /* int3 */
#define BREAKPOINT_MASK 0xffull
#endif

/* The child is killed after a look at it, so the instruction is never put back. */
static int set_breakpoint(pid_t pid, uint64_t address)
{
	errno = 0;
	uint64_t word = (uint64_t)ptrace(PTRACE_PEEKTEXT, pid, address, 0);

	if (errno)
		return -errno;
	word = (word & ~BREAKPOINT_MASK) | BREAKPOINT;
	return ptrace(PTRACE_POKETEXT, pid, address, word) < 0 ? -errno : 0;
}

int mematlas_trace_run_to(int32_t pid, uint64_t address)
{
	int error = set_breakpoint(pid, address), status = 0;
	int pass_on = 0;

	while (!error) {
		if (ptrace(PTRACE_CONT, pid, 0, pass_on) < 0)
			return -errno;
		while (waitpid(pid, &status, __WALL) < 0)
			if (errno != EINTR)
				return -errno;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		if (WSTOPSIG(status) == SIGTRAP)
			return 0;
		pass_on = WSTOPSIG(status);
	}
	return error;
}
