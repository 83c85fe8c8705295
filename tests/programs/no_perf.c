/* Runs a program with perf_event_open forbidden, as in containers: the filter is there before the tracer, so it
 * is installed past the hooks. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long install(const struct sock_fprog *program)
{
#if defined(__x86_64__)
	register long mode __asm__("r10") = 0;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"((long)SYS_prctl), "D"(PR_SET_SECCOMP), "S"(SECCOMP_MODE_FILTER),
			   "d"(program), "r"(mode)
			 : "rcx", "r11", "memory");
	return result;
#else
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program);
#endif
}

int main(int argc, char **argv)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof rules / sizeof *rules, rules};

	if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || install(&program) != 0)
		return 99;
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 98;
}
