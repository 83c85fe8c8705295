/* Four workers that start one after another, each of which fills a cache and leaks 4 MiB over two seconds. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char *volatile last;
static char *cache[1024];

__attribute__((noinline)) static void keep(void)
{
	last = malloc(1024);
	memset((char *)last, 1, 1024);
}

__attribute__((noinline)) static void cached(int key)
{
	free(cache[key]);
	cache[key] = malloc(1024);
	memset(cache[key], 1, 1024);
}

static void work(void)
{
	for (int round = 0; round < 128; round++) {
		for (int i = 0; i < 32; i++)
			keep();
		for (int i = 0; i < 1024; i++)
			cached(i);
		usleep(15000);
	}
}

int main(void)
{
	for (int worker = 0; worker < 4; worker++) {
		if (fork() == 0) {
			work();
			return 0;
		}
		usleep(100000);
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
