/* A thread of another process, stopped by ptrace(2). */
#ifndef MEMATLAS_ATTACH_REMOTE_H
#define MEMATLAS_ATTACH_REMOTE_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "mematlas.h"
#include "registers.h"

/* area == 0 <=> argument_bytes == 0 */
struct mematlas_remote {
	int pid, tid;
	double timeout_s;
	bool group_stopped;
	uint64_t area; /* memory mapped in the process; 0: not yet */
	uint64_t syscall_insn; /* address of a system call instruction in the process */
	uint64_t signals; /* the thread's mask */
	uint64_t held; /* signals that came during a call, to be sent again */
	size_t argument_bytes; /* used of the area's low end */
	struct registers_wait wait; /* before the last stop */
	struct user_regs_struct before;
	struct registers_vector vector;
};

/* As mematlas_remote_filter_system_call(), of a thread that is stopped by this one. */
int64_t remote_filter_system_call(int tid, int64_t number, const uint64_t *arguments);
/* The verdict on a stopped thread that has these registers. */
void remote_place(const struct user_regs_struct *registers, struct mematlas_target *target,
		  struct mematlas_place *ret);
/* Waits for the next stop. A status of wait(2), or -ESRCH: the thread is gone; -ETIME. */
int remote_wait(int tid, double timeout_s);
static inline bool remote_is_event(int status)
{
	return status >> 16 != 0; /* PTRACE_EVENT_STOP: not the delivery of a signal */
}
/* Interrupts the thread; delivers signals that are pending. Returns 0 or -errno. */
int remote_stop(struct mematlas_remote *remote);
int remote_save(struct mematlas_remote *remote);
int remote_restore(struct mematlas_remote *remote);

#endif
