/* Asks the seccomp filters of a stopped thread what they would do to a system call. seccomp(2), classic
 * BPF as in linux/filter.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#include "../cleanup.h"
#include "remote.h"

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif
#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif
#if defined(__x86_64__)
#define AUDIT_ARCH 0xc000003eu
#else
#define AUDIT_ARCH 0xc00000b7u /* AArch64 */
#endif

struct machine {
	const uint8_t *data;
	uint32_t a, x;
	uint32_t memory[BPF_MEMWORDS];
};

static bool load(struct machine *m, const struct sock_filter *i)
{
	switch (i->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		if (i->k > sizeof(struct seccomp_data) - sizeof m->a || i->k % sizeof m->a)
			return false;
		memcpy(&m->a, m->data + i->k, sizeof m->a);
		return true;
	case BPF_LD | BPF_W | BPF_LEN:
		m->a = sizeof(struct seccomp_data);
		return true;
	case BPF_LD | BPF_IMM:
		m->a = i->k;
		return true;
	case BPF_LD | BPF_MEM:
		m->a = m->memory[i->k % BPF_MEMWORDS];
		return true;
	default:
		return false;
	}
}

static bool load_x(struct machine *m, const struct sock_filter *i)
{
	switch (i->code) {
	case BPF_LDX | BPF_W | BPF_LEN:
		m->x = sizeof(struct seccomp_data);
		return true;
	case BPF_LDX | BPF_IMM:
		m->x = i->k;
		return true;
	case BPF_LDX | BPF_MEM:
		m->x = m->memory[i->k % BPF_MEMWORDS];
		return true;
	default:
		return false;
	}
}

static bool compute_shift(struct machine *m, const struct sock_filter *i, uint32_t operand)
{
	switch (BPF_OP(i->code)) {
	case BPF_LSH:
		m->a = operand < 32 ? m->a << operand : 0;
		return true;
	case BPF_RSH:
		m->a = operand < 32 ? m->a >> operand : 0;
		return true;
	case BPF_DIV:
		m->a = operand ? m->a / operand : 0;
		return operand != 0;
	case BPF_NEG:
		m->a = -m->a;
		return true;
	default:
		return false;
	}
}

static bool compute(struct machine *m, const struct sock_filter *i)
{
	uint32_t operand = BPF_SRC(i->code) == BPF_X ? m->x : i->k;

	switch (BPF_OP(i->code)) {
	case BPF_ADD:
		m->a += operand;
		return true;
	case BPF_SUB:
		m->a -= operand;
		return true;
	case BPF_MUL:
		m->a *= operand;
		return true;
	case BPF_AND:
		m->a &= operand;
		return true;
	case BPF_OR:
		m->a |= operand;
		return true;
	case BPF_XOR:
		m->a ^= operand;
		return true;
	default:
		return compute_shift(m, i, operand);
	}
}

/* Instructions to skip; they lead forwards only. */
static uint32_t jump(const struct machine *m, const struct sock_filter *i)
{
	uint32_t operand = BPF_SRC(i->code) == BPF_X ? m->x : i->k;

	switch (BPF_OP(i->code)) {
	case BPF_JA:
		return i->k;
	case BPF_JEQ:
		return m->a == operand ? i->jt : i->jf;
	case BPF_JGT:
		return m->a > operand ? i->jt : i->jf;
	case BPF_JGE:
		return m->a >= operand ? i->jt : i->jf;
	default: /* BPF_JSET */
		return m->a & operand ? i->jt : i->jf;
	}
}

static bool execute(struct machine *m, const struct sock_filter *i)
{
	switch (BPF_CLASS(i->code)) {
	case BPF_LD:
		return load(m, i);
	case BPF_LDX:
		return load_x(m, i);
	case BPF_ALU:
		return compute(m, i);
	case BPF_ST:
		m->memory[i->k % BPF_MEMWORDS] = m->a;
		return true;
	case BPF_STX:
		m->memory[i->k % BPF_MEMWORDS] = m->x;
		return true;
	default: /* BPF_MISC */
		if (BPF_MISCOP(i->code) == BPF_TAX)
			m->x = m->a;
		else
			m->a = m->x;
		return true;
	}
}

/* An instruction that the kernel would not have accepted counts as a kill. */
static uint32_t run_filter(const struct sock_filter *filter, uint64_t count,
			   const struct seccomp_data *data)
{
	struct machine machine = {.data = (const uint8_t *)data};

	for (uint64_t at = 0; at < count; at++) {
		const struct sock_filter *i = &filter[at];
		if (BPF_CLASS(i->code) == BPF_RET)
			return BPF_RVAL(i->code) == BPF_A ? machine.a : i->k;
		if (BPF_CLASS(i->code) == BPF_JMP)
			at += jump(&machine, i);
		else if (!execute(&machine, i))
			break;
	}
	return SECCOMP_RET_KILL_PROCESS;
}

/* As the kernel orders them: the kill of the process is the lowest as a signed number. */
static bool is_stricter(uint32_t first, uint32_t second)
{
	return (int32_t)(first & SECCOMP_RET_ACTION_FULL) <
	       (int32_t)(second & SECCOMP_RET_ACTION_FULL);
}

int64_t remote_filter_system_call(int tid, int64_t number, const uint64_t *arguments)
{
	struct seccomp_data data = {.nr = (int)number, .arch = AUDIT_ARCH};
	uint32_t action = SECCOMP_RET_ALLOW;

	memcpy(data.args, arguments, sizeof data.args);
	for (long index = 0;; index++) {
		long count = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, NULL);
		if (count < 0)
			return errno == ENOENT ? (int64_t)action : -errno;
		CLEANUP_FREE struct sock_filter *filter = calloc((size_t)count + 1, sizeof *filter);
		if (!filter)
			return -ENOMEM;
		if (ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, filter) != count)
			return -EAGAIN;
		uint32_t found = run_filter(filter, (uint64_t)count, &data);
		if (is_stricter(found, action))
			action = found;
	}
}

int64_t mematlas_remote_filter_system_call(const struct mematlas_remote *remote, int64_t number,
					   const uint64_t *arguments)
{
	return remote_filter_system_call(remote->tid, number, arguments);
}

int mematlas_remote_suspend_seccomp(const struct mematlas_remote *remote)
{
	return ptrace(PTRACE_SETOPTIONS, remote->tid, NULL, (void *)PTRACE_O_SUSPEND_SECCOMP) < 0
		       ? -errno
		       : 0;
}
