/* An ELF file as another process has it in memory. Nothing is read from the file: its name may lead
 * elsewhere in the mount namespace of the other process, or nowhere. */
#ifndef MEMATLAS_ATTACH_IMAGE_H
#define MEMATLAS_ATTACH_IMAGE_H

#include <elf.h>

#include "process_memory.h"

/* bias == address in the process - address in the file's program headers
 * A table's address is 0 where the file has no such table. */
struct image {
	uint64_t start; /* of its ELF header */
	uint64_t bias;
	uint64_t eh_frame_hdr;
	uint64_t symbols, names, names_size;
	uint64_t gnu_hash, hash;
	uint64_t notes, notes_size;
};

/* Reads the headers and the dynamic section. False: no 64-bit ELF file starts there. */
bool image_read(struct process_memory *memory, uint64_t start, struct image *ret);

#endif
