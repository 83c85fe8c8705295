/* badfree stack|double: a bug that the C library answers with abort. */
#include <stdlib.h>
#include <string.h>

static void *volatile hidden;

__attribute__((noinline, noclone)) static void free_wrongly(void)
{
	free(hidden);
	__asm__ volatile("" : : : "memory");
}

int main(int argc, char **argv)
{
	char local[64] = {0};

	if (argc > 1 && strcmp(argv[1], "double") == 0) {
		hidden = malloc(100);
		free(hidden);
	} else {
		hidden = local + 16;
	}
	free_wrongly();
	return local[0];
}
