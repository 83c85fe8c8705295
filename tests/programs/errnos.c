/* Prints errno after calls that must keep it, and after calls that must set it. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(void)
{
	void *volatile room;
	volatile size_t too_much = SIZE_MAX / 2 + 5;

	errno = 55;
	room = malloc(1000);
	free(room);
	printf("%d ", errno);
	errno = 0;
	room = malloc(too_much);
	printf("%d %d ", room == NULL, errno == ENOMEM);
	errno = 0;
	room = calloc(too_much, 4);
	printf("%d %d ", room == NULL, errno == ENOMEM);
	errno = 0;
	room = reallocarray(NULL, too_much, 4);
	printf("%d %d ", room == NULL, errno == ENOMEM);
	errno = 0;
	void *address = NULL;
	printf("%d %d ", posix_memalign(&address, 3, 10) == EINVAL, errno);
	errno = 0;
	room = mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("%d %d ", room == MAP_FAILED, errno == EINVAL);
	room = malloc(100);
	errno = 0;
	void *same = realloc(room, too_much);
	printf("%d %d\n", same == NULL, errno == ENOMEM);
	free(room);
	return 0;
}
