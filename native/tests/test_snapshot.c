/* Copies of running children: the copy is right, and the child goes on as if nothing had been. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "snapshot_child.h"

#if !defined(__x86_64__)
int main(void)
{
	SKIP("processes are copied on x86-64 only");
}
#else
#define THREADS 16
#define KILLS 50

static void test_content(void)
{
	int pid = start(holds_memory);
	struct mematlas_image_survey survey;

	CHECK(mematlas_image_survey(pid, &survey) == 0);
	CHECK(survey.threads == 1 &&
	      survey.small_bytes + survey.huge_bytes >= BLOCK_PAGES / 2 * PAGE);
	for (int way = MEMATLAS_IMAGE_STOP; way <= MEMATLAS_IMAGE_NO_STOP; way++) {
		if (way == MEMATLAS_IMAGE_COPY_FIRST && !can_copy_first)
			continue;
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
	check_goes_on(pid);
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

static void test_threads_that_come_and_go(int way)
{
	int pid = start(starts_threads);

	for (int i = 0; i < 8; i++) {
		struct mematlas_image *image = capture(pid, way);
		CHECK(facts_of(image).thread_count >= 1);
		mematlas_image_destroy(image);
	}
	check_goes_on(pid);
	end(pid);
}

static void stops_itself(void)
{
	shared->ready = 1;
	raise(SIGSTOP);
	for (;;)
		shared->count++;
}

/* It need not be stopped: nothing of it runs. */
static void test_group_stop(void)
{
	int pid = start(stops_itself), status;

	CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	struct mematlas_image *image = capture(pid, MEMATLAS_IMAGE_STOP);
	CHECK(facts_of(image).group_stopped);
	CHECK(!can_copy_first ||
	      mematlas_image_capture(pid, MEMATLAS_IMAGE_COPY_FIRST, TIMEOUT_S, 0, &estimate_s,
				     &(struct mematlas_image *){0}) == -EBUSY);
	mematlas_image_destroy(image);
	WAIT_FOR(state_of(pid) == 'T');
	CHECK(shared->count == 0);
	CHECK(kill(pid, SIGCONT) == 0);
	WAIT_FOR(shared->count > 0);
	end(pid);
}

static void counts(void)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, spin_or_sleep, NULL);
	counts_alone();
}

/* The tool before may still be letting a thread go: its capture then fails. */
static void captures_for_ever(int pid, int way)
{
	struct mematlas_image *image;

	for (;;) {
		mematlas_image_capture(pid, way, TIMEOUT_S, 0, &estimate_s, &image);
		mematlas_image_destroy(image);
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
			captures_for_ever(pid, way);
		usleep((useconds_t)(i * 7919 % 20000));
		CHECK(kill(tool, SIGKILL) == 0);
		CHECK(waitpid(tool, NULL, 0) == tool);
		check_goes_on(pid);
	}
	end(pid);
}

#define WRITTEN_PAGES 2000ul

/* Page by page in order: whatever moment it is, a prefix of the pages is one ahead. */
static void writes_in_order(void)
{
	char *pages = mmap(NULL, WRITTEN_PAGES * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	shared->block = (uint64_t *)pages;
	for (uint64_t turn = 1;; turn++) {
		for (unsigned long i = 0; i < WRITTEN_PAGES; i++)
			*(volatile uint64_t *)(pages + i * PAGE) = turn;
		shared->count = turn;
		shared->ready = 1;
		for (volatile int i = 0; i < 1000000; i++)
			;
	}
}

static void test_one_moment(int way)
{
	int pid = start(writes_in_order);

	for (int round = 0; round < 10; round++) {
		struct mematlas_image *image = capture(pid, way);
		uint64_t first = word_at(image, (uintptr_t)shared->block), before = first;
		for (unsigned long i = 1; i < WRITTEN_PAGES; i++) {
			uint64_t word = word_at(image, (uintptr_t)shared->block + i * PAGE);
			CHECK(word == before || (word == first - 1 && before == first));
			before = word;
		}
		mematlas_image_destroy(image);
	}
	end(pid);
}

static void map_again(char *at, uint64_t mark)
{
	munmap(at, 16 * PAGE);
	CHECK(mmap(at, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == at);
	*(uint64_t *)at = mark;
}

/* Maps, unmaps, drops and moves memory, grows its heap, and has the kernel write. */
static void changes_mappings(void)
{
	char *area =
		mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *other =
		mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ends[2];

	CHECK(pipe(ends) == 0);
	CHECK(mprotect(other, PAGE, PROT_NONE) == 0 &&
	      mprotect(other + 63 * PAGE, PAGE, PROT_NONE) == 0);
	shared->block = (uint64_t *)area;
	shared->other = (uint64_t *)(other + 16 * PAGE);
	for (uint64_t turn = 1;; turn++) {
		map_again(area, turn);
		*shared->other = turn;
		for (volatile int i = 0; i < 20000; i++)
			; /* a round may copy the page before it is dropped */
		madvise(shared->other, 8 * PAGE, MADV_DONTNEED);
		char *moved = mremap(area + 32 * PAGE, 16 * PAGE, 16 * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, area + 48 * PAGE);
		CHECK(moved == area + 48 * PAGE);
		map_again(area + 32 * PAGE, turn);
		if (turn < 2000)
			CHECK(sbrk(PAGE) != (void *)-1);
		memset((char *)sbrk(0) - PAGE, 7, PAGE);
		CHECK(write(ends[1], &turn, sizeof turn) == sizeof turn);
		CHECK(read(ends[0], area + 24 * PAGE, sizeof turn) == sizeof turn);
		CHECK(*(uint64_t *)(area + 24 * PAGE) == turn);
		shared->count = turn;
		shared->ready = 1;
	}
}

static unsigned count_kind(const struct mematlas_image *image, uint32_t kind)
{
	unsigned found = 0;

	for (uint64_t i = 0; i < facts_of(image).range_count; i++)
		found += mematlas_image_ranges(image)[i].kind == kind;
	return found;
}

static uint64_t word_or_zero(const struct mematlas_image *image, uint64_t address)
{
	return find(image, address) ? word_at(image, address) : 0;
}

static void test_changes(int way)
{
	int pid = start(changes_mappings);

	for (int round = 0; round < 15; round++) {
		uint64_t before = shared->count;
		struct mematlas_image *image = capture(pid, way);
		uint64_t after = shared->count + 1, area = (uintptr_t)shared->block;
		uint64_t first = word_or_zero(image, area);
		uint64_t last = word_or_zero(image, area + 32 * PAGE);
		uint64_t moved = word_or_zero(image, area + 48 * PAGE);
		CHECK(first == 0 || (first >= before && first <= after));
		CHECK(last == 0 || (last + 1 >= before && last <= after));
		uint64_t dropped = word_or_zero(image, (uintptr_t)shared->other);
		CHECK(dropped == 0 || first == 0 || dropped == first);
		CHECK(count_kind(image, MEMATLAS_HEAP_BRK) == 1);
		CHECK(moved == 0 || (moved + 2 >= before && moved <= after));
		mematlas_image_destroy(image);
	}
	CHECK(waitpid(pid, NULL, WNOHANG) == 0);
	end(pid);
}

static unsigned count_lines(int pid, const char *file, const char *word)
{
	char path[64], line[512];
	unsigned found = 0;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	FILE *stream = fopen(path, "r");
	CHECK(stream);
	while (fgets(line, sizeof line, stream))
		found += strstr(line, word) != NULL;
	fclose(stream);
	return found;
}

/* No descriptor, no mapping, no protection, no other mask or register is left. */
static void test_nothing_left(void)
{
	int pid = start(holds_memory);
	char path[64];

	while (state_of(pid) != 'S')
		usleep(1000);
	unsigned mappings = count_lines(pid, "maps", "-");
	for (int i = 0; i < 5; i++)
		mematlas_image_destroy(capture(pid, MEMATLAS_IMAGE_COPY_FIRST));
	CHECK(count_lines(pid, "smaps", " uw") == 0);
	CHECK(count_lines(pid, "maps", "-") == mappings);
	CHECK(count_lines(pid, "status", "SigBlk:\t0000000000000000") == 1);
	for (int number = 0; number < 64; number++) {
		char to[64] = "";
		snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, number);
		CHECK(readlink(path, to, sizeof to - 1) < 0 || !strstr(to, "userfaultfd"));
	}
	end(pid);
}

/* The tool stops itself after this many more calls of ioctl(), once memory is protected; negative: it does not. */
static int calls_left = -1;
static bool protects;

int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);

/* The first call that protects memory, and those after it: more protection, and scans of what was written. */
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	int result = __real_ioctl(fd, request, argument);

	protects |= request == UFFDIO_REGISTER && result == 0;
	if (protects && calls_left >= 0 && calls_left-- == 0)
		raise(SIGSTOP);
	return result;
}

/* While memory is protected, the tool dies: the kernel ends the protection. */
static void test_killed_while_protected(void)
{
	int pid = start(writes_in_order), status;

	for (int calls = 0; calls < 6; calls++) {
		int tool = fork();
		CHECK(tool >= 0);
		if (!tool) {
			calls_left = calls;
			protects = false;
			captures_for_ever(pid, MEMATLAS_IMAGE_COPY_FIRST);
		}
		CHECK(waitpid(tool, &status, WUNTRACED) == tool && WIFSTOPPED(status));
		CHECK(count_lines(pid, "smaps", " uw") > 0);
		CHECK(kill(tool, SIGKILL) == 0);
		CHECK(waitpid(tool, NULL, 0) == tool);
		WAIT_FOR(count_lines(pid, "smaps", " uw") == 0);
		check_goes_on(pid);
	}
	end(pid);
}

static void forbids_userfaultfd(void)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = rules};

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	counts();
}

/* A call that the filter would end the program for is not made. The program is stopped instead. */
static void test_seccomp(void)
{
	int pid = start(forbids_userfaultfd);
	struct mematlas_image *image;

	CHECK(mematlas_image_capture(pid, MEMATLAS_IMAGE_COPY_FIRST, TIMEOUT_S, 0, &estimate_s,
				     &image) == -EPERM);
	mematlas_image_destroy(capture(pid, MEMATLAS_IMAGE_STOP));
	check_goes_on(pid);
	end(pid);
}

static void test_no_process(void)
{
	struct mematlas_image *image;
	int pid = fork();

	if (!pid)
		_exit(0);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK(mematlas_image_capture(pid, MEMATLAS_IMAGE_STOP, TIMEOUT_S, 0, &estimate_s, &image) ==
	      -ESRCH);
	CHECK(!image);
}

int main(void)
{
	map_shared();
	test_no_process();
	find_abilities();
	test_content();
	test_threads();
	test_group_stop();
	for (int way = MEMATLAS_IMAGE_STOP; way <= MEMATLAS_IMAGE_COPY_FIRST - !can_copy_first;
	     way++) {
		test_threads_that_come_and_go(way);
		test_one_moment(way);
		test_changes(way);
		test_killed_tool(way);
	}
	if (can_copy_first) {
		test_seccomp();
		test_nothing_left();
		test_killed_while_protected();
	}
	puts("fine");
	return 0;
}
#endif
