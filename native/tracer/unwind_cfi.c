/* Packs what the call frame instructions say of one program counter into a rule. */
#include <stddef.h>
#include <string.h>

#include "../unwind/cfi.h"
#include "unwind.h"

#if defined(__x86_64__)

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

static enum unwind_kind cfa_of(const struct cfi_row *row, uintptr_t pc, int64_t *offset)
{
	*offset = row->cfa_offset;
	if (!row->cfa_expression)
		return row->cfa_register == CFI_SP   ? UNWIND_CFA_RSP
		       : row->cfa_register == CFI_FP ? UNWIND_CFA_RBP
						     : UNWIND_UNKNOWN;
	if (is_breg(row->cfa_expression, CFI_FP, true, offset))
		return UNWIND_CFA_AT_RBP;
	if (is_breg(row->cfa_expression, CFI_SP, true, offset))
		return UNWIND_CFA_AT_RSP;
	return is_plt(row->cfa_expression, pc, offset) ? UNWIND_CFA_RSP : UNWIND_UNKNOWN;
}

static uint64_t pack_row(const struct cfi_row *row, uintptr_t pc)
{
	const struct cfi_rule *ra = &row->registers[EH_FRAME_RETURN_ADDRESS];
	const struct cfi_rule *rbp = &row->registers[CFI_FP];
	int64_t cfa_offset, rbp_offset = 0;
	enum unwind_kind kind = cfa_of(row, pc, &cfa_offset);
	enum unwind_saved saved = UNWIND_RBP_KEPT;

	if (ra->where == CFI_UNDEFINED)
		return unwind_packed(UNWIND_END, 0, 0, 0);
	if (ra->where != CFI_AT_CFA || ra->value != -8)
		return UNWIND_RULE_UNKNOWN;
	if (rbp->where == CFI_AT_CFA) {
		saved = UNWIND_RBP_AT_CFA;
		rbp_offset = rbp->value;
	} else if (rbp->where == CFI_AT_EXPRESSION &&
		   is_breg(cfi_expression(rbp), CFI_FP, false, &rbp_offset)) {
		saved = UNWIND_RBP_AT_RBP;
	} else if (rbp->where != CFI_SAME && rbp->where != CFI_UNDEFINED) {
		kind = UNWIND_UNKNOWN;
	}
	return unwind_pack(kind, cfa_offset, saved, rbp_offset);
}

#else

static bool is_saved(const struct cfi_rule *rule)
{
	return rule->where == CFI_AT_CFA;
}

/* In its own register, which a rule of CFI_UNDEFINED says of no register but x30. */
static bool is_kept(const struct cfi_rule *rule)
{
	return rule->where == CFI_SAME || rule->where == CFI_UNDEFINED;
}

/* Which of the two are saved, and where. False: not in a way that a rule has. */
static bool read_saved(const struct cfi_rule *lr, const struct cfi_rule *fp,
		       enum unwind_saved *saved, int64_t *offset)
{
	if (is_saved(fp)) {
		*offset = fp->value;
		*saved = is_saved(lr) ? UNWIND_PAIR_SAVED : UNWIND_FP_SAVED;
		return is_saved(lr) ? lr->value == fp->value + 8 : is_kept(lr);
	}
	*offset = is_saved(lr) ? lr->value : 0;
	*saved = is_saved(lr) ? UNWIND_LR_SAVED : UNWIND_NONE_SAVED;
	return is_kept(fp) && (is_saved(lr) || is_kept(lr));
}

static uint64_t pack_row(const struct cfi_row *row, uintptr_t pc)
{
	const struct cfi_rule *lr = &row->registers[EH_FRAME_RETURN_ADDRESS];
	enum unwind_kind kind = row->cfa_register == CFI_SP ? UNWIND_CFA_RSP : UNWIND_CFA_RBP;
	enum unwind_saved saved;
	int64_t offset;

	(void)pc;
	if (lr->where == CFI_UNDEFINED)
		return unwind_packed(UNWIND_END, 0, 0, 0);
	if (row->cfa_expression || (row->cfa_register != CFI_SP && row->cfa_register != CFI_FP) ||
	    !read_saved(lr, &row->registers[CFI_FP], &saved, &offset))
		return UNWIND_RULE_UNKNOWN;
	return unwind_pack(kind, row->cfa_offset, saved, offset);
}

#endif

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
	struct fde fde;
	struct cfi_row row;

	if (!eh_frame_hdr || !eh_frame_find(pc, eh_frame_hdr, &fde))
		return UNWIND_RULE_UNKNOWN;
	if (fde.cie.signal)
		return unwind_packed(UNWIND_SIGNAL, 0, 0, 0);
	return cfi_run(&fde, pc, &row) ? pack_row(&row, pc) : UNWIND_RULE_UNKNOWN;
}
