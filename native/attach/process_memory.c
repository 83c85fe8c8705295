/* Reads the memory of another process. */
#define _GNU_SOURCE
#include "process_memory.h"

#include <string.h>
#include <sys/uio.h>

void process_memory_forget(struct process_memory *memory)
{
	memset(memory->tags, 0, sizeof memory->tags);
}

bool process_memory_copy(int pid, uint64_t address, void *ret, size_t size)
{
	struct iovec ours = {ret, size}, theirs = {(void *)(uintptr_t)address, size};

	return process_vm_readv(pid, &ours, 1, &theirs, 1, 0) == (ssize_t)size;
}

static const char *page_at(struct process_memory *memory, uint64_t page)
{
	unsigned index = page / MEMORY_PAGE % MEMORY_PAGES;

	if (memory->tags[index] == page + 1)
		return memory->pages[index];
	memory->tags[index] = 0;
	if (!process_memory_copy(memory->pid, page, memory->pages[index], MEMORY_PAGE))
		return NULL;
	memory->tags[index] = page + 1;
	return memory->pages[index];
}

bool process_memory_read(struct process_memory *memory, uint64_t address, void *ret, size_t size)
{
	char *to = ret;

	if (memory->read)
		return memory->read(memory->context, address, ret, size);
	while (size) {
		uint64_t page = address & ~(uint64_t)(MEMORY_PAGE - 1);
		size_t offset = (size_t)(address - page);
		size_t part = MEMORY_PAGE - offset < size ? MEMORY_PAGE - offset : size;
		const char *bytes = page_at(memory, page);
		if (!bytes)
			return false;
		memcpy(to, bytes + offset, part);
		to += part;
		address += part;
		size -= part;
	}
	return true;
}
