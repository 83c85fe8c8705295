/* Changes a variable and forks in another thread while popen() starts a shell. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);

static sem_t begun, changed;
static __thread bool opens;

/* Of the stream that popen() makes before the shell. */
void *malloc(size_t size)
{
	if (opens) {
		opens = false;
		sem_post(&begun);
		sem_wait(&changed);
	}
	return __libc_malloc(size);
}

static const char *seen(const char *name)
{
	return getenv(name) ? "seen" : "hidden";
}

static int shell(const char *line)
{
	FILE *stream = popen(line, "r");

	return stream ? WEXITSTATUS(pclose(stream)) : -1;
}

static void *change(void *unused)
{
	sem_wait(&begun);
	setenv("CHANGED", "after", 1);
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		printf("child %s %d %s\n", seen("LD_PRELOAD"), shell("exit 4"), getenv("CHANGED"));
		fflush(stdout);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	sem_post(&changed);
	return unused;
}

int main(void)
{
	pthread_t thread;

	sem_init(&begun, 0, 0);
	sem_init(&changed, 0, 0);
	setenv("CHANGED", "before", 1);
	pthread_create(&thread, NULL, change, NULL);
	opens = true;
	int status = shell("exit 3");
	printf("parent %s %d %s\n", seen("LD_PRELOAD"), status, getenv("CHANGED"));
	pthread_join(thread, NULL);
	printf("again %d %s\n", shell("exit 5"), seen("LD_PRELOAD"));
	return 0;
}
