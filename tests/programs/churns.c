/* Until standard input ends: threads begin and end, children are forked, a library is loaded and closed, and
 * blocks pass from thread to thread. Prints how many blocks had wrong contents; exits 7. */
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS 64
#define SIZE 3000

static _Atomic(char *) shared[BLOCKS];
static _Atomic int wrong;

static void check_and_free(char *block)
{
	if (block && (block[0] != 'x' || block[SIZE - 1] != 'x'))
		wrong++;
	free(block);
}

static void exchange(unsigned seed)
{
	for (int i = 0; i < 200; i++) {
		char *block = malloc(SIZE);
		memset(block, 'x', SIZE);
		check_and_free(atomic_exchange(&shared[rand_r(&seed) % BLOCKS], block));
	}
}

static void *work(void *seed)
{
	exchange((unsigned)(size_t)seed);
	return NULL;
}

static void run_threads(unsigned seed)
{
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, work, (void *)(size_t)(seed + i));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

static void run_child(unsigned seed)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		exchange(seed);
		_exit(wrong ? 1 : 0);
	}
	waitpid(child, &status, 0);
	wrong += status != 0;
}

int main(void)
{
	struct pollfd end = {.fd = 0, .events = POLLIN};

	puts("ready");
	fflush(stdout);
	for (unsigned round = 1; poll(&end, 1, 0) == 0; round++) {
		run_threads(round * 4);
		if (round % 3 == 0)
			run_child(round);
		void *library = dlopen("libBrokenLocale.so.1", RTLD_NOW);
		if (library)
			dlclose(library);
		usleep(1000);
	}
	printf("%d wrong\n", wrong);
	return 7;
}
