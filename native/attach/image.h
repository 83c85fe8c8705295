/* An ELF file as another process has it in memory. Nothing is read from the file: its name may lead
 * elsewhere in the mount namespace of the other process, or nowhere. */
#ifndef MEMATLAS_ATTACH_IMAGE_H
#define MEMATLAS_ATTACH_IMAGE_H

#include <elf.h>

#include "process_memory.h"

#define IMAGE_NOTES 4

/* note_count <= IMAGE_NOTES
 * bias == address in the process - address in the file's program headers
 * A table's address is 0 where the file has no such table. */
struct image {
	uint64_t start; /* of its ELF header */
	uint64_t bias;
	uint64_t eh_frame_hdr;
	uint64_t symbols, names, names_size;
	uint64_t gnu_hash, hash;
	unsigned note_count;
	struct image_notes {
		uint64_t start, size;
	} notes[IMAGE_NOTES]; /* segments of notes */
};

/* Reads the headers and the dynamic section. False: no 64-bit ELF file starts there. */
bool image_read(struct process_memory *memory, uint64_t start, struct image *ret);

#endif
