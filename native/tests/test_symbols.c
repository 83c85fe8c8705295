/* Compares the look-up of symbols and of stacks with the C library's, and counts what each of them
 * allocates. Arguments: libraries built with either kind of hash table. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "../tracer/modules.h"
#include "../tracer/state.h"
#include "../tracer/thread_stack.h"
#include "check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static int count_allocations(void)
{
	return 0;
}
#else
static __thread volatile int allocations; /* dlsym() is declared not to call back */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
__attribute__((visibility("default"))) void *malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t size)
{
	allocations++;
	return __libc_calloc(count, size);
}

static int count_allocations(void)
{
	return allocations;
}
#endif

static void *find(const char *name)
{
	struct trace_symbol found;

	return trace_symbol_from(trace_first_module(), name, &found) ? found.address : NULL;
}

static const struct link_map *module_named(const char *part)
{
	const struct link_map *module = trace_first_module();

	while (module && !strstr(module->l_name, part))
		module = module->l_next;
	CHECK(module);
	return module;
}

/* The C library has thousands of names, many in several versions and some with resolvers. */
static void compare_with_dlsym(const struct link_map *module)
{
	struct trace_dynamic dynamic;
	unsigned compared = 0;

	CHECK(trace_read_dynamic(module, &dynamic));
	/* The string table follows the symbol table in what ld writes. */
	const ElfW(Sym) *end = (const void *)dynamic.strings;
	for (const ElfW(Sym) *symbol = dynamic.symbols + 1; symbol < end; symbol++) {
		const char *name = dynamic.strings + symbol->st_name;
		unsigned type = ELF64_ST_TYPE(symbol->st_info);
		void *theirs = type == STT_TLS ? NULL : dlsym(RTLD_DEFAULT, name);
		/* None: there are old versions only. This program's own are those of the tracer. */
		if (!theirs || trace_module_of(theirs) == trace_own_module())
			continue;
		if (find(name) != theirs) {
			fprintf(stderr, "%s: %p, and %p by dlsym()\n", name, find(name), theirs);
			exit(1);
		}
		compared++;
	}
	CHECK(compared > 1000);
}

static void compare_in(const char *path)
{
	static const char *const names[] = {"trace_test_two", "trace_test_chosen",
					    "trace_test_number", "trace_test_missing"};
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	struct trace_symbol found;

	if (!handle)
		fprintf(stderr, "%s\n", dlerror());
	CHECK(handle);
	const struct link_map *module = module_named(path);
	CHECK(trace_module_is_ready(module));
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		void *theirs = dlsym(handle, names[i]);
		CHECK(trace_symbol_in(module, names[i], &found) == (theirs != NULL));
		CHECK(!theirs || found.address == theirs);
	}
	/* dlsym() refuses a name that has old versions only; a caller bound to it needs the function. */
	CHECK(trace_symbol_in(module, "trace_test_old", &found));
	CHECK(found.address == dlvsym(handle, "trace_test_old", "TEST_1"));
	CHECK(trace_symbol_in(module, "trace_test_number", &found) && found.size == sizeof(int));
	CHECK(trace_symbol_for(dlsym(handle, "trace_test_two"), "trace_test_two", &found));
	CHECK(found.address == dlsym(handle, "trace_test_two"));
	CHECK(trace_module_of(dlsym(handle, "trace_test_two")) == module);
	CHECK(dlclose(handle) == 0);
}

static void compare_stacks(void)
{
	uintptr_t low = 0, high = 0;
	pthread_attr_t attributes;
	size_t size;
	void *start;

	int before = count_allocations();
	CHECK(trace_find_thread_stack(&low, &high));
	CHECK(count_allocations() == before);
	CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
	CHECK(pthread_attr_getstack(&attributes, &start, &size) == 0);
	pthread_attr_destroy(&attributes);
	CHECK(high == (uintptr_t)start + size);
	/* Before glibc 2.27 the guard was a part of the stack. */
	CHECK(low >= (uintptr_t)start && low - (uintptr_t)start <= 65536 && low < high);
	CHECK((uintptr_t)&low > low && (uintptr_t)&low < high);
}

static void *in_thread(void *unused)
{
	compare_stacks();
	return unused;
}

static void start_thread(size_t size, size_t guard, void *stack)
{
	pthread_attr_t attributes;
	pthread_t thread;

	CHECK(pthread_attr_init(&attributes) == 0);
	if (stack)
		CHECK(pthread_attr_setstack(&attributes, stack, size) == 0);
	else if (size)
		CHECK(pthread_attr_setstacksize(&attributes, size) == 0);
	if (!stack)
		CHECK(pthread_attr_setguardsize(&attributes, guard) == 0);
	CHECK(pthread_create(&thread, &attributes, in_thread, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	pthread_attr_destroy(&attributes);
}

static void nothing_allocates(void)
{
	struct trace_symbol found;
	int before = count_allocations();

	CHECK(!find("trace_test_no_such_name"));
	CHECK(find("pthread_create"));
	CHECK(!trace_symbol_for((const void *)nothing_allocates, "trace_test_no_such_name",
				&found));
	CHECK(trace_module_of((const void *)nothing_allocates) == trace_first_module());
	CHECK(trace_same_module((const void *)nothing_allocates, (const void *)in_thread));
	CHECK(!trace_same_module((const void *)nothing_allocates, find("strtol")));
	CHECK(count_allocations() == before);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	dlsym(RTLD_DEFAULT, "trace_test_no_such_name");
	CHECK(count_allocations() > before); /* else the count above proves nothing */
#endif
}

int main(int argc, char **argv)
{
	static char stack[1 << 22] __attribute__((aligned(4096))); /* sanitizers need some */

	trace_modules_start();
	CHECK(argc == 3);
	nothing_allocates();
	compare_with_dlsym(module_named("libc.so"));
	compare_in(argv[1]);
	compare_in(argv[2]);
	CHECK(trace_loader_is_idle());
	start_thread(0, 4096, NULL);
	start_thread(3 << 20, 65536, NULL);
	start_thread(1 << 21, 0, NULL);
	start_thread(sizeof stack, 0, stack);
	return 0;
}
