/* Stops threads of a child at known places: the verdict must know the place. */
#define _GNU_SOURCE
#include <alloca.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../attach/remote.h"
#include "../unwind/cfi.h"
#include "check.h"
#include "child_state.h"
#include "mematlas.h"
#include "random.h"
#include "stopped_child.h"
#include "syscall_insn.h"

#define PAGE 4096ul
/* The system call of pause(). */
#if defined(SYS_pause)
#define PAUSE SYS_pause
#else
#define PAUSE SYS_ppoll
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OTHER_MALLOC 1
#else
#define OTHER_MALLOC 0
#endif

static int to_parent;
static useconds_t delay_us; /* before a thread is interrupted */

long __real_ptrace(int request, pid_t pid, void *address, void *data);
long __wrap_ptrace(int request, pid_t pid, void *address, void *data);

long __wrap_ptrace(int request, pid_t pid, void *address, void *data)
{
	if (request == PTRACE_INTERRUPT && delay_us)
		usleep(delay_us);
	return __real_ptrace(request, pid, address, data);
}

static void tell(void)
{
	if (write(to_parent, "r", 1) != 1)
		_exit(9);
}

static void wait_for_ever(void)
{
	tell();
	for (;;)
		pause();
}

static __attribute__((noinline)) int nest(int depth, void (*leaf)(void))
{
	volatile int result = depth ? nest(depth - 1, leaf) : (leaf(), 0);

	return result + 1;
}

/* glibc's read() may jump to where it waits. */
static void reading(void)
{
	int fds[2];
	char byte;

	CHECK(pipe(fds) == 0);
	tell();
	while (read(fds[0], &byte, 1) != 1)
		;
}

static void nested(void)
{
	nest(20, wait_for_ever);
}

static void on_fault(int signal)
{
	(void)signal;
	wait_for_ever();
}

static void *volatile kept;

/* malloc() writes the head of what remains of its last chunk: in the end, to a page that may not be
 * written. */
static void handler_over_malloc(void)
{
	kept = malloc(PAGE);
	char *page = (char *)(((uintptr_t)sbrk(0) - 4 * PAGE) & ~(PAGE - 1));

	signal(SIGSEGV, on_fault);
	CHECK(mprotect(page, PAGE, PROT_READ) == 0);
	for (int i = 0; i < 1000000; i++)
		kept = malloc(1000);
}

static void on_usr1(int signal)
{
	(void)signal;
	wait_for_ever();
}

static void handler_over_pause(void)
{
	signal(SIGUSR1, on_usr1);
	raise(SIGUSR1);
}

/* The word that a signal frame begins with is left on the stack by sigaction(). */
static void stale_word(void)
{
	signal(SIGUSR1, on_usr1);
	volatile char *buffer = alloca(16384);
	buffer[0] = 0;
	wait_for_ever();
}

static void busy(void)
{
	tell();
	for (;;) {
		kept = malloc(5000);
		free(kept);
	}
}

/* As long in one function of the C library as a look at another thread takes. */
static void fills(void)
{
	static char block[1 << 20];

	tell();
	for (;;) {
		memset(block, 1, sizeof block);
		kept = block;
		__asm__ volatile("" ::: "memory");
	}
}

static void stopped(void)
{
	tell();
	for (;;)
		raise(SIGSTOP);
}

static int start(void (*body)(void))
{
	int fds[2];
	char byte;

	CHECK(pipe(fds) == 0);
	int pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		to_parent = fds[1];
		body();
		_exit(0);
	}
	close(fds[1]);
	CHECK(read(fds[0], &byte, 1) == 1);
	close(fds[0]);
	return pid;
}

static struct mematlas_place look(struct mematlas_remote *remote, int pid)
{
	struct mematlas_target *target;
	struct mematlas_place place;

	CHECK(mematlas_target_create(pid, &target) == 0);
	CHECK(mematlas_remote_find_place(remote, target, &place) == 0);
	mematlas_target_destroy(target);
	return place;
}

/* A child that has died refuses as well. */
static struct mematlas_remote *stop_living(int pid)
{
	CHECK(state_of(pid) != 'Z');
	return stop(pid);
}

/* The child has told and is in that system call. A look earlier would see the write(), which a sanitizer
 * wraps. */
static struct mematlas_remote *stop_when_in(int pid, int64_t system_call)
{
	struct mematlas_remote_registers registers;

	for (int i = 0; i < 60000; i++) {
		struct mematlas_remote *remote = stop(pid);
		mematlas_remote_read_registers(remote, &registers);
		if (registers.system_call == system_call)
			return remote;
		CHECK(mematlas_remote_detach(remote) == 0);
		usleep(1000);
	}
	CHECK(!"the child waits");
	return NULL;
}

static struct mematlas_place look_when_in(int64_t system_call, void (*body)(void))
{
	int pid = start(body);
	struct mematlas_remote *remote = stop_when_in(pid, system_call);
	struct mematlas_place place = look(remote, pid);

	CHECK(mematlas_remote_detach(remote) == 0);
	end(pid);
	return place;
}

static struct mematlas_place look_when_waiting(void (*body)(void))
{
	return look_when_in(PAUSE, body);
}

static void test_waiting(void)
{
	struct mematlas_place shallow = look_when_waiting(wait_for_ever);
	struct mematlas_place deep = look_when_waiting(nested);

	CHECK(shallow.verdict == MEMATLAS_PLACE_SAFE && shallow.whole && !shallow.handlers);
	CHECK(deep.verdict == MEMATLAS_PLACE_SAFE && deep.whole);
	CHECK(deep.frames >= shallow.frames + 20);
	if (!OTHER_MALLOC) /* a sanitizer wraps read() */
		CHECK(look_when_in(SYS_read, reading).verdict == MEMATLAS_PLACE_SAFE);
}

static void test_handlers(void)
{
	struct mematlas_place place = look_when_waiting(stale_word);
	CHECK(place.verdict == MEMATLAS_PLACE_SAFE && place.handlers == 0);
	place = look_when_waiting(handler_over_pause);
	CHECK(place.verdict == MEMATLAS_PLACE_SAFE && place.handlers == 1);
	if (OTHER_MALLOC)
		return;
	place = look_when_waiting(handler_over_malloc);
	CHECK(place.verdict == MEMATLAS_PLACE_LIBRARY && place.handlers == 1);
	CHECK(strcmp(place.function, "malloc") == 0);
	CHECK(place.out_pc != 0);
}

/* A thread that is nearly always inside the allocator is run out of it, and stays unharmed. */
static void test_run_out(void)
{
	int pid = start(busy), reached = 0;

	for (int i = 0; i < 20000 && reached < 3; i++) {
		struct mematlas_remote *remote = stop(pid);
		struct mematlas_place place = look(remote, pid);
		if (place.verdict == MEMATLAS_PLACE_LIBRARY && place.out_pc) {
			int error = mematlas_remote_run_out(remote, place.out_pc, place.out_stack,
							    TIMEOUT_S);
			if (error == -ENOSPC || error == -EINVAL || error == -EIO)
				SKIP("no breakpoint registers");
			CHECK(error == 0);
			CHECK(look(remote, pid).verdict == MEMATLAS_PLACE_SAFE);
			reached++;
		}
		CHECK(mematlas_remote_detach(remote) == 0);
	}
	CHECK(reached == 3);
	CHECK(waitpid(pid, NULL, WNOHANG) == 0);
	end(pid);
}

/* The limit passes while the thread reaches the breakpoint: its trap must not end the program. */
static void test_run_out_late(void)
{
	int pid = start(fills);

	for (int i = 0; i < 500; i++) {
		struct mematlas_remote *remote = stop_living(pid);
		struct mematlas_place place = look(remote, pid);
		if (place.out_pc) {
			int error = mematlas_remote_run_out(remote, place.out_pc, place.out_stack,
							    (i % 16) * 4e-6);
			CHECK(error == 0 || error == -ETIME);
		}
		CHECK(mematlas_remote_detach(remote) == 0);
	}
	CHECK(waitpid(pid, NULL, WNOHANG) == 0);
	end(pid);
}

static void test_handler_never_leaves(void)
{
	int pid = start(handler_over_malloc);
	struct mematlas_remote *remote = stop_when_in(pid, PAUSE);
	struct mematlas_place place = look(remote, pid);

	CHECK(place.out_pc != 0);
	CHECK(mematlas_remote_run_out(remote, place.out_pc, place.out_stack, 0.05) == -ETIME);
	CHECK(mematlas_remote_detach(remote) == 0);
	CHECK(waitpid(pid, NULL, WNOHANG) == 0);
	end(pid);
}

/* A call runs although the process is stopped, and leaves it so; SIGSTOP during the call as well. */
static void test_group_stop(void)
{
	int pid = start(stopped), status;

	CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	struct mematlas_remote *remote = stop(pid);
	CHECK(mematlas_remote_is_group_stopped(remote));
	CHECK(mematlas_remote_run_out(remote, 1, 0, 0.1) == -EBUSY);
	CHECK(mematlas_remote_detach(remote) == 0);
	WAIT_FOR(state_of(pid) == 'T');
	end(pid);
}

/* A call that ends after its timeout and before the interruption: its fault at the return address is not the
 * program's. */
static void test_call_ends_late(void)
{
	int pid = start(wait_for_ever);
	struct mematlas_remote *remote = stop(pid);
	int64_t result = -1;

	remote->timeout_s = 0.001;
	delay_us = 500000;
	int error = mematlas_remote_call(remote, find_syscall_insn(), (uintptr_t)usleep, 20000, 0,
					 &result);
	delay_us = 0;
	remote->timeout_s = TIMEOUT_S;
	CHECK(error == 0 && result == 0);
	CHECK(mematlas_remote_detach(remote) == 0);
	CHECK(state_of(pid) != 'Z');
	end(pid);
}

static void test_calls(void)
{
	int pid = start(wait_for_ever);
	struct mematlas_remote *remote = stop(pid);
	uint64_t insn = find_syscall_insn(), address;
	char text[8] = "";
	int64_t result;

	CHECK(mematlas_remote_put(remote, insn, "hello", 6, &address) == 0);
	CHECK(mematlas_remote_get(remote, address, text, 6) == 0 && strcmp(text, "hello") == 0);
	CHECK(mematlas_remote_put(remote, insn, text, 8193, &address) == -E2BIG);
	CHECK(mematlas_remote_system_call(remote, insn, SYS_getpid, (uint64_t[6]){0}, &result) ==
	      0);
	CHECK(result == pid);
	CHECK(kill(pid, SIGSTOP) == 0);
	CHECK(mematlas_remote_call(remote, insn, (uintptr_t)labs, (uint64_t)-7, 0, &result) == 0);
	CHECK(result == 7);
	CHECK(mematlas_remote_detach(remote) == 0);
	WAIT_FOR(state_of(pid) == 'T');
	CHECK(kill(pid, SIGCONT) == 0);
	end(pid);
}

static void sleeps(void)
{
	struct timespec begin, end, second = {.tv_sec = 1};

	tell();
	clock_gettime(CLOCK_MONOTONIC, &begin);
	if (nanosleep(&second, NULL) != 0)
		_exit(2);
	clock_gettime(CLOCK_MONOTONIC, &end);
	double took =
		(double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
	_exit(took < 1 ? 3 : 0);
}

/* Returns how often the thread was entered: a busy machine may not run this process while it sleeps. */
static int enter_sleeping(void)
{
	int pid = start(sleeps), status, entered = 0;
	uint64_t insn = find_syscall_insn();
	int64_t result;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		struct mematlas_remote *remote;
		if (mematlas_remote_attach(pid, pid, TIMEOUT_S, &remote) != 0)
			continue;
		CHECK(mematlas_remote_system_call(remote, insn, SYS_getpid, (uint64_t[6]){0},
						  &result) == 0);
		CHECK(mematlas_remote_detach(remote) == 0);
		entered++;
		usleep(100000);
		CHECK(entered < 600);
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return entered;
}

/* A thread that sleeps, and is entered, sleeps neither less nor for the whole time again and again. */
static void test_sleep_goes_on(void)
{
	int tries = 1;

	while (enter_sleeping() < 2)
		CHECK(tries++ < 60);
}

static uint64_t random_word(void)
{
	static uint64_t state = 88172645463325252ull;

	return random_next(&state);
}

/* Entries of a hostile program: whatever they say, no read leaves the copy. */
static void test_hostile_entries(void)
{
	enum { SIZE = 64 };
	static const char *const augmentations[] = {"", "zR", "zPLR", "zRS", "zRRRRRRRRRRRR", "e"};
	unsigned ran = 0;

	for (int round = 0; round < 200000; round++) {
		uint8_t *copies[2];
		struct eh_bytes bytes[2];
		struct fde fde = {0};
		struct cfi_row row;

		for (int i = 0; i < 2; i++) {
			copies[i] = calloc(1, SIZE + EH_FRAME_PADDING);
			for (int at = 4; at < SIZE; at++)
				copies[i][at] = (uint8_t)random_word();
			bytes[i] = (struct eh_bytes){.at = copies[i], .end = copies[i] + SIZE};
		}
		memset(copies[0] + 4, 0, 4);
		copies[0][8] = 1;
		strcpy((char *)copies[0] + 9, augmentations[random_word() % 6]);
		uint8_t *after = copies[0] + 9 + strlen((char *)copies[0] + 9) + 1;
		memcpy(after, (uint8_t[]){1, 0x78, EH_FRAME_RETURN_ADDRESS}, 3);
		if (eh_frame_read_cie(bytes[0], &fde.cie) && eh_frame_read_fde(bytes[1], &fde))
			ran += cfi_run(&fde, fde.start + fde.length / 2, &row);
		free(copies[0]);
		free(copies[1]);
	}
	CHECK(ran > 100);
}

int main(void)
{
	test_hostile_entries();
	test_waiting();
	test_handlers();
	if (!OTHER_MALLOC) {
		test_run_out();
		test_run_out_late();
		test_handler_never_leaves();
	}
	test_group_stop();
	test_calls();
	test_sleep_goes_on();
	test_call_ends_late();
	puts("fine");
	return 0;
}
