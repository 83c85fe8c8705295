/* Write protection of another process's memory, by a descriptor of userfaultfd(2) that was opened there. */
#ifndef MEMATLAS_SNAPSHOT_USERFAULT_H
#define MEMATLAS_SNAPSHOT_USERFAULT_H

#include <stdbool.h>
#include <stdint.h>

/* Opens a descriptor in the process, takes it over and closes it there. Returns our descriptor.
 * -EPERM: a seccomp filter or the kernel refuses; -ENOSYS: an old kernel, or another processor;
 * -EBUSY: the process is stopped by a signal; -ETIME, -ESRCH. The process is then as before. */
int userfault_open(int pid, double timeout_s);
/* Registers whole mappings. False: refused, such as for memory that another descriptor has. */
bool userfault_register(int fd, uint64_t start, uint64_t end);
/* Ends the protection of [start, end) in pieces, so that the process can fault meanwhile. */
void userfault_release(int fd, uint64_t start, uint64_t end);

/* What is read of a process before a thread is stopped. */
struct ground {
	int pid;
	struct mematlas_maps *maps;
	struct mematlas_target *code;
	uint64_t system_call; /* address of: syscall; ret */
	uint64_t restorer; /* of: mov $15,%rax; syscall, what a signal handler returns to */
};
/* ground.c. -ENOSYS: the process has no such instructions. */
int ground_read(struct ground *ground, int pid);
void ground_free(struct ground *ground);

/* detour.c: a stopped thread that makes system calls. Should its tracer die at any moment, the thread returns
 * to what it did by rt_sigreturn(2), as from a signal handler. -EXDEV: the thread is not on a stack whose
 * lower part is known to be unused, in a restartable sequence, or catches its own system calls. */
struct detour;
int detour_begin(const struct ground *ground, int tid, double timeout_s, struct detour **ret);
/* The result of the call, or -errno. */
int64_t detour_call(struct detour *detour, int64_t number, const uint64_t *arguments);
/* Lets the thread go on where it was, and frees `detour`. */
void detour_end(struct detour *detour);

#endif
