/* A traced program that turns on the one who traces it: scribbles SEED FIFO writes over the memory it shares
 * with the collector, and sends what it likes over the session's sockets. Exits with 6, or kills itself. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trace_format.h"
#include "trace_request.h"

#define STATUS 6

static uint64_t state;
static void *volatile block;

static uint64_t draw(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* A number of any size. */
static uint64_t wild(void)
{
	return draw() >> (draw() % 64);
}

static struct {
	char *start;
	uint64_t offset, length;
} maps[64];
static int map_count;
static const struct trace_control *control;

static void find_memory(void)
{
	char line[1024];
	FILE *file = fopen("/proc/self/maps", "r");

	while (file && fgets(line, sizeof line, file) && map_count < 64) {
		unsigned long start, end, offset;
		char rights[8];
		if (!strstr(line, "/memfd:mematlas-") ||
		    sscanf(line, "%lx-%lx %7s %lx", &start, &end, rights, &offset) != 4)
			continue;
		if (rights[1] != 'w') {
			control = (void *)start;
			continue;
		}
		maps[map_count].start = (char *)start;
		maps[map_count].offset = offset;
		maps[map_count++].length = end - start;
	}
	if (file)
		fclose(file);
}

/* What is at an offset of the process memory; NULL: not mapped. */
static void *at(uint64_t offset)
{
	for (int i = 0; i < map_count; i++)
		if (offset >= maps[i].offset && offset < maps[i].offset + maps[i].length)
			return maps[i].start + (offset - maps[i].offset);
	return NULL;
}

static struct trace_process *header(void)
{
	return at(0);
}

static struct trace_ring *ring(uint32_t index)
{
	return (struct trace_ring *)at(TRACE_RINGS_OFFSET) + index;
}

static uint64_t *words_of(uint32_t index)
{
	return at(TRACE_DATA_OFFSET + (uint64_t)index * control->ring_bytes);
}

static uint32_t mapped_rings(void)
{
	uint32_t count = 0;

	while (count < 64 && words_of(count))
		count++;
	return count;
}

static void pause_ms(unsigned ms)
{
	usleep(ms * 1000);
}

static void put(uint32_t index, const uint64_t *record, uint32_t words)
{
	uint64_t *data = words_of(index), mask = control->ring_bytes / 8 - 1;
	uint64_t head = __atomic_load_n(&ring(index)->head, __ATOMIC_ACQUIRE);

	if (head + words - ring(index)->tail > mask)
		return;
	for (uint32_t i = 0; i < words; i++)
		data[(head + i) & mask] = record[i];
	__atomic_store_n(&ring(index)->head, head + words, __ATOMIC_RELEASE);
}

static void garbage_in_rings(void)
{
	uint64_t words = control->ring_bytes / 8;

	for (int round = 0; round < 60; round++) {
		uint32_t index = (uint32_t)(draw() % mapped_rings());
		for (uint64_t i = 0; i < words; i++)
			words_of(index)[i] = wild();
		__atomic_store_n(&ring(index)->head, ring(index)->tail + draw() % words,
				 __ATOMIC_RELEASE);
		pause_ms(1);
	}
}

static void garbage_in_directory(void)
{
	for (int round = 0; round < 300; round++) {
		struct trace_ring *entry = ring((uint32_t)(draw() % mapped_rings()));
		((uint64_t *)entry)[draw() % (TRACE_RING_BYTES / 8)] = wild();
		usleep(300);
	}
}

static void garbage_in_header(void)
{
	for (int round = 0; round < 300; round++) {
		((uint64_t *)header())[2 + draw() % (sizeof(struct trace_process) / 8 - 2)] =
			wild();
		if (round % 7 == 0)
			header()->state = TRACE_RUNNING;
		usleep(300);
	}
}

static void extremes_in_header(void)
{
	header()->rings = header()->most_rings = UINT32_MAX;
	header()->pid = header()->parent_pid = 1;
	memset(header()->executable, 0x1b, sizeof header()->executable);
	memset(header()->command, 0xff, sizeof header()->command);
	memset(header()->reason, 'A', sizeof header()->reason);
	memset(header()->private_start, 0, sizeof header()->private_start);
	memset(header()->private_end, 0xff, sizeof header()->private_end);
	pause_ms(200);
	header()->state = (uint32_t)wild();
}

static uint32_t plausible(uint64_t *record)
{
	static const uint8_t lengths[] = {1, 4, 2, 2, 3, 0, 0, 0, 2, 2, 3, 3, 4, 4, 4, 4};
	uint32_t type = (uint32_t)(draw() % sizeof lengths), words = lengths[type];

	for (int i = 0; i < 600; i++)
		record[i] = wild();
	record[0] = type | wild() << 8;
	if (type == TRACE_ALLOC)
		record[1] = (record[1] & 0xffffffffffff) | draw() % 7 << 48 | draw() % 8 << 56;
	if (type == TRACE_STACK) {
		uint32_t natives = (uint32_t)(draw() % 100), pythons = (uint32_t)(draw() % 100);
		words = 3 + natives + pythons;
		record[1] = draw() % 300;
		record[2] = draw() % 10 ? TRACE_COUNTS(natives, pythons, 0, 0) : wild();
	} else if (type == TRACE_CODE || type == TRACE_MODULE) {
		words = 30;
		record[type == TRACE_CODE ? 3 : 4] = draw() % 60;
	}
	if (!lengths[type])
		record[0] = type | (uint64_t)words << 8;
	return words ? words : 1;
}

static void plausible_records(void)
{
	uint64_t record[600];

	header()->rings = mapped_rings();
	for (int round = 0; round < 20000; round++) {
		put((uint32_t)(draw() % mapped_rings()), record, plausible(record));
		if (round % 500 == 0)
			pause_ms(1);
	}
}

static void types_that_change(void)
{
	uint64_t mask = control->ring_bytes / 8 - 1, record[600];

	header()->rings = mapped_rings();
	for (int round = 0; round < 200000; round++) {
		uint32_t index = (uint32_t)(draw() % mapped_rings());
		uint64_t place = (ring(index)->tail + draw() % 64) & mask;
		words_of(index)[place] = (words_of(index)[place] & ~255ull) | draw() % 16;
		if (round % 100 == 0)
			put(index, record, plausible(record));
	}
}

static void numbers_at_the_limit(void)
{
	header()->rings = mapped_rings();
	for (uint32_t i = 0; i < mapped_rings(); i++) {
		put(i, (uint64_t[]){TRACE_STACK | 4 << 8, (1u << 24) - 1 - i, 1, 0x1234}, 4);
		put(i, (uint64_t[]){TRACE_CODE | 6 << 8, (1u << 24) - 1, 1, 0, 0, 0}, 6);
	}
	pause_ms(200);
}

static void modules_of_any_kind(const char *fifo)
{
	const char *paths[] = {fifo, "/dev/zero", "/proc/self/mem", "/", "\x1b[31m=cmd()"};
	uint64_t record[600];

	for (int i = 0; i < 5; i++) {
		size_t length = strlen(paths[i]), words = (length + 7) / 8;
		memset(record, 0, sizeof record);
		record[0] = TRACE_MODULE | (6 + words) << 8;
		record[2] = 0x100000 + (uint64_t)i * 0x100000;
		record[3] = record[2] + 0x100000;
		record[4] = length;
		memcpy(record + 5, paths[i], length);
		put(0, record, (uint32_t)(6 + words));
		put(0, (uint64_t[]){TRACE_STACK | 4 << 8, 1, 1, record[2] + 64}, 4);
		put(0,
		    (uint64_t[]){TRACE_ALLOC, 0x7f0000001000 | 1ull << 48 | 1ull << 56, 1 << 20, 1},
		    4);
	}
	pause_ms(100);
}

static void false_python(void)
{
	header()->python_version = 0x030b0000;
	header()->python_free_threaded = (uint32_t)(draw() % 2);
	for (unsigned i = 0; i < TRACE_EVAL_RANGES; i++) {
		header()->eval_start[i] = wild();
		header()->eval_end[i] = wild();
	}
	for (int i = 0; i < 2000; i++) {
		uint64_t *object = malloc(16 + draw() % 400);
		object[0] = 1;
		object[1] = (uintptr_t)object; /* its own type */
		block = object;
	}
	pause_ms(150);
}

static bool read_session(char *name, struct trace_request *request)
{
	static char text[65536];
	int fd = open("/proc/self/environ", O_RDONLY);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	for (char *at_ = text; length > 0 && at_ < text + length; at_ += strlen(at_) + 1)
		if (strncmp(at_, TRACE_SESSION_VARIABLE "=", 17) == 0 && strlen(at_) < 200)
			return sscanf(at_ + 17, "%63[^:]:%16lx%16lx", name, &request->token[0],
				      &request->token[1]) == 3;
	return false;
}

static int connect_to(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	memcpy(address.sun_path + 1, name, strlen(name));
	connect(fd, (struct sockaddr *)&address,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
	return fd;
}

static void send_with(int socket_, const void *bytes, size_t size, int fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr aligned;
	} control_ = {.space = {0}};
	struct iovec iov = {(void *)(uintptr_t)bytes, size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		message.msg_control = &control_;
		message.msg_controllen = sizeof control_;
		struct cmsghdr *data = CMSG_FIRSTHDR(&message);
		data->cmsg_level = SOL_SOCKET;
		data->cmsg_type = SCM_RIGHTS;
		data->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(data), &fd, sizeof fd);
	}
	sendmsg(socket_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Requests of every kind, right and wrong, with descriptors of every kind. */
static void odd_requests(void)
{
	struct trace_request request = {.magic = TRACE_REQUEST_MAGIC, .version = TRACE_VERSION};
	char name[TRACE_NAME_BYTES] = "";
	int pair[2], pipe_ends[2], zero = open("/dev/zero", O_RDONLY);

	if (!read_session(name, &request) || pipe(pipe_ends) < 0)
		return;
	for (int round = 0; round < 300; round++) {
		int fd = connect_to(name), kind = (int)(draw() % 8);
		socketpair(AF_UNIX, kind % 2 ? SOCK_SEQPACKET : SOCK_DGRAM, 0, pair);
		request.kind = (uint32_t)(draw() % 6);
		request.image = draw() % 3 ? draw() % 8 : wild();
		request.fork_serial = wild();
		request.rings = (uint32_t)(draw() % 3 ? draw() % 100 : wild());
		memset(request.reason, 0x1b, sizeof request.reason);
		const int others[] = {-1, pair[1], pair[1], pipe_ends[1], zero, fd, -1, 0};
		send_with(fd, &request, kind == 7 ? draw() % 400 : sizeof request, others[kind]);
		if (round % 3 == 0)
			send_with(fd, &request, sizeof request, pair[0]);
		if (round % 5 == 0)
			pause_ms(1);
		close(pair[0]);
		close(pair[1]);
		if (draw() % 2 || round > 200)
			close(fd);
	}
}

/* The memory cannot be resized; holes may be punched. */
static void odd_sizes(void)
{
	struct trace_request request = {.magic = TRACE_REQUEST_MAGIC,
					.version = TRACE_VERSION,
					.kind = TRACE_JOIN,
					.rings = 64};
	char name[TRACE_NAME_BYTES] = "", answer[64], space[256];
	struct iovec iov = {answer, sizeof answer};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = space,
				 .msg_controllen = sizeof space};
	int fds[3] = {-1, -1, -1};

	if (!read_session(name, &request))
		return;
	int fd = connect_to(name);
	send_with(fd, &request, sizeof request, -1);
	if (recvmsg(fd, &message, 0) <= 0 || !CMSG_FIRSTHDR(&message))
		return;
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), 2 * sizeof(int));
	struct trace_process *process =
		mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	if (process == MAP_FAILED)
		return;
	process->magic = TRACE_MAGIC;
	process->version = TRACE_VERSION;
	process->rings = 64;
	process->state = TRACE_RUNNING;
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 2; i++) {
			ftruncate(fds[i], 0);
			ftruncate(fds[i], 4096);
			fallocate(fds[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
			fallocate(fds[i], 0, 0, 1l << 36);
			fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE);
		}
		pause_ms(1);
	}
}

static void many_children(void)
{
	for (int i = 0; i < 60; i++) {
		pid_t child = fork();
		if (child == 0) {
			block = malloc(1 + draw() % 5000);
			if (i % 3 == 0)
				kill(getpid(), SIGKILL);
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
}

static void odd_names(char **arguments)
{
	memset(arguments[0], 0x1b, strlen(arguments[0]));
	prctl(PR_SET_NAME, "\x1b[2J\n=1+1");
	block = malloc(1 << 20);
	memset(block, 1, 1 << 20);
	pause_ms(100);
}

static void scribble(unsigned mode, char **arguments)
{
	static void (*const modes[])(void) = {
		garbage_in_rings,     garbage_in_directory,
		garbage_in_header,    extremes_in_header,
		plausible_records,    types_that_change,
		numbers_at_the_limit, false_python,
		odd_requests,         odd_sizes,
		many_children,
	};

	if (mode < sizeof modes / sizeof *modes)
		modes[mode]();
	else if (mode == 11)
		modules_of_any_kind(arguments[2]);
	else
		odd_names(arguments);
}

int main(int count, char **arguments)
{
	uint64_t seed = count > 2 ? strtoull(arguments[1], NULL, 10) : 0;

	state = 88172645463325252ull ^ (seed * 0x9e3779b97f4a7c15ull);
	for (int i = 0; i < 10; i++)
		draw();
	for (int i = 0; i < 2000; i++) {
		block = malloc(100 + (size_t)i);
		if (i & 1)
			free(block);
	}
	find_memory();
	if (!control || !header() || mapped_rings() == 0)
		return 3;
	scribble((unsigned)(seed % 13), arguments);
	if (seed % 5 == 0)
		kill(getpid(), SIGKILL);
	for (int i = 0; i < 500; i++)
		block = malloc(50 + (size_t)i);
	return STATUS;
}
