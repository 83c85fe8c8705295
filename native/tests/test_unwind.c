/* Compares stack walks with libgcc frame by frame, and walks that use the cache with fresh ones. */
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unwind.h>

#include "../tracer/memory.h"
#include "../tracer/state.h"
#include "../tracer/unwind.h"
#include "check.h"
#include "random.h"

struct trace_session trace_session;
__thread struct trace_tls trace_tls;

void *trace_map(size_t size, int protection)
{
	void *memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

struct list {
	unsigned count;
	uint64_t pcs[UNWIND_MAX_FRAMES + 1];
};

static __thread struct trace_walk last_walk, fresh_walk;
static __thread struct trace_bounds bounds;
static unsigned compared;

static void find_bounds(void)
{
	pthread_attr_t attributes;
	void *low;
	size_t size;

	CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
	CHECK(pthread_attr_getstack(&attributes, &low, &size) == 0);
	pthread_attr_destroy(&attributes);
	bounds.stack_low = (uintptr_t)low;
	bounds.stack_high = (uintptr_t)low + size;
}

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *argument)
{
	struct list *list = argument;

	if (list->count == UNWIND_MAX_FRAMES)
		return _URC_END_OF_STACK;
	list->pcs[list->count++] = _Unwind_GetIP(context);
	return _URC_NO_REASON;
}

/* libgcc also reports the frame after the outermost one, as 0. */
static void drop_zeros(struct list *list)
{
	while (list->count && list->pcs[list->count - 1] == 0)
		list->count--;
}

static void show(const char *name, const struct list *list)
{
	fprintf(stderr, "%s (%u):", name, list->count);
	for (unsigned i = 0; i < list->count; i++)
		fprintf(stderr, " %lx", (unsigned long)list->pcs[i]);
	fputc('\n', stderr);
}

/* Walks in three ways that must agree on every frame except this one. */
static __attribute__((noinline)) void compare(void)
{
	static __thread struct list ours, again, theirs;
	struct trace_walk *walks[] = {&last_walk, &fresh_walk};
	struct list *lists[] = {&ours, &again};
	uint64_t hashes[2];

	fresh_walk.reusable = false;
	for (volatile int i = 0; i < 2; i++) {
		hashes[i] = trace_unwind(walks[i], &bounds);
		CHECK(trace_walk_is_valid(walks[i]));
		lists[i]->count = trace_walk_pcs(walks[i], &bounds, 0, lists[i]->pcs);
	}
	theirs.count = 0;
	_Unwind_Backtrace(note_frame, &theirs);
	drop_zeros(&theirs);
	unsigned bytes = (ours.count - 1) * (unsigned)sizeof *ours.pcs;
	bool same = ours.count == theirs.count && ours.count == again.count &&
		    memcmp(ours.pcs + 1, theirs.pcs + 1, bytes) == 0 &&
		    memcmp(ours.pcs + 1, again.pcs + 1, bytes) == 0;
	if (!same) {
		show("ours", &ours);
		show("fresh", &again);
		show("libgcc", &theirs);
	}
	CHECK(same);
	CHECK(last_walk.whole && fresh_walk.whole);
	CHECK(hashes[0] == hashes[1]);
	compared++;
}

static volatile unsigned keep;

static __attribute__((noinline)) void plain(int depth, void (*leaf)(void));
static __attribute__((noinline)) void with_alloca(int depth, void (*leaf)(void));
static __attribute__((noinline)) void realigned(int depth, void (*leaf)(void));
static __attribute__((noinline)) void with_pointer(int depth, void (*leaf)(void));
static __attribute__((noinline)) void many_saved(int depth, void (*leaf)(void));

static uint64_t dice = 88172645463325252ull;

static unsigned roll(unsigned sides)
{
	return (unsigned)(random_next(&dice) % sides);
}

static void descend(int depth, void (*leaf)(void))
{
	static void (*const kinds[])(int, void (*)(void)) = {plain, with_alloca, realigned,
							     with_pointer, many_saved};

	if (depth == 0)
		leaf();
	else
		kinds[roll(5)](depth - 1, leaf);
	keep++;
}

static void plain(int depth, void (*leaf)(void))
{
	volatile char pad[24];

	pad[0] = (char)depth;
	descend(depth, leaf);
	if (roll(3) == 0)
		descend(depth < 3 ? depth : 3, leaf);
	keep += (unsigned)pad[0];
}

static void with_alloca(int depth, void (*leaf)(void))
{
	volatile char *some = alloca(16 + roll(500));

	some[0] = (char)depth;
	descend(depth, leaf);
	keep += (unsigned)some[0];
}

static void realigned(int depth, void (*leaf)(void))
{
	volatile _Alignas(64) char wide[64];

	wide[0] = (char)depth;
	descend(depth, leaf);
	keep += (unsigned)wide[0];
}

__attribute__((optimize("no-omit-frame-pointer"))) static void with_pointer(int depth,
									    void (*leaf)(void))
{
	volatile char pad[40];

	pad[0] = (char)depth;
	descend(depth, leaf);
	keep += (unsigned)pad[0];
}

static void many_saved(int depth, void (*leaf)(void))
{
	unsigned a = keep, b = a * 3, c = b ^ (unsigned)depth, d = c + 7, e = d * a;

	descend(depth, leaf);
	keep += a + b + c + d + e;
}

static int compare_in_callback(const void *a, const void *b)
{
	compare();
	return *(const int *)a - *(const int *)b;
}

static void from_library(void)
{
	int numbers[] = {5, 3, 9, 1, 7};

	qsort(numbers, 5, sizeof *numbers, compare_in_callback);
}

static void on_signal(int number)
{
	(void)number;
	compare();
}

static void from_signal(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	raise(SIGUSR1);
	static char stack[65536];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
	CHECK(sigaltstack(&alternate, NULL) == 0);
	action.sa_flags = SA_ONSTACK;
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	raise(SIGUSR1);
	alternate.ss_flags = SS_DISABLE;
	CHECK(sigaltstack(&alternate, NULL) == 0);
}

static void *in_thread(void *argument)
{
	find_bounds();
	for (int i = 0; i < 300; i++)
		descend((int)roll(30), compare);
	descend(4, from_library);
	return argument;
}

/* A stack deeper than a walk can hold is truncated, and marked as such. */
static __attribute__((noinline)) int recurse(int depth)
{
	volatile int here = depth;

	if (depth)
		return recurse(depth - 1) + here;
	struct list ours;
	trace_unwind(&last_walk, &bounds);
	ours.count = trace_walk_pcs(&last_walk, &bounds, 0, ours.pcs);
	CHECK(!last_walk.whole && ours.pcs[ours.count - 1] == 0);
	CHECK(ours.count == UNWIND_MAX_FRAMES + 1);
	return here;
}

/* A wild frame pointer ends the walk. */
static __attribute__((noinline, optimize("no-omit-frame-pointer"))) void break_chain(void)
{
	void **frame = __builtin_frame_address(0);
	void *saved[2] = {frame[0], frame[1]};
	uint64_t pcs[UNWIND_MAX_FRAMES + 1];

	frame[1] = (void *)0x10;
	frame[0] = (void *)0xdead0000;
	trace_unwind(&fresh_walk, &bounds);
	frame[0] = saved[0];
	frame[1] = saved[1];
	unsigned count = trace_walk_pcs(&fresh_walk, &bounds, 0, pcs);
	CHECK(!fresh_walk.whole && pcs[count - 1] == 0 && count <= 4);
}

int main(void)
{
	CHECK(trace_unwind_start());
	find_bounds();
	for (int i = 0; i < 3000; i++)
		descend((int)roll(40), compare);
	descend(6, from_library);
	descend(6, from_signal);
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	trace_unwind_modules_changed();
	descend(12, compare);
	recurse(700);
	fresh_walk.reusable = false;
	break_chain();
	bounds.stack_low = bounds.stack_high = 0;
	descend(12, compare);
	printf("%u walks agree with libgcc\n", compared);
	return compared > 3000 ? 0 : 1;
}
