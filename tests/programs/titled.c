/* Overwrites its command line as servers do, and keeps some memory. */
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	size_t length = 0;
	char *block = malloc(1 << 20);

	if (argc < 2 || !block)
		return 2;
	memset(block, 1, 1 << 20);
	length = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]);
	memset(argv[0], 0, length);
	strncpy(argv[0], "titled: worker 7", length - 1);
	return 0;
}
