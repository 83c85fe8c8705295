/* exits WAY: ends in the given way, with 50,000 live bytes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *left;

__attribute__((noinline, noclone)) static char *leave_behind(void)
{
	char *room = malloc(50000);
	if (!room)
		abort();
	return memset(room, 1, 50000);
}

static void *exit_from_thread(void *argument)
{
	(void)argument;
	exit(12);
}

static void leave(const char *way)
{
	pthread_t thread;

	if (strcmp(way, "_exit") == 0)
		_exit(10);
	if (strcmp(way, "quick_exit") == 0)
		quick_exit(11);
	if (strcmp(way, "abort") == 0)
		abort();
	if (strcmp(way, "exec") == 0)
		execlp("true", "true", (char *)NULL);
	if (strcmp(way, "exec-missing") == 0)
		execlp("no-such-program-here", "x", (char *)NULL);
	if (strcmp(way, "syscall") == 0)
		syscall(SYS_exit_group, 13);
	if (strcmp(way, "segv") == 0)
		raise(SIGSEGV);
	if (strcmp(way, "thread") == 0 && !pthread_create(&thread, NULL, exit_from_thread, NULL))
		pthread_join(thread, NULL);
	if (strcmp(way, "pthread_exit") == 0)
		pthread_exit(NULL);
}

int main(int argc, char **argv)
{
	left = leave_behind();
	printf("%d\n", left[3]);
	fflush(stdout);
	if (argc > 1)
		leave(argv[1]);
	return 14;
}
