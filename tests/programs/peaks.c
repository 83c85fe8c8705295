/* A peak of 20 ms that ends in the way that the argument says. */
#define _GNU_SOURCE
#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1u << 20)
#define PEAK (120u * MIB)
#define BLOCKS 30
#define SMALL 1000
#define THREADS 4

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void *fill(void *memory, size_t size)
{
	if (!memory || memory == MAP_FAILED)
		_exit(3);
	memset(memory, 1, size);
	__asm__ volatile(""
			 :
			 : "r"(memory)
			 : "memory"); /* else the compiler leaves the block out */
	return memory;
}

static void *map(size_t size)
{
	return fill(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		    size);
}

static void *allocate(size_t size)
{
	return fill(malloc(size), size);
}

static void end_by_munmap(void)
{
	void *memory = map(PEAK);

	sleep_ms(20);
	munmap(memory, PEAK);
}

static void end_by_syscall(void)
{
	void *memory = map(PEAK);

	sleep_ms(20);
	syscall(SYS_munmap, memory, PEAK);
}

static void end_by_fixed_map(void)
{
	void *memory = map(PEAK);

	sleep_ms(20);
	mmap(memory, PEAK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void end_by_madvise(void)
{
	void *memory = map(PEAK);

	sleep_ms(20);
	madvise(memory, PEAK, MADV_DONTNEED);
}

static void end_by_mremap(void)
{
	void *memory = map(PEAK);

	sleep_ms(20);
	mremap(memory, PEAK, MIB, 0);
}

static void end_by_sbrk(void)
{
	fill(sbrk(PEAK), PEAK);
	sleep_ms(20);
	sbrk(-(intptr_t)PEAK);
}

static void end_by_free(void)
{
	void *memory = allocate(PEAK);

	sleep_ms(20);
	free(memory);
}

static void end_by_realloc(void)
{
	void *memory = allocate(PEAK);

	sleep_ms(20);
	free(realloc(memory, MIB));
}

static void end_by_frees(void)
{
	void *blocks[BLOCKS];

	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = allocate(PEAK / BLOCKS);
	sleep_ms(20);
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
}

/* From the last on, so that the heap shrinks with every free. */
static void end_by_small_frees(void)
{
	static void *blocks[PEAK / SMALL];

	for (unsigned i = 0; i < PEAK / SMALL; i++)
		blocks[i] = allocate(SMALL);
	sleep_ms(20);
	for (unsigned i = PEAK / SMALL; i-- > 0;)
		free(blocks[i]);
}

static pthread_barrier_t all_hold;

static void *hold_a_part(void *unused)
{
	void *memory = allocate(PEAK / THREADS);

	pthread_barrier_wait(&all_hold);
	sleep_ms(20);
	free(memory);
	return unused;
}

static void end_in_threads(void)
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&all_hold, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, hold_a_part, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void end_in_a_child(void)
{
	pid_t child = fork();

	if (child == 0) {
		end_by_free();
		sleep_ms(100);
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void end_by_exit(void)
{
	allocate(PEAK);
	sleep_ms(20);
	exit(0);
}

static void end_at_once(void)
{
	allocate(PEAK);
	sleep_ms(20);
	_exit(0);
}

static void end_by_exec(void)
{
	allocate(PEAK);
	sleep_ms(20);
	execl("/bin/sleep", "sleep", "0.1", NULL);
}

static void end_by_abort(void)
{
	allocate(PEAK);
	sleep_ms(20);
	abort();
}

static void end_by_assert(void)
{
	allocate(PEAK);
	sleep_ms(20);
	assert(PEAK == 0);
}

/* Free memory stays in the heap, until the trim. */
static void end_by_trim(void)
{
	static void *blocks[PEAK / SMALL];

	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	for (unsigned i = 0; i < PEAK / SMALL; i++)
		blocks[i] = allocate(SMALL);
	for (unsigned i = 0; i < PEAK / SMALL; i++)
		free(blocks[i]);
	sleep_ms(20);
	malloc_trim(0);
}

static int share(void)
{
	int fd = memfd_create("shared", 0);

	if (fd < 0 || ftruncate(fd, PEAK))
		_exit(3);
	fill(mmap(NULL, PEAK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), PEAK);
	sleep_ms(20);
	return fd;
}

static void end_by_truncate(void)
{
	if (ftruncate(share(), 0))
		_exit(3);
}

static void end_by_punch(void)
{
	if (fallocate(share(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PEAK))
		_exit(3);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} ways[] = {
		{"munmap", end_by_munmap},     {"syscall", end_by_syscall},
		{"fixed", end_by_fixed_map},   {"madvise", end_by_madvise},
		{"mremap", end_by_mremap},     {"sbrk", end_by_sbrk},
		{"free", end_by_free},         {"realloc", end_by_realloc},
		{"frees", end_by_frees},       {"small", end_by_small_frees},
		{"threads", end_in_threads},   {"child", end_in_a_child},
		{"exit", end_by_exit},         {"_exit", end_at_once},
		{"exec", end_by_exec},         {"abort", end_by_abort},
		{"assert", end_by_assert},     {"trim", end_by_trim},
		{"truncate", end_by_truncate}, {"punch", end_by_punch},
	};
	void *base = map(30 * MIB);

	sleep_ms(30);
	for (unsigned i = 0; argc > 1 && i < sizeof ways / sizeof *ways; i++)
		if (strcmp(argv[1], ways[i].name) == 0)
			ways[i].run();
	sleep_ms(100);
	munmap(base, 30 * MIB);
	return 0;
}
