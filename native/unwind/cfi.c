/* Runs the call frame instructions for one program counter. */
#include "cfi.h"

#define MAX_DEPTH 8 /* of DW_CFA_remember_state */

/* depth <= MAX_DEPTH */
struct program {
	struct cfi_row row, initial;
	struct cfi_row remembered[MAX_DEPTH];
	unsigned depth;
	uintptr_t location;
	const struct cie *cie;
	const uint8_t *end;
	uint64_t shift; /* of the bytes that run */
};

union operand {
	uint64_t number;
	const uint8_t *block; /* of a DWARF expression: its length, then its bytes */
};

static struct cfi_rule *rule_of(struct cfi_row *row, uint64_t reg)
{
	return reg < CFI_REGISTERS ? &row->registers[reg] : &row->ignored;
}

static void set_rule(struct program *p, uint64_t reg, enum cfi_where where, int64_t value)
{
	*rule_of(&p->row, reg) = (struct cfi_rule){.where = where, .value = value};
}

static int64_t factored(const struct program *p, union operand operand)
{
	return (int64_t)(operand.number * (uint64_t)p->cie->data_alignment);
}

static bool no_effect(struct program *p, const union operand *o)
{
	(void)p;
	(void)o;
	return true;
}

static bool set_location(struct program *p, const union operand *o)
{
	p->location = o[0].number;
	return true;
}

static bool advance(struct program *p, const union operand *o)
{
	p->location += o[0].number * p->cie->code_alignment;
	return true;
}

static bool save_at_cfa(struct program *p, const union operand *o)
{
	set_rule(p, o[0].number, CFI_AT_CFA, factored(p, o[1]));
	return true;
}

static bool restore(struct program *p, const union operand *o)
{
	*rule_of(&p->row, o[0].number) = *rule_of(&p->initial, o[0].number);
	return true;
}

static bool undefine(struct program *p, const union operand *o)
{
	set_rule(p, o[0].number, CFI_UNDEFINED, 0);
	return true;
}

static bool keep_value(struct program *p, const union operand *o)
{
	set_rule(p, o[0].number, CFI_SAME, 0);
	return true;
}

static bool save_elsewhere(struct program *p, const union operand *o)
{
	set_rule(p, o[0].number, CFI_ELSEWHERE, 0);
	return true;
}

static bool save_at_expression(struct program *p, const union operand *o)
{
	set_rule(p, o[0].number, CFI_AT_EXPRESSION, (intptr_t)o[1].block);
	return true;
}

static bool remember_state(struct program *p, const union operand *o)
{
	(void)o;
	if (p->depth == MAX_DEPTH)
		return false;
	p->remembered[p->depth++] = p->row;
	return true;
}

static bool restore_state(struct program *p, const union operand *o)
{
	(void)o;
	if (p->depth == 0)
		return false;
	p->row = p->remembered[--p->depth];
	return true;
}

static bool set_cfa_register(struct program *p, const union operand *o)
{
	p->row.cfa_register = o[0].number;
	p->row.cfa_expression = NULL;
	return true;
}

static bool set_cfa(struct program *p, const union operand *o)
{
	p->row.cfa_offset = (int64_t)o[1].number;
	return set_cfa_register(p, o);
}

static bool set_cfa_factored(struct program *p, const union operand *o)
{
	p->row.cfa_offset = factored(p, o[1]);
	return set_cfa_register(p, o);
}

static bool set_cfa_offset(struct program *p, const union operand *o)
{
	p->row.cfa_offset = (int64_t)o[0].number;
	return true;
}

static bool set_cfa_offset_factored(struct program *p, const union operand *o)
{
	p->row.cfa_offset = factored(p, o[0]);
	return true;
}

static bool set_cfa_expression(struct program *p, const union operand *o)
{
	p->row.cfa_expression = o[0].block;
	return true;
}

enum format { NONE, ULEB, SLEB, BLOCK, BYTES_1, BYTES_2, BYTES_4, ADDRESS };

/* DW_CFA_*: instructions whose operands are not in the opcode itself. No effect: not understood. */
static const struct instruction {
	bool (*effect)(struct program *, const union operand *);
	enum format operands[2];
} instructions[] = {
	[0x00] = {no_effect, {NONE}}, /* nop */
	[0x01] = {set_location, {ADDRESS}},
	[0x02] = {advance, {BYTES_1}},
	[0x03] = {advance, {BYTES_2}},
	[0x04] = {advance, {BYTES_4}},
	[0x05] = {save_at_cfa, {ULEB, ULEB}}, /* offset_extended */
	[0x06] = {restore, {ULEB}}, /* restore_extended */
	[0x07] = {undefine, {ULEB}}, /* undefined */
	[0x08] = {keep_value, {ULEB}}, /* same_value */
	[0x09] = {save_elsewhere, {ULEB, ULEB}}, /* register */
	[0x0a] = {remember_state, {NONE}},
	[0x0b] = {restore_state, {NONE}},
	[0x0c] = {set_cfa, {ULEB, ULEB}}, /* def_cfa */
	[0x0d] = {set_cfa_register, {ULEB}}, /* def_cfa_register */
	[0x0e] = {set_cfa_offset, {ULEB}}, /* def_cfa_offset */
	[0x0f] = {set_cfa_expression, {BLOCK}}, /* def_cfa_expression */
	[0x10] = {save_at_expression, {ULEB, BLOCK}}, /* expression */
	[0x11] = {save_at_cfa, {ULEB, SLEB}}, /* offset_extended_sf */
	[0x12] = {set_cfa_factored, {ULEB, SLEB}}, /* def_cfa_sf */
	[0x13] = {set_cfa_offset_factored, {SLEB}}, /* def_cfa_offset_sf */
	[0x14] = {save_elsewhere, {ULEB, ULEB}}, /* val_offset */
	[0x15] = {save_elsewhere, {ULEB, SLEB}}, /* val_offset_sf */
	[0x16] = {save_elsewhere, {ULEB, BLOCK}}, /* val_expression */
#if defined(__aarch64__)
	/* Return addresses are signed from here on: eh_frame_code_address() drops the signature anyhow. */
	[0x2c] = {no_effect, {NONE}}, /* AARCH64_negate_ra_state_with_pc */
	[0x2d] = {no_effect, {NONE}}, /* AARCH64_negate_ra_state */
#endif
	[0x2e] = {no_effect, {ULEB}}, /* GNU_args_size */
};
#define INSTRUCTIONS (sizeof instructions / sizeof *instructions)

/* A block that leads out of the entry is empty, and the last of the entry. */
static union operand read_block(const uint8_t **at, const uint8_t *end)
{
	static const uint8_t empty[1];
	union operand block = {.block = *at};
	uint64_t length = read_uleb(at);

	if (*at > end || length > (uint64_t)(end - *at)) {
		*at = end;
		return (union operand){.block = empty};
	}
	*at += length;
	return block;
}

static inline union operand read_operand(const struct program *p, enum format format,
					 const uint8_t **at)
{
	if (format == ULEB)
		return (union operand){.number = read_uleb(at)};
	switch (format) {
	case SLEB:
		return (union operand){.number = (uint64_t)read_sleb(at)};
	case BLOCK:
		return read_block(at, p->end);
	case BYTES_1:
		return (union operand){.number = READ_AS(uint8_t, at)};
	case BYTES_2:
		return (union operand){.number = READ_AS(uint16_t, at)};
	case BYTES_4:
		return (union operand){.number = READ_AS(uint32_t, at)};
	case ADDRESS:
		return (union operand){
			.number = eh_frame_pointer(at, p->cie->pointer_encoding, 0, p->shift)};
	default:
		return (union operand){.number = 0};
	}
}

/* False: the instruction is not understood. */
static bool run_extended(struct program *p, uint8_t op, const uint8_t **at)
{
	if (op >= INSTRUCTIONS || !instructions[op].effect)
		return false;
	const struct instruction *instruction = &instructions[op];
	union operand operands[2];
	for (unsigned i = 0; i < 2 && instruction->operands[i] != NONE; i++)
		operands[i] = read_operand(p, instruction->operands[i], at);
	return instruction->effect(p, operands);
}

/* Runs instructions up to the row of `pc`. */
static bool run(struct program *p, const uint8_t *at, uintptr_t pc)
{
	const uint8_t *end = p->end;

	while (at < end && p->location <= pc) {
		uint8_t op = *at++;
		uint8_t low = op & 0x3f;
		switch (op >> 6) {
		case 1: /* advance_loc */
			p->location += low * p->cie->code_alignment;
			break;
		case 2: /* offset */
			set_rule(p, low, CFI_AT_CFA,
				 factored(p, (union operand){.number = read_uleb(&at)}));
			break;
		case 3: /* restore */
			*rule_of(&p->row, low) = *rule_of(&p->initial, low);
			break;
		default:
			if (!run_extended(p, op, &at))
				return false;
		}
	}
	return true;
}

bool cfi_run(const struct fde *fde, uintptr_t pc, struct cfi_row *ret)
{
	struct program program;

	memset(&program.row, 0, sizeof program.row);
	program.initial = program.row;
	program.depth = 0;
	program.location = 0;
	program.cie = &fde->cie;
	program.end = fde->cie.end;
	program.shift = fde->cie.shift;
	if (!run(&program, fde->cie.instructions, pc))
		return false;
	program.initial = program.row;
	program.location = fde->start;
	program.end = fde->end;
	program.shift = fde->shift;
	if (!run(&program, fde->instructions, pc))
		return false;
	*ret = program.row;
	return true;
}
