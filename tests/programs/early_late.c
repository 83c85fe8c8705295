/* Allocates before main and after it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *early, *late;

__attribute__((noinline, noclone)) static char *allocate_early(void)
{
	return memset(malloc(30000), 1, 30000);
}

__attribute__((noinline, noclone)) static char *allocate_late(void)
{
	return memset(malloc(40000), 2, 40000);
}

__attribute__((constructor)) static void before_main(void)
{
	early = allocate_early();
}

__attribute__((destructor)) static void after_main(void)
{
	late = allocate_late();
	printf("late %d\n", late[5]);
}

int main(void)
{
	printf("early %d\n", early[5]);
	return 0;
}
