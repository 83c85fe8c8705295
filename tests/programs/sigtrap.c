/* Programs that handle SIGTRAP, die of it, block it, or wait for all signals. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define SIZE ((size_t)16 << 20)

static volatile sig_atomic_t handled;

static void count(int number)
{
	(void)number;
	handled++;
}

NOINLINE static void touch(void)
{
	char *room = malloc(SIZE);
	if (!room)
		abort();
	memset(room, 1, SIZE);
	__asm__ volatile("" : : "r"(room) : "memory");
	free(room);
}

static int handle(void)
{
	struct sigaction before, action = {.sa_handler = count};

	sigaction(SIGTRAP, NULL, &before);
	touch();
	sigaction(SIGTRAP, &action, NULL);
	for (int i = 0; i < 3; i++) {
		raise(SIGTRAP);
		touch();
	}
	sigaction(SIGTRAP, NULL, &action);
	printf("%d %d %d\n", before.sa_handler == SIG_DFL, action.sa_handler == count, handled);
	return 0;
}

static void *wait_for_any(void *set)
{
	int number = 0;

	touch();
	sigwait(set, &number);
	printf("got %d\n", number);
	return NULL;
}

/* As servers do: all signals blocked, one thread waits for them. */
static int wait_all(void)
{
	sigset_t all;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	touch();
	pthread_create(&thread, NULL, wait_for_any, &all);
	touch();
	usleep(20000);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (strcmp(how, "handle") == 0)
		return handle();
	if (strcmp(how, "wait") == 0)
		return wait_all();
	touch();
	printf("touched\n");
	fflush(stdout);
#if defined(__x86_64__)
	__asm__ volatile("int3");
#else
	raise(SIGTRAP);
#endif
	return 0;
}
