/* The session's memory as this process maps it. */
#define _GNU_SOURCE
#include "process_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "descriptor.h"
#include "groups.h"
#include "look.h"
#include "memory.h"
#include "ring.h"
#include "session_socket.h"
#include "state.h"
#include "syscall.h"
#include "thread.h"

#define RESERVED_RINGS 16u /* for threads to come, under a limit on address space */

static bool is_valid_control(const struct trace_control *control)
{
	return control->magic == TRACE_MAGIC && control->version == TRACE_VERSION &&
	       !control->off && control->ring_bytes >= TRACE_MIN_RING_DATA &&
	       (control->ring_bytes & (control->ring_bytes - 1)) == 0;
}

/* `place`: an earlier mapping of that size to replace, or NULL. Returns NULL on failure. */
static void *map_in_place(const void *place, size_t size, int protection, int flags, int fd)
{
	long result = trace_syscall(SYS_mmap, place, size, protection,
				    flags | (place ? MAP_FIXED : 0), fd, 0L);

	return result < 0 && result >= -4095 ? NULL : (void *)result;
}

static bool map_control(int fd)
{
	const struct trace_control *control =
		map_in_place(trace_session.control, TRACE_HEADER_BYTES, PROT_READ, MAP_SHARED, fd);

	if (!control)
		return false;
	trace_session.control = control;
	/* Read once: what is checked is what is used. */
	const struct trace_control settings = *(const volatile struct trace_control *)control;
	if (!is_valid_control(&settings))
		return false;
	trace_session.clock_base = settings.clock_base;
	trace_session.sample_bytes = settings.sample_bytes;
	trace_session.ring_words = settings.ring_bytes / 8;
	trace_session.exact = settings.mode == TRACE_EXACT;
	trace_session.counting = settings.clock == TRACE_CLOCK_COUNTER;
	return true;
}

static bool map_common(int fd)
{
	struct trace_common *common = map_in_place(trace_session.common, TRACE_HEADER_BYTES,
						   PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	if (!common)
		return false;
	trace_session.common = common;
	return true;
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

bool trace_session_open(const char *text)
{
	trace_session.page_bytes = getauxval(AT_PAGESZ);
	return trace_socket_set(text);
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

static const char *why_not_joined(int error)
{
	switch (-error) {
	case EMFILE:
	case ENFILE:
		return "no file descriptor was left for the tracer";
	case ENOSPC:
	case ENOMEM:
		return "no memory was left for its records";
	case EFBIG:
		return "the file size limit of mematlas is too low for its records; raise "
		       "ulimit -f";
	case EOVERFLOW:
		return "its limit on address space is too low for the tracer";
	case ETIMEDOUT:
		return "mematlas did not answer in time";
	default:
		return "its limits or rights prevent the tracer from joining";
	}
}

/* Without /proc, in another root directory, a forked child says what its parent said. */
static void name_process(struct trace_process *process)
{
	static struct {
		char executable[sizeof process->executable], command[sizeof process->command];
	} last;

	if (readlink("/proc/self/exe", process->executable, sizeof process->executable - 1) > 0)
		memcpy(last.executable, process->executable, sizeof last.executable);
	else
		memcpy(process->executable, last.executable, sizeof last.executable);
	if (read_file("/proc/self/cmdline", process->command, sizeof process->command - 2) > 0)
		memcpy(last.command, process->command, sizeof last.command);
	else
		memcpy(process->command, last.command, sizeof last.command);
}

static void describe_process(struct trace_process *process, uint64_t fork_image)
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
	name_process(process);
	trace_look_start(fork_image != 0);
}

static bool map_rings(const char *memory, int fd)
{
	bool populated = trace_populate_page(memory + TRACE_RINGS_OFFSET);

	for (size_t at = 0; at < sizeof(struct trace_process); at += trace_session.page_bytes)
		populated = populated && trace_populate_page(memory + at);
	bool mapped = populated && trace_groups_start(fd);
	if (!mapped)
		trace_socket_refuse(why_not_joined(populated ? -EOVERFLOW : -ENOMEM));
	return mapped;
}

/* Maps all but the rings of threads to come. */
static char *map_memory(int fd)
{
	char *memory = map_in_place(trace_session.process, TRACE_DATA_OFFSET,
				    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd);

	if (!memory) {
		trace_socket_refuse(why_not_joined(-EOVERFLOW));
		return NULL;
	}
	if (map_rings(memory, fd))
		return memory;
	trace_syscall(SYS_munmap, memory, TRACE_DATA_OFFSET);
	trace_session.process = NULL;
	return NULL;
}

/* A forked child has control and common memory mapped already. */
static char *map_joined(const struct trace_joining *joined)
{
	uint32_t rings;

	if (!trace_session.in_session && !(map_control(joined->fds[TRACE_JOINED_CONTROL]) &&
					   map_common(joined->fds[TRACE_JOINED_COMMON])))
		return NULL;
	trace_session.in_session = true;
	trace_session.image = joined->answer.image;
	rings = choose_rings();
	trace_session.most_rings = rings < joined->answer.rings ? rings : joined->answer.rings;
	return map_memory(joined->fds[TRACE_JOINED_MEMORY]);
}

bool trace_process_file_open(uint64_t fork_serial, uint64_t fork_image)
{
	struct trace_joining joined;
	int error = trace_socket_join(fork_image, fork_serial, &joined);

	if (error) {
		trace_socket_refuse(why_not_joined(error));
		return false;
	}
	char *memory = map_joined(&joined);
	for (unsigned i = 0; i < TRACE_JOINED_MOST; i++)
		trace_close_descriptor(&joined.fds[i]);
	if (!memory)
		return false;
	trace_session.process = (struct trace_process *)memory;
	trace_session.rings = (struct trace_ring *)(memory + TRACE_RINGS_OFFSET);
	/* The descriptors are closed by now: under a limit, the last one may have been in use. */
	describe_process(trace_session.process, fork_image);
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
	const int access = PROT_READ | PROT_WRITE,
		  flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	trace_groups_release();
	map_in_place(trace_session.process, TRACE_DATA_OFFSET, access, flags, -1);
	map_in_place(trace_session.control, TRACE_HEADER_BYTES, access, flags, -1);
	map_in_place(trace_session.common, TRACE_HEADER_BYTES, access, flags, -1);
	trace_session.in_session = false;
}

void trace_session_abandon(void)
{
	trace_groups_abandon();
	trace_session.process = NULL;
	trace_session.control = NULL;
	trace_session.common = NULL;
	trace_session.in_session = false;
}
