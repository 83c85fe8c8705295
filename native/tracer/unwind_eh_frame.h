/* Entries of .eh_frame. Format: LSB "Exception Frames", DWARF 5 section 6.4. */
#ifndef MEMATLAS_TRACER_UNWIND_EH_FRAME_H
#define MEMATLAS_TRACER_UNWIND_EH_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define EH_FRAME_RETURN_ADDRESS 16 /* its column on x86-64 */

struct cie {
	uint64_t code_alignment;
	int64_t data_alignment;
	uint8_t pointer_encoding;
	bool signal;
	bool augmented;
	const uint8_t *instructions, *end;
};

struct fde {
	struct cie cie;
	uintptr_t start, length;
	const uint8_t *instructions, *end;
};

/* Finds the entry that covers `pc`. `header`: the module's .eh_frame_hdr. */
bool eh_frame_find(uintptr_t pc, const uint8_t *header, struct fde *fde);

/* Reads a pointer and advances `at`. `encoding`: DW_EH_PE_*. */
uint64_t eh_frame_pointer(const uint8_t **at, uint8_t encoding, const uint8_t *data_base);

/* Reads 7 bits a byte, the least significant first. `bits`: how many there were. */
static inline uint64_t read_leb128(const uint8_t **at, unsigned *bits)
{
	uint64_t value = 0;
	uint8_t byte;

	*bits = 0;
	do {
		byte = *(*at)++;
		if (*bits < 64)
			value |= (uint64_t)(byte & 0x7f) << *bits;
		*bits += 7;
	} while (byte & 0x80);
	return value;
}

static inline uint64_t read_uleb(const uint8_t **at)
{
	unsigned bits;

	return read_leb128(at, &bits);
}

static inline int64_t read_sleb(const uint8_t **at)
{
	unsigned bits;
	uint64_t value = read_leb128(at, &bits);

	if (bits < 64 && value >> (bits - 1) & 1)
		value |= ~0ull << bits;
	return (int64_t)value;
}

#define READ_AS(type, at)                                                                          \
	({                                                                                         \
		type value_;                                                                       \
		memcpy(&value_, *(at), sizeof value_);                                             \
		*(at) += sizeof value_;                                                            \
		value_;                                                                            \
	})

#endif
