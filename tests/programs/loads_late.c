/* loads_late LIBPYTHON PLUGIN OWN: obeys commands on standard input, a letter per line, and answers each:
 * p: load Python, start it, let it allocate   a: let Python allocate more
 * l: load the plugin, let it allocate         u: the same, and unload it
 * o: load a plugin bound to an allocator of its own, and count the calls of that allocator
 * c: unload Python                            q: end */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))

static const char python_code[] = "class Row:\n"
				  "    def __init__(self, number):\n"
				  "        self.cells = [number] * 20\n"
				  "        self.text = bytearray(3000)\n"
				  "kept = []\n"
				  "def allocate():\n"
				  "    kept.extend(Row(number) for number in range(1000))\n";

static void *python;
static void *kept[4096];
static int count;

static void run(const char *code)
{
	int (*execute)(const char *) = (int (*)(const char *))dlsym(python, "PyRun_SimpleString");

	if (execute(code) != 0)
		exit(3);
}

static void load_python(const char *path)
{
	python = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!python) {
		fprintf(stderr, "%s\n", dlerror());
		exit(2);
	}
	((void (*)(int))dlsym(python, "Py_InitializeEx"))(0);
	run(python_code);
	run("allocate()");
}

static void unload_python(void)
{
	((int (*)(void))dlsym(python, "Py_FinalizeEx"))();
	dlclose(python);
}

static int use_plugin(const char *path, int flags, int times)
{
	void *plugin = dlopen(path, RTLD_NOW | flags);

	if (!plugin) {
		fprintf(stderr, "%s\n", dlerror());
		exit(2);
	}
	void *(*allocates)(size_t) = (void *(*)(size_t))dlsym(plugin, "plugin_allocates");
	long (*calls)(void) = (long (*)(void))dlsym(plugin, "heap_calls");
	long before = calls ? calls() : 0;
	for (int i = 0; i < times; i++)
		kept[count++ % 4096] = allocates(700);
	int called = calls ? (int)(calls() - before) : 0;
	if (!calls)
		dlclose(plugin); /* the caller may have opened it, too */
	return called;
}

NOINLINE static void *in_thread(void *unused)
{
	for (int i = 0; i < 100; i++)
		memset(malloc(5000), 1, 5000);
	return unused;
}

/* A thread that never runs Python. */
NOINLINE static void allocate_in_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, in_thread, NULL);
	pthread_join(thread, NULL);
}

static int obey(char letter, char **argv)
{
	switch (letter) {
	case 'p':
		load_python(argv[1]);
		break;
	case 'a':
		run("allocate()");
		break;
	case 'c':
		unload_python();
		break;
	case 'l':
		dlopen(argv[2], RTLD_NOW);
		return use_plugin(argv[2], 0, 1000);
	case 'u':
		return use_plugin(argv[2], 0, 1000);
	case 'o':
		return use_plugin(argv[3], RTLD_DEEPBIND, 1000);
	}
	return 0;
}

int main(int argc, char **argv)
{
	char line[16];

	if (argc < 4)
		return 2;
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) && line[0] != 'q') {
		int called = obey(line[0], argv);
		allocate_in_thread();
		printf("done %c %d\n", line[0], called);
		fflush(stdout);
	}
	return 7;
}
