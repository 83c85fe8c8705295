/* A thread that was there before, and the main thread, each touch 160 MiB of memory for which main() has
 * asked for huge pages. With an argument "close", all descriptors are closed in between. */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE ((size_t)2 << 20)
#define SIZE (80 * HUGE)

static sem_t asked;
static char *room;

__attribute__((noinline, noclone)) static void touch_here(char *at)
{
	for (size_t i = 0; i < SIZE; i += HUGE)
		at[i] = 1;
	__asm__ volatile("" : : "r"(at) : "memory");
}

__attribute__((noinline, noclone)) static void touch_there(char *at)
{
	for (size_t i = 0; i < SIZE; i += HUGE)
		at[i] = 2;
	__asm__ volatile("" : : "r"(at) : "memory");
}

static void *wait_and_touch(void *unused)
{
	sem_wait(&asked);
	touch_there(room + SIZE);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	sem_init(&asked, 0, 0);
	if (pthread_create(&thread, NULL, wait_and_touch, NULL))
		abort();
	room = mmap(NULL, 2 * SIZE + HUGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		abort();
	room = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));
	madvise(room, 2 * SIZE, MADV_HUGEPAGE);
	for (int fd = 3; argc > 1 && argv[1][0] == 'c' && fd < 1024; fd++)
		close(fd);
	sem_post(&asked);
	touch_here(room);
	pthread_join(thread, NULL);
	return puts("touched") < 0;
}
