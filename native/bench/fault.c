/* The time and the page faults of each way to get memory from the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "mematlas.h"

static char *bytes_at(uint64_t address)
{
	return (char *)(uintptr_t)address;
}

static uint64_t thread_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

static void begin(struct mematlas_fault_cost *cost)
{
	cost->faults = thread_faults();
	cost->ns = now_ns();
}

static void finish(struct mematlas_fault_cost *cost)
{
	cost->ns = now_ns() - cost->ns;
	cost->faults = thread_faults() - cost->faults;
}

void mematlas_fault_touch(uint64_t address, uint64_t length, uint64_t step, int write,
			  struct mematlas_fault_cost *ret)
{
	volatile char *at = bytes_at(address);

	begin(ret);
	if (write)
		for (uint64_t offset = 0; offset < length; offset += step)
			at[offset] = 1;
	else
		for (uint64_t offset = 0; offset < length; offset += step)
			(void)at[offset];
	finish(ret);
}

int mematlas_fault_map(uint64_t length, int flags, uint64_t *ret_address,
		       struct mematlas_fault_cost *ret)
{
	begin(ret);
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, -1, 0);
	int error = errno;
	finish(ret);
	if (memory == MAP_FAILED)
		return -error;
	*ret_address = (uintptr_t)memory;
	return 0;
}

int mematlas_fault_advise(uint64_t address, uint64_t length, int advice,
			  struct mematlas_fault_cost *ret)
{
	begin(ret);
	int result = madvise(bytes_at(address), length, advice);
	int error = errno;
	finish(ret);
	return result < 0 ? -error : 0;
}

int mematlas_fault_unmap(uint64_t address, uint64_t length, struct mematlas_fault_cost *ret)
{
	begin(ret);
	int result = munmap(bytes_at(address), length);
	int error = errno;
	finish(ret);
	return result < 0 ? -error : 0;
}

static int map_each(uint64_t *ret_addresses, uint64_t count, uint64_t length)
{
	for (uint64_t i = 0; i < count; i++) {
		void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED) {
			int error = errno;
			while (i-- > 0)
				munmap(bytes_at(ret_addresses[i]), length);
			return -error;
		}
		ret_addresses[i] = (uintptr_t)memory;
	}
	return 0;
}

int mematlas_fault_map_each(uint64_t *ret_addresses, uint64_t count, uint64_t length,
			    struct mematlas_fault_cost *ret)
{
	begin(ret);
	int error = map_each(ret_addresses, count, length);
	finish(ret);
	/* Not timed: a program does not do this. A kernel without huge pages refuses. */
	for (uint64_t i = 0; !error && i < count; i++)
		madvise(bytes_at(ret_addresses[i]), length, MADV_NOHUGEPAGE);
	return error;
}

void mematlas_fault_touch_each(const uint64_t *addresses, uint64_t count, uint64_t length,
			       uint64_t step, struct mematlas_fault_cost *ret)
{
	begin(ret);
	for (uint64_t i = 0; i < count; i++) {
		volatile char *at = bytes_at(addresses[i]);
		for (uint64_t offset = 0; offset < length; offset += step)
			at[offset] = 1;
	}
	finish(ret);
}

int mematlas_fault_unmap_each(const uint64_t *addresses, uint64_t count, uint64_t length,
			      struct mematlas_fault_cost *ret)
{
	int error = 0;

	begin(ret);
	for (uint64_t i = 0; i < count; i++)
		if (munmap(bytes_at(addresses[i]), length) < 0)
			error = -errno;
	finish(ret);
	return error;
}

/* Keeps the pages shared until the parent closes the pipe. */
__attribute__((noreturn)) static void wait_for_parent(const int *pipes)
{
	char byte;

	close(pipes[1]);
	while (read(pipes[0], &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

int mematlas_fault_fork(uint64_t address, uint64_t length, uint64_t step,
			struct mematlas_fault_cost *ret_fork, struct mematlas_fault_cost *ret_copy)
{
	sigset_t all, before;
	int pipes[2], error;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	sigfillset(&all); /* the child must not run the program's signal handlers */
	sigprocmask(SIG_SETMASK, &all, &before);
	begin(ret_fork);
	/* Not fork(), which would run the handlers of pthread_atfork(3) and time them. */
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		wait_for_parent(pipes);
	error = errno;
	finish(ret_fork);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(pipes[0]);
	if (child > 0) {
		mematlas_fault_touch(address, length, step, 1, ret_copy);
		close(pipes[1]);
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
		return 0;
	}
	close(pipes[1]);
	return -error;
}
