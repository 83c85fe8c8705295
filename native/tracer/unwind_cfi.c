/* Runs the call frame instructions (.eh_frame) for one program counter and packs the result into a rule.
 * Format: DWARF 5 section 6.4.2. */
#include <stddef.h>
#include <string.h>

#include "unwind.h"
#include "unwind_eh_frame.h"

#if defined(__x86_64__)

#define RBP 6
#define RSP 7
#define MAX_DEPTH 8 /* of DW_CFA_remember_state */

/* Where a register of the caller is saved. */
enum where { SAME, UNDEFINED, AT_CFA, AT_EXPRESSION, ELSEWHERE };

struct register_rule {
	enum where where;
	int64_t offset;
	const uint8_t *expression;
};

struct row {
	uint64_t cfa_register;
	int64_t cfa_offset;
	const uint8_t *cfa_expression; /* NULL: register + offset */
	struct register_rule rbp, ra;
	struct register_rule ignored; /* all other registers */
};

/* depth <= MAX_DEPTH */
struct program {
	struct row row, initial;
	struct row remembered[MAX_DEPTH];
	unsigned depth;
	uintptr_t location;
	const struct cie *cie;
};

union operand {
	uint64_t number;
	const uint8_t *block; /* of a DWARF expression: its length, then its bytes */
};

static struct register_rule *rule_of(struct row *row, uint64_t reg)
{
	return reg == RBP ? &row->rbp : reg == EH_FRAME_RETURN_ADDRESS ? &row->ra : &row->ignored;
}

static void set_rule(struct program *p, uint64_t reg, enum where where, int64_t offset)
{
	*rule_of(&p->row, reg) = (struct register_rule){.where = where, .offset = offset};
}

static int64_t factored(const struct program *p, union operand operand)
{
	return (int64_t)operand.number * p->cie->data_alignment;
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
	set_rule(p, o[0].number, AT_CFA, factored(p, o[1]));
	return true;
}

static bool restore(struct program *p, const union operand *o)
{
	*rule_of(&p->row, o[0].number) = *rule_of(&p->initial, o[0].number);
	return true;
}

static bool undefine(struct program *p, const union operand *o)
{
	set_rule(p, o[0].number, UNDEFINED, 0);
	return true;
}

static bool keep_value(struct program *p, const union operand *o)
{
	set_rule(p, o[0].number, SAME, 0);
	return true;
}

static bool save_elsewhere(struct program *p, const union operand *o)
{
	set_rule(p, o[0].number, ELSEWHERE, 0);
	return true;
}

static bool save_at_expression(struct program *p, const union operand *o)
{
	*rule_of(&p->row, o[0].number) =
		(struct register_rule){.where = AT_EXPRESSION, .expression = o[1].block};
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
	[0x2e] = {no_effect, {ULEB}}, /* GNU_args_size */
};
#define INSTRUCTIONS (sizeof instructions / sizeof *instructions)

static union operand read_block(const uint8_t **at)
{
	union operand block = {.block = *at};
	uint64_t length = read_uleb(at);

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
		return read_block(at);
	case BYTES_1:
		return (union operand){.number = READ_AS(uint8_t, at)};
	case BYTES_2:
		return (union operand){.number = READ_AS(uint16_t, at)};
	case BYTES_4:
		return (union operand){.number = READ_AS(uint32_t, at)};
	case ADDRESS:
		return (union operand){
			.number = eh_frame_pointer(at, p->cie->pointer_encoding, NULL)};
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
static bool run(struct program *p, const uint8_t *at, const uint8_t *end, uintptr_t pc)
{
	while (at < end && p->location <= pc) {
		uint8_t op = *at++;
		uint8_t low = op & 0x3f;
		switch (op >> 6) {
		case 1: /* advance_loc */
			p->location += low * p->cie->code_alignment;
			break;
		case 2: /* offset */
			set_rule(p, low, AT_CFA, (int64_t)read_uleb(&at) * p->cie->data_alignment);
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

/* Matches "reg + offset", then `deref` or nothing. Compilers emit no other expressions, except for the
 * PLT. */
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

/* Matches the expression of a PLT entry, which pushes its number after its 11th byte (10th with IBT):
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

	if (!eh_frame_hdr || !eh_frame_find(pc, eh_frame_hdr, &fde))
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

	if (!eh_frame_hdr || !eh_frame_find(pc, eh_frame_hdr, &fde))
		return unknown;
	if (fde.cie.signal)
		return unwind_pack(UNWIND_SIGNAL, 0, UNWIND_RBP_KEPT, 0);
	memset(&program.row, 0, sizeof program.row);
	program.depth = 0;
	program.location = 0;
	program.cie = &fde.cie;
	if (!run(&program, fde.cie.instructions, fde.cie.end, pc))
		return unknown;
	program.initial = program.row;
	program.location = fde.start;
	if (!run(&program, fde.instructions, fde.end, pc))
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
