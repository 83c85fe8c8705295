/* forks fork|exec|vfork|spawn|storm|service SECONDS: creates children in the given way. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

extern char **environ;

NOINLINE static void *in_parent(void)
{
	return memset(malloc(100000), 1, 100000);
}

NOINLINE static void *in_child(void)
{
	return memset(malloc(300000), 1, 300000);
}

static int reap(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 99;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

static int by_fork(void)
{
	pid_t pid = fork();

	if (pid)
		return reap(pid);
	char *own = in_child();
	exit(own[7] == 1 ? 5 : 6);
}

static int by_exec(char *self)
{
	pid_t pid = fork();

	if (pid)
		return reap(pid);
	execl(self, self, "child", (char *)NULL);
	_exit(97);
}

static int by_vfork(char *self)
{
	pid_t pid = vfork();

	if (!pid) {
		execl(self, self, "child", (char *)NULL);
		_exit(97);
	}
	return reap(pid);
}

static int by_spawn(char *self)
{
	char *arguments[] = {self, "child", NULL};
	pid_t pid;

	if (posix_spawn(&pid, self, NULL, NULL, arguments, environ))
		return 96;
	return reap(pid);
}

static int by_storm(void)
{
	int sum = 0;

	for (int round = 0; round < 20; round++) {
		pid_t pids[10];
		for (int i = 0; i < 10; i++) {
			pids[i] = fork();
			if (!pids[i]) {
				free(in_child());
				_exit(1);
			}
		}
		for (int i = 0; i < 10; i++)
			sum += reap(pids[i]);
	}
	return sum == 200 ? 5 : 95;
}

/* One child after the other, until the time is over. */
static int by_service(time_t seconds)
{
	time_t end = time(NULL) + seconds;

	while (time(NULL) < end) {
		pid_t pid = fork();
		if (!pid) {
			free(in_child());
			_exit(0);
		}
		if (reap(pid) != 0)
			return 94;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "fork";
	char *own = in_parent();
	int status = 94;

	if (strcmp(way, "child") == 0)
		return ((char *)in_child())[7] == 1 ? 5 : 6;
	if (strcmp(way, "fork") == 0)
		status = by_fork();
	else if (strcmp(way, "exec") == 0)
		status = by_exec(argv[0]);
	else if (strcmp(way, "vfork") == 0)
		status = by_vfork(argv[0]);
	else if (strcmp(way, "spawn") == 0)
		status = by_spawn(argv[0]);
	else if (strcmp(way, "storm") == 0)
		status = by_storm();
	else if (strcmp(way, "service") == 0 && argc > 2)
		status = by_service(atol(argv[2]));
	printf("%s %d %d\n", way, status, own[9]);
	return status;
}
