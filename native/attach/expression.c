/* Evaluates the DWARF expressions of call frame information. Format: DWARF 5 section 2.5. */
#include "frame.h"

#define DEPTH 16

/* depth <= DEPTH */
struct evaluation {
	struct process_memory *memory;
	const uint64_t *registers;
	uint64_t stack[DEPTH];
	unsigned depth;
};

static bool push(struct evaluation *e, uint64_t value)
{
	if (e->depth == DEPTH)
		return false;
	e->stack[e->depth++] = value;
	return true;
}

static bool binary(struct evaluation *e, uint8_t op)
{
	if (e->depth < 2)
		return false;
	uint64_t second = e->stack[--e->depth];
	uint64_t *first = &e->stack[e->depth - 1];
	switch (op) {
	case 0x1a:
		*first &= second;
		return true;
	case 0x1c:
		*first -= second;
		return true;
	case 0x22:
		*first += second;
		return true;
	case 0x24:
		*first = second < 64 ? *first << second : 0;
		return true;
	case 0x2a:
		*first = (int64_t)*first >= (int64_t)second;
		return true;
	default:
		return false;
	}
}

static bool push_constant(struct evaluation *e, uint8_t op, const uint8_t **at)
{
	switch (op) {
	case 0x08:
		return push(e, READ_AS(uint8_t, at));
	case 0x09:
		return push(e, (uint64_t)(int64_t)READ_AS(int8_t, at));
	case 0x0a:
		return push(e, READ_AS(uint16_t, at));
	case 0x0b:
		return push(e, (uint64_t)(int64_t)READ_AS(int16_t, at));
	case 0x10:
		return push(e, read_uleb(at));
	case 0x11:
		return push(e, (uint64_t)read_sleb(at));
	default:
		return false;
	}
}

static bool unary(struct evaluation *e, uint8_t op, const uint8_t **at)
{
	if (!e->depth)
		return false;
	uint64_t *top = &e->stack[e->depth - 1];
	if (op == 0x06) /* deref */
		return MEMORY_READ(e->memory, *top, *top);
	if (op == 0x12) /* dup */
		return push(e, *top);
	*top += read_uleb(at); /* plus_uconst */
	return true;
}

static bool operate(struct evaluation *e, uint8_t op, const uint8_t **at)
{
	if (op >= 0x30 && op <= 0x4f) /* lit0 to lit31 */
		return push(e, op - 0x30u);
	if (op >= 0x70 && op < 0x70 + CFI_REGISTERS) /* breg0 and on */
		return push(e, e->registers[op - 0x70] + (uint64_t)read_sleb(at));
	if (op == 0x06 || op == 0x12 || op == 0x23)
		return unary(e, op, at);
	return op <= 0x11 ? push_constant(e, op, at) : binary(e, op);
}

bool expression_evaluate(struct process_memory *memory, const uint8_t *expression,
			 const uint64_t *registers, const uint64_t *first, uint64_t *ret)
{
	struct evaluation e = {.memory = memory, .registers = registers};
	const uint8_t *at = expression;
	uint64_t length = read_uleb(&at);
	const uint8_t *end = at + length;

	if (first)
		push(&e, *first);
	while (at < end)
		if (!operate(&e, READ_AS(uint8_t, &at), &at))
			return false;
	if (!e.depth)
		return false;
	*ret = e.stack[e.depth - 1];
	return true;
}
