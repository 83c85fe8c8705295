/* Rules for code without .eh_frame: that of JIT compilers, of Go and of assembly. Such code mostly keeps
 * frame pointers. Whatever it keeps in rbp is checked: the frame must lie on the stack above, and its
 * return address must follow a call instruction. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "syscall.h"
#include "state.h"
#include "unwind_jit.h"

#define CACHE_BITS 12u
#define AFTER_CALL 1u
#define TRAMPOLINE 2u

/* What is known of the code around an address: address << 2 | flags. An address of code that was replaced
 * keeps its flags, which then name a wrong caller at worst. */
static _Atomic uint64_t known[1u << CACHE_BITS];

#if defined(__x86_64__)

#define BEFORE 7u /* bytes of the longest call */
#define AFTER 5u

/* call rel32 (E8), or FF /2 through a register or memory: 2, 3, 4, 6 or 7 bytes, with REX one more. */
static bool is_call(const uint8_t *end)
{
	if (end[-5] == 0xe8)
		return true;
	for (unsigned length = 2; length <= BEFORE; length++)
		if (end[-(int)length] == 0xff && (end[1 - (int)length] & 0x38) == 0x10)
			return true;
	return false;
}

/* CPython 3.12 runs functions by trampolines that end in "add $8, %rsp; ret" and leave rbp alone. */
static bool is_trampoline(const uint8_t *code)
{
	static const uint8_t end[AFTER] = {0x48, 0x83, 0xc4, 0x08, 0xc3};

	return memcmp(code, end, AFTER) == 0;
}

static unsigned examine(uintptr_t pc)
{
	uint8_t code[BEFORE + AFTER] = {0};
	struct iovec local[2] = {{code, BEFORE}, {code + BEFORE, AFTER}};
	struct iovec remote[2] = {{(void *)(pc - BEFORE), BEFORE}, {(void *)pc, AFTER}};

	if (trace_session.sandboxed ||
	    trace_syscall(SYS_process_vm_readv, getpid(), local, 2L, remote, 2L, 0L) < (long)BEFORE)
		return 0;
	return (is_call(code + BEFORE) ? AFTER_CALL : 0) |
	       (is_trampoline(code + BEFORE) ? TRAMPOLINE : 0);
}

#else

#define BEFORE 4u
#define AFTER 8u

/* BL, or BLR with its forms that check a signature. */
static bool is_call(const uint8_t *end)
{
	uint32_t code;

	memcpy(&code, end - sizeof code, sizeof code);
	return (code & 0xfc000000) == 0x94000000 || (code & 0xfefff800) == 0xd63f0000;
}

/* "mov x8, #139; svc #0": sigreturn(2), in memory that the kernel or an emulator put there. */
static bool is_trampoline(const uint8_t *code)
{
	static const uint8_t end[AFTER] = {0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4};

	return memcmp(code, end, AFTER) == 0;
}

/* Code that is about to be returned to stays mapped. */
__attribute__((no_sanitize("address"))) static unsigned examine(uintptr_t pc)
{
	const uint8_t *code = (const uint8_t *)pc;
	bool before, after;

	if (trace_session.sandboxed || pc & 3)
		return 0;
	before = trace_page_is_readable(pc - BEFORE);
	after = trace_page_is_readable(pc + AFTER - 1);
	return (before && is_call(code) ? AFTER_CALL : 0) |
	       (after && is_trampoline(code) ? TRAMPOLINE : 0);
}

#endif

static unsigned flags_of(uintptr_t pc)
{
	_Atomic uint64_t *slot = &known[pc * 0x9e3779b97f4a7c15ull >> (64 - CACHE_BITS)];
	uint64_t found = atomic_load_explicit(slot, memory_order_relaxed);

	if (found >> 2 == pc)
		return found & 3;
	unsigned flags = examine(pc);
	if (!trace_session.sandboxed)
		atomic_store_explicit(slot, (uint64_t)pc << 2 | flags, memory_order_relaxed);
	return flags;
}

bool trace_is_return_address(uintptr_t pc)
{
	return pc > TRACE_MIN_PAGE && pc >> 56 == 0 && (flags_of(pc) & AFTER_CALL);
}

#if defined(__x86_64__)

__attribute__((no_sanitize("address"))) uint64_t trace_jit_rule(const struct trace_point *at,
								uintptr_t low, uintptr_t high)
{
	const uint64_t unknown = UNWIND_RULE_UNKNOWN;

	if (at->pc >> 56 || at->sp < low || at->sp >= high)
		return unknown;
	if (flags_of(at->pc) & TRAMPOLINE)
		return unwind_pack(UNWIND_CFA_RSP, 16, UNWIND_RBP_KEPT, 0);
	if (at->bp & 7 || at->bp < at->sp || at->bp > high - 16)
		return unknown;
	if (!trace_is_return_address(*(const uintptr_t *)(at->bp + 8)))
		return unknown;
	return unwind_pack(UNWIND_CFA_RBP, 16, UNWIND_RBP_AT_CFA, -16);
}

#else

uint64_t trace_jit_rule(const struct trace_point *at, uintptr_t low, uintptr_t high)
{
	(void)low;
	(void)high;
	return at->pc >> 56 == 0 && flags_of(at->pc) & TRAMPOLINE
		       ? unwind_packed(UNWIND_SIGNAL, 0, 0, 0)
		       : UNWIND_RULE_UNKNOWN;
}

#endif
