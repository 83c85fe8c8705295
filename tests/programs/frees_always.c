/* A library for ctypes: frees_always() allocates and frees for ever, outside of the interpreter's lock. */
#include <stdlib.h>

static void *volatile kept;

void frees_always(void)
{
	for (;;) {
		kept = malloc(100);
		free(kept);
	}
}
