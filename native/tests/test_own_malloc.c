/* Stops a child whose program defines malloc(), inside of it and outside. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "mematlas.h"

#define TIMEOUT_S 20.0
/* The system call of pause(). */
#if defined(SYS_pause)
#define PAUSE SYS_pause
#else
#define PAUSE SYS_ppoll
#endif

static volatile int holds; /* a child stays in malloc() */
static int to_parent;

static void tell(void)
{
	if (write(to_parent, "r", 1) != 1)
		_exit(9);
}

void *malloc(size_t size)
{
	static alignas(16) char memory[1 << 22];
	static size_t used;
	size_t at = __atomic_fetch_add(&used, (size + 31) & ~(size_t)15, __ATOMIC_RELAXED);

	if (holds)
		tell();
	while (holds)
		;
	if (at + size + 16 > sizeof memory)
		return NULL;
	memcpy(memory + at, &size, sizeof size);
	return memory + at + 16;
}

void free(void *memory)
{
	(void)memory;
}

void *calloc(size_t count, size_t size)
{
	return malloc(count * size); /* never used again, so zero */
}

void *realloc(void *memory, size_t size)
{
	void *moved = malloc(size);
	size_t before = 0;

	if (memory && moved) {
		memcpy(&before, (char *)memory - 16, sizeof before);
		memcpy(moved, memory, before < size ? before : size);
	}
	return moved;
}

static void in_malloc(void)
{
	holds = 1;
	if (malloc(1))
		_exit(9);
}

static void in_pause(void)
{
	tell();
	for (;;)
		pause();
}

static struct mematlas_place look(void (*body)(void))
{
	struct mematlas_remote *remote;
	struct mematlas_target *target;
	struct mematlas_place place;
	int fds[2];
	char byte;

	CHECK(pipe(fds) == 0);
	int pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		to_parent = fds[1];
		body();
	}
	close(fds[1]);
	CHECK(read(fds[0], &byte, 1) == 1);
	close(fds[0]);
	for (;;) { /* until the write() has ended */
		struct mematlas_remote_registers registers;
		int error = mematlas_remote_attach(pid, pid, TIMEOUT_S, &remote);
		if (error == -EPERM)
			SKIP("ptrace is refused");
		CHECK(error == 0);
		mematlas_remote_read_registers(remote, &registers);
		if (registers.system_call == (body == in_pause ? PAUSE : -1))
			break;
		CHECK(mematlas_remote_detach(remote) == 0);
		usleep(1000);
	}
	CHECK(mematlas_target_create(pid, &target) == 0);
	CHECK(mematlas_remote_find_place(remote, target, &place) == 0);
	mematlas_target_destroy(target);
	CHECK(mematlas_remote_detach(remote) == 0);
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	return place;
}

int main(void)
{
	struct mematlas_place inside = look(in_malloc), outside = look(in_pause);

	CHECK(inside.verdict == MEMATLAS_PLACE_BRIEF);
	CHECK(strstr(inside.file, "test_own_malloc"));
	CHECK(outside.verdict == MEMATLAS_PLACE_SAFE);
	puts("fine");
	return 0;
}
