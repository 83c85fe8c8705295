/* Finds and reads the entries of .eh_frame. */
#include "eh_frame.h"

#include <stddef.h>

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

uint64_t eh_frame_pointer(const uint8_t **at, uint8_t encoding, uint64_t data_base, uint64_t shift)
{
	const uint8_t *start = *at;

	if (encoding == PE_OMIT)
		return 0;
	uint64_t value = read_value(at, encoding & 0x0f);
	if (!value)
		return 0;
	if ((encoding & 0x70) == PE_PCREL)
		value += (uintptr_t)start + shift;
	else if ((encoding & 0x70) == PE_DATAREL)
		value += data_base;
	return value;
}

bool eh_frame_read_header(struct eh_bytes bytes, const uint8_t **rows, uint64_t *count)
{
	const uint8_t *at = bytes.at + 4;
	uint64_t base = (uintptr_t)bytes.at + bytes.shift;
	uint8_t pointer_encoding = bytes.at[1], count_encoding = bytes.at[2],
		table_encoding = bytes.at[3];

	if (bytes.at[0] != 1 || count_encoding == PE_OMIT ||
	    table_encoding != (PE_DATAREL | PE_SDATA4))
		return false;
	eh_frame_pointer(&at, pointer_encoding, base, bytes.shift);
	*count = eh_frame_pointer(&at, count_encoding, base, bytes.shift);
	*rows = at;
	return true;
}

bool eh_frame_search(eh_frame_row_reader *reader, const void *table, uint64_t count, int64_t offset,
		     int32_t row[2])
{
	uint64_t low = 0, high = count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (!reader(table, middle, row))
			return false;
		if (row[0] <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low && reader(table, low - 1, row);
}

static bool read_own_row(const void *table, uint64_t index, int32_t row[2])
{
	memcpy(row, (const int32_t (*)[2])table + index, 2 * sizeof *row);
	return true;
}

/* Reads the augmentation data, in the order of the augmentation string after its 'z'. */
static void read_augmentation(const char *letter, const uint8_t *data, struct cie *cie)
{
	while (*++letter && data <= cie->end) {
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
		case 'B': /* AArch64: the key of signed return addresses */
		case 'G': /* AArch64: stacks are tagged */
			break;
		case 'P': {
			uint8_t encoding = *data++;
			eh_frame_pointer(&data, encoding & 0x7f, 0, 0);
			break;
		}
		default:
			return;
		}
	}
}

uint64_t eh_frame_entry_size(const uint8_t *at)
{
	uint32_t length = READ_AS(uint32_t, &at);

	return length == 0 || length == 0xffffffff ? 0 : (uint64_t)length + sizeof length;
}

uint64_t eh_frame_cie_address(struct eh_bytes fde)
{
	const uint8_t *at = fde.at + sizeof(uint32_t);
	uint64_t here = (uintptr_t)at + fde.shift;
	uint32_t distance = READ_AS(uint32_t, &at);

	return distance ? here - distance : 0;
}

/* Skips the augmentation data. False: its length leads out of the entry. */
static bool skip_augmentation(const uint8_t **at, const uint8_t *end)
{
	uint64_t extra = read_uleb(at);

	if (*at > end || extra > (uint64_t)(end - *at))
		return false;
	*at += extra;
	return true;
}

/* Reads what precedes the augmentation data. */
static bool read_fields(const uint8_t **at, const uint8_t *end, uint8_t version, struct cie *ret)
{
	const char *augmentation = (const char *)*at;

	*at += strlen(augmentation) + 1;
	if (*at > end)
		return false;
	ret->code_alignment = read_uleb(at);
	ret->data_alignment = read_sleb(at);
	if ((version == 1 ? *(*at)++ : read_uleb(at)) != EH_FRAME_RETURN_ADDRESS)
		return false;
	ret->augmented = *augmentation == 'z';
	return ret->augmented || !*augmentation;
}

bool eh_frame_read_cie(struct eh_bytes bytes, struct cie *ret)
{
	const uint8_t *at = bytes.at + sizeof(uint32_t);

	*ret = (struct cie){.end = bytes.end, .shift = bytes.shift};
	if (READ_AS(uint32_t, &at) != 0)
		return false;
	uint8_t version = *at++;
	const char *augmentation = (const char *)at;
	if (!read_fields(&at, bytes.end, version, ret))
		return false;
	const uint8_t *data = at;
	if (ret->augmented) {
		if (!skip_augmentation(&at, bytes.end))
			return false;
		read_uleb(&data);
		read_augmentation(augmentation, data, ret);
	}
	ret->instructions = at;
	return at <= bytes.end && !(ret->pointer_encoding & PE_INDIRECT);
}

bool eh_frame_read_fde(struct eh_bytes bytes, struct fde *ret)
{
	const uint8_t *at = bytes.at + 2 * sizeof(uint32_t);
	uint8_t encoding = ret->cie.pointer_encoding;

	ret->end = bytes.end;
	ret->shift = bytes.shift;
	ret->start = eh_frame_pointer(&at, encoding, 0, bytes.shift);
	ret->length = eh_frame_pointer(&at, encoding & 0x0f, 0, bytes.shift);
	if (ret->cie.augmented && !skip_augmentation(&at, bytes.end))
		return false;
	ret->instructions = at;
	return at <= bytes.end;
}

static bool own_entry(const uint8_t *at, struct eh_bytes *ret)
{
	uint64_t size = eh_frame_entry_size(at);

	*ret = (struct eh_bytes){.at = at, .end = at + size};
	return size != 0;
}

bool eh_frame_find(uintptr_t pc, const uint8_t *header, struct fde *fde)
{
	const uint8_t *rows;
	uint64_t count;
	int32_t row[2];
	struct eh_bytes entry, cie;

	if (!eh_frame_read_header((struct eh_bytes){.at = header}, &rows, &count) ||
	    !eh_frame_search(read_own_row, rows, count, (int64_t)(pc - (uintptr_t)header), row) ||
	    !own_entry(header + row[1], &entry))
		return false;
	uint64_t cie_at = eh_frame_cie_address(entry);
	if (!cie_at || !own_entry((const uint8_t *)(uintptr_t)cie_at, &cie) ||
	    !eh_frame_read_cie(cie, &fde->cie) || !eh_frame_read_fde(entry, fde))
		return false;
	return pc - fde->start < fde->length;
}
