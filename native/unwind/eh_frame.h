/* Entries of .eh_frame, of this process or copied from another one. Format: LSB "Exception Frames",
 * DWARF 5 section 6.4. The tracer reads its own process; attach reads a program that may be hostile, so
 * no field of an entry leads a read out of the entry. No locks, no allocation. */
#ifndef MEMATLAS_UNWIND_EH_FRAME_H
#define MEMATLAS_UNWIND_EH_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* The column of the return address. */
#if defined(__x86_64__)
#define EH_FRAME_RETURN_ADDRESS 16
#elif defined(__aarch64__)
#define EH_FRAME_RETURN_ADDRESS 30 /* x30, the link register */
#else
#error "no columns of call frame information known for this processor"
#endif
/* Zeros that follow a copied entry: an operand that begins in the entry ends in them. */
#define EH_FRAME_PADDING 32

/* Bytes of the section. The byte at `at` has the address (uintptr_t)at + shift in its process. */
struct eh_bytes {
	const uint8_t *at, *end;
	uint64_t shift;
};

struct cie {
	uint64_t code_alignment;
	int64_t data_alignment;
	uint8_t pointer_encoding;
	bool signal;
	bool augmented;
	const uint8_t *instructions, *end;
	uint64_t shift;
};

/* instructions <= end, also in the CIE */
struct fde {
	struct cie cie;
	uintptr_t start, length;
	const uint8_t *instructions, *end;
	uint64_t shift;
};

/* Finds the entry that covers `pc` in this process. `header`: the module's .eh_frame_hdr. */
bool eh_frame_find(uintptr_t pc, const uint8_t *header, struct fde *fde);

/* Finds in .eh_frame_hdr the table's first row and number of rows; `bytes` are its first ones. */
bool eh_frame_read_header(struct eh_bytes bytes, const uint8_t **rows, uint64_t *count);

/* Reads a row: offsets of a function and of its FDE from .eh_frame_hdr. */
typedef bool eh_frame_row_reader(const void *table, uint64_t index, int32_t row[2]);
/* Searches the row of the last function that starts at or before an offset. */
bool eh_frame_search(eh_frame_row_reader *reader, const void *table, uint64_t count, int64_t offset,
		     int32_t row[2]);

/* Returns the size of the entry at `at` with its length field; 0: it is the last, or of 64-bit DWARF. */
uint64_t eh_frame_entry_size(const uint8_t *at);
/* Returns the address of the CIE of an FDE; 0: it is no FDE. */
uint64_t eh_frame_cie_address(struct eh_bytes fde);
bool eh_frame_read_cie(struct eh_bytes bytes, struct cie *ret);
/* Reads an FDE. ret->cie is read before. */
bool eh_frame_read_fde(struct eh_bytes bytes, struct fde *ret);

/* Reads a pointer and advances `at`. `encoding`: DW_EH_PE_*. Indirect ones are not followed. */
uint64_t eh_frame_pointer(const uint8_t **at, uint8_t encoding, uint64_t data_base, uint64_t shift);

/* Drops the signature of a return address, which processors of Armv8.3 put into its upper bits. */
static inline uint64_t eh_frame_code_address(uint64_t address)
{
#if defined(__aarch64__)
	__asm__("mov x30, %0\n\t"
		"hint #7\n\t" /* xpaclri; nothing on an older processor */
		"mov %0, x30"
		: "+r"(address)
		:
		: "x30");
#endif
	return address;
}

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
