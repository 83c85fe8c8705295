/* Stands in for alloc/page_size.c and, by the linker's --wrap, for mmap(2), to test the arena as on
 * a kernel with pages of 64 KiB. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../alloc/page_size.h"

#define PAGE (64u << 10)

uint64_t page_size_base(void)
{
	return PAGE;
}

uint64_t page_size_pmd(void)
{
	return 512u << 20;
}

static void *map_aligned(void *address, size_t length, int protection, int flags, int fd,
			 long offset)
{
	length = (length + PAGE - 1) & ~(size_t)(PAGE - 1);
	long result = syscall(SYS_mmap, address, length + PAGE, protection, flags, fd, offset);
	char *start = (char *)result;

	if (result == -1)
		return MAP_FAILED;
	size_t before = -(uintptr_t)start & (PAGE - 1);
	if (before)
		munmap(start, before);
	munmap(start + before + length, PAGE - before);
	return start + before;
}

/* _FILE_OFFSET_BITS decides which of the two the arena calls. */
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, long offset);
void *__wrap_mmap64(void *address, size_t length, int protection, int flags, int fd, long offset);

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
{
	return map_aligned(address, length, protection, flags, fd, offset);
}

void *__wrap_mmap64(void *address, size_t length, int protection, int flags, int fd, long offset)
{
	return map_aligned(address, length, protection, flags, fd, offset);
}
