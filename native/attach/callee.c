/* Which function a call leads to. On AArch64, functions of glibc 2.41 that wait jump to a static function with
 * all they were called with, so that no frame of the stack names them. The seven arguments of that function
 * keep x86-64 from such a jump. */
#include "callee.h"

#if defined(__aarch64__)

#define LOOKED_AT 5 /* instructions of a stub: a landing pad, adrp, ldr, add, br */

/* Sign-extends the lowest `bits` bits. */
static uint64_t extended(uint64_t value, unsigned bits)
{
	uint64_t sign = 1ull << (bits - 1);

	return ((value & ((1ull << bits) - 1)) ^ sign) - sign;
}

/* Reads "adrp x16, PAGE; ldr x17, [x16, OFFSET]". Returns the address that ldr reads; 0: other code. */
static uint64_t slot_of(const uint32_t *code, uint64_t pc)
{
	if ((code[0] & 0x9f00001f) != 0x90000010 || (code[1] & 0xffc003ff) != 0xf9400211)
		return 0;
	uint64_t pages = extended((code[0] >> 5 & 0x7ffff) << 2 | (code[0] >> 29 & 3), 21);
	return (pc & ~0xfffull) + (pages << 12) + (code[1] >> 10 & 0xfff) * 8;
}

uint64_t callee_read(struct process_memory *memory, uint64_t return_address)
{
	uint32_t call, code[LOOKED_AT];
	uint64_t pc = return_address - sizeof call, function;

	if (!MEMORY_READ(memory, pc, call) || (call & 0xfc000000) != 0x94000000) /* bl */
		return 0;
	pc += extended(call, 26) << 2;
	if (!MEMORY_READ(memory, pc, code))
		return 0;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t slot = slot_of(code + i, pc + i * sizeof *code);
		if (slot)
			return MEMORY_READ(memory, slot, function) ? function : 0;
	}
	return pc;
}

#else

uint64_t callee_read(struct process_memory *memory, uint64_t return_address)
{
	(void)memory;
	(void)return_address;
	return 0;
}

#endif
