/* Call frame information (.eh_frame) of one program counter, boiled down to a rule.
 * Format: LSB "Exception Frames", DWARF 5 section 6.4. */
#include <stddef.h>
#include <string.h>

#include "unwind.h"

#if defined(__x86_64__)

#define RBP 6
#define RSP 7
#define RETURN_ADDRESS 16
#define REMEMBERED 8

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

enum where { SAME, UNDEFINED, AT_CFA, AT_EXPRESSION, ELSEWHERE };

struct place {
	enum where where;
	int64_t offset;
	const uint8_t *expression;
};

struct row {
	uint64_t cfa_register;
	int64_t cfa_offset;
	const uint8_t *cfa_expression; /* NULL: register + offset */
	struct place rbp, ra;
	struct place ignored; /* registers nobody follows */
};

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

static uint64_t read_uleb(const uint8_t **at)
{
	uint64_t value = 0;
	unsigned shift = 0;
	uint8_t byte;

	do {
		byte = *(*at)++;
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	return value;
}

static int64_t read_sleb(const uint8_t **at)
{
	uint64_t value = 0;
	unsigned shift = 0;
	uint8_t byte;

	do {
		byte = *(*at)++;
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (shift < 64 && (byte & 0x40))
		value |= ~0ull << shift;
	return (int64_t)value;
}

#define READ_AS(type, at)                                                                          \
	({                                                                                         \
		type value_;                                                                       \
		memcpy(&value_, *(at), sizeof value_);                                             \
		*(at) += sizeof value_;                                                            \
		value_;                                                                            \
	})

static uint64_t read_encoded(const uint8_t **at, uint8_t encoding, const uint8_t *data_base)
{
	const uint8_t *start = *at;
	uint64_t value;

	if (encoding == PE_OMIT)
		return 0;
	switch (encoding & 0x0f) {
	case PE_ULEB:
		value = read_uleb(at);
		break;
	case PE_SLEB:
		value = (uint64_t)read_sleb(at);
		break;
	case PE_UDATA2:
		value = READ_AS(uint16_t, at);
		break;
	case PE_SDATA2:
		value = (uint64_t)(int64_t)READ_AS(int16_t, at);
		break;
	case PE_UDATA4:
		value = READ_AS(uint32_t, at);
		break;
	case PE_SDATA4:
		value = (uint64_t)(int64_t)READ_AS(int32_t, at);
		break;
	default:
		value = READ_AS(uint64_t, at);
		break;
	}
	if (value && (encoding & 0x70) == PE_PCREL)
		value += (uintptr_t)start;
	else if (value && (encoding & 0x70) == PE_DATAREL)
		value += (uintptr_t)data_base;
	if (value && (encoding & PE_INDIRECT))
		memcpy(&value, (const void *)(uintptr_t)value, sizeof value);
	return value;
}

/* Entry of the sorted table whose function starts last before `pc`; NULL: none. */
static const uint8_t *search_table(uintptr_t pc, const uint8_t *header)
{
	const uint8_t *at = header + 4;
	uint8_t pointer_encoding = header[1], count_encoding = header[2],
		table_encoding = header[3];

	if (header[0] != 1 || count_encoding == PE_OMIT ||
	    table_encoding != (PE_DATAREL | PE_SDATA4))
		return NULL;
	read_encoded(&at, pointer_encoding, header);
	uint64_t count = read_encoded(&at, count_encoding, header);
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
	if ((version == 1 ? *at++ : read_uleb(&at)) != RETURN_ADDRESS)
		return false;
	cie->pointer_encoding = 0;
	cie->signal = false;
	cie->augmented = *augmentation == 'z';
	if (!cie->augmented && *augmentation)
		return false;
	uint64_t extra = cie->augmented ? read_uleb(&at) : 0;
	const uint8_t *data = at;
	for (; cie->augmented && *++augmentation;) {
		if (*augmentation == 'R')
			cie->pointer_encoding = *data++;
		else if (*augmentation == 'L')
			data++;
		else if (*augmentation == 'S')
			cie->signal = true;
		else if (*augmentation == 'P') {
			uint8_t encoding = *data++;
			read_encoded(&data, encoding & 0x7f, NULL);
		} else
			break;
	}
	cie->instructions = at + extra;
	return true;
}

static bool read_fde(uintptr_t pc, const uint8_t *header, struct fde *fde)
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
	fde->start = read_encoded(&at, fde->cie.pointer_encoding, header);
	fde->length = read_encoded(&at, fde->cie.pointer_encoding & 0x0f, header);
	if (fde->cie.augmented) {
		uint64_t extra = read_uleb(&at);
		at += extra;
	}
	fde->instructions = at;
	return pc - fde->start < fde->length;
}

static struct place *place_of(struct row *row, uint64_t reg)
{
	return reg == RBP ? &row->rbp : reg == RETURN_ADDRESS ? &row->ra : &row->ignored;
}

static const uint8_t *skip_block(const uint8_t **at)
{
	const uint8_t *block = *at;
	uint64_t length = read_uleb(at);

	*at += length;
	return block;
}

struct program {
	struct row row, initial;
	struct row remembered[REMEMBERED];
	unsigned depth;
	uintptr_t location;
};

static void set_place(struct program *p, uint64_t reg, enum where where, int64_t offset)
{
	*place_of(&p->row, reg) = (struct place){.where = where, .offset = offset};
}

/* The rarer instructions, those with operands of their own. False: not understood. */
static bool run_extended(struct program *p, const struct cie *cie, uint8_t op, const uint8_t **at)
{
	uint64_t reg;

	switch (op) {
	case 0x00: /* nop */
		return true;
	case 0x01: /* set_loc */
		p->location = read_encoded(at, cie->pointer_encoding, NULL);
		return true;
	case 0x02:
		p->location += READ_AS(uint8_t, at) * cie->code_alignment;
		return true;
	case 0x03:
		p->location += READ_AS(uint16_t, at) * cie->code_alignment;
		return true;
	case 0x04:
		p->location += READ_AS(uint32_t, at) * cie->code_alignment;
		return true;
	case 0x05: /* offset_extended */
		reg = read_uleb(at);
		set_place(p, reg, AT_CFA, (int64_t)read_uleb(at) * cie->data_alignment);
		return true;
	case 0x06: /* restore_extended */
		reg = read_uleb(at);
		*place_of(&p->row, reg) = *place_of(&p->initial, reg);
		return true;
	case 0x07: /* undefined */
		set_place(p, read_uleb(at), UNDEFINED, 0);
		return true;
	case 0x08: /* same_value */
		set_place(p, read_uleb(at), SAME, 0);
		return true;
	case 0x09: /* register */
		reg = read_uleb(at);
		read_uleb(at);
		set_place(p, reg, ELSEWHERE, 0);
		return true;
	case 0x0a: /* remember_state */
		if (p->depth == REMEMBERED)
			return false;
		p->remembered[p->depth++] = p->row;
		return true;
	case 0x0b: /* restore_state */
		if (p->depth == 0)
			return false;
		p->row = p->remembered[--p->depth];
		return true;
	case 0x0c: /* def_cfa */
		p->row.cfa_register = read_uleb(at);
		p->row.cfa_offset = (int64_t)read_uleb(at);
		p->row.cfa_expression = NULL;
		return true;
	case 0x0d: /* def_cfa_register */
		p->row.cfa_register = read_uleb(at);
		p->row.cfa_expression = NULL;
		return true;
	case 0x0e: /* def_cfa_offset */
		p->row.cfa_offset = (int64_t)read_uleb(at);
		return true;
	case 0x0f: /* def_cfa_expression */
		p->row.cfa_expression = skip_block(at);
		return true;
	case 0x10: /* expression */
		reg = read_uleb(at);
		*place_of(&p->row, reg) =
			(struct place){.where = AT_EXPRESSION, .expression = skip_block(at)};
		return true;
	case 0x11: /* offset_extended_sf */
		reg = read_uleb(at);
		set_place(p, reg, AT_CFA, read_sleb(at) * cie->data_alignment);
		return true;
	case 0x12: /* def_cfa_sf */
		p->row.cfa_register = read_uleb(at);
		p->row.cfa_offset = read_sleb(at) * cie->data_alignment;
		p->row.cfa_expression = NULL;
		return true;
	case 0x13: /* def_cfa_offset_sf */
		p->row.cfa_offset = read_sleb(at) * cie->data_alignment;
		return true;
	case 0x14: /* val_offset */
	case 0x15: /* val_offset_sf */
		reg = read_uleb(at);
		read_uleb(at);
		set_place(p, reg, ELSEWHERE, 0);
		return true;
	case 0x16: /* val_expression */
		reg = read_uleb(at);
		skip_block(at);
		set_place(p, reg, ELSEWHERE, 0);
		return true;
	case 0x2e: /* GNU_args_size */
		read_uleb(at);
		return true;
	default:
		return false;
	}
}

static bool run(struct program *p, const struct cie *cie, const uint8_t *at, const uint8_t *end,
		uintptr_t pc)
{
	while (at < end && p->location <= pc) {
		uint8_t op = *at++;
		uint8_t low = op & 0x3f;
		switch (op >> 6) {
		case 1: /* advance_loc */
			p->location += low * cie->code_alignment;
			break;
		case 2: /* offset */
			set_place(p, low, AT_CFA, (int64_t)read_uleb(&at) * cie->data_alignment);
			break;
		case 3: /* restore */
			*place_of(&p->row, low) = *place_of(&p->initial, low);
			break;
		default:
			if (!run_extended(p, cie, op, &at))
				return false;
		}
	}
	return true;
}

/* "reg + offset", then `deref` or nothing: all that compilers emit but for the PLT. */
static bool is_breg(const uint8_t *expression, unsigned reg, bool deref, int64_t *offset)
{
	uint64_t length = read_uleb(&expression);
	const uint8_t *end = expression + length;

	if (length < 2 || *expression++ != 0x70 + reg)
		return false;
	*offset = read_sleb(&expression);
	if (deref)
		return expression + 1 == end && *expression == 0x06;
	return expression == end;
}

/* A PLT entry pushes its number after its 11th byte (10th with IBT):
 * rsp + 8 + ((rip & 15) >= 11 ? 8 : 0). */
static bool is_plt(const uint8_t *expression, uintptr_t pc, int64_t *offset)
{
	static const uint8_t pattern[] = {0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a,
					  0,    0x2a, 0x33, 0x24, 0x22};
	uint64_t length = read_uleb(&expression);

	if (length != sizeof pattern || memcmp(expression, pattern, 6) != 0 ||
	    memcmp(expression + 7, pattern + 7, 4) != 0)
		return false;
	*offset = 8 + ((pc & 15) >= (unsigned)(expression[6] - 0x30) ? 8 : 0);
	return true;
}

static enum unwind_kind cfa_of(const struct row *row, uintptr_t pc, int64_t *offset)
{
	*offset = row->cfa_offset;
	if (!row->cfa_expression)
		return row->cfa_register == RSP   ? UNWIND_CFA_RSP
		       : row->cfa_register == RBP ? UNWIND_CFA_RBP
						  : UNWIND_UNKNOWN;
	if (is_breg(row->cfa_expression, RBP, true, offset))
		return UNWIND_CFA_AT_RBP;
	if (is_breg(row->cfa_expression, RSP, true, offset))
		return UNWIND_CFA_AT_RSP;
	return is_plt(row->cfa_expression, pc, offset) ? UNWIND_CFA_RSP : UNWIND_UNKNOWN;
}

static uint64_t pack_row(const struct row *row, uintptr_t pc)
{
	int64_t cfa_offset, rbp_offset = 0;
	enum unwind_kind kind = cfa_of(row, pc, &cfa_offset);
	enum unwind_saved saved = UNWIND_RBP_KEPT;

	if (row->ra.where == UNDEFINED)
		return unwind_pack(UNWIND_END, 0, UNWIND_RBP_KEPT, 0);
	if (row->ra.where != AT_CFA || row->ra.offset != -8)
		return unwind_pack(UNWIND_UNKNOWN, 0, UNWIND_RBP_KEPT, 0);
	if (row->rbp.where == AT_CFA) {
		saved = UNWIND_RBP_AT_CFA;
		rbp_offset = row->rbp.offset;
	} else if (row->rbp.where == AT_EXPRESSION &&
		   is_breg(row->rbp.expression, RBP, false, &rbp_offset)) {
		saved = UNWIND_RBP_AT_RBP;
	} else if (row->rbp.where != SAME && row->rbp.where != UNDEFINED) {
		kind = UNWIND_UNKNOWN;
	}
	return unwind_pack(kind, cfa_offset, saved, rbp_offset);
}

bool trace_cfi_function(uintptr_t pc, const uint8_t *eh_frame_hdr, uintptr_t *start, uintptr_t *end)
{
	struct fde fde;

	if (!eh_frame_hdr || !read_fde(pc, eh_frame_hdr, &fde))
		return false;
	*start = fde.start;
	*end = fde.start + fde.length;
	return true;
}

uint64_t trace_cfi_rule(uintptr_t pc, const uint8_t *eh_frame_hdr)
{
	const uint64_t unknown = unwind_pack(UNWIND_UNKNOWN, 0, UNWIND_RBP_KEPT, 0);
	struct fde fde;
	struct program program;

	if (!eh_frame_hdr || !read_fde(pc, eh_frame_hdr, &fde))
		return unknown;
	if (fde.cie.signal)
		return unwind_pack(UNWIND_SIGNAL, 0, UNWIND_RBP_KEPT, 0);
	memset(&program.row, 0, sizeof program.row);
	program.depth = 0;
	program.location = 0;
	if (!run(&program, &fde.cie, fde.cie.instructions, fde.cie.end, pc))
		return unknown;
	program.initial = program.row;
	program.location = fde.start;
	if (!run(&program, &fde.cie, fde.instructions, fde.end, pc))
		return unknown;
	return pack_row(&program.row, pc);
}

#else

uint64_t trace_cfi_rule(uintptr_t pc, const uint8_t *eh_frame_hdr)
{
	(void)pc;
	(void)eh_frame_hdr;
	return unwind_pack(UNWIND_UNKNOWN, 0, UNWIND_RBP_KEPT, 0);
}

bool trace_cfi_function(uintptr_t pc, const uint8_t *eh_frame_hdr, uintptr_t *start, uintptr_t *end)
{
	(void)pc;
	(void)eh_frame_hdr;
	(void)start;
	(void)end;
	return false;
}

#endif
