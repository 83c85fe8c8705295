/* A timer signal keeps interrupting malloc and free; its handler unwinds and sets errno. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void on_tick(int number)
{
	(void)number;
	errno = 77;
	ticks++;
}

int main(void)
{
	struct itimerval every = {{0, 500}, {0, 500}};
	void *blocks[64] = {0};
	long wrong = 0;

	signal(SIGALRM, on_tick);
	setitimer(ITIMER_REAL, &every, NULL);
	for (long i = 0; ticks < 400; i++) {
		free(blocks[i % 64]);
		blocks[i % 64] = malloc((size_t)(i % 900));
		wrong += blocks[i % 64] == NULL;
	}
	for (int i = 0; i < 64; i++)
		free(blocks[i]);
	printf("%ld wrong\n", wrong);
	return 0;
}
