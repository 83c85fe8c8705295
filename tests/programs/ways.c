/* Ways of starting, replacing and ending processes, threads and stacks. `ways WAY [N]` does one N times; it prints
 * "fine" and exits 0, but for `strict`, which the kernel kills. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK (1u << 18)

extern char **environ;
static void *volatile block;
static char alternate[1 << 16];
static sigjmp_buf back;
static volatile int depth, ticks;
static char **arguments;

static void churn(int count)
{
	for (int i = 0; i < count; i++) {
		block = malloc(1 + (size_t)i % 3000);
		free(block);
	}
}

static int fine(void)
{
	return write(1, "fine\n", 5) == 5 ? 0 : 3;
}

static void await(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		_exit(4);
}

static void forks(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		churn(5);
		_exit(0);
	}
	await(pid);
}

static void vforks(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	await(pid);
}

static void allocating_vforks(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		block = malloc(100);
		free(block);
		_exit(0);
	}
	await(pid);
	churn(10);
}

static void spawns(void)
{
	char *words[] = {"true", NULL};
	pid_t pid;

	if (posix_spawn(&pid, "/bin/true", NULL, NULL, words, environ) != 0)
		_exit(2);
	await(pid);
}

static int in_clone(void *argument)
{
	churn(100);
	return argument != NULL;
}

static void clones(void)
{
	static char stack[STACK];

	await(clone(in_clone, stack + STACK, CLONE_VM | SIGCHLD, NULL));
}

static void *in_thread(void *argument)
{
	churn(50);
	return argument;
}

static void threads(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, in_thread, NULL) != 0)
		_exit(2);
	pthread_join(thread, NULL);
}

static void leave(int signal)
{
	ticks = signal;
	siglongjmp(back, 1);
}

static int endless(int n) /* NOLINT(misc-no-recursion) */
{
	volatile char page[4096];

	page[n % 4096] = (char)n;
	depth = n;
	return endless(n + 1) + page[0];
}

static void overflows(void)
{
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
	struct sigaction action = {.sa_handler = leave, .sa_flags = SA_ONSTACK | SA_NODEFER};

	sigaltstack(&stack, NULL);
	sigaction(SIGSEGV, &action, NULL);
	if (!sigsetjmp(back, 1))
		endless(1);
	churn(100);
}

static void jumps(void)
{
	struct sigaction action = {.sa_handler = leave, .sa_flags = SA_NODEFER};
	struct itimerval soon = {.it_value = {.tv_usec = 500}};

	sigaction(SIGALRM, &action, NULL);
	if (!sigsetjmp(back, 1)) {
		setitimer(ITIMER_REAL, &soon, NULL);
		for (;;)
			ticks += 0;
	}
	churn(20);
}

static void huge(void)
{
	volatile size_t size = (size_t)1 << 40;
	void *range =
		mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (range == MAP_FAILED || munmap(range, size) != 0)
		_exit(2);
	block = calloc(size, size);
	if (block)
		_exit(3);
}

static void loads(void)
{
	void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);

	if (!library)
		_exit(2);
	churn(5);
	dlclose(library);
}

/* Each of the next is done once. */
static int execs(int count)
{
	char rest[20];

	churn(20);
	if (count == 0)
		return fine();
	snprintf(rest, sizeof rest, "%d", count - 1);
	execl("/proc/self/exe", arguments[0], "execs", rest, NULL);
	return 2;
}

static int forks_exec(int count)
{
	for (int i = 0; i < count; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			churn(5);
			execl("/proc/self/exe", arguments[0], "execs", "1", NULL);
			_exit(1);
		}
		await(pid);
	}
	return fine();
}

static int unrandomized(int count)
{
	if (count) {
		personality(ADDR_NO_RANDOMIZE);
		execl("/proc/self/exe", arguments[0], "unrandomized", "0", NULL);
		return 2;
	}
	churn(100);
	return fine();
}

static int closes(int count)
{
	closefrom(3);
	churn(count);
	forks();
	return fine();
}

static int daemonizes(int count)
{
	pid_t pid = fork();

	if (pid) {
		await(pid);
		return fine();
	}
	setsid();
	if (fork())
		_exit(0);
	closefrom(0);
	churn(count);
	_exit(0);
}

static int exits_with_threads(int count)
{
	pthread_t thread;

	for (int i = 0; i < count; i++)
		pthread_create(&thread, NULL, in_thread, NULL);
	exit(fine());
}

static int strict(int count)
{
	fine();
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	churn(count);
	return (int)syscall(SYS_getpid);
}

static const struct {
	const char *name;
	void (*often)(void);
	int (*once)(int);
} ways[] = {
	{"forks", forks, NULL},
	{"vforks", vforks, NULL},
	{"allocating_vforks", allocating_vforks, NULL},
	{"spawns", spawns, NULL},
	{"clones", clones, NULL},
	{"threads", threads, NULL},
	{"overflows", overflows, NULL},
	{"jumps", jumps, NULL},
	{"huge", huge, NULL},
	{"loads", loads, NULL},
	{"execs", NULL, execs},
	{"forks_exec", NULL, forks_exec},
	{"unrandomized", NULL, unrandomized},
	{"closes", NULL, closes},
	{"daemonizes", NULL, daemonizes},
	{"exits_with_threads", NULL, exits_with_threads},
	{"strict", NULL, strict},
};

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[2]) : 1;

	arguments = argv;
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		if (argc < 2 || strcmp(argv[1], ways[i].name) != 0)
			continue;
		if (ways[i].once)
			return ways[i].once(count);
		for (int done = 0; done < count; done++)
			ways[i].often();
		return fine();
	}
	return 2;
}
