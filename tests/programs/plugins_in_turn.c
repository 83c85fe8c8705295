/* plugins_in_turn FIRST SECOND: two threads load the libraries in turn, mostly at the same addresses, let
 * them allocate and close them. The last line says at how many addresses each library lay. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static char **paths;

static void *allocate_in(const char *path, const char *name, size_t size)
{
	void *library = dlopen(path, RTLD_NOW);
	if (!library)
		return NULL;
	void *(*allocates)(size_t) = (void *(*)(size_t))dlsym(library, name);
	void *block = allocates ? allocates(size) : NULL;
	if (dlclose(library) != 0)
		return NULL;
	return block;
}

static void *run(void *argument)
{
	for (int i = 0; i < 3; i++) {
		if (!allocate_in(paths[1], "plugin_allocates", 5 << 20) ||
		    !allocate_in(paths[2], "other_allocates", 2 << 20))
			return NULL;
	}
	return argument;
}

int main(int argc, char **argv)
{
	void *ok;

	if (argc < 3)
		return 2;
	paths = argv;
	for (int i = 0; i < 2; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, run, argv) || pthread_join(thread, &ok) || !ok)
			return 3;
	}
	return run(argv) ? 0 : 4;
}
