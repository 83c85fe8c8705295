/* System calls of the tracer itself. libc's syscall(), prctl() and mmap() are names this library
 * exports, so calling them would run the tracer's own hooks. These leave errno alone and are no
 * cancellation points. */
#ifndef MEMATLAS_TRACER_SYSCALL_H
#define MEMATLAS_TRACER_SYSCALL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long trace_syscall_6(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
#else
#error "no system call instruction known for this processor"
#endif
}

/* trace_syscall(number, up to six integers or pointers): the kernel's result, -errno on failure. */
#define trace_syscall(...) TRACE_SYSCALL_PADDED(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define TRACE_SYSCALL_PADDED(number, a, b, c, d, e, f, ...)                                        \
	trace_syscall_6(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* As libc returns it: -1 and errno on failure. */
static inline long trace_syscall_errno(long result)
{
	if (result >= 0 || result < -4095)
		return result;
	errno = (int)-result;
	return -1;
}

/* The kernel reads the set before it rejects the unknown `how`: EFAULT means unreadable. */
static inline bool trace_page_is_readable(uintptr_t page)
{
	long result = trace_syscall(SYS_rt_sigprocmask, ~0L, page, NULL, 8L);

	return result != 0 && result != -EFAULT;
}

#endif
