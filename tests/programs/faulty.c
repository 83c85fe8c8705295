/* A program with one memory fault for the doctor to find. Prints a line when it is ready. A line on standard
 * input makes it call malloc_trim() and print the bytes returned. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB (1UL << 20)
#define BLOCKS 20000

static pthread_barrier_t barrier;
static char *volatile held;

static long resident(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	long size = 0, pages = 0;

	if (!file || fscanf(file, "%ld %ld", &size, &pages) != 2)
		exit(2);
	fclose(file);
	return pages * sysconf(_SC_PAGESIZE);
}

static char *map(size_t size, int protection, int flags)
{
	char *memory = mmap(NULL, size, protection, MAP_ANONYMOUS | flags, -1, 0);

	if (memory == MAP_FAILED)
		exit(77);
	return memory;
}

/* Keep every 50th block, with freed memory between them. */
static void shred(void)
{
	static __thread char *blocks[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(3000 + (size_t)(i % 7) * 500);
		memset(blocks[i], 1, 3000);
	}
	for (int i = 0; i < BLOCKS; i++)
		if (i % 50)
			free(blocks[i]);
}

static void *shredder(void *argument)
{
	shred();
	pthread_barrier_wait(&barrier);
	pause();
	return argument;
}

static void bloat(void)
{
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, shredder, NULL);
	shred();
	pthread_barrier_wait(&barrier);
}

static void lock(void)
{
	if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
		exit(77);
	if (mlock(map(4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE), 4 * MIB - 65536))
		exit(77);
}

static void use_stack(int kib)
{
	volatile char frame[1024];

	frame[0] = 1;
	if (kib)
		use_stack(kib - 1);
	frame[1023] = 1;
}

static void lock_to_the_limit(void)
{
	struct rlimit limit = {4 * MIB, 8 * MIB};

	setrlimit(RLIMIT_MEMLOCK, &limit);
	lock();
}

/* Use what a limit that is set from outside nearly forbids. */
static void need(const char *what)
{
	if (!strcmp(what, "needs-locked"))
		lock();
	else if (!strcmp(what, "needs-addresses"))
		map(400 * MIB, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	else if (!strcmp(what, "needs-stack"))
		use_stack(6700);
}

/* Use more of it; the limit ends this program, unless it is higher now. */
static void need_more(const char *what)
{
	if (!strcmp(what, "needs-locked")) {
		if (mlock(map(3 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE), 3 * MIB))
			exit(1);
	} else if (!strcmp(what, "needs-addresses")) {
		map(200 * MIB, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	} else if (!strcmp(what, "needs-stack")) {
		use_stack(9000);
	}
}

static void grow(void)
{
	for (;;) {
		memset(malloc(MIB), 1, MIB);
		usleep(100000);
	}
}

static void set_limit(int resource, size_t soft)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		exit(2);
	limit.rlim_cur = soft;
	if (setrlimit(resource, &limit))
		exit(77);
}

static size_t address_space(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	long pages = 0;

	if (!file || fscanf(file, "%ld", &pages) != 1)
		exit(2);
	fclose(file);
	return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void touch_sparsely(int advice)
{
	char *memory = aligned_alloc(2 * MIB, 128 * MIB);

	if (madvise(memory, 128 * MIB, advice))
		exit(77);
	for (size_t at = 0; at < 128 * MIB; at += 2 * MIB)
		memory[at] = 1;
}

/* Allocate, touch and free a large block again and again. */
static void churn(void)
{
	for (int i = 0; i < 100; i++) {
		held = memset(malloc(40 * MIB), 1, 40 * MIB);
		free(held);
	}
}

static void be_limited(const char *fault)
{
	if (!strcmp(fault, "address-space")) {
		set_limit(RLIMIT_AS, address_space() + address_space() / 20);
	} else if (!strcmp(fault, "stack")) {
		set_limit(RLIMIT_STACK, 8 * MIB);
		use_stack(6700);
	} else if (!strcmp(fault, "sparse-huge")) {
		touch_sparsely(MADV_HUGEPAGE);
	} else if (!strcmp(fault, "sparse-small")) {
		touch_sparsely(MADV_NOHUGEPAGE);
	} else if (!strcmp(fault, "churn")) {
		churn();
	} else if (!strcmp(fault, "small-malloc")) {
		held = memset(malloc(128 * MIB), 1, 128 * MIB);
	} else if (!strcmp(fault, "double-free")) {
		char *volatile block = malloc(100);

		free(block);
		free(block);
	} else if (!strcmp(fault, "protected")) {
		if (mprotect(map(MIB, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE), MIB,
			     PROT_READ | PROT_EXEC))
			exit(2);
	}
}

static void be(const char *fault)
{
	be_limited(fault);
	if (!strcmp(fault, "small-pages"))
		memset(map(128 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE), 1, 128 * MIB);
	else if (!strcmp(fault, "shared-small-pages"))
		memset(map(128 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED), 1, 128 * MIB);
	else if (!strcmp(fault, "write-execute"))
		map(MIB, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
	else if (!strcmp(fault, "bloat"))
		bloat();
	else if (!strcmp(fault, "memlock"))
		lock_to_the_limit();
	else if (!strcmp(fault, "lazy"))
		madvise(memset(map(128 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE), 1, 128 * MIB),
			128 * MIB, MADV_FREE);
}

int main(int count, char **words)
{
	const char *fault = count > 1 ? words[1] : "well";
	long before;

	be(fault);
	need(fault);
	puts("ready");
	fflush(stdout);
	if (!strcmp(fault, "growth"))
		grow();
	getchar();
	need_more(fault);
	before = resident();
	malloc_trim(0);
	printf("%ld\n", before - resident());
	fflush(stdout);
	getchar();
	return 0;
}
