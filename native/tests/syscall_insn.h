/* A system call instruction that a child of the test has, too. */
#ifndef MEMATLAS_TESTS_SYSCALL_INSN_H
#define MEMATLAS_TESTS_SYSCALL_INSN_H

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static inline uint64_t find_syscall_insn(void)
{
	const unsigned char *code = (const unsigned char *)syscall;
	uint64_t insn = 0;
#if defined(__x86_64__)
	static const unsigned char wanted[] = {0x0f, 0x05};
	const int step = 1;
#else
	static const unsigned char wanted[] = {0x01, 0x00, 0x00, 0xd4};
	const int step = 4;
#endif

	for (int i = 0; i < 64 && !insn; i += step)
		if (memcmp(code + i, wanted, sizeof wanted) == 0)
			insn = (uintptr_t)code + (uint64_t)i;
	CHECK(insn);
	return insn;
}

#endif
