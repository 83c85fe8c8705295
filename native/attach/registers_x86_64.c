/* Registers of x86-64. */
#include "registers.h"

#include <errno.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define NT_X86_XSTATE_ 0x202
#define DIRECTION_FLAG 0x400ull /* the ABI wants it clear at a call */

const bool breakpoint_stays = false;

int registers_read(int tid, struct user_regs_struct *ret)
{
	return ptrace(PTRACE_GETREGS, tid, NULL, ret) < 0 ? -errno : 0;
}

int registers_write(int tid, const struct user_regs_struct *registers)
{
	return ptrace(PTRACE_SETREGS, tid, NULL, registers) < 0 ? -errno : 0;
}

int registers_read_vector(int tid, struct registers_vector *ret)
{
	struct iovec vector = {ret->state, sizeof ret->state};

	ret->set = NT_X86_XSTATE_;
	if (ptrace(PTRACE_GETREGSET, tid, (long)ret->set, &vector) < 0)
		return -errno;
	ret->bytes = vector.iov_len;
	return 0;
}

int registers_write_vector(int tid, const struct registers_vector *vector)
{
	struct iovec state = {(void *)(uintptr_t)vector->state, vector->bytes};

	return ptrace(PTRACE_SETREGSET, tid, (long)vector->set, &state) < 0 ? -errno : 0;
}

uint64_t registers_pc(const struct user_regs_struct *registers)
{
	return registers->rip;
}

uint64_t registers_stack(const struct user_regs_struct *registers)
{
	return registers->rsp;
}

uint64_t registers_result(const struct user_regs_struct *registers)
{
	return registers->rax;
}

int64_t registers_system_call(int pid, const struct user_regs_struct *registers)
{
	(void)pid;
	return (int64_t)registers->orig_rax;
}

struct frame registers_frame(const struct user_regs_struct *r)
{
	return (struct frame){
		.registers = {r->rax, r->rdx, r->rcx, r->rbx, r->rsi, r->rdi, r->rbp, r->rsp, r->r8,
			      r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->rip},
		.pc = r->rip,
		.interrupted = true,
	};
}

void registers_enter_system_call(struct user_regs_struct *registers, uint64_t syscall_insn,
				 int64_t number, const uint64_t *arguments)
{
	registers->rip = syscall_insn;
	registers->rax = (unsigned long long)number;
	registers->rdi = arguments[0];
	registers->rsi = arguments[1];
	registers->rdx = arguments[2];
	registers->r10 = arguments[3];
	registers->r8 = arguments[4];
	registers->r9 = arguments[5];
	registers->orig_rax = (unsigned long long)-1; /* do not restart a system call */
}

void registers_enter_function(struct user_regs_struct *registers, uint64_t function, uint64_t stack,
			      uint64_t first, uint64_t second)
{
	registers->rip = function;
	registers->rdi = first;
	registers->rsi = second;
	registers->rax = 0;
	registers->rsp = stack - 8; /* where the return address is */
	registers->rbp = 0;
	registers->eflags &= ~DIRECTION_FLAG;
	registers->orig_rax = (unsigned long long)-1;
}

/* The registers say which call is to be restarted, and the kernel how. */
struct registers_wait registers_read_wait(int pid, int tid)
{
	(void)pid;
	(void)tid;
	return (struct registers_wait){.system_call = -1};
}

void registers_resume_wait(struct user_regs_struct *registers, const struct registers_wait *wait)
{
	(void)registers;
	(void)wait;
}

static int set_debug_register(int tid, unsigned number, uint64_t value)
{
	size_t offset = offsetof(struct user, u_debugreg) + number * sizeof(unsigned long);

	return ptrace(PTRACE_POKEUSER, tid, offset, value) < 0 ? -errno : 0;
}

int breakpoint_set(int tid, uint64_t pc)
{
	int error = set_debug_register(tid, 0, pc);

	return error ? error : set_debug_register(tid, 7, 1); /* register 0: where it executes */
}

int breakpoint_clear(int tid)
{
	int error = set_debug_register(tid, 7, 0);

	return error ? error : set_debug_register(tid, 0, 0);
}
