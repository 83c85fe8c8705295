/* A parent with data of its own forks children, each of which writes to a part of the data and allocates more.
 * When all are stopped, so is the parent:
 * base: 24 MiB, of which 20 MiB are shared by 4 processes, and 4 MiB are written by each; own: 3 x 3 MiB. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1u << 20)
#define CHILDREN 3

char *kept; /* so that the compiler does not leave it out */

static char *base(void)
{
	char *data = malloc(24 * MIB);

	memset(data, 1, 24 * MIB);
	return data;
}

static char *own(void)
{
	char *data = malloc(3 * MIB);

	memset(data, 2, 3 * MIB);
	return data;
}

static void serve(char *data)
{
	kept = own();
	for (size_t at = 0; at < 4 * MIB; at += 4096)
		data[at]++;
	raise(SIGSTOP);
	exit(0);
}

int main(void)
{
	char *data = kept = base();
	pid_t children[CHILDREN];
	int status;

	for (int i = 0; i < CHILDREN; i++) {
		children[i] = fork();
		if (children[i] == 0)
			serve(data);
	}
	for (int i = 0; i < CHILDREN; i++)
		waitpid(children[i], &status, WUNTRACED);
	raise(SIGSTOP);
	for (int i = 0; i < CHILDREN; i++)
		kill(children[i], SIGCONT);
	for (int i = 0; i < CHILDREN; i++)
		waitpid(children[i], &status, 0);
	return 0;
}
