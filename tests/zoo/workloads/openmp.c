/* Each thread of a team keeps blocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *keep[400];

static void fill(int i)
{
	keep[i] = malloc(100000);
	memset(keep[i], i, 100000);
}

int main(void)
{
	long sum = 0;
#pragma omp parallel for num_threads(4)
	for (int i = 0; i < 400; i++)
		fill(i);
	sleep(2);
#pragma omp parallel for reduction(+ : sum)
	for (int i = 0; i < 400; i++)
		sum += *(unsigned char *)keep[i];
	printf("%ld\n", sum);
	return 0;
}
