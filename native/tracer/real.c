/* Looks up the functions behind the hooks, and serves allocations until they are known. */
#define _GNU_SOURCE
#include "real.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "modules.h"
#include "sampler.h"
#include "state.h"
#include "syscall.h"

/* Bootstrap allocator: a resolver (STT_GNU_IFUNC) that the look-up runs may allocate. A block's size stands
 * in the word before it, for realloc(). */
static _Alignas(16) char bootstrap[32 * 1024];
static _Atomic size_t bootstrap_used;
static __thread bool resolving __attribute__((tls_model("initial-exec")));

bool trace_is_bootstrap(const void *block)
{
	const char *p = block;

	return p >= bootstrap && p < bootstrap + sizeof bootstrap;
}

static void *bootstrap_alloc(size_t size, size_t alignment)
{
	size_t need = size + 16 + alignment;
	size_t at = atomic_fetch_add(&bootstrap_used, (need + 15) & ~(size_t)15);

	if (at + need > sizeof bootstrap)
		return NULL;
	uintptr_t p = ((uintptr_t)bootstrap + at + 16 + alignment - 1) & ~(alignment - 1);
	((size_t *)p)[-1] = size;
	trace_filter[trace_filter_index((void *)p)] = 255;
	return (void *)p;
}

/* A library loaded at run time is last in the search order, so what it replaces precedes it. */
void *trace_next(const char *name)
{
	bool preloaded = trace_is_preloaded();
	const struct link_map *own = trace_own_module();
	struct trace_symbol found;

	return trace_symbol_from(preloaded && own ? own : trace_first_module(), name, &found)
		       ? found.address
		       : NULL;
}

void trace_resolve(void)
{
	static _Atomic bool resolved;

	if (atomic_load_explicit(&resolved, memory_order_acquire) || resolving)
		return;
	resolving = true;
#define FIND(result, name, parameters, stub, patched) .name = trace_next(#name),
	struct trace_real found = {TRACE_HOOKS(FIND)};
#undef FIND
#define KEEP(result, name, parameters, stub, patched)                                              \
	if (!found.name)                                                                           \
		found.name = trace_real.name;
	TRACE_HOOKS(KEEP)
#undef KEEP
	trace_real_syscall = trace_next("syscall");
	trace_real = found;
	atomic_store_explicit(&resolved, true, memory_order_release);
	resolving = false;
}

static void *first_malloc(size_t size)
{
	trace_resolve();
	return resolving ? bootstrap_alloc(size, 16) : trace_real.malloc(size);
}

static void *first_calloc(size_t count, size_t size)
{
	trace_resolve();
	if (!resolving)
		return trace_real.calloc(count, size);
	if (count && size > sizeof bootstrap / count)
		return NULL;
	return bootstrap_alloc(count * size, 16);
}

static void *first_realloc(void *block, size_t size)
{
	trace_resolve();
	if (!resolving)
		return trace_real.realloc(block, size);
	void *moved = bootstrap_alloc(size, 16);
	if (moved && block && trace_is_bootstrap(block)) {
		size_t old = ((size_t *)block)[-1];
		memcpy(moved, block, old < size ? old : size);
	}
	return moved;
}

static void first_free(void *block)
{
	trace_resolve();
	if (!resolving)
		trace_real.free(block);
}

static void *first_memalign(size_t alignment, size_t size)
{
	trace_resolve();
	return resolving ? bootstrap_alloc(size, alignment) : trace_real.memalign(alignment, size);
}

static void *first_aligned_alloc(size_t alignment, size_t size)
{
	trace_resolve();
	return resolving ? bootstrap_alloc(size, alignment)
			 : trace_real.aligned_alloc(alignment, size);
}

static int first_posix_memalign(void **block, size_t alignment, size_t size)
{
	trace_resolve();
	if (!resolving)
		return trace_real.posix_memalign(block, alignment, size);
	*block = bootstrap_alloc(size, alignment);
	return *block ? 0 : ENOMEM;
}

static void *first_mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset)
{
	trace_resolve();
	if (!resolving)
		return trace_real.mmap(start, length, protection, flags, fd, offset);
	return (void *)trace_syscall_errno(
		trace_syscall(SYS_mmap, start, length, protection, flags, fd, offset));
}

static int first_munmap(void *start, size_t length)
{
	trace_resolve();
	return resolving ? (int)trace_syscall_errno(trace_syscall(SYS_munmap, start, length))
			 : trace_real.munmap(start, length);
}

static int first_mprotect(void *start, size_t length, int protection)
{
	trace_resolve();
	if (!resolving)
		return trace_real.mprotect(start, length, protection);
	return (int)trace_syscall_errno(trace_syscall(SYS_mprotect, start, length, protection));
}

static int first_madvise(void *start, size_t length, int advice)
{
	trace_resolve();
	if (!resolving)
		return trace_real.madvise(start, length, advice);
	return (int)trace_syscall_errno(trace_syscall(SYS_madvise, start, length, advice));
}

/* These two are variadic, so their arguments cannot be forwarded; the system call takes them all. */
static void *first_mremap(void *start, size_t length, size_t new_length, int flags, ...)
{
	va_list list;

	va_start(list, flags);
	void *target = va_arg(list, void *);
	va_end(list);
	trace_resolve();
	return (void *)trace_syscall_errno(
		trace_syscall(SYS_mremap, start, length, new_length, flags, target));
}

static int first_prctl(int option, ...)
{
	unsigned long a[4];
	va_list list;

	va_start(list, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(list, unsigned long);
	va_end(list);
	trace_resolve();
	return (int)trace_syscall_errno(trace_syscall(SYS_prctl, option, a[0], a[1], a[2], a[3]));
}

#if defined(__x86_64__)
static long first_syscall(long number, ...)
{
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	return trace_syscall_errno(trace_syscall_6(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

long (*trace_real_syscall)(long, ...) = first_syscall;
#else
long (*trace_real_syscall)(long, ...);
#endif

/* A function that is found nowhere at the start belongs to a library that is loaded later: before glibc 2.34,
 * those of threads. */
#define STUB_BOOTSTRAP NO_STUB, ()
#define STUB_FORWARD(...) FORWARD_STUB, (__VA_ARGS__)
#define NO_STUB(arguments, result, name, parameters)
#define FORWARD_STUB(arguments, result, name, parameters)                                          \
	static result first_##name parameters                                                      \
	{                                                                                          \
		trace_resolve();                                                                   \
		if (trace_real.name == first_##name)                                               \
			trace_real.name = (result(*) parameters)trace_next(#name);                 \
		return trace_real.name arguments;                                                  \
	}
#define EXPAND_STUB(stub, arguments, result, name, parameters)                                     \
	stub(arguments, result, name, parameters)
#define DEFINE_STUB(...) EXPAND_STUB(__VA_ARGS__)
#define STUB(result, name, parameters, stub, patched)                                              \
	DEFINE_STUB(STUB_##stub, result, name, parameters)
TRACE_HOOKS(STUB)

#define FIRST(result, name, parameters, stub, patched) .name = first_##name,
struct trace_real trace_real = {TRACE_HOOKS(FIRST)};
