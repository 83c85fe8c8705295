/* A program with an allocator of its own, which maps memory while it holds its lock and counts its calls.
 *
 * -DHEAP  the allocator, in a library or in the program
 * -DEARLY a library whose constructor is the first to allocate
 * -DWORK  the program: prints the number of calls of the program and of a forked child */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

long heap_calls(void);

#ifdef HEAP
#define ARENA ((size_t)8 << 20)
static atomic_flag lock = ATOMIC_FLAG_INIT;
static char *arena;
static size_t used = ARENA;
static _Atomic long calls;

long heap_calls(void)
{
	return calls;
}

static void *take(size_t size, size_t alignment)
{
	calls++;
	while (atomic_flag_test_and_set(&lock))
		;
	if (used + size + alignment + 16 > ARENA) {
		arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
		used = 0;
	}
	uintptr_t block = ((uintptr_t)arena + used + 16 + alignment - 1) & ~(alignment - 1);
	((size_t *)block)[-1] = size;
	used = block + size - (uintptr_t)arena;
	atomic_flag_clear(&lock);
	return (void *)block;
}

void *malloc(size_t size)
{
	return take(size, 16);
}

void free(void *block)
{
	calls += block != NULL;
}

void *calloc(size_t count, size_t size)
{
	return take(count * size, 16);
}

void *realloc(void *block, size_t size)
{
	void *moved = take(size, 16);

	if (block)
		memcpy(moved, block, ((size_t *)block)[-1] < size ? ((size_t *)block)[-1] : size);
	return moved;
}

void *memalign(size_t alignment, size_t size)
{
	return take(size, alignment < 16 ? 16 : alignment);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
	*block = memalign(alignment, size);
	return 0;
}
#endif

#ifdef EARLY
char *early_block;

__attribute__((constructor)) static void allocate_early(void)
{
	early_block = malloc(10);
}
#endif

#ifdef WORK
__attribute__((noinline, noclone)) static char *keep(size_t size)
{
	char *block = malloc(size);

	return memset(block, 1, size);
}

static void *in_thread(void *unused)
{
	free(keep(100000));
	keep(300000);
	return unused;
}

static void in_threads(int count)
{
	for (int i = 0; i < count; i++) {
		pthread_t thread;
		pthread_create(&thread, NULL, in_thread, NULL);
		pthread_join(thread, NULL);
	}
}

static void load_and_unload(const char *path)
{
	void *library = dlopen(path, RTLD_NOW);

	if (library) {
		dlsym(library, "missing");
		dlclose(library);
	}
}

static void print_calls(const char *who)
{
	char line[64];
	int length = snprintf(line, sizeof line, "%s: %ld calls\n", who, heap_calls());

	if (write(1, line, (size_t)length) != length)
		_exit(1);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < 200; i++)
		keep((size_t)i * 1000);
	in_threads(8);
	for (int i = 1; i < argc; i++)
		load_and_unload(argv[i]);
	pid_t child = fork();
	if (child == 0) {
		keep(1 << 20);
		in_threads(2);
		print_calls("child");
		_exit(0);
	}
	waitpid(child, NULL, 0);
	in_threads(2);
	print_calls("program");
	return 14;
}
#endif
