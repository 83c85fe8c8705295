/* Registers of AArch64. */
#include "registers.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../cleanup.h"
#include "process_memory.h"

/* Sets of registers (elf.h). */
enum { NT_PRSTATUS_ = 1, NT_PRFPREG_ = 2, NT_ARM_HW_BREAK_ = 0x402, NT_ARM_SVE_ = 0x405 };

#define SYSTEM_CALL_INSN 0xd4000001u /* svc #0 */
#define BRANCH_TYPE (3ull << 10) /* of the last branch, which the next instruction must allow for */
#define SVE_HEADER_BYTES 16u
#define TIMER_ABSTIME_ 1u
#define FUTEX_WAIT_ 0u
#define FUTEX_WAIT_BITSET_ 9u
#define FUTEX_COMMAND 127u

const bool breakpoint_stays = true;

static int transfer(enum __ptrace_request request, int tid, unsigned set, void *state,
		    size_t *bytes)
{
	struct iovec vector = {state, *bytes};

	if (ptrace(request, tid, (long)set, &vector) < 0)
		return -errno;
	*bytes = vector.iov_len;
	return 0;
}

int registers_read(int tid, struct user_regs_struct *ret)
{
	size_t bytes = sizeof *ret;

	return transfer(PTRACE_GETREGSET, tid, NT_PRSTATUS_, ret, &bytes);
}

int registers_write(int tid, const struct user_regs_struct *registers)
{
	size_t bytes = sizeof *registers;

	return transfer(PTRACE_SETREGSET, tid, NT_PRSTATUS_, (void *)(uintptr_t)registers, &bytes);
}

/* With SVE, its set holds the other registers as well. It has a header alone in streaming mode. */
int registers_read_vector(int tid, struct registers_vector *ret)
{
	ret->set = NT_ARM_SVE_;
	ret->bytes = sizeof ret->state;
	int error = transfer(PTRACE_GETREGSET, tid, ret->set, ret->state, &ret->bytes);
	if (error == -EINVAL || error == -EIO || error == -ENODEV) {
		ret->set = NT_PRFPREG_;
		ret->bytes = sizeof ret->state;
		return transfer(PTRACE_GETREGSET, tid, ret->set, ret->state, &ret->bytes);
	}
	return !error && ret->bytes <= SVE_HEADER_BYTES ? -ETIME : error;
}

int registers_write_vector(int tid, const struct registers_vector *vector)
{
	size_t bytes = vector->bytes;

	return transfer(PTRACE_SETREGSET, tid, vector->set, (void *)(uintptr_t)vector->state,
			&bytes);
}

uint64_t registers_pc(const struct user_regs_struct *registers)
{
	return registers->pc;
}

uint64_t registers_stack(const struct user_regs_struct *registers)
{
	return registers->sp;
}

uint64_t registers_result(const struct user_regs_struct *registers)
{
	return registers->regs[0];
}

/* The kernel forgets the number before a thread stops, and puts pc back to the instruction if the call is to
 * be restarted. x8 keeps the number. */
int64_t registers_system_call(int pid, const struct user_regs_struct *registers)
{
	uint32_t code[2] = {0};

	if (!process_memory_copy(pid, registers->pc - sizeof *code, code, sizeof code) ||
	    (code[0] != SYSTEM_CALL_INSN && code[1] != SYSTEM_CALL_INSN))
		return -1;
	return (int64_t)registers->regs[8];
}

struct frame registers_frame(const struct user_regs_struct *registers)
{
	struct frame frame = {.pc = registers->pc, .interrupted = true};

	for (unsigned i = 0; i < CFI_SP; i++)
		frame.registers[i] = registers->regs[i];
	frame.registers[CFI_SP] = registers->sp;
	return frame;
}

void registers_enter_system_call(struct user_regs_struct *registers, uint64_t syscall_insn,
				 int64_t number, const uint64_t *arguments)
{
	registers->pc = syscall_insn;
	registers->pstate &= ~BRANCH_TYPE;
	registers->regs[8] = (uint64_t)number;
	for (unsigned i = 0; i < 6; i++)
		registers->regs[i] = arguments[i];
}

void registers_enter_function(struct user_regs_struct *registers, uint64_t function, uint64_t stack,
			      uint64_t first, uint64_t second)
{
	registers->pc = function;
	registers->pstate &= ~BRANCH_TYPE;
	registers->regs[0] = first;
	registers->regs[1] = second;
	registers->regs[29] = registers->regs[30] = 0;
	registers->sp = stack;
}

/* Calls that the kernel continues by restart_syscall(2): the time is relative, and the program has no copy of
 * what is left. */
static bool keeps_time(int64_t number, const uint64_t *arguments)
{
	unsigned command = (unsigned)arguments[1] & FUTEX_COMMAND;

	if (number == SYS_nanosleep)
		return true;
	if (number == SYS_clock_nanosleep)
		return !(arguments[1] & TIMER_ABSTIME_);
	return number == SYS_futex && arguments[3] &&
	       (command == FUTEX_WAIT_ || command == FUTEX_WAIT_BITSET_);
}

struct registers_wait registers_read_wait(int pid, int tid)
{
	struct registers_wait wait = {.system_call = -1};
	uint64_t a[6];
	char path[64];
	long number;

	snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", pid, tid);
	CLEANUP_FILE FILE *file = fopen(path, "re");
	/* "running", or "-1 STACK PC", where the thread is in none */
	if (file &&
	    fscanf(file, "%ld %lx %lx %lx %lx %lx %lx %lx %lx", &number, &a[0], &a[1], &a[2], &a[3],
		   &a[4], &a[5], &wait.stack, &wait.pc) == 9 &&
	    keeps_time(number, a))
		wait.system_call = number;
	return wait;
}

void registers_resume_wait(struct user_regs_struct *registers, const struct registers_wait *wait)
{
	if (wait->system_call >= 0 && registers->regs[8] == (uint64_t)wait->system_call &&
	    registers->pc == wait->pc - sizeof(uint32_t) && registers->sp == wait->stack)
		registers->regs[8] = SYS_restart_syscall;
}

/* struct user_hwdebug_state (asm/ptrace.h), with one register of it. */
struct breakpoint {
	uint32_t info, pad;
	struct {
		uint64_t address;
		uint32_t control, pad;
	} registers[1];
};

#define ENABLED_FOR_USER 0x1e5u /* four bytes, executed at EL0 */

static int write_breakpoint(int tid, uint64_t pc, uint32_t control)
{
	struct breakpoint breakpoint = {.registers = {{.address = pc, .control = control}}};
	size_t bytes = sizeof breakpoint;

	return transfer(PTRACE_SETREGSET, tid, NT_ARM_HW_BREAK_, &breakpoint, &bytes);
}

int breakpoint_set(int tid, uint64_t pc)
{
	return write_breakpoint(tid, pc, ENABLED_FOR_USER);
}

int breakpoint_clear(int tid)
{
	return write_breakpoint(tid, 0, 0);
}
