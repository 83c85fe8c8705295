/* dlopen_lib PATH: loads the plugin, lets it allocate, closes it, loads it again. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	long sum = 0;

	if (argc < 2)
		return 2;
	for (int i = 0; i < 3; i++) {
		void *library = dlopen(argv[1], RTLD_NOW);
		if (!library)
			return 3;
		void *(*allocates)(size_t) = (void *(*)(size_t))dlsym(library, "plugin_allocates");
		char *room = allocates(70000);
		sum += room[5];
		dlclose(library);
	}
	printf("%ld\n", sum);
	return 0;
}
