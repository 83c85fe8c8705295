// The test cases of LeakSanitizer told again, one for each argument. With LSAN the program ends, so that LeakSanitizer
// reports; else it prints its PID and waits for its standard input to end.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define THREADS 8

static void *g_initialised = (void *)8;
static void *g_uninitialised;
static _Thread_local void *t_static;
static pthread_barrier_t started;
static ucontext_t here, there;

static NOINLINE void *block(size_t size)
{
	void *volatile p = malloc(size);

	memset(p, 0, size);
	return p;
}

/* Overwrites what calls left below this frame, and the registers that a call may change. */
static NOINLINE void forget(void)
{
	char volatile old[32768];

	for (size_t i = 0; i < sizeof old; i++)
		old[i] = 0;
}

static NOINLINE void use_globals_initialized(void)
{
	g_initialised = block(1337);
}

static NOINLINE void use_globals_uninitialized(void)
{
	g_uninitialised = block(1337);
}

static NOINLINE void use_tls_static(void)
{
	t_static = block(1337);
}

static void *hold_on_stack(void *argument)
{
	void *volatile p = block(1337);

	pthread_barrier_wait(&started);
	for (;;)
		pause();
	return (void *)p + (argument != NULL);
}

static void *hold_in_tls(void *argument)
{
	t_static = block(1337);
	pthread_barrier_wait(&started);
	for (;;)
		pause();
	return argument;
}

static void *hold_in_keys(void *argument)
{
	pthread_key_t *keys = argument;

	for (int i = 0; i < 60; i++)
		pthread_setspecific(keys[i], block(128));
	pthread_barrier_wait(&started);
	for (;;)
		pause();
	return NULL;
}

static NOINLINE void start(void *(*function)(void *), void *argument)
{
	pthread_t thread;

	pthread_barrier_init(&started, NULL, 2);
	pthread_create(&thread, NULL, function, argument);
	pthread_barrier_wait(&started);
}

static NOINLINE void use_stacks_threaded(void)
{
	start(hold_on_stack, NULL);
}

static NOINLINE void use_tls_threaded(void)
{
	start(hold_in_tls, NULL);
}

static NOINLINE void specific_static(void)
{
	pthread_key_t key;

	pthread_key_create(&key, NULL);
	pthread_setspecific(key, block(1337));
}

static NOINLINE void specific_dynamic(void)
{
	pthread_key_t key;

	for (int i = 0; i < 100; i++)
		pthread_key_create(&key, NULL);
	pthread_setspecific(key, block(1337));
}

static NOINLINE void many_keys(void)
{
	pthread_key_t key;

	for (int i = 0; i < 200; i++) {
		pthread_key_create(&key, NULL);
		pthread_setspecific(key, block(128));
	}
}

static NOINLINE void many_keys_thread(void)
{
	static pthread_key_t keys[60];

	for (int i = 0; i < 60; i++)
		pthread_key_create(&keys[i], NULL);
	start(hold_in_keys, keys);
}

static NOINLINE void use_tls_dynamic(void)
{
	void *library = dlopen(getenv("TLS_LIBRARY"), RTLD_NOW);
	void (*set)(void *) = (void (*)(void *))dlsym(library, "set_tls");

	set(block(1337));
}

static NOINLINE void pointer_to_self(void)
{
	void **p = block(1337);

	p[3] = p;
}

static NOINLINE void interior_pointer(void)
{
	g_uninitialised = (char *)block(1337) + 700;
}

static NOINLINE void one_past_the_end(void)
{
	g_uninitialised = (char *)block(1336) + 1336; /* the size fills the chunk */
}

static NOINLINE void use_unaligned(void)
{
	char *holder = block(100);
	void *held = block(1337);

	memcpy(holder + 3, &held, sizeof held);
	g_uninitialised = holder;
}

static NOINLINE void stale_stack(void)
{
	void *volatile p[200];

	for (int i = 0; i < 200; i++)
		p[i] = block(1337);
	p[0] = p[1];
}

static NOINLINE void on_other_stack(void)
{
	void *volatile p = block(1337);

	swapcontext(&there, &here);
	(void)p;
}

static NOINLINE void use_swapcontext(void)
{
	g_uninitialised = block(65536);
	getcontext(&there);
	there.uc_stack.ss_sp = g_uninitialised;
	there.uc_stack.ss_size = 65536;
	there.uc_link = &here;
	makecontext(&there, on_other_stack, 0);
	swapcontext(&here, &there);
}

static NOINLINE void root_region(void)
{
	void **region =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	region[1] = block(1337);
}

static NOINLINE void large_allocation(void)
{
	char *volatile p = malloc(1UL << 30);

	p[0] = 1;
}

static NOINLINE void malloc_zero(void)
{
	void *volatile p = malloc(0);

	(void)p;
}

static NOINLINE void realloc_zero(void)
{
	void *volatile p = realloc(block(64), 0); /* frees */

	(void)p;
}

static NOINLINE void realloc_failure(void)
{
	void *volatile p = block(1337);
	size_t volatile too_much = SIZE_MAX / 4;

	if (!realloc(p, too_much))
		g_uninitialised = p;
}

static void *take(void *argument)
{
	return argument;
}

static NOINLINE void create_thread_leak(void)
{
	pthread_t thread;

	for (int i = 0; i < THREADS; i++) {
		pthread_create(&thread, NULL, take, block(1234));
		pthread_join(thread, NULL);
		thread = 0;
	}
}

static void *churn(void *argument)
{
	for (int i = 0; i < 20000; i++)
		free(block((size_t)(16 + i % 500)));
	return argument;
}

static NOINLINE void high_contention(void)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, churn, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void free_it(void *p)
{
	free(p);
}

static void *with_destructor(void *argument)
{
	pthread_setspecific(*(pthread_key_t *)argument, block(1337));
	return NULL;
}

static NOINLINE void destructor_frees(void)
{
	static pthread_key_t key;
	pthread_t thread;

	pthread_key_create(&key, free_it);
	pthread_create(&thread, NULL, with_destructor, &key);
	pthread_join(thread, NULL);
}

static NOINLINE void chain(void)
{
	void **p = NULL;

	for (int i = 0; i < 10; i++) {
		void **next = block(200);

		next[2] = p;
		p = next;
	}
}

static NOINLINE void cycle(void)
{
	void **first = block(200), **second = block(300);

	first[0] = second;
	second[1] = first;
}

static NOINLINE void cycle_with_tail(void)
{
	void **first = block(200), **second = block(300);

	first[0] = second;
	second[1] = first;
	second[2] = block(50);
}

static NOINLINE void table(void)
{
	void **all = block(8000);

	for (int i = 0; i < 1000; i++)
		all[i] = block((size_t)(16 + i));
}

static NOINLINE void held_table(void)
{
	void **all = block(8000);

	for (int i = 0; i < 1000; i++)
		all[i] = block((size_t)(16 + i));
	g_uninitialised = all;
}

static NOINLINE void held_by_mapped(void)
{
	void **all = block(1 << 20);

	all[(1 << 17) - 1] = block(1337);
	g_uninitialised = all;
}

static NOINLINE void aligned(void)
{
	void *volatile p = aligned_alloc(4096, 1 << 20);
	void *volatile q = aligned_alloc(256, 512);

	memset(p, 0, 64);
	memset(q, 0, 64);
}

static NOINLINE void freed_holder(void)
{
	void **holder = block(1024);

	holder[20] = block(1337);
	free(holder);
}

static NOINLINE void two_ways(void)
{
	void **first = block(100), **second = block(100), *shared = block(1337);

	first[1] = second[1] = shared;
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"use_globals_initialized", use_globals_initialized},
	{"use_globals_uninitialized", use_globals_uninitialized},
	{"use_tls_static", use_tls_static},
	{"use_tls_threaded", use_tls_threaded},
	{"use_stacks_threaded", use_stacks_threaded},
	{"specific_static", specific_static},
	{"specific_dynamic", specific_dynamic},
	{"many_keys", many_keys},
	{"many_keys_thread", many_keys_thread},
	{"use_tls_dynamic", use_tls_dynamic},
	{"pointer_to_self", pointer_to_self},
	{"interior_pointer", interior_pointer},
	{"one_past_the_end", one_past_the_end},
	{"use_unaligned", use_unaligned},
	{"stale_stack", stale_stack},
	{"use_swapcontext", use_swapcontext},
	{"root_region", root_region},
	{"large_allocation", large_allocation},
	{"malloc_zero", malloc_zero},
	{"realloc_zero", realloc_zero},
	{"realloc_failure", realloc_failure},
	{"create_thread_leak", create_thread_leak},
	{"high_contention", high_contention},
	{"destructor_frees", destructor_frees},
	{"chain", chain},
	{"cycle", cycle},
	{"cycle_with_tail", cycle_with_tail},
	{"table", table},
	{"held_table", held_table},
	{"held_by_mapped", held_by_mapped},
	{"aligned", aligned},
	{"freed_holder", freed_holder},
	{"two_ways", two_ways},
};

static void finish(void)
{
	static char text[32];

	/* No stdio: its buffer is a block. */
	if (getenv("LSAN"))
		_Exit(0);
	if (write(1, text, (size_t)snprintf(text, sizeof text, "%d\n", getpid())) < 0)
		abort();
	while (read(0, text, 1) > 0)
		;
	_Exit(0);
}

extern void __lsan_do_leak_check(void) __attribute__((weak));

/* Pointers that only main() has. */
static NOINLINE int on_own_stack(void)
{
	void *volatile p = block(1337);

	forget();
	if (__lsan_do_leak_check)
		__lsan_do_leak_check();
	finish();
	return p != NULL;
}

static NOINLINE int in_register(void)
{
#ifdef __x86_64__
	register void *volatile p __asm__("r14") = block(1337);
	__asm__ volatile("" : "+r"(p));
	finish();
	__asm__ volatile("" : "+r"(p));
	return p != NULL;
#else
	return 1;
#endif
}

int main(int count, char **arguments)
{
	if (count < 2)
		return 2;
	if (!strcmp(arguments[1], "use_stacks"))
		return on_own_stack();
	if (!strcmp(arguments[1], "use_registers"))
		return in_register();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (!strcmp(arguments[1], cases[i].name)) {
			cases[i].run();
			forget();
			if (__lsan_do_leak_check)
				__lsan_do_leak_check();
			finish();
		}
	return 2;
}
