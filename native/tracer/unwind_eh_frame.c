/* Finds and reads the entries of .eh_frame. */
#include "unwind_eh_frame.h"

#include <stddef.h>

#if defined(__x86_64__)

enum {
	PE_OMIT = 0xff,
	PE_ULEB = 0x01,
	PE_UDATA2 = 0x02,
	PE_UDATA4 = 0x03,
	PE_UDATA8 = 0x04,
	PE_SLEB = 0x09,
	PE_SDATA2 = 0x0a,
	PE_SDATA4 = 0x0b,
	PE_SDATA8 = 0x0c,
	PE_PCREL = 0x10,
	PE_DATAREL = 0x30,
	PE_INDIRECT = 0x80
};

static uint64_t read_value(const uint8_t **at, uint8_t format)
{
	switch (format) {
	case PE_ULEB:
		return read_uleb(at);
	case PE_SLEB:
		return (uint64_t)read_sleb(at);
	case PE_UDATA2:
		return READ_AS(uint16_t, at);
	case PE_SDATA2:
		return (uint64_t)(int64_t)READ_AS(int16_t, at);
	case PE_UDATA4:
		return READ_AS(uint32_t, at);
	case PE_SDATA4:
		return (uint64_t)(int64_t)READ_AS(int32_t, at);
	default:
		return READ_AS(uint64_t, at);
	}
}

uint64_t eh_frame_pointer(const uint8_t **at, uint8_t encoding, const uint8_t *data_base)
{
	const uint8_t *start = *at;

	if (encoding == PE_OMIT)
		return 0;
	uint64_t value = read_value(at, encoding & 0x0f);
	if (!value)
		return 0;
	if ((encoding & 0x70) == PE_PCREL)
		value += (uintptr_t)start;
	else if ((encoding & 0x70) == PE_DATAREL)
		value += (uintptr_t)data_base;
	if (encoding & PE_INDIRECT)
		memcpy(&value, (const void *)(uintptr_t)value, sizeof value);
	return value;
}

/* Returns the last table entry that starts at or before `pc`; NULL: none. The table is sorted. */
static const uint8_t *search_table(uintptr_t pc, const uint8_t *header)
{
	const uint8_t *at = header + 4;
	uint8_t pointer_encoding = header[1], count_encoding = header[2],
		table_encoding = header[3];

	if (header[0] != 1 || count_encoding == PE_OMIT ||
	    table_encoding != (PE_DATAREL | PE_SDATA4))
		return NULL;
	eh_frame_pointer(&at, pointer_encoding, header);
	uint64_t count = eh_frame_pointer(&at, count_encoding, header);
	const int32_t (*table)[2] = (const void *)at;
	int64_t wanted = (int64_t)(pc - (uintptr_t)header);
	uint64_t low = 0, high = count;
	while (low < high) {
		uint64_t middle = (low + high) / 2;
		if (table[middle][0] <= wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? header + table[low - 1][1] : NULL;
}

/* Reads the augmentation data, in the order of the augmentation string after its 'z'. */
static void read_augmentation(const char *letter, const uint8_t *data, struct cie *cie)
{
	while (*++letter) {
		switch (*letter) {
		case 'R':
			cie->pointer_encoding = *data++;
			break;
		case 'L':
			data++;
			break;
		case 'S':
			cie->signal = true;
			break;
		case 'P': {
			uint8_t encoding = *data++;
			eh_frame_pointer(&data, encoding & 0x7f, NULL);
			break;
		}
		default:
			return;
		}
	}
}

static bool read_cie(const uint8_t *at, struct cie *cie)
{
	uint32_t length = READ_AS(uint32_t, &at);

	cie->end = at + length;
	if (length == 0xffffffff || READ_AS(uint32_t, &at) != 0)
		return false;
	uint8_t version = *at++;
	const char *augmentation = (const char *)at;
	at += strlen(augmentation) + 1;
	cie->code_alignment = read_uleb(&at);
	cie->data_alignment = read_sleb(&at);
	if ((version == 1 ? *at++ : read_uleb(&at)) != EH_FRAME_RETURN_ADDRESS)
		return false;
	cie->pointer_encoding = 0;
	cie->signal = false;
	cie->augmented = *augmentation == 'z';
	if (!cie->augmented && *augmentation)
		return false;
	uint64_t extra = cie->augmented ? read_uleb(&at) : 0;
	if (cie->augmented)
		read_augmentation(augmentation, at, cie);
	cie->instructions = at + extra;
	return true;
}

bool eh_frame_find(uintptr_t pc, const uint8_t *header, struct fde *fde)
{
	const uint8_t *at = search_table(pc, header);

	if (!at)
		return false;
	uint32_t length = READ_AS(uint32_t, &at);
	if (length == 0 || length == 0xffffffff)
		return false;
	fde->end = at + length;
	const uint8_t *here = at;
	uint32_t distance = READ_AS(uint32_t, &at);
	if (distance == 0 || !read_cie(here - distance, &fde->cie))
		return false;
	fde->start = eh_frame_pointer(&at, fde->cie.pointer_encoding, header);
	fde->length = eh_frame_pointer(&at, fde->cie.pointer_encoding & 0x0f, header);
	if (fde->cie.augmented) {
		uint64_t extra = read_uleb(&at);
		at += extra;
	}
	fde->instructions = at;
	return pc - fde->start < fde->length;
}

#else

bool eh_frame_find(uintptr_t pc, const uint8_t *header, struct fde *fde)
{
	(void)pc;
	(void)header;
	(void)fde;
	return false;
}

#endif
