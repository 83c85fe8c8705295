/* Holds 57.2 MiB from a burst after the start-up, and idles on. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *volatile kept[20];

__attribute__((noinline)) static void handle(int number)
{
	kept[number] = malloc(3000000);
	memset(kept[number], 1, 3000000);
}

int main(void)
{
	sleep(1);
	for (int i = 0; i < 20; i++) {
		handle(i);
		usleep(40000);
	}
	sleep(4);
	return 0;
}
