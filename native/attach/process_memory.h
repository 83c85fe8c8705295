/* Memory of another process, read by process_vm_readv(2) through a cache of pages. The other process may
 * be hostile: every value is read once and checked by its reader. */
#ifndef MEMATLAS_ATTACH_PROCESS_MEMORY_H
#define MEMATLAS_ATTACH_PROCESS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_PAGE 4096u
#define MEMORY_PAGES 64u

/* tags[i] == page address + 1, and the page's index modulo MEMORY_PAGES is i; 0: empty */
struct process_memory {
	int pid;
	/* Reads from elsewhere, such as a copy, without the cache; NULL: from the process. */
	bool (*read)(const void *context, uint64_t address, void *ret, size_t size);
	const void *context;
	uint64_t tags[MEMORY_PAGES];
	char pages[MEMORY_PAGES][MEMORY_PAGE];
};

/* Drops what was read. A stack that ran meanwhile holds other words. */
void process_memory_forget(struct process_memory *memory);
bool process_memory_read(struct process_memory *memory, uint64_t address, void *ret, size_t size);
/* Reads past the cache, for tables. */
bool process_memory_copy(int pid, uint64_t address, void *ret, size_t size);

#define MEMORY_READ(memory, address, variable)                                                     \
	process_memory_read(memory, address, &(variable), sizeof(variable))

#endif
