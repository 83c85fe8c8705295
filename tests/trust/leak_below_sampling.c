/* Leaks 100,000 bytes: less than sampling can see. */
#include <stdlib.h>
#include <string.h>

int main(void)
{
	for (int i = 0; i < 100; i++) {
		char *volatile block = malloc(1000);
		memset(block, 1, 1000);
	}
	return 0;
}
