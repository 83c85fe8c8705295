/* All threads of another process, stopped by ptrace(2) and let go on as if nothing had been. */
#ifndef MEMATLAS_SNAPSHOT_STOP_H
#define MEMATLAS_SNAPSHOT_STOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/user.h>

#include "mematlas.h"

/* count <= capacity; threads[0 .. count) are seized by the calling thread */
struct stop {
	int pid;
	uint32_t count, capacity;
	struct mematlas_image_thread *threads;
	double began_s; /* CLOCK_MONOTONIC: before the first thread was interrupted; 0: none was */
};

/* Stops every thread, those that start meanwhile included. Nothing is stopped after a failure.
 * -ESRCH: the process is gone; -EPERM: ptrace is refused; -ETIME: a thread did not stop in `timeout_s`. */
int stop_all(struct stop *stop, int pid, double timeout_s);
/* Lets all threads go on. Returns the seconds since the first one was interrupted. */
double stop_release(struct stop *stop);

#if defined(__x86_64__)
/* Has the kernel restart a call that it would end with EINTR, though no signal came. */
bool stop_restart_call(int tid, struct user_regs_struct *registers);
#endif

/* Threads of the process, a dead main thread included; 0: unknown. */
uint64_t stop_count_threads(int pid);

/* Reads the registers of a stopped thread, and sees to it that its system call is restarted. */
int stop_read_registers(struct mematlas_image_thread *thread);

#endif
