/* Joins the session named by $MEMATLAS_SESSION, and leaves it again. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tracer.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define EXIT_WAIT_NS 1000000000L
#define NO_COLLECTOR_NS 400000000L

enum state { UNSTARTED, STARTING, RUNNING, OVER };

#define PRIVATE_MAPS 16u
struct range {
	uint64_t start, end;
};

struct trace_session trace_session;
static struct range private_maps[PRIVATE_MAPS];
static _Atomic unsigned private_count;
static _Atomic int state;
static char directory[PATH_MAX];
static volatile char *fork_mark; /* reads 0 in a child made by whatever kind of fork */
static _Atomic uint64_t fork_serials;
static __thread uint64_t fork_serial __attribute__((tls_model("initial-exec")));
static __thread int32_t fork_parent __attribute__((tls_model("initial-exec")));

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));
extern char **environ;

/* Raw system calls: ours must neither reach our own hooks nor be cancellation points. */
static void *map_pages(size_t size, int protection, int flags, int fd)
{
	return (void *)syscall(SYS_mmap, NULL, size, protection, flags, fd, 0L);
}

static int open_in_session(const char *name, int flags)
{
	char path[PATH_MAX + 32];
	size_t length = strlen(directory);

	memcpy(path, directory, length);
	path[length] = '/';
	strcpy(path + length + 1, name);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

/* Tells the collector which memory is ours. */
static void list_private_map(unsigned index)
{
	struct trace_process *process = trace_session.process;

	if (!process)
		return;
	process->private_start[index] = private_maps[index].start;
	__atomic_store_n(&process->private_end[index], private_maps[index].end, __ATOMIC_RELEASE);
}

void *trace_map(size_t size, int protection)
{
	void *memory = map_pages(size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	if (memory == MAP_FAILED)
		return NULL;
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, size, "mematlas");
	syscall(SYS_madvise, memory, size, MADV_DONTDUMP);
	syscall(SYS_madvise, memory, size, MADV_NOHUGEPAGE);
	unsigned index = atomic_fetch_add(&private_count, 1);
	if (index < PRIVATE_MAPS) {
		private_maps[index] = (struct range){(uintptr_t)memory, (uintptr_t)memory + size};
		list_private_map(index);
	}
	return memory;
}

bool trace_space_left(size_t bytes)
{
	struct statfs fs;

	return statfs(directory, &fs) == 0 &&
	       (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize > 2 * bytes;
}

bool trace_session_is_over(void)
{
	return atomic_load_explicit(&state, memory_order_relaxed) == OVER;
}

void trace_disable(const char *reason)
{
	struct trace_process *process = trace_session.process;

	atomic_store(&state, OVER);
	trace_tls.left = INT64_MAX;
	/* Nursery blocks keep their mark: they must never reach the real free(). */
	for (unsigned i = 0; i < TRACE_FILTER_SIZE; i++)
		if (trace_filter[i] != 255)
			trace_filter[i] = 0;
	if (process) {
		strncpy(process->reason, reason, sizeof process->reason - 1);
		__atomic_store_n(&process->state, TRACE_DISABLED, __ATOMIC_RELEASE);
	}
}

static bool map_control(void)
{
	int fd = open_in_session("control", O_RDWR);

	if (fd < 0)
		return false;
	struct trace_control *control =
		map_pages(TRACE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	close(fd);
	if (control == MAP_FAILED)
		return false;
	if (control->magic != TRACE_MAGIC || control->version != TRACE_VERSION || control->off ||
	    control->ring_bytes < 65536 || (control->ring_bytes & (control->ring_bytes - 1))) {
		syscall(SYS_munmap, control, TRACE_PAGE);
		return false;
	}
	trace_session.control = control;
	trace_session.clock_base = control->clock_base;
	trace_session.sample_bytes = control->sample_bytes;
	trace_session.ring_words = control->ring_bytes / 8;
	trace_session.exact = control->mode == TRACE_EXACT;
	return true;
}

static size_t process_file_size(void)
{
	return TRACE_DATA_OFFSET + (size_t)TRACE_MAX_RINGS * trace_session.ring_words * 8;
}

static void name_image(char *name, long pid, int image)
{
	char digits[24];
	int n = 0;

	do
		digits[n++] = (char)('0' + pid % 10);
	while ((pid /= 10) > 0);
	while (n > 0)
		*name++ = digits[--n];
	*name++ = '.';
	do
		digits[n++] = (char)('0' + image % 10);
	while ((image /= 10) > 0);
	while (n > 0)
		*name++ = digits[--n];
	*name = 0;
}

static int create_process_file(void)
{
	struct rlimit limit;
	char name[48];

	/* Growing a file past this limit is answered by a signal. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < process_file_size())
		return -1;
	for (int image = 1; image < 10000; image++) {
		name_image(name, getpid(), image);
		int fd = open_in_session(name, O_RDWR | O_CREAT | O_EXCL);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	return -1;
}

static size_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	size_t length = 0;

	if (fd < 0)
		return 0;
	while (length < size) {
		long n = syscall(SYS_read, fd, buffer + length, size - length);
		if (n <= 0)
			break;
		length += (size_t)n;
	}
	close(fd);
	return length;
}

_Static_assert(sizeof(struct trace_process) <= TRACE_PAGE, "the header is one page");

static void describe_process(struct trace_process *process)
{
	process->magic = TRACE_MAGIC;
	process->version = TRACE_VERSION;
	process->pid = getpid();
	process->parent_pid = getppid();
	process->start = trace_now();
	process->tracer_start = trace_session.own_start;
	process->tracer_end = trace_session.own_end;
	process->fork_serial = fork_serial;
	process->fork_parent = fork_parent;
	if (readlink("/proc/self/exe", process->executable, sizeof process->executable - 1) < 0)
		process->executable[0] = 0;
	read_file("/proc/self/cmdline", process->command, sizeof process->command - 2);
}

static bool map_process_file(void)
{
	size_t size = process_file_size();
	int fd = create_process_file();

	if (fd < 0)
		return false;
	char *file = MAP_FAILED;
	if (ftruncate(fd, (off_t)size) == 0 && trace_space_left(4 * TRACE_PAGE + (1u << 16)))
		file = map_pages(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd);
	close(fd);
	if (file == MAP_FAILED)
		return false;
	trace_session.process = (struct trace_process *)file;
	trace_session.rings = (struct trace_ring *)(file + TRACE_RINGS_OFFSET);
	trace_session.data = file + TRACE_DATA_OFFSET;
	describe_process(trace_session.process);
	return true;
}

static bool make_fork_mark(void)
{
	fork_mark = map_pages(TRACE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (fork_mark == MAP_FAILED)
		return false;
	if (syscall(SYS_madvise, fork_mark, TRACE_PAGE, MADV_WIPEONFORK) < 0)
		return false;
	*fork_mark = 1;
	return true;
}

bool trace_is_forked(void)
{
	return fork_mark && *fork_mark == 0;
}

static bool join_session(void)
{
	const char *named = environ ? getenv(TRACE_SESSION_VARIABLE) : NULL;

	if (!named || strlen(named) >= sizeof directory)
		return false;
	strcpy(directory, named);
	trace_exec_start(directory);
	trace_session.own_start = (uintptr_t)__ehdr_start;
	trace_session.own_end = (uintptr_t)etext;
	return map_control() && map_process_file() && make_fork_mark() && trace_live_start() &&
	       trace_threads_start() && trace_unwind_start();
}

static void announce(void)
{
	if (trace_python_find())
		trace_hook_python();
	trace_describe_python();
	__atomic_store_n(&trace_session.process->state, TRACE_RUNNING, __ATOMIC_RELEASE);
}

void trace_start(void)
{
	int expected = UNSTARTED;

	/* Before libc has set the environment there is nothing to read: the next call will do. */
	if (!environ || !atomic_compare_exchange_strong(&state, &expected, STARTING))
		return;
	int saved = errno;
	int guard = trace_tls.guard;
	trace_tls.guard = 1;
	trace_resolve();
	if (join_session()) {
		trace_tls.left = 0;
		announce();
		atomic_store(&state, RUNNING);
		trace_live_add_early();
		trace_faults_start();
	} else {
		trace_disable("could not join the session");
	}
	trace_tls.guard = guard;
	errno = saved;
}

bool trace_ready(void)
{
	int now = atomic_load_explicit(&state, memory_order_acquire);

	if (now == UNSTARTED) {
		trace_start();
		now = atomic_load_explicit(&state, memory_order_acquire);
	}
	return now == RUNNING;
}

void trace_before_fork(void)
{
	if (!trace_enter())
		return;
	struct trace_thread *thread = trace_ready() ? trace_thread_get() : NULL;
	fork_serial = 0;
	if (thread && trace_begin(thread, 2)) {
		fork_serial = atomic_fetch_add(&fork_serials, 1) + 1;
		fork_parent = trace_session.process->pid;
		trace_word(thread, TRACE_FORK | trace_now() << 8);
		trace_word(thread, fork_serial);
		trace_publish(thread);
	}
	trace_leave();
}

/* The child has the parent's live blocks and none of its other threads: it goes on with a file of
 * its own and empty caches. */
void trace_after_fork_in_child(void)
{
	if (atomic_load(&state) != RUNNING)
		return;
	if (!trace_is_forked() && trace_session.process->pid == getpid())
		return;
	int saved = errno;
	int guard = trace_tls.guard;
	trace_tls.guard = 1;
	syscall(SYS_munmap, trace_session.process, process_file_size());
	trace_session.process = NULL;
	*fork_mark = 1;
	trace_threads_forget();
	if (map_process_file()) {
		for (unsigned i = 0; i < PRIVATE_MAPS && private_maps[i].end; i++)
			list_private_map(i);
		trace_describe_python();
		__atomic_store_n(&trace_session.process->state, TRACE_RUNNING, __ATOMIC_RELEASE);
		trace_faults_after_fork();
	} else {
		trace_disable("a forked child could not join the session");
	}
	fork_serial = 0;
	fork_parent = 0;
	trace_tls.guard = guard;
	errno = saved;
}

void trace_exit(void)
{
	static _Atomic bool done;
	const struct timespec nap = {.tv_nsec = 500000};
	struct trace_process *process = trace_session.process;

	if (atomic_load(&state) != RUNNING || process->pid != getpid() ||
	    atomic_exchange(&done, true))
		return;
	uint64_t beat = __atomic_load_n(&trace_session.control->heartbeat, __ATOMIC_RELAXED);
	__atomic_store_n(&process->state, TRACE_EXITING, __ATOMIC_RELEASE);
	for (long waited = 0; waited < EXIT_WAIT_NS; waited += nap.tv_nsec) {
		if (__atomic_load_n(&process->released, __ATOMIC_ACQUIRE))
			break;
		if (waited > NO_COLLECTOR_NS &&
		    beat == __atomic_load_n(&trace_session.control->heartbeat, __ATOMIC_RELAXED))
			break;
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &nap, NULL);
	}
}
