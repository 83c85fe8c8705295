/* Four threads that allocate, sleep or end on command: a letter per line on standard input, each
 * answered by a line once all threads obey.
 * a: allocate and free without a pause   s: allocate nothing   e: the threads end   q: end */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4

static _Atomic char told = 's';
static _Atomic int obeying;
static pthread_t threads[THREADS];

static void obey(char letter)
{
	if (letter != 'a') {
		usleep(1000);
		return;
	}
	char *volatile block = malloc(100000);
	memset(block, 1, 100000);
	free(block);
}

static void *work(void *unused)
{
	for (char done = 0;;) {
		char letter = told;
		if (letter == 'e')
			return unused;
		obey(letter);
		if (done != letter)
			obeying++;
		done = letter;
	}
}

static void tell(char letter)
{
	obeying = 0;
	told = letter;
	while (letter != 'e' && obeying < THREADS)
		usleep(1000);
	for (int i = 0; letter == 'e' && i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	char line[16];

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, NULL);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) && line[0] != 'q') {
		tell(line[0]);
		printf("done %c\n", line[0]);
		fflush(stdout);
	}
	return 18;
}
