/* Closes every descriptor but the standard three, as daemons do, then goes on allocating. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline, noclone)) static char *allocate_after(void)
{
	return memset(malloc(123456), 1, 123456);
}

int main(int argc, char **argv)
{
	close_range(3, ~0u, 0);
	if (argc > 1 && strcmp(argv[1], "daemon") == 0) {
		pid_t pid = fork();
		if (pid)
			return waitpid(pid, NULL, 0) == pid ? 0 : 1;
		setsid();
		if (chdir("/"))
			return 2;
	}
	char *room = allocate_after();
	int next = open("/dev/null", O_RDONLY);
	printf("%d %d\n", room[9], next);
	return 0;
}
