/* The session's files as this process maps them. */
#define _GNU_SOURCE
#include "process_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "groups.h"
#include "memory.h"
#include "ring.h"
#include "state.h"
#include "syscall.h"
#include "thread.h"

#define RENAME_TRIES 200
#define RENAME_WAIT_NS 1000000L
#define RESERVED_RINGS 16u /* for threads to come, under a limit on address space */
#define MAX_IMAGES 10000
#define MAX_PATH (PATH_MAX + 32)

static void close_fd(const int *fd)
{
	if (*fd >= 0)
		trace_syscall(SYS_close, *fd);
}
#define SCOPED_FD __attribute__((cleanup(close_fd))) const int

static void format_path(char *path, const char *name)
{
	size_t length = strlen(trace_session.directory);

	memcpy(path, trace_session.directory, length);
	path[length] = '/';
	strcpy(path + length + 1, name);
}

static int open_in_session(const char *name, int flags)
{
	char path[MAX_PATH];

	format_path(path, name);
	return (int)trace_syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static bool is_valid_control(const struct trace_control *control)
{
	return control->magic == TRACE_MAGIC && control->version == TRACE_VERSION &&
	       !control->off && control->ring_bytes >= TRACE_MIN_RING_DATA &&
	       (control->ring_bytes & (control->ring_bytes - 1)) == 0;
}

/* `place`: an earlier mapping of that size to replace, or NULL. Returns NULL on failure. */
static void *map_in_place(void *place, size_t size, int flags, int fd)
{
	long result = trace_syscall(SYS_mmap, place, size, PROT_READ | PROT_WRITE,
				    flags | (place ? MAP_FIXED : 0), fd, 0L);

	return result < 0 && result >= -4095 ? NULL : (void *)result;
}

static bool map_control(void)
{
	SCOPED_FD fd = open_in_session(TRACE_CONTROL_FILE, O_RDWR);

	if (fd < 0)
		return false;
	struct trace_control *control =
		map_in_place(trace_session.control, TRACE_HEADER_BYTES, MAP_SHARED, fd);
	if (!control)
		return false;
	trace_session.control = control;
	if (!is_valid_control(control))
		return false;
	trace_session.clock_base = control->clock_base;
	trace_session.sample_bytes = control->sample_bytes;
	trace_session.ring_words = control->ring_bytes / 8;
	trace_session.exact = control->mode == TRACE_EXACT;
	trace_session.counting = control->clock == TRACE_CLOCK_COUNTER;
	return true;
}

static size_t file_size(uint32_t rings)
{
	return TRACE_DATA_OFFSET + (size_t)rings * trace_session.ring_words * 8;
}

static size_t read_file(const char *path, char *buffer, size_t size)
{
	SCOPED_FD fd = (int)trace_syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	size_t length = 0;

	while (fd >= 0 && length < size) {
		long n = trace_syscall(SYS_read, fd, buffer + length, size - length);
		if (n <= 0)
			break;
		length += (size_t)n;
	}
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

/* Under a limit on address space, the tracer uses at most an eighth of what is left, with rings for
 * fewer threads. */
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

bool trace_session_open(const char *directory)
{
	if (!directory || strlen(directory) >= sizeof trace_session.directory)
		return false;
	strcpy(trace_session.directory, directory);
	trace_session.page_bytes = getauxval(AT_PAGESZ);
	if (!map_control())
		return false;
	trace_session.most_rings = choose_rings();
	return true;
}

void trace_shrink(void)
{
	uint32_t used = __atomic_load_n(&trace_session.process->rings, __ATOMIC_ACQUIRE);
	uint32_t before = trace_session.most_rings, after = used + RESERVED_RINGS;

	if (after >= before)
		return;
	__atomic_store_n(&trace_session.most_rings, after, __ATOMIC_SEQ_CST);
	trace_groups_shorten(after);
}

/* Relative to the directory, since two paths of PATH_MAX do not fit the smallest stack of a thread. */
static int rename_preallocated(const char *name)
{
	SCOPED_FD directory = (int)trace_syscall(SYS_openat, AT_FDCWD, trace_session.directory,
						 O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0)
		return directory;
	for (int tries = 0; tries < RENAME_TRIES; tries++) {
		int error = (int)trace_syscall(SYS_renameat2, directory, TRACE_PREALLOCATED_FILE,
					       directory, name, RENAME_NOREPLACE);
		if (error != -ENOENT)
			return error;
		/* Another process claimed it; the collector will create the next one. */
		trace_sleep(RENAME_WAIT_NS);
	}
	return -EFBIG; /* mematlas is under the limit itself */
}

/* Under RLIMIT_FSIZE the process cannot extend a file of its own. The collector keeps a preallocated
 * one; renaming it claims it. Returns its descriptor or -errno. */
static int claim_preallocated(const char *name)
{
	int error = rename_preallocated(name);

	return error ? error : open_in_session(name, O_RDWR);
}

/* Returns a descriptor or -errno. */
static int create_full_size(const char *name)
{
	int fd = open_in_session(name, O_RDWR | O_CREAT | O_EXCL);

	if (fd < 0)
		return fd;
	int error = (int)trace_syscall(SYS_ftruncate, fd, file_size(TRACE_MAX_RINGS));
	if (!error)
		return fd;
	trace_syscall(SYS_close, fd);
	return error;
}

static void format_name(char *name, long pid, int image)
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

/* Returns a descriptor or -errno; `name` is the last name tried. */
static int create_process_file(char *name)
{
	struct rlimit limit;
	bool limited =
		getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < file_size(TRACE_MAX_RINGS);

	for (int image = 1; image < MAX_IMAGES; image++) {
		format_name(name, getpid(), image);
		int fd = limited ? claim_preallocated(name) : create_full_size(name);
		if (fd != -EEXIST)
			return fd;
	}
	return -EEXIST;
}

/* A symbolic link needs no descriptor, no capacity and no rights but those to the directory. */
static void refuse(const char *name, const char *reason)
{
	char path[MAX_PATH];

	format_path(path, name);
	strcat(path, ".why");
	trace_syscall(SYS_symlinkat, reason, AT_FDCWD, path);
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
		return "shared memory is full; set TMPDIR to a folder with more space";
	case EFBIG:
		return "the file size limit of mematlas is too low for its records; raise "
		       "ulimit -f";
	case EOVERFLOW:
		return "its limit on address space is too low for the tracer";
	case ENOENT:
		return "it cannot reach the session: another root directory";
	default:
		return "its limits or rights prevent the tracer from creating a file";
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
	if (readlink("/proc/self/exe", process->executable, sizeof process->executable - 1) < 0)
		process->executable[0] = 0;
	read_file("/proc/self/cmdline", process->command, sizeof process->command - 2);
}

static bool map_rings(const char *file, int fd, const char *name)
{
	bool populated = trace_populate_page(file + TRACE_RINGS_OFFSET);

	for (size_t at = 0; at < sizeof(struct trace_process); at += trace_session.page_bytes)
		populated = populated && trace_populate_page(file + at);
	if (!populated) {
		refuse(name, why_no_file(-ENOSPC));
		return false;
	}
	if (!trace_groups_start(fd)) {
		refuse(name, why_no_file(-EOVERFLOW));
		return false;
	}
	return true;
}

/* Maps all but the rings of threads to come. Returns NULL if the process cannot be traced, once the
 * reason is in the session. */
static char *map_process_file(void)
{
	char name[64];
	SCOPED_FD fd = create_process_file(name);

	if (fd < 0) {
		refuse(name, why_no_file(fd));
		return NULL;
	}
	char *file = map_in_place(trace_session.process, TRACE_DATA_OFFSET,
				  MAP_SHARED | MAP_NORESERVE, fd);
	if (!file) {
		refuse(name, why_no_file(-EOVERFLOW));
		return NULL;
	}
	if (map_rings(file, fd, name))
		return file;
	trace_syscall(SYS_munmap, file, TRACE_DATA_OFFSET);
	trace_session.process = NULL;
	return NULL;
}

bool trace_process_file_open(uint64_t fork_serial, int32_t fork_parent)
{
	char *file = map_process_file();

	if (!file)
		return false;
	trace_session.process = (struct trace_process *)file;
	trace_session.rings = (struct trace_ring *)(file + TRACE_RINGS_OFFSET);
	trace_session.process->fork_serial = fork_serial;
	trace_session.process->fork_parent = fork_parent;
	/* The file is closed by now: under a limit, its descriptor may be the last one. */
	describe_process(trace_session.process);
	return true;
}

void trace_process_file_close(void)
{
	trace_groups_release();
	trace_syscall(SYS_munmap, trace_session.process, TRACE_DATA_OFFSET);
	trace_session.process = NULL;
}

void trace_session_detach(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	trace_groups_release();
	map_in_place(trace_session.process, TRACE_DATA_OFFSET, flags, -1);
	map_in_place(trace_session.control, TRACE_HEADER_BYTES, flags, -1);
}

void trace_session_abandon(void)
{
	trace_groups_abandon();
	trace_session.process = NULL;
	trace_session.control = NULL;
}
