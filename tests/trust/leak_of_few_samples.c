/* Leaks 3 MiB in small blocks, evenly over two seconds. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *volatile last;

__attribute__((noinline)) static void keep(void)
{
	last = malloc(1024);
	memset((char *)last, 1, 1024);
}

int main(void)
{
	for (int round = 0; round < 96; round++) {
		for (int i = 0; i < 32; i++)
			keep();
		usleep(20000);
	}
	return 0;
}
