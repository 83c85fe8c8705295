/* Behaviour that is hard to trace; `hostile WAY [N]` prints "fine" and exits 0 if the program itself
 * succeeds. Every way keeps the memory that keep() allocates. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static void *volatile kept[1 << 16];
static volatile int stop;

__attribute__((noinline)) static void keep(int count, size_t size)
{
	static int used;

	for (int i = 0; i < count; i++) {
		int at = __atomic_fetch_add(&used, 1, __ATOMIC_RELAXED);
		kept[at] = malloc(size);
	}
}

__attribute__((noinline)) static void churn(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		void *volatile block = malloc((size_t)(16 + i % 500));
		free(block);
	}
}

static int fine(void)
{
	static const char text[] = "fine\n";

	return write(1, text, sizeof text - 1) == sizeof text - 1 ? 0 : 1;
}

static pthread_barrier_t all_up;

static void *hold(void *argument)
{
	keep(3, 1000);
	pthread_barrier_wait(&all_up);
	pthread_barrier_wait(&all_up);
	free(malloc(10));
	return argument;
}

/* N threads alive at once; their memory is freed by the main thread, or kept. */
static int threads(int count)
{
	pthread_t *made = calloc((size_t)count, sizeof *made);
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	pthread_barrier_init(&all_up, NULL, (unsigned)count + 1);
	for (int i = 0; i < count; i++)
		if (pthread_create(&made[i], &small, hold, NULL) != 0)
			return 1;
	pthread_barrier_wait(&all_up);
	pthread_barrier_wait(&all_up);
	for (int i = 0; i < count; i++)
		pthread_join(made[i], NULL);
	return fine();
}

static void *allocate_last(void *argument)
{
	char *text = strerror(12345); /* libc frees it after all our destructors */

	return text ? argument : NULL;
}

/* Threads one after the other that free during their end. */
static int late_frees(int count)
{
	for (int i = 0; i < count; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, allocate_last, NULL) != 0)
			return 1;
		pthread_join(thread, NULL);
	}
	keep(5, 2000);
	return fine();
}

/* Every system call but read, write, exit and sigreturn kills. */
static int strict(int count)
{
	keep(1, 100000);
	churn(1000);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
		return 77;
	churn(count);
	int failed = fine();
	syscall(SYS_exit, failed);
	return 1;
}

#define ALLOW(number)                                                                              \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),                                         \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* A seccomp filter as strict as that of a careful program. */
static int filter(int count)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_exit_group),
		ALLOW(SYS_brk),
		ALLOW(SYS_mmap),
		ALLOW(SYS_munmap),
		ALLOW(SYS_mprotect),
		ALLOW(SYS_futex),
		ALLOW(SYS_clone3),
		ALLOW(SYS_clone),
		ALLOW(SYS_set_robust_list),
		ALLOW(SYS_rseq),
		ALLOW(SYS_exit),
		ALLOW(SYS_madvise),
		ALLOW(SYS_rt_sigprocmask),
		ALLOW(SYS_rt_sigaction),
		ALLOW(SYS_getrandom),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof rules / sizeof *rules, rules};

	keep(1, 100000);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
		return 77;
	churn(count);
	free(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
		     ? NULL
		     : malloc(300000));
	pthread_t thread;
	pthread_barrier_init(&all_up, NULL, 1);
	if (pthread_create(&thread, NULL, hold, NULL) != 0)
		return 1;
	pthread_join(thread, NULL);
	return fine();
}

static int in_child(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		keep(10, 50000);
		churn(1000);
		_exit(0);
	}
	return child > 0 && waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}

static int spawn_true(void)
{
	char *const command[] = {"/bin/true", NULL};
	pid_t child;
	int status;

	if (posix_spawn(&child, *command, NULL, NULL, command, environ) != 0)
		return 1;
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}

/* Becomes user nobody, then allocates, forks and runs programs. */
static int drop_rights(int count)
{
	keep(1, 100000);
	if (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 ||
	    setresuid(65534, 65534, 65534) != 0)
		return 77;
	keep(20, 50000);
	churn(count);
	return in_child() || spawn_true() ? 1 : fine();
}

/* Nothing of the previous root directory is reachable. */
static int new_root(int count)
{
	char folder[] = "/tmp/mematlas-root-XXXXXX";

	keep(1, 100000);
	if (!mkdtemp(folder) || chdir(folder) != 0 || rmdir(folder) != 0 || chroot(".") != 0)
		return 77;
	keep(20, 50000);
	churn(count);
	return in_child() ? 1 : fine();
}

static int plain_clone(void *argument)
{
	churn(100);
	return *(int *)argument;
}

static int clones(int count)
{
	static char stack[1 << 16];
	int answer = 3, status;

	for (int i = 0; i < count; i++) {
		pid_t child = clone(plain_clone, stack + sizeof stack, SIGCHLD, &answer);
		if (child < 0 || waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 3)
			return 1;
		child = clone(plain_clone, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD,
			      &answer);
		if (child < 0 || waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 3)
			return 1;
		child = vfork();
		if (child == 0)
			execl("/bin/true", "true", NULL);
		if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
			return 1;
		if (spawn_true() || in_child())
			return 1;
	}
	keep(5, 70000);
	return fine();
}

static void map_and_unmap(int number)
{
	(void)number;
	void *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map != MAP_FAILED)
		munmap(map, 8192);
	stop++;
}

/* A handler maps and unmaps while the program allocates. */
static int handlers(int count)
{
	struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = map_and_unmap, .sa_flags = SA_RESTART};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 1000000 && stop < count; i++)
		churn(100);
	setitimer(ITIMER_REAL, &never, NULL);
	keep(7, 3000);
	return fine();
}

/* Allocates until the limit is reached; malloc must fail and not crash. */
static int until_refused(int count)
{
	size_t total = 0;

	for (int i = 0; i < count; i++) {
		char *block = malloc(1 << 20);
		if (!block)
			break;
		*block = 1;
		total += 1 << 20;
	}
	return total ? fine() : 1;
}

static void *fork_once(void *argument)
{
	*(int *)argument |= in_child();
	return NULL;
}

/* Forks in threads with the smallest stack there is. */
static int small_stack_forks(int count)
{
	pthread_attr_t attributes;
	int failed = 0;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN));
	for (int i = 0; i < count; i++) {
		pthread_t thread;
		if (pthread_create(&thread, &attributes, fork_once, &failed) != 0)
			return 1;
		pthread_join(thread, NULL);
	}
	return failed ? 1 : fine();
}

/* A limit that the program sets on itself. */
static int own_limit(int count)
{
	struct rlimit limit = {(rlim_t)count << 20, (rlim_t)count << 20};

	if (setrlimit(RLIMIT_AS, &limit) != 0)
		return 1;
	keep(100, 10000);
	return until_refused(16);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int);
	} ways[] = {
		{"threads", threads},
		{"late_frees", late_frees},
		{"strict", strict},
		{"filter", filter},
		{"drop_rights", drop_rights},
		{"new_root", new_root},
		{"clones", clones},
		{"handlers", handlers},
		{"until_refused", until_refused},
		{"own_limit", own_limit},
		{"small_stack_forks", small_stack_forks},
	};
	int count = argc > 2 ? atoi(argv[2]) : 1000;

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		if (argc > 1 && strcmp(argv[1], ways[i].name) == 0)
			return ways[i].run(count);
	return 2;
}
