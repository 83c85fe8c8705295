/* measure FILE COMMAND...: runs the command as its only child and writes what that child alone cost:
 * user and system CPU in microseconds, peak RSS in KiB, wall time in microseconds, wait status. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long microseconds(struct timeval time)
{
	return time.tv_sec * 1000000ll + time.tv_usec;
}

int main(int argc, char **argv)
{
	struct timespec start, end;
	struct rusage used;
	int status;

	if (argc < 3)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &start);
	pid_t pid = fork();
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &used) != pid)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	long long wall = (end.tv_sec - start.tv_sec) * 1000000ll + (end.tv_nsec - start.tv_nsec) / 1000;
	FILE *out = fopen(argv[1], "w");
	if (!out)
		return 1;
	fprintf(out, "%lld %lld %ld %lld %d\n", microseconds(used.ru_utime),
		microseconds(used.ru_stime), used.ru_maxrss, wall, status);
	fclose(out);
	return 0;
}
