/* Joins the session named by $MEMATLAS_SESSION, and leaves it again. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"
#include "syscall.h"
#include "tracer.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#define SPARE_TRIES 200
#define SPARE_NAP_NS 1000000L
#define SPARE_RINGS 16u /* for threads to come, under a limit on address space */
#define EXIT_WAIT_NS 1000000000L
#define WORTH_A_LOOK_MS 100
#define EXIT_NAP_NS 500000L
#define NO_COLLECTOR_NS 400000000L

struct trace_session trace_session;
_Atomic int trace_state;
uint32_t trace_generation = 1;
uint32_t trace_exact_generation;
static struct timespec joined;
static char directory[PATH_MAX];
volatile char *trace_fork_mark;
static _Atomic uint64_t fork_serials;
static __thread uint64_t fork_serial __attribute__((tls_model("initial-exec")));
static __thread int32_t fork_parent __attribute__((tls_model("initial-exec")));

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));
extern char **environ;

static void name_in_session(char *path, const char *name)
{
	size_t length = strlen(directory);

	memcpy(path, directory, length);
	path[length] = '/';
	strcpy(path + length + 1, name);
}

static int open_in_session(const char *name, int flags)
{
	char path[PATH_MAX + 32];

	name_in_session(path, name);
	return (int)trace_syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

bool trace_space_left(size_t bytes)
{
	struct statfs fs;

	return statfs(directory, &fs) == 0 &&
	       (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize > 2 * bytes;
}

bool trace_session_is_over(void)
{
	return atomic_load_explicit(&trace_state, memory_order_relaxed) == TRACE_OVER;
}

void trace_disable(const char *reason)
{
	struct trace_process *process = trace_session.process;

	atomic_store(&trace_state, TRACE_OVER);
	__atomic_store_n(&trace_exact_generation, 0, __ATOMIC_RELAXED);
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
	int fd = open_in_session(TRACE_CONTROL_FILE, O_RDWR);

	if (fd < 0)
		return false;
	struct trace_control *control =
		trace_pages(TRACE_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	trace_syscall(SYS_close, fd);
	if (control == MAP_FAILED)
		return false;
	if (control->magic != TRACE_MAGIC || control->version != TRACE_VERSION || control->off ||
	    control->ring_bytes < TRACE_MIN_RING_DATA ||
	    (control->ring_bytes & (control->ring_bytes - 1))) {
		trace_syscall(SYS_munmap, control, TRACE_HEADER_BYTES);
		return false;
	}
	trace_session.control = control;
	trace_session.clock_base = control->clock_base;
	trace_session.sample_bytes = control->sample_bytes;
	trace_session.ring_words = control->ring_bytes / 8;
	trace_session.exact = control->mode == TRACE_EXACT;
	trace_session.counting = control->clock == TRACE_CLOCK_COUNTER;
	return true;
}

static size_t process_file_size(void)
{
	return TRACE_DATA_OFFSET + (size_t)TRACE_MAX_RINGS * trace_session.ring_words * 8;
}

static size_t mapped_size(uint32_t rings)
{
	return TRACE_DATA_OFFSET + (size_t)rings * trace_session.ring_words * 8;
}

static size_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = (int)trace_syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	size_t length = 0;

	if (fd < 0)
		return 0;
	while (length < size) {
		long n = trace_syscall(SYS_read, fd, buffer + length, size - length);
		if (n <= 0)
			break;
		length += (size_t)n;
	}
	trace_syscall(SYS_close, fd);
	return length;
}

static uint64_t address_space_used(void)
{
	char text[64];
	uint64_t pages = 0;
	size_t length = read_file("/proc/self/statm", text, sizeof text);

	for (size_t i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++)
		pages = pages * 10 + (uint64_t)(text[i] - '0');
	return pages * trace_session.page_bytes;
}

/* Under a limit on address space, rings for few threads: an eighth of what is left is ours. */
static uint32_t choose_rings(void)
{
	struct rlimit limit;
	size_t each = trace_session.ring_words * 8ul + trace_slot_bytes();

	if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return TRACE_MAX_RINGS;
	uint64_t used = address_space_used();
	uint64_t share = limit.rlim_cur > used ? (limit.rlim_cur - used) / 8 : 0;
	uint64_t rings = share / each;
	return rings < 2 ? 2 : rings < TRACE_MAX_RINGS ? (uint32_t)rings : TRACE_MAX_RINGS;
}

/* The program is about to limit its own address space: what it does not use of ours goes. */
void trace_shrink(void)
{
	uint32_t used = __atomic_load_n(&trace_session.process->rings, __ATOMIC_ACQUIRE);
	uint32_t before = trace_session.most_rings, after = used + SPARE_RINGS;

	if (after >= before)
		return;
	__atomic_store_n(&trace_session.most_rings, after, __ATOMIC_SEQ_CST);
	trace_syscall(SYS_munmap, (char *)trace_session.process + mapped_size(after),
		      mapped_size(before) - mapped_size(after));
	trace_shorten_map(trace_session.slots, trace_slot_bytes() * before,
			  trace_slot_bytes() * after);
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

/* Under a limit on file sizes: the file the collector keeps ready takes our name. */
static int rename_preallocated(const char *name)
{
	char spare[PATH_MAX + 32], path[PATH_MAX + 32];

	name_in_session(spare, TRACE_PREALLOCATED_FILE);
	name_in_session(path, name);
	for (int tries = 0; tries < SPARE_TRIES; tries++) {
		int error = (int)trace_syscall(SYS_renameat2, AT_FDCWD, spare, AT_FDCWD, path,
					       RENAME_NOREPLACE);
		if (!error)
			return open_in_session(name, O_RDWR);
		if (error != -ENOENT)
			return error;
		trace_nap(
			SPARE_NAP_NS); /* another process renamed it; the collector makes a new one */
	}
	return -EFBIG; /* mematlas is under the limit itself */
}

static int create_process_file(char *name)
{
	struct rlimit limit;
	bool limited = getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < process_file_size();

	for (int image = 1; image < 10000; image++) {
		name_image(name, getpid(), image);
		int fd = limited ? rename_preallocated(name)
				 : open_in_session(name, O_RDWR | O_CREAT | O_EXCL);
		int error = fd >= 0 && !limited
				    ? (int)trace_syscall(SYS_ftruncate, fd, process_file_size())
				    : 0;
		if (error) {
			trace_syscall(SYS_close, fd);
			return error;
		}
		if (fd != -EEXIST)
			return fd;
	}
	return -EEXIST;
}

/* A link needs no descriptor, no room and no rights but those to the directory. */
static bool refuse(const char *name, const char *reason)
{
	char path[PATH_MAX + 32];

	name_in_session(path, name);
	strcat(path, ".why");
	trace_syscall(SYS_symlinkat, reason, AT_FDCWD, path);
	return false;
}

static const char *why_no_file(int error)
{
	switch (-error) {
	case EMFILE:
	case ENFILE:
		return "no file descriptor was left for the tracer";
	case ENOSPC:
	case ENOMEM:
	case EDQUOT:
		return "no room was left in shared memory; set TMPDIR to a folder with more";
	case EFBIG:
		return "mematlas's own limit on file sizes is too low for its records; raise "
		       "ulimit -f";
	case ENOENT:
		return "it cannot reach the session: another root directory";
	default:
		return "its limits or rights keep the tracer from making its file";
	}
}

static void describe_process(struct trace_process *process)
{
	process->magic = TRACE_MAGIC;
	process->version = TRACE_VERSION;
	process->rings = 1; /* the shared one */
	process->most_rings = trace_session.most_rings;
	process->attached = trace_session.attached;
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
	size_t size = mapped_size(trace_session.most_rings);
	char name[64];
	int fd = create_process_file(name);

	if (fd < 0)
		return refuse(name, why_no_file(fd));
	char *file = trace_pages(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd);
	trace_syscall(SYS_close, fd);
	if (file == MAP_FAILED)
		return refuse(name, "its limit on address space leaves no room for the tracer");
	if (!trace_populate_page(file) || !trace_populate_page(file + TRACE_RINGS_OFFSET)) {
		trace_syscall(SYS_munmap, file, size);
		return refuse(name, why_no_file(-ENOSPC));
	}
	trace_session.process = (struct trace_process *)file;
	trace_session.rings = (struct trace_ring *)(file + TRACE_RINGS_OFFSET);
	trace_session.data = file + TRACE_DATA_OFFSET;
	describe_process(trace_session.process);
	return true;
}

static bool make_fork_mark(void)
{
	if (trace_fork_mark) {
		*trace_fork_mark = 1;
		return true;
	}
	trace_fork_mark = trace_pages(TRACE_MIN_PAGE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (trace_fork_mark == MAP_FAILED)
		return false;
	if (trace_syscall(SYS_madvise, trace_fork_mark, TRACE_MIN_PAGE, MADV_WIPEONFORK) < 0)
		return false;
	*trace_fork_mark = 1;
	return true;
}

/* What is preloaded comes before the loader in its own list; what is loaded later, after it. */
static bool comes_before_loader(void)
{
	struct link_map *map = NULL;
	Dl_info own;

	if (!dladdr1(&trace_session, &own, (void **)&map, RTLD_DL_LINKMAP))
		return true;
	for (; map; map = map->l_prev) {
		const char *name = map->l_name ? strrchr(map->l_name, '/') : NULL;
		if (name && strncmp(name, "/ld-linux", 9) == 0)
			return false;
	}
	return true;
}

bool trace_is_preloaded(void)
{
	static _Atomic int known;

	if (!atomic_load_explicit(&known, memory_order_relaxed)) {
		trace_session.own_start = (uintptr_t)__ehdr_start;
		trace_session.own_end = (uintptr_t)etext;
		atomic_store(&known, comes_before_loader() ? 1 : -1);
	}
	return atomic_load_explicit(&known, memory_order_relaxed) > 0;
}

static bool join_session(const char *named)
{
	if (!named || strlen(named) >= sizeof directory)
		return false;
	strcpy(directory, named);
	trace_session.page_bytes = getauxval(AT_PAGESZ);
	trace_exec_start(directory);
	if (!map_control())
		return false;
	trace_session.most_rings = choose_rings();
	return map_process_file() && make_fork_mark() && trace_live_start() &&
	       trace_threads_start() && trace_unwind_start();
}

/* A malloc() linked into the program is found before any preloaded one. */
static bool is_bypassed(void)
{
	uintptr_t first = (uintptr_t)dlsym(RTLD_DEFAULT, "malloc");

	return (first < trace_session.own_start || first >= trace_session.own_end) &&
	       !trace_is_detour((const void *)first);
}

static void announce(void)
{
	trace_session.process->own_malloc = is_bypassed();
	if (trace_python_find())
		trace_hook_python();
	trace_describe_python();
	clock_gettime(CLOCK_MONOTONIC, &joined);
	__atomic_store_n(&trace_session.process->state, TRACE_RUNNING, __ATOMIC_RELEASE);
}

static void begin(void)
{
	__atomic_store_n(&trace_exact_generation, trace_session.exact ? trace_generation : 0,
			 __ATOMIC_RELAXED);
	atomic_store(&trace_state, TRACE_JOINED);
}

bool trace_start(void)
{
	int expected = TRACE_UNSTARTED;

	/* Before libc has set the environment there is nothing to read: the next call will do. */
	if (!environ || !atomic_compare_exchange_strong(&trace_state, &expected, TRACE_JOINING))
		return atomic_load(&trace_state) == TRACE_JOINED;
	int saved = errno;
	int guard = trace_tls.guard;
	trace_tls.guard = TRACE_INSIDE;
	trace_resolve();
	if (join_session(getenv(TRACE_SESSION_VARIABLE))) {
		trace_tls.left = 0;
		announce();
		begin();
		trace_live_add_early();
		trace_faults_start();
	} else {
		trace_disable("could not join the session");
	}
	trace_tls.guard = guard;
	errno = saved;
	return atomic_load(&trace_state) == TRACE_JOINED;
}

/* Rings of a session that is over stay where they are, empty and private: a thread may still be at work
 * on one. */
static void let_rings_go(void)
{
	size_t size = mapped_size(trace_session.most_rings);

	trace_syscall(SYS_mmap, trace_session.process, size, PROT_READ | PROT_WRITE,
		      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
	trace_syscall(SYS_munmap, trace_session.control, TRACE_HEADER_BYTES);
	trace_session.control = NULL;
}

int trace_join(const char *named)
{
	int before = atomic_load(&trace_state);

	if (before == TRACE_JOINED || before == TRACE_JOINING ||
	    !atomic_compare_exchange_strong(&trace_state, &before, TRACE_JOINING))
		return -EBUSY;
	int guard = trace_tls.guard;
	trace_tls.guard = TRACE_INSIDE;
	trace_resolve();
	trace_session.attached = true;
	bool again = trace_session.process != NULL;
	if (again)
		let_rings_go();
	trace_session.process = NULL;
	trace_generation += again;
	bool joined_it = join_session(named);
	if (joined_it) {
		trace_tls.left = 0;
		clock_gettime(CLOCK_MONOTONIC, &joined);
		trace_tell_maps();
		__atomic_store_n(&trace_session.process->state, TRACE_RUNNING, __ATOMIC_RELEASE);
		begin();
	} else {
		trace_disable("could not join the session");
	}
	trace_tls.guard = guard;
	return joined_it ? 0 : -ENOENT;
}

void trace_quit(void)
{
	if (atomic_load(&trace_state) == TRACE_JOINED)
		trace_disable(TRACE_DETACHED);
}

void trace_before_fork(void)
{
	if (!trace_enter())
		return;
	struct trace_thread *thread = trace_ready() ? trace_thread_get() : NULL;
	/* What other threads record from here on is not the child's. */
	__atomic_store_n(&trace_timeless, NULL, __ATOMIC_RELAXED);
	fork_serial = 0;
	if (thread && trace_begin(thread, 2)) {
		fork_serial = atomic_fetch_add(&fork_serials, 1) + 1;
		fork_parent = trace_session.process->pid;
		trace_record(thread, (uint64_t[]){TRACE_FORK | trace_now() << 8, fork_serial}, 2);
	}
	trace_leave();
}

/* The child has the parent's live blocks and none of its other threads: it goes on with a file of
 * its own and empty caches. */
void trace_after_fork_in_child(void)
{
	if (atomic_load(&trace_state) != TRACE_JOINED)
		return;
	if (!trace_is_forked() && trace_session.process->pid == getpid())
		return;
	if (trace_session.sandboxed) {
		trace_session.process = NULL; /* the parent's */
		trace_disable("");
		return;
	}
	int saved = errno;
	int guard = trace_tls.guard;
	trace_tls.guard = TRACE_INSIDE;
	trace_syscall(SYS_munmap, trace_session.process, mapped_size(trace_session.most_rings));
	trace_session.process = NULL;
	*trace_fork_mark = 1;
	trace_threads_forget();
	if (map_process_file()) {
		clock_gettime(CLOCK_MONOTONIC, &joined);
		trace_tell_maps();
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

/* Waits until the collector has taken its last look, or shows no sign of life. */
static void show_last(void)
{
	struct trace_process *process = trace_session.process;
	uint64_t beat = __atomic_load_n(&trace_session.control->heartbeat, __ATOMIC_RELAXED);

	__atomic_store_n(&process->released, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&process->state, TRACE_EXITING, __ATOMIC_RELEASE);
	for (long waited = 0; waited < EXIT_WAIT_NS; waited += EXIT_NAP_NS) {
		if (__atomic_load_n(&process->released, __ATOMIC_ACQUIRE))
			break;
		if (waited > NO_COLLECTOR_NS &&
		    beat == __atomic_load_n(&trace_session.control->heartbeat, __ATOMIC_RELAXED))
			break;
		trace_nap(EXIT_NAP_NS);
	}
}

static bool is_ours_to_end(void)
{
	return atomic_load(&trace_state) == TRACE_JOINED && !trace_session.sandboxed &&
	       trace_session.process->pid == getpid();
}

void trace_exit(void)
{
	static _Atomic bool done;

	if (is_ours_to_end() && !atomic_exchange(&done, true))
		show_last();
}

/* Wrappers that do nothing but start another program are not worth the wait. */
void trace_before_exec(void)
{
	struct timespec now;

	if (!is_ours_to_end())
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - joined.tv_sec) * 1000 + (now.tv_nsec - joined.tv_nsec) / 1000000 >=
	    WORTH_A_LOOK_MS)
		show_last();
}

void trace_exec_failed(void)
{
	uint32_t exiting = TRACE_EXITING;

	if (is_ours_to_end())
		__atomic_compare_exchange_n(&trace_session.process->state, &exiting, TRACE_RUNNING,
					    false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
