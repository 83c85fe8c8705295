/* One of every kind of memory. Prints "NAME START LENGTH" lines, then "ready", and waits for a line. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES 64UL

static char bss[40 * PAGE];
static char data[3 * PAGE] = {1};

static char *map(const char *name, size_t length, int flags, int fd)
{
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (at == MAP_FAILED) {
		printf("%s 0 0\n", name);
		return NULL;
	}
	madvise(at, length, MADV_NOHUGEPAGE);
	printf("%s %lx %lx\n", name, (unsigned long)at, (unsigned long)length);
	return at;
}

static void *wait_in_thread(void *unused)
{
	char here[PAGE];

	memset(here, 1, sizeof(here));
	printf("thread_stack %lx %x\n", (unsigned long)here, gettid());
	fflush(stdout);
	pause();
	return unused;
}

static int share_memory(void *unused)
{
	(void)unused;
	pause();
	return 0;
}

static void map_all(void)
{
	int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
	volatile char sum = 0;
	char *at;

	memset(map("touched", PAGES * PAGE, anonymous, -1), 1, PAGES * PAGE / 2);
	at = map("zero", PAGES * PAGE, anonymous, -1);
	for (size_t page = 0; page < PAGES; page++)
		sum += at[page * PAGE]; /* read only: the shared zero page */
	at = map("guarded", PAGES * PAGE, anonymous, -1);
	memset(at, 1, PAGE);
	if (madvise(at + 8 * PAGE, 4 * PAGE, 102))
		printf("no_guards 0 0\n");
	memset(map("shared", PAGES * PAGE, MAP_SHARED | MAP_ANONYMOUS, -1), 1, PAGES * PAGE);
	at = map("memfd", PAGES * PAGE, MAP_SHARED, memfd_create("odd (deleted)\n name ", 0));
	(void)at; /* empty file: a touch would raise SIGBUS */
	map("reserved", PAGES * PAGE, anonymous, -1);
	at = map("huge", 2UL << 20, anonymous | MAP_HUGETLB, -1);
	at = map("locked", 8 * PAGE, anonymous, -1);
	if (mlock(at, 8 * PAGE))
		printf("no_lock 0 0\n");
	mprotect(map("code", PAGE, anonymous, -1), PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
}

int main(int argc, char **argv)
{
	static char stack[16 * PAGE];
	pthread_t thread;
	char line[8];
	int twin = 0;

	bss[PAGE * 20] = data[PAGE] = 1;
	printf("bss %lx %lx\n", (unsigned long)bss, sizeof(bss));
	printf("data %lx %lx\n", (unsigned long)data, sizeof(data));
	map_all();
	pthread_create(&thread, NULL, wait_in_thread, NULL);
	if (argc > 1 && strcmp(argv[1], "twin") == 0)
		twin = clone(share_memory, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	usleep(50000); /* the thread prints its stack */
	printf("twin %x 0\nready\n", twin);
	fflush(stdout);
	(void)!fgets(line, sizeof(line), stdin);
	if (twin > 0)
		kill(twin, SIGKILL);
	return 0;
}
