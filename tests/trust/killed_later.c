/* Holds 100 MiB at first, then 20 MiB for two seconds and 30 MiB for one, and dies of a bad pointer. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *hold(size_t bytes)
{
	char *memory = malloc(bytes);

	memset(memory, 1, bytes);
	return memory;
}

int main(void)
{
	char *first = hold(100u << 20);

	usleep(500 * 1000);
	free(first);
	char *second = hold(20u << 20);
	usleep(2000 * 1000);
	char *third = hold(10u << 20);
	usleep(1500 * 1000);
	char *volatile nowhere = NULL;

	return *nowhere + second[0] + third[0];
}
