/* Marks moments: after 2 MiB, in 4 threads at once, and in a loop. With an argument it waits for a line on
 * standard input first. */
#include <mematlas_mark.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE (2 << 20)

static char *hold(void)
{
	char *volatile block = malloc(SIZE);

	memset(block, 1, SIZE);
	return block;
}

static void *in_thread(void *unused)
{
	mematlas_mark("thread");
	return unused;
}

int main(int count, char **arguments)
{
	char *volatile held;
	pthread_t threads[4];

	if (count > 1 && (puts("ready"), fflush(stdout), getchar() == EOF))
		return 1;
	munmap((void *)16, 0); /* a program may pass anything with a length of 0 */
	munmap(&arguments, 0);
	mematlas_mark("before");
	held = hold();
	errno = 7;
	mematlas_mark("loaded");
	if (errno != 7 || held[SIZE - 1] != 1)
		return 2;
	free(held);
	mematlas_mark("loaded");
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, in_thread, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 20000; i++)
		mematlas_mark("loop");
	mematlas_mark(NULL);
	mematlas_mark("a name of more than sixty-three bytes, of which the last are left out");
	return 0;
}
