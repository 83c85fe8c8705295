// Libraries with thread-local variables that come and go: the file is the program and, with NAME, a library.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef NAME
__thread char *NAME;

void fill(size_t size)
{
	NAME = calloc(1, size);
}
#else
static void *load(const char *path, size_t size)
{
	void *library = dlopen(path, RTLD_NOW);
	if (!library)
		exit(1);
	((void (*)(size_t))dlsym(library, "fill"))(size);
	return library;
}

int main(int count, char **paths)
{
	if (count != 5)
		return 1;
	load(paths[1], 70000);
	void *second = load(paths[2], 71000);
	load(paths[3], 72000);
	dlclose(second);
	load(paths[4], 73000);
	printf("%d\n", getpid());
	fflush(stdout);
	getchar();
	return 0;
}
#endif
