/* Copies of running children: the copy is right, and the child goes on as if nothing had been. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "mematlas.h"

#if !defined(__x86_64__)
int main(void)
{
	SKIP("processes are copied on x86-64 only");
}
#else

#define TIMEOUT_S 20.0
#define PAGE 4096ul
#define WAIT_MS 200
#define THREADS 16
#define KILLS 50

/* Shared with the child. */
struct shared {
	atomic_int ready;
	atomic_ulong count;
	uint64_t *block;
	int results[32], errors[32];
	double seconds[32];
	int futex;
};
static struct shared *shared;
static uint64_t global_word = 0x1122334455667788;

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int start(void (*body)(void))
{
	memset(shared, 0, sizeof *shared);
	int pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body();
		_exit(0);
	}
	while (!shared->ready)
		usleep(1000);
	return pid;
}

static void end(int pid)
{
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static struct mematlas_image *capture(int pid, int way)
{
	struct mematlas_image *image;
	int error = mematlas_image_capture(pid, way, TIMEOUT_S, &image);

	if (error == -EPERM)
		SKIP("ptrace is refused");
	if (error)
		fprintf(stderr, "capture: %s\n", strerror(-error));
	CHECK(error == 0);
	return image;
}

static struct mematlas_image_facts facts_of(const struct mematlas_image *image)
{
	struct mematlas_image_facts facts;

	mematlas_image_facts(image, &facts);
	return facts;
}

static const struct mematlas_heap_range *find(const struct mematlas_image *image, uint64_t address)
{
	const struct mematlas_heap_range *ranges = mematlas_image_ranges(image);
	uint64_t count = facts_of(image).range_count;

	for (uint64_t i = 0; i < count; i++)
		if (address - ranges[i].start < ranges[i].size)
			return &ranges[i];
	return NULL;
}

static uint64_t word_at(const struct mematlas_image *image, uint64_t address)
{
	const struct mematlas_heap_range *range = find(image, address);
	uint64_t word;

	CHECK(range && range->size - (address - range->start) >= sizeof word);
	memcpy(&word, range->bytes + (address - range->start), sizeof word);
	return word;
}

static char state_of(int pid)
{
	char path[32], line[256] = "";

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *stat = fopen(path, "r");
	CHECK(stat && fgets(line, sizeof line, stat));
	fclose(stat);
	return strrchr(line, ')')[2];
}

#define BLOCK_PAGES 64ul

static void holds_memory(void)
{
	char *block = mmap(NULL, BLOCK_PAGES * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned long i = 0; i < BLOCK_PAGES; i += 2)
		*(uint64_t *)(block + i * PAGE) = i + 1;
	global_word = 0x55;
	shared->block = (uint64_t *)block;
	shared->ready = 1;
	for (;;)
		pause();
}

static void test_content(void)
{
	int pid = start(holds_memory);
	struct mematlas_image_survey survey;

	CHECK(mematlas_image_survey(pid, &survey) == 0);
	CHECK(survey.threads == 1 &&
	      survey.small_bytes + survey.huge_bytes >= BLOCK_PAGES / 2 * PAGE);
	for (int way = MEMATLAS_IMAGE_STOP; way <= MEMATLAS_IMAGE_NO_STOP; way++) {
		struct mematlas_image *image = capture(pid, way);
		uint64_t block = (uintptr_t)shared->block;
		const struct mematlas_heap_range *range = find(image, block);
		for (unsigned long i = 0; i < BLOCK_PAGES; i++) {
			CHECK(word_at(image, block + i * PAGE) == (i % 2 ? 0 : i + 1));
			CHECK(range->pages[block / PAGE - range->start / PAGE + i] == (i % 2 == 0));
		}
		CHECK(word_at(image, (uintptr_t)&global_word) == 0x55);
		CHECK(find(image, (uintptr_t)&global_word)->kind == MEMATLAS_HEAP_DATA);
		CHECK(facts_of(image).unreadable_pages == 0);
		mematlas_image_destroy(image);
	}
	end(pid);
}

static void *spin_or_sleep(void *argument)
{
	shared->ready++;
	for (;;)
		if (argument)
			shared->count++;
		else
			pause();
	return NULL;
}

static void has_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread, NULL, spin_or_sleep, i ? NULL : shared) == 0);
	for (;;)
		pause();
}

static void test_threads(void)
{
	int pid = start(has_threads);

	while (shared->ready < THREADS)
		usleep(1000);
	struct mematlas_image *image = capture(pid, MEMATLAS_IMAGE_STOP);
	struct mematlas_image_facts facts = facts_of(image);
	CHECK(facts.thread_count == THREADS + 1);
	for (uint64_t i = 0; i < facts.thread_count; i++) {
		const struct mematlas_image_thread *thread = &mematlas_image_threads(image)[i];
		const struct mematlas_heap_range *stack = find(image, thread->sp);
		CHECK(thread->stopped && thread->register_count >= MEMATLAS_IMAGE_GENERAL);
		CHECK(stack && stack->kind == MEMATLAS_HEAP_STACK);
		CHECK(thread->sp - stack->start < 256); /* nothing stale below */
		CHECK(thread->registers[7] == thread->sp);
	}
	mematlas_image_destroy(image);
	unsigned long before = shared->count;
	for (int i = 0; i < 5000 && shared->count == before; i++)
		usleep(1000);
	CHECK(shared->count > before);
	end(pid);
}

static void *ends_at_once(void *argument)
{
	return argument;
}

static void starts_threads(void)
{
	pthread_t thread;

	for (;;) {
		if (pthread_create(&thread, NULL, ends_at_once, NULL) == 0)
			pthread_join(thread, NULL);
		shared->count++;
		shared->ready = 1;
	}
}

static void test_threads_that_come_and_go(void)
{
	int pid = start(starts_threads);

	for (int i = 0; i < 30; i++) {
		struct mematlas_image *image = capture(pid, MEMATLAS_IMAGE_STOP);
		CHECK(facts_of(image).thread_count >= 1);
		mematlas_image_destroy(image);
	}
	unsigned long before = shared->count;
	for (int i = 0; i < 5000 && shared->count == before; i++)
		usleep(1000);
	CHECK(shared->count > before);
	end(pid);
}

static int pipe_ends[2];

static int wait_in_poll(int timeout)
{
	struct pollfd poll_fd = {.fd = pipe_ends[0], .events = POLLIN};

	return poll(&poll_fd, 1, timeout);
}

static int wait_in_epoll(int timeout)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = epoll_create1(0);

	epoll_ctl(fd, EPOLL_CTL_ADD, pipe_ends[0], &event);
	return epoll_wait(fd, &event, 1, timeout);
}

static int wait_in_ppoll(int timeout)
{
	struct pollfd poll_fd = {.fd = pipe_ends[0], .events = POLLIN};
	struct timespec limit = {.tv_nsec = timeout * 1000000l};

	return ppoll(&poll_fd, 1, timeout < 0 ? NULL : &limit, NULL);
}

static int wait_in_select(int timeout)
{
	fd_set set;
	struct timeval limit = {.tv_usec = timeout * 1000l};

	FD_ZERO(&set);
	FD_SET(pipe_ends[0], &set);
	return select(pipe_ends[0] + 1, &set, NULL, NULL, timeout < 0 ? NULL : &limit);
}

static int wait_in_read(int timeout)
{
	struct pollfd poll_fd = {.fd = pipe_ends[0], .events = POLLIN};
	char byte;

	(void)timeout;
	return read(pipe_ends[0], &byte, 1) == 1 ? poll(&poll_fd, 1, 0) + 1 : -1;
}

static int wait_in_futex(int timeout)
{
	struct timespec limit = {.tv_nsec = timeout * 1000000l};
	long result = syscall(SYS_futex, &shared->futex, FUTEX_WAIT, 0, timeout < 0 ? NULL : &limit,
			      NULL, 0);

	return result < 0 && errno == ETIMEDOUT ? 0 : result == 0 ? 1 : -1;
}

static int wait_in_nanosleep(int timeout)
{
	struct timespec limit = {.tv_nsec = (timeout < 0 ? WAIT_MS : timeout) * 1000000l};

	return nanosleep(&limit, NULL) == 0 ? timeout < 0 : -1;
}

static int wait_for_signal(int timeout)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	(void)timeout;
	return sigtimedwait(&set, NULL, NULL) == SIGUSR1 ? 1 : -1;
}

static int wait_in_semop(int timeout)
{
	int set = semget(IPC_PRIVATE, 1, 0600);
	struct sembuf take = {.sem_op = -1};

	(void)timeout;
	shared->futex = set << 1; /* of even value: nothing waits for it then */
	int result = semop(set, &take, 1);
	semctl(set, 0, IPC_RMID);
	return result == 0 ? 1 : -1;
}

/* The first ones have a timeout too. */
static int (*const waits[])(int) = {wait_in_poll,  wait_in_ppoll,     wait_in_select,
				    wait_in_futex, wait_in_nanosleep, wait_in_epoll,
				    wait_in_read,  wait_for_signal,   wait_in_semop};
#define TIMED 5
#define WAITS (sizeof waits / sizeof *waits)
static unsigned chosen;
static int chosen_timeout;

static void waits_once(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	shared->ready = 1;
	double began_s = now_s();
	errno = 0;
	int result = waits[chosen](chosen_timeout);
	shared->errors[0] = errno;
	shared->seconds[0] = now_s() - began_s;
	shared->results[0] = result;
	shared->ready = 2;
}

static void wake(int pid)
{
	if (waits[chosen] == wait_in_futex)
		syscall(SYS_futex, &shared->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
	if (waits[chosen] == wait_in_semop)
		semctl(shared->futex >> 1, 0, SETVAL, 1);
	CHECK(write(pipe_ends[1], "x", 1) == 1);
	CHECK(kill(pid, SIGUSR1) == 0);
}

/* Each call ends as it would have without the captures: by its timeout, not before, or by what it waits for. */
static void test_waits(void)
{
	for (unsigned i = 0; i < WAITS + TIMED; i++) {
		chosen = i % WAITS;
		chosen_timeout = i < WAITS ? -1 : WAIT_MS;
		CHECK(pipe(pipe_ends) == 0);
		int pid = start(waits_once);
		while (state_of(pid) == 'R')
			usleep(1000);
		for (int round = 0; round < 3; round++) {
			mematlas_image_destroy(capture(pid, MEMATLAS_IMAGE_STOP));
			usleep(10000);
		}
		if (chosen_timeout < 0)
			wake(pid);
		CHECK(waitpid(pid, NULL, 0) == pid);
		CHECK(shared->ready == 2);
		if (shared->results[0] != (chosen_timeout < 0)) {
			fprintf(stderr, "wait %u with timeout %d: result %d, errno %d\n", chosen,
				chosen_timeout, shared->results[0], shared->errors[0]);
			exit(1);
		}
		CHECK(chosen_timeout < 0 || shared->seconds[0] >= WAIT_MS / 1e3 * 0.98);
		close(pipe_ends[0]);
		close(pipe_ends[1]);
	}
}

static void stops_itself(void)
{
	shared->ready = 1;
	raise(SIGSTOP);
	for (;;)
		shared->count++;
}

static void test_group_stop(void)
{
	int pid = start(stops_itself), status;

	CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	struct mematlas_image *image = capture(pid, MEMATLAS_IMAGE_STOP);
	CHECK(facts_of(image).group_stopped);
	mematlas_image_destroy(image);
	for (int i = 0; i < 1000 && state_of(pid) != 'T'; i++)
		usleep(1000);
	CHECK(state_of(pid) == 'T' && shared->count == 0);
	CHECK(kill(pid, SIGCONT) == 0);
	for (int i = 0; i < 5000 && !shared->count; i++)
		usleep(1000);
	CHECK(shared->count > 0);
	end(pid);
}

static void counts(void)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, spin_or_sleep, NULL);
	for (;;) {
		struct timespec nap = {.tv_nsec = 100000};
		shared->ready = 1;
		shared->count++;
		if (nanosleep(&nap, NULL) < 0)
			_exit(3); /* interrupted */
	}
}

/* Whenever the tool is killed, the program goes on. */
static void test_killed_tool(int way)
{
	int pid = start(counts);

	for (int i = 0; i < KILLS; i++) {
		int tool = fork();
		CHECK(tool >= 0);
		if (!tool)
			for (;;) {
				struct mematlas_image *image;
				if (mematlas_image_capture(pid, way, TIMEOUT_S, &image))
					_exit(1);
				mematlas_image_destroy(image);
			}
		usleep((useconds_t)(i * 7919 % 20000));
		CHECK(kill(tool, SIGKILL) == 0);
		CHECK(waitpid(tool, NULL, 0) == tool);
		unsigned long before = shared->count;
		for (int wait = 0; wait < 10000 && shared->count == before; wait++)
			usleep(500);
		CHECK(shared->count > before);
		CHECK(waitpid(pid, NULL, WNOHANG) == 0);
	}
	end(pid);
}

static void test_no_process(void)
{
	struct mematlas_image *image;
	int pid = fork();

	if (!pid)
		_exit(0);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK(mematlas_image_capture(pid, MEMATLAS_IMAGE_STOP, TIMEOUT_S, &image) == -ESRCH);
	CHECK(!image);
}

int main(void)
{
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	CHECK(shared != MAP_FAILED);
	test_no_process();
	test_content();
	test_threads();
	test_threads_that_come_and_go();
	test_waits();
	test_group_stop();
	test_killed_tool(MEMATLAS_IMAGE_STOP);
	puts("fine");
	return 0;
}
#endif
