/* A program with an allocator of its own inside, which maps memory in large pieces. Named like mimalloc, as
 * in libraries that contain it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MB (1ul << 20)
#define NO_INLINE __attribute__((noinline))

const char *volatile mi_message = "mimalloc: warning: %s"; /* a part of its messages */
static char *piece, *end;

NO_INLINE static void _mi_os_alloc(size_t size)
{
	piece = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (piece == MAP_FAILED)
		exit(3);
	madvise(piece, size, MADV_NOHUGEPAGE);
	end = piece + size;
}

NO_INLINE static void *mi_malloc(size_t size)
{
	if (!piece || size > (size_t)(end - piece))
		_mi_os_alloc(128 * MB);
	char *block = piece;
	piece += (size + 4095) & ~4095ul;
	return block;
}

NO_INLINE static char *tiny_first(void)
{
	char *block = mi_malloc(8192);

	memset(block, 1, 8192);
	return block;
}

NO_INLINE static char *big_second(void)
{
	char *block = mi_malloc(40 * MB);

	memset(block, 1, 40 * MB);
	return block;
}

/* Pages that are given back have no owner any more. */
NO_INLINE static char *given_back(void)
{
	char *block = mi_malloc(10 * MB);

	memset(block, 1, 10 * MB);
	madvise(block, 10 * MB, MADV_DONTNEED);
	return block;
}

int main(void)
{
	char *a = tiny_first(), *b = given_back(), *c = big_second();

	printf("%d\n", a[1] + b[1] + c[1]);
	return 16;
}
