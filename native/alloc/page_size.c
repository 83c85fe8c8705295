#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "page_size.h"

uint64_t page_size_base(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t read_pmd_size(void)
{
	char text[32];
	int fd = open("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		close(fd);
	if (length <= 0)
		return 0;
	text[length] = '\0';
	return strtoull(text, NULL, 10);
}

uint64_t page_size_pmd(void)
{
	static _Atomic uint64_t cached;
	uint64_t size = atomic_load_explicit(&cached, memory_order_relaxed);

	if (size)
		return size;
	size = read_pmd_size();
	if (!size || (size & (size - 1))) /* a page table holds one 8-byte entry per base page */
		size = page_size_base() * (page_size_base() / sizeof(uint64_t));
	atomic_store_explicit(&cached, size, memory_order_relaxed);
	return size;
}
