/* The registers of a thread that is stopped by ptrace(2), by processor: registers_x86_64.c and
 * registers_aarch64.c. */
#ifndef MEMATLAS_ATTACH_REGISTERS_H
#define MEMATLAS_ATTACH_REGISTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

#include "frame.h"

#define REGISTERS_MAX_VECTOR 65536u

/* Floating-point and vector registers, in the kernel's layout. bytes <= REGISTERS_MAX_VECTOR */
struct registers_vector {
	unsigned set; /* NT_* of ptrace(2)'s PTRACE_GETREGSET */
	size_t bytes;
	char state[REGISTERS_MAX_VECTOR];
};

/* All return 0 or -errno. */
int registers_read(int tid, struct user_regs_struct *ret);
int registers_write(int tid, const struct user_regs_struct *registers);
/* -ETIME: the thread computes in a mode in which no ordinary function may be called. */
int registers_read_vector(int tid, struct registers_vector *ret);
int registers_write_vector(int tid, const struct registers_vector *vector);

uint64_t registers_pc(const struct user_regs_struct *registers);
uint64_t registers_stack(const struct user_regs_struct *registers);
uint64_t registers_result(const struct user_regs_struct *registers);
/* Returns the system call that the thread is in; -1: none. */
int64_t registers_system_call(int pid, const struct user_regs_struct *registers);
struct frame registers_frame(const struct user_regs_struct *registers);

void registers_enter_system_call(struct user_regs_struct *registers, uint64_t syscall_insn,
				 int64_t number, const uint64_t *arguments);
/* Prepares a call that returns to address 0, on a stack whose words above `stack`, a multiple of 16, are 0. */
void registers_enter_function(struct user_regs_struct *registers, uint64_t function, uint64_t stack,
			      uint64_t first, uint64_t second);

/* A system call that waits until a moment which the kernel keeps and the registers do not have. */
struct registers_wait {
	int64_t system_call; /* -1: none */
	uint64_t pc, stack;
};
/* Reads whether a thread waits so, before it is stopped. */
struct registers_wait registers_read_wait(int pid, int tid);
/* Lets the thread, once it was entered, go on with the rest of that time and not with all of it anew. */
void registers_resume_wait(struct user_regs_struct *registers, const struct registers_wait *wait);

/* A hardware breakpoint of the thread. */
int breakpoint_set(int tid, uint64_t pc);
int breakpoint_clear(int tid);
/* The thread stops again where it continues from a breakpoint that is set. */
extern const bool breakpoint_stays;

#endif
