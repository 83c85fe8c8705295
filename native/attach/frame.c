/* Steps from a frame of another process to its caller, by the .eh_frame in that process's memory. */
#include "frame.h"

#include <string.h>

#define MAX_ENTRY 16384u

struct table {
	struct process_memory *memory;
	uint64_t rows;
};

/* An entry copied from the process. */
struct entry {
	struct eh_bytes bytes;
	uint8_t copy[MAX_ENTRY + EH_FRAME_PADDING];
};

static bool read_row(const void *context, uint64_t index, int32_t row[2])
{
	const struct table *table = context;

	return process_memory_read(table->memory, table->rows + index * 2 * sizeof *row, row,
				   2 * sizeof *row);
}

static bool read_entry(struct process_memory *memory, uint64_t address, struct entry *entry)
{
	uint8_t *copy = entry->copy;

	if (!process_memory_read(memory, address, copy, sizeof(uint32_t)))
		return false;
	uint64_t size = eh_frame_entry_size(copy);
	if (size < 2 * sizeof(uint32_t) || size > MAX_ENTRY ||
	    !process_memory_read(memory, address, copy, size))
		return false;
	memset(copy + size, 0, EH_FRAME_PADDING);
	entry->bytes = (struct eh_bytes){
		.at = copy, .end = copy + size, .shift = address - (uintptr_t)copy};
	return true;
}

static bool find_row(struct process_memory *memory, const struct image *image, uint64_t pc,
		     int32_t row[2])
{
	uint8_t header[EH_FRAME_PADDING] = {0};
	struct table table = {.memory = memory};
	const uint8_t *rows;
	uint64_t count;
	struct eh_bytes bytes = {.at = header,
				 .end = header + sizeof header,
				 .shift = image->eh_frame_hdr - (uintptr_t)header};

	if (!image->eh_frame_hdr || !MEMORY_READ(memory, image->eh_frame_hdr, header) ||
	    !eh_frame_read_header(bytes, &rows, &count) || rows > bytes.end)
		return false;
	table.rows = image->eh_frame_hdr + (uint64_t)(rows - header);
	return eh_frame_search(read_row, &table, count, (int64_t)(pc - image->eh_frame_hdr), row);
}

/* The row of `pc`. Its expressions point into the two entries. */
static bool find_rule(struct process_memory *memory, const struct image *image, uint64_t pc,
		      struct entry entries[2], struct cfi_row *ret, bool *signal)
{
	struct fde fde;
	int32_t row[2];

	if (!find_row(memory, image, pc, row) ||
	    !read_entry(memory, image->eh_frame_hdr + (uint64_t)(int64_t)row[1], &entries[0]))
		return false;
	uint64_t cie = eh_frame_cie_address(entries[0].bytes);
	if (!cie || !read_entry(memory, cie, &entries[1]) ||
	    !eh_frame_read_cie(entries[1].bytes, &fde.cie) ||
	    !eh_frame_read_fde(entries[0].bytes, &fde) || pc - fde.start >= fde.length)
		return false;
	*signal = fde.cie.signal;
	return cfi_run(&fde, pc, ret);
}

static bool find_cfa(struct process_memory *memory, const struct cfi_row *row,
		     const uint64_t *registers, uint64_t *ret)
{
	if (row->cfa_expression)
		return expression_evaluate(memory, row->cfa_expression, registers, NULL, ret);
	if (row->cfa_register >= CFI_REGISTERS)
		return false;
	*ret = registers[row->cfa_register] + (uint64_t)row->cfa_offset;
	return true;
}

static bool restore_register(struct process_memory *memory, const struct cfi_rule *rule,
			     const uint64_t *registers, uint64_t cfa, uint64_t *ret)
{
	uint64_t address = cfa + (uint64_t)(int64_t)rule->value;

	if (rule->where == CFI_AT_EXPRESSION &&
	    !expression_evaluate(memory, cfi_expression(rule), registers, &cfa, &address))
		return false;
	if (rule->where == CFI_AT_CFA || rule->where == CFI_AT_EXPRESSION)
		return MEMORY_READ(memory, address, *ret);
	return true;
}

static bool restore_registers(struct process_memory *memory, const struct cfi_row *row,
			      const struct frame *frame, uint64_t cfa, struct frame *next)
{
	*next = *frame;
	for (unsigned i = 0; i < CFI_REGISTERS; i++)
		if (!restore_register(memory, &row->registers[i], frame->registers, cfa,
				      &next->registers[i]))
			return false;
	if (row->registers[CFI_SP].where == CFI_SAME)
		next->registers[CFI_SP] = cfa;
	return true;
}

#if defined(__aarch64__)

#define SIGFRAME_REGISTERS 312 /* in struct rt_sigframe of the kernel, at sp: x0 to x30, sp, pc */
#define SIGFRAME_PC 32

/* "mov x8, #139; svc #0": sigreturn(2), in the vDSO, which has no call frame information. */
static bool is_trampoline(struct process_memory *memory, uint64_t pc)
{
	static const uint32_t code[] = {0xd2801168, 0xd4000001};
	uint32_t found[2];

	return MEMORY_READ(memory, pc, found) && memcmp(found, code, sizeof code) == 0;
}

static enum frame_step step_signal(struct process_memory *memory, struct frame *frame)
{
	uint64_t words[SIGFRAME_PC + 1];

	if (!MEMORY_READ(memory, frame->registers[CFI_SP] + SIGFRAME_REGISTERS, words))
		return FRAME_UNKNOWN;
	memcpy(frame->registers, words, sizeof frame->registers);
	frame->pc = words[SIGFRAME_PC];
	frame->interrupted = true;
	return frame->pc ? FRAME_CALLER : FRAME_END;
}

#endif

/* x30 has the return address of an interrupted function that saved it nowhere. */
static bool has_return_address(const struct frame *frame, enum cfi_where where)
{
#if defined(__aarch64__)
	if (where == CFI_SAME)
		return frame->interrupted;
#endif
	(void)frame;
	return where == CFI_AT_CFA || where == CFI_AT_EXPRESSION;
}

/* A caller's frame is above; a handler may run on another stack. */
static bool is_above(const struct frame *next, const struct frame *frame, bool signal)
{
	uint64_t sp = frame->registers[CFI_SP], above = next->registers[CFI_SP];

#if defined(__aarch64__)
	if (frame->interrupted && above == sp)
		return true;
#endif
	return signal || above > sp;
}

static enum frame_step apply(struct process_memory *memory, const struct cfi_row *row, bool signal,
			     struct frame *frame)
{
	enum cfi_where ra = (enum cfi_where)row->registers[EH_FRAME_RETURN_ADDRESS].where;
	struct frame next;
	uint64_t cfa;

	if (ra == CFI_UNDEFINED)
		return FRAME_END;
	if (!has_return_address(frame, ra) || !find_cfa(memory, row, frame->registers, &cfa) ||
	    !restore_registers(memory, row, frame, cfa, &next) || !is_above(&next, frame, signal))
		return FRAME_UNKNOWN;
	next.pc = eh_frame_code_address(next.registers[EH_FRAME_RETURN_ADDRESS]);
	next.interrupted = signal;
	*frame = next;
	return next.pc ? FRAME_CALLER : FRAME_END;
}

enum frame_step frame_step(struct process_memory *memory, const struct image *image,
			   struct frame *frame)
{
	struct entry entries[2];
	struct cfi_row row;
	bool signal;

#if defined(__aarch64__)
	if (!frame->interrupted && is_trampoline(memory, frame->pc))
		return step_signal(memory, frame);
#endif
	if (!find_rule(memory, image, frame_code(frame), entries, &row, &signal))
		return FRAME_UNKNOWN;
	return apply(memory, &row, signal, frame);
}
