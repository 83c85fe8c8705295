/* Allocates by a function of its own, from many functions and in many sizes. The largest memory is that of
 * load_table. Meant to be stripped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *kept[512];
static unsigned count;

__attribute__((noinline, noclone)) static void *allocate(size_t size)
{
	void *block = malloc(size);

	if (!block) {
		fputs("out of memory\n", stderr);
		exit(3);
	}
	memset(block, 1, size);
	return block;
}

#define READER(name, size)                                                                         \
	__attribute__((noinline, noclone)) static void name(void)                                  \
	{                                                                                          \
		for (unsigned i = 0; i < 4; i++)                                                   \
			kept[count++ & 511] = allocate((size) + count);                            \
	}

READER(read_a, 1000)
READER(read_b, 2100)
READER(read_c, 3200)
READER(read_d, 4300)
READER(read_e, 5400)
READER(read_f, 6500)
READER(read_g, 7600)
READER(read_h, 8700)
READER(read_i, 9800)
READER(read_j, 10900)
READER(load_table, 8 << 20)

int main(void)
{
	void (*readers[])(void) = {read_a, read_b, read_c, read_d, read_e,    read_f,
				   read_g, read_h, read_i, read_j, load_table};

	for (unsigned i = 0; i < sizeof readers / sizeof *readers; i++)
		readers[i]();
	printf("%u\n", count);
	return 0;
}
