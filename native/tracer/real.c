/* Finds the functions behind our hooks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#include "syscall.h"
#include "tracer.h"

/* dlsym() itself may allocate, before there is anybody to ask: serve that from here. */
static _Alignas(16) char nursery[32 * 1024];
static _Atomic size_t nursery_used;
static __thread bool resolving __attribute__((tls_model("initial-exec")));

bool trace_in_nursery(const void *block)
{
	const char *p = block;

	return p >= nursery && p < nursery + sizeof nursery;
}

static void *nursery_take(size_t size, size_t alignment)
{
	size_t need = size + 16 + alignment;
	size_t at = atomic_fetch_add(&nursery_used, (need + 15) & ~(size_t)15);

	if (at + need > sizeof nursery)
		return NULL;
	/* The size stands before the block, for realloc. */
	uintptr_t p = ((uintptr_t)nursery + at + 16 + alignment - 1) & ~(alignment - 1);
	((size_t *)p)[-1] = size;
	trace_filter[trace_filter_index((void *)p)] = 255;
	return (void *)p;
}

/* A program at a fixed address that asks where a library's function is gets its own way there for an answer,
 * and so does everybody else: calls through it come back to us. */
bool trace_is_detour(const void *function)
{
	const ElfW(Sym) *symbol = NULL;
	Dl_info info;

	return dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol &&
	       symbol->st_shndx == SHN_UNDEF;
}

static void *find_in(const struct link_map *library, const char *name)
{
	int (*let_go)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "dlclose"); /* not ours */
	void *handle = *library->l_name ? dlopen(library->l_name, RTLD_LAZY | RTLD_NOLOAD) : NULL;
	struct link_map *owner = NULL;
	Dl_info info;

	if (!handle)
		return NULL;
	void *found = dlsym(handle, name);
	if (found && (!dladdr1(found, &info, (void **)&owner, RTLD_DL_LINKMAP) || owner != library))
		found = NULL;
	let_go(handle);
	return found;
}

/* The first library that has it. */
static void *find_in_libraries(const char *name)
{
	void *self = dlopen(NULL, RTLD_LAZY | RTLD_NOLOAD), *found = NULL;
	struct link_map *map = NULL;

	if (!self || dlinfo(self, RTLD_DI_LINKMAP, &map) != 0)
		return NULL;
	while ((map = map->l_next) && !found)
		found = find_in(map, name);
	return found;
}

/* Loaded later, we come after nobody: the program's own scope has what we stand in front of. There our
 * own functions may be found as well, where it has none. */
void *trace_next(const char *name)
{
	if (trace_is_preloaded())
		return dlsym(RTLD_NEXT, name);
	void *found = dlsym(RTLD_DEFAULT, name);
	if (found && trace_is_detour(found))
		found = find_in_libraries(name);
	uintptr_t address = (uintptr_t)found;
	return address >= trace_session.own_start && address < trace_session.own_end ? NULL : found;
}

void trace_resolve(void)
{
	static _Atomic bool resolved;

	if (atomic_load_explicit(&resolved, memory_order_acquire) || resolving)
		return;
	resolving = true;

	struct trace_real found = {
		.malloc = trace_next("malloc"),
		.calloc = trace_next("calloc"),
		.realloc = trace_next("realloc"),
		.reallocarray = trace_next("reallocarray"),
		.free = trace_next("free"),
		.memalign = trace_next("memalign"),
		.aligned_alloc = trace_next("aligned_alloc"),
		.posix_memalign = trace_next("posix_memalign"),
		.valloc = trace_next("valloc"),
		.pvalloc = trace_next("pvalloc"),
		.mmap = trace_next("mmap"),
		.munmap = trace_next("munmap"),
		.mremap = trace_next("mremap"),
		.dlclose = trace_next("dlclose"),
		.pthread_create = trace_next("pthread_create"),
		._exit = trace_next("_exit"),
		.quick_exit = trace_next("quick_exit"),
		.execve = trace_next("execve"),
		.execvpe = trace_next("execvpe"),
		.fexecve = trace_next("fexecve"),
		.posix_spawn = trace_next("posix_spawn"),
		.posix_spawnp = trace_next("posix_spawnp"),
		.sigaction = trace_next("sigaction"),
		.signal = trace_next("signal"),
		.sigprocmask = trace_next("sigprocmask"),
		.pthread_sigmask = trace_next("pthread_sigmask"),
		.prctl = trace_next("prctl"),
		.setrlimit = trace_next("setrlimit"),
		.prlimit = trace_next("prlimit"),
	};
	trace_real_syscall = trace_next("syscall");
	trace_real = found;
	atomic_store_explicit(&resolved, true, memory_order_release);
	resolving = false;
}

static void *first_malloc(size_t size)
{
	trace_resolve();
	return resolving ? nursery_take(size, 16) : trace_real.malloc(size);
}

static void *first_calloc(size_t count, size_t size)
{
	trace_resolve();
	if (!resolving)
		return trace_real.calloc(count, size);
	return count && size > sizeof nursery / count ? NULL : nursery_take(count * size, 16);
}

static void *first_realloc(void *block, size_t size)
{
	trace_resolve();
	if (!resolving)
		return trace_real.realloc(block, size);
	void *moved = nursery_take(size, 16);
	if (moved && block && trace_in_nursery(block)) {
		size_t old = ((size_t *)block)[-1];
		memcpy(moved, block, old < size ? old : size);
	}
	return moved;
}

static void *first_reallocarray(void *block, size_t count, size_t size)
{
	trace_resolve();
	return trace_real.reallocarray(block, count, size);
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
	return resolving ? nursery_take(size, alignment) : trace_real.memalign(alignment, size);
}

static void *first_aligned_alloc(size_t alignment, size_t size)
{
	trace_resolve();
	return resolving ? nursery_take(size, alignment)
			 : trace_real.aligned_alloc(alignment, size);
}

static int first_posix_memalign(void **block, size_t alignment, size_t size)
{
	trace_resolve();
	if (!resolving)
		return trace_real.posix_memalign(block, alignment, size);
	*block = nursery_take(size, alignment);
	return *block ? 0 : ENOMEM;
}

static void *first_valloc(size_t size)
{
	trace_resolve();
	return trace_real.valloc(size);
}

static void *first_pvalloc(size_t size)
{
	trace_resolve();
	return trace_real.pvalloc(size);
}

static void *first_mmap(void *start, size_t length, int prot, int flags, int fd, off_t offset)
{
	trace_resolve();
	if (!resolving)
		return trace_real.mmap(start, length, prot, flags, fd, offset);
	return (void *)trace_syscall_errno(
		trace_syscall(SYS_mmap, start, length, prot, flags, fd, offset));
}

static int first_munmap(void *start, size_t length)
{
	trace_resolve();
	return resolving ? (int)trace_syscall_errno(trace_syscall(SYS_munmap, start, length))
			 : trace_real.munmap(start, length);
}

static void *first_mremap(void *start, size_t length, size_t new_length, int flags, ...)
{
	trace_resolve();
	return (void *)trace_syscall_errno(
		trace_syscall(SYS_mremap, start, length, new_length, flags));
}

static int first_dlclose(void *handle)
{
	trace_resolve();
	return trace_real.dlclose(handle);
}

static int first_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
				void *(*routine)(void *), void *argument)
{
	trace_resolve();
	return trace_real.pthread_create(thread, attr, routine, argument);
}

static void first__exit(int status)
{
	trace_resolve();
	trace_real._exit(status);
}

static void first_quick_exit(int status)
{
	trace_resolve();
	trace_real.quick_exit(status);
}

struct trace_real trace_real = {
	.malloc = first_malloc,
	.calloc = first_calloc,
	.realloc = first_realloc,
	.reallocarray = first_reallocarray,
	.free = first_free,
	.memalign = first_memalign,
	.aligned_alloc = first_aligned_alloc,
	.posix_memalign = first_posix_memalign,
	.valloc = first_valloc,
	.pvalloc = first_pvalloc,
	.mmap = first_mmap,
	.munmap = first_munmap,
	.mremap = first_mremap,
	.dlclose = first_dlclose,
	.pthread_create = first_pthread_create,
	._exit = first__exit,
	.quick_exit = first_quick_exit,
};
