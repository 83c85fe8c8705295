/* Keep 60 MB for four seconds. Exit status 12. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *keep[60];

int main(void)
{
	for (int i = 0; i < 60; i++) {
		keep[i] = malloc(1000000);
		memset(keep[i], i, 1000000);
	}
	sleep(4);
	long sum = 0;
	for (int i = 0; i < 60; i++)
		sum += *(char *)keep[i];
	printf("%ld\n", sum);
	return 12;
}
