/* Holds 80 MiB and is killed from outside: nothing in the program sees its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE (80u << 20)

static char *hold(void)
{
	char *memory = malloc(SIZE);

	if (memory)
		memset(memory, 1, SIZE);
	__asm__ volatile(""
			 :
			 : "r"(memory)
			 : "memory"); /* else the compiler leaves the block out */
	return memory;
}

int main(void)
{
	char *memory = hold();

	printf("%ld\n", (long)getpid());
	fflush(stdout);
	sleep(60);
	return memory == NULL;
}
