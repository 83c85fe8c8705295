/* badfree stack|double|again|inside|static: a bug that the C library answers with abort. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))

static void *volatile hidden;
static char fixed[64];

NOINLINE static void *make(size_t size)
{
	return malloc(size);
}

NOINLINE static void release(void *block)
{
	free(block);
	__asm__ volatile("" : : : "memory");
}

NOINLINE static void release_first(void *block)
{
	free(block);
	__asm__ volatile("" : : : "memory");
}

static void *run(void *block)
{
	release(block);
	return NULL;
}

/* The address has two lives. The first ends in this thread, which is not to blame. */
static void free_in_another_thread(void)
{
	pthread_t thread;

	release_first(make(5000));
	hidden = make(5000);
	pthread_create(&thread, NULL, run, hidden);
	pthread_join(thread, NULL);
}

NOINLINE static void free_wrongly(void)
{
	free(hidden);
	__asm__ volatile("" : : : "memory");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "stack";
	char local[64] = {0};

	if (strcmp(what, "double") == 0) {
		release(make(
			100)); /* stays in the thread's cache, so that no other gets the address */
		hidden = make(5000);
		release(hidden);
		for (int i = 0; i < 1000; i++) /* others come between in the logs of frees */
			release(make(100));
	} else if (strcmp(what, "again") == 0) {
		free_in_another_thread();
	} else if (strcmp(what, "inside") == 0) {
		hidden = (char *)make(5000) + 64;
	} else {
		hidden = (strcmp(what, "static") == 0 ? fixed : local) + 16;
	}
	free_wrongly();
	return local[0];
}
