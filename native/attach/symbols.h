/* The dynamic symbols of an ELF file in the memory of another process. */
#ifndef MEMATLAS_ATTACH_SYMBOLS_H
#define MEMATLAS_ATTACH_SYMBOLS_H

#include "image.h"

/* names[names_size] == 0; every symbol's name is in names */
struct symbols {
	Elf64_Sym *entries;
	uint64_t count;
	char *names;
	uint64_t names_size;
};

/* Reads all of them. Returns 0 or -errno; -ENOENT: the file has none. */
int symbols_read(struct process_memory *memory, const struct image *image, struct symbols *ret);
void symbols_free(struct symbols *symbols);
const char *symbols_name(const struct symbols *symbols, const Elf64_Sym *symbol);
/* Returns the address of a function that the file defines; 0: none. */
uint64_t symbols_find(struct process_memory *memory, const struct image *image, const char *name);

#endif
