/* Holds memory that is no allocation: shared, of files, thread stacks. Argument: a folder for its file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MB (1ul << 20)
#define NO_INLINE __attribute__((noinline))
#define THREADS 4

static pthread_barrier_t touched, done;
static char zeroed[3 * MB]; /* .bss */
static char *volatile kept[8];

NO_INLINE static char *map(size_t size, int flags, int fd)
{
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (memory == MAP_FAILED)
		exit(3);
	return memory;
}

NO_INLINE static void make_memfd(void)
{
	int fd = memfd_create("mapped", 0);

	if (fd < 0 || ftruncate(fd, 20 * MB) != 0)
		exit(4);
	kept[0] = map(20 * MB, MAP_SHARED, fd);
	memset(kept[0], 1, 20 * MB);
}

NO_INLINE static void make_shared(void)
{
	kept[1] = map(10 * MB, MAP_SHARED | MAP_ANONYMOUS, -1);
	memset(kept[1], 1, 10 * MB);
}

/* Half of the private mapping is written, half is only read. */
NO_INLINE static void make_private(const char *folder)
{
	char path[4096];
	volatile char sum = 0;

	snprintf(path, sizeof path, "%s/mapped.bin", folder);
	int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
	if (fd < 0)
		exit(5);
	char *block = calloc(1, MB);
	for (int i = 0; i < 16; i++)
		if (write(fd, block, MB) != (ssize_t)MB)
			exit(6);
	free(block);
	kept[2] = map(16 * MB, MAP_PRIVATE, fd);
	for (size_t i = 8 * MB; i < 16 * MB; i += 512)
		sum += kept[2][i];
	memset(kept[2], 1, 8 * MB);
}

NO_INLINE static void *worker(void *unused)
{
	char used[2 * MB];

	memset(used, 1, sizeof used);
	kept[3] = used;
	pthread_barrier_wait(&touched);
	pthread_barrier_wait(&done);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	if (argc < 2)
		return 2;
	pthread_barrier_init(&touched, NULL, THREADS + 1);
	pthread_barrier_init(&done, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, worker, NULL);
	memset(zeroed, 1, sizeof zeroed);
	make_memfd();
	make_shared();
	make_private(argv[1]);
	pthread_barrier_wait(&touched);
	_exit(15); /* while all of it is held */
}
