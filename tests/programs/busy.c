/* Four threads allocate and free until standard input ends, two of them without a pause; the threads check that
 * their blocks hold what they wrote. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 512

static volatile int go = 1;
static _Atomic int wrong;

static void *work(void *argument)
{
	unsigned rests = *(unsigned *)argument, seed = rests + 1;
	unsigned char *blocks[BLOCKS] = {0};
	unsigned sizes[BLOCKS];

	while (go) {
		unsigned at = (seed = seed * 1664525 + 1013904223) >> 16 & (BLOCKS - 1);
		if (blocks[at]) {
			for (unsigned i = 0; i < sizes[at]; i++)
				wrong += blocks[at][i] != (unsigned char)at;
			free(blocks[at]);
		}
		sizes[at] = (seed >> 8 & 1023) + 1;
		blocks[at] = at & 1 ? malloc(sizes[at]) : realloc(calloc(1, 8), sizes[at]);
		memset(blocks[at], (int)at, sizes[at]);
		if (rests && at == 7)
			usleep(1000);
	}
	return NULL;
}

int main(void)
{
	static unsigned rests[4] = {0, 0, 1, 1};
	pthread_t threads[4];
	char byte;

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, work, &rests[i]);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	go = 0;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	printf("%d wrong\n", wrong);
	return wrong ? 1 : 7;
}
