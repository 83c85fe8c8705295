/* Three forks hold 30 MiB each at the same time, beside 20 MiB of their parent that all share. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 3
#define BASE (20u << 20)
#define OWN (30u << 20)

static char *fill(size_t size)
{
	char *memory = malloc(size);

	if (memory)
		memset(memory, 1, size);
	__asm__ volatile(""
			 :
			 : "r"(memory)
			 : "memory"); /* else the compiler leaves the block out */
	return memory;
}

static char *base(void)
{
	return fill(BASE);
}

/* A look at one process is a look at all, so those that come first wait for the last one. */
static int hold(int ready, int go)
{
	char *memory = fill(OWN), byte = 0;
	ssize_t done = write(ready, &byte, 1);

	done += read(go, &byte, 1); /* end of file: the parent closed it */
	usleep(100000);
	return memory == NULL || done < 1;
}

int main(void)
{
	int ready[2], go[2], status, failed = 0;
	char *memory = base(), bytes[FORKS];

	if (pipe(ready) || pipe(go))
		return 2;
	for (int i = 0; i < FORKS; i++)
		if (fork() == 0) {
			close(go[1]);
			_exit(hold(ready[1], go[0]));
		}
	for (int i = 0; i < FORKS; i++)
		failed |= read(ready[0], bytes + i, 1) != 1;
	close(go[1]);
	while (wait(&status) > 0)
		failed |= status;
	return failed || memory == NULL;
}
