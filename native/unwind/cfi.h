/* The call frame instructions of .eh_frame, run for one program counter. Format: DWARF 5 section 6.4.2.
 * No locks, no allocation. */
#ifndef MEMATLAS_UNWIND_CFI_H
#define MEMATLAS_UNWIND_CFI_H

#include "eh_frame.h"

#if defined(__x86_64__)
/* 0 rax, 1 rdx, 2 rcx, 3 rbx, 4 rsi, 5 rdi, 6 rbp, 7 rsp, r8 to r15, return address. */
#define CFI_FP 6
#define CFI_SP 7
#define CFI_REGISTERS 17
#else
/* x0 to x30, sp. */
#define CFI_FP 29
#define CFI_SP 31
#define CFI_REGISTERS 32
#endif

/* Where a register of the caller is saved. */
enum cfi_where {
	CFI_SAME,
	CFI_UNDEFINED,
	CFI_AT_CFA, /* at CFA + value */
	CFI_AT_EXPRESSION, /* where the expression at `value` leads, a pointer */
	CFI_ELSEWHERE /* in a register, or a value: no compiler emits these */
};

/* One word, since a row has up to 33 of them and the tracer runs on small stacks. */
struct cfi_rule {
	int64_t where : 4;
	int64_t value : 60;
};

struct cfi_row {
	uint64_t cfa_register;
	int64_t cfa_offset;
	const uint8_t *cfa_expression; /* NULL: register + offset */
	struct cfi_rule registers[CFI_REGISTERS];
	struct cfi_rule ignored; /* all other registers */
};

/* Runs the instructions up to the row of `pc`. False: an instruction is not understood. */
bool cfi_run(const struct fde *fde, uintptr_t pc, struct cfi_row *ret);

static inline const uint8_t *cfi_expression(const struct cfi_rule *rule)
{
	return (const uint8_t *)(intptr_t)rule->value;
}

#endif
