/* Allocates at known times and frees after known lifetimes; a child does the same. Prints the
 * times at which its parts began, in seconds since its start. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define BLOCK 1000

static char *kept[10000];

NOINLINE static void keep_early(void)
{
	for (int i = 0; i < 1000; i++)
		kept[i] = malloc(BLOCK);
}

NOINLINE static void come_and_go(void)
{
	for (int i = 0; i < 50000; i++) {
		char *block = malloc(BLOCK);
		__asm__ volatile("" : : "r"(block) : "memory");
		free(block);
	}
}

NOINLINE static void keep_for_a_while(void)
{
	for (int i = 1000; i < 3000; i++)
		kept[i] = malloc(BLOCK);
}

NOINLINE static void keep_late(void)
{
	for (int i = 3000; i < 3500; i++)
		kept[i] = malloc(BLOCK);
}

NOINLINE static void keep_in_child(void)
{
	for (int i = 4000; i < 4300; i++)
		kept[i] = malloc(BLOCK);
}

static void pause_for(int ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&time, NULL);
}

int main(void)
{
	keep_early();
	pause_for(300);
	keep_for_a_while();
	come_and_go();
	pause_for(300);
	for (int i = 1000; i < 2000; i++)
		free(kept[i]);
	pause_for(300);
	keep_late();
	pid_t child = fork();
	if (child == 0) {
		pause_for(100);
		keep_in_child();
		pause_for(200);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	puts("done");
	return 0;
}
