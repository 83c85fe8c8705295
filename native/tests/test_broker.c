/* Joining a session: the tracer's own requests, from processes of their own, and forged ones. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../tracer/session_socket.h"
#include "../tracer/state.h"
#include "producer.h"

#define STRANGERS 400
#define MOST_PASSED 253u /* descriptors with one message */

/* In a child, whose exit status tells whether all was as expected. */
static int run_child(int (*act)(struct mematlas_collector *), struct mematlas_collector *collector)
{
	int status, pid = fork();

	if (pid == 0)
		_exit(act(collector));
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

#define EXPECT(condition)                                                                          \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

/* The memory that a process gets cannot be resized by it, and control cannot be written. */
static int check_memory(const struct trace_joining *joined)
{
	int control = joined->fds[TRACE_JOINED_CONTROL], memory = joined->fds[TRACE_JOINED_MEMORY];
	const int fds[] = {control, memory};
	char path[32];

	for (int i = 0; i < 2; i++) {
		EXPECT(ftruncate(fds[i], 0) < 0 && errno == EPERM);
		EXPECT(ftruncate(fds[i], 1l << 40) < 0 && errno == EPERM);
		EXPECT(fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
	}
	EXPECT(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, control, 0) == MAP_FAILED);
	void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, control, 0);
	EXPECT(page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_WRITE) < 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", control);
	int again = open(path, O_RDWR);
	EXPECT(again < 0 || write(again, "x", 1) < 0);
	EXPECT(mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0) != MAP_FAILED);
	return 0;
}

static int join_by_name(struct mematlas_collector *collector)
{
	struct trace_joining joined;

	EXPECT(trace_socket_set(collector->session));
	EXPECT(trace_socket_join(0, 0, &joined) == 0);
	EXPECT(joined.answer.image > 0 && joined.answer.rings == TRACE_MAX_RINGS);
	return check_memory(&joined);
}

/* Marks the memory as a running process's. */
static int begin(const struct trace_joining *joined)
{
	struct trace_process *process = mmap(NULL, TRACE_HEADER_BYTES, PROT_READ | PROT_WRITE,
					     MAP_SHARED, joined->fds[TRACE_JOINED_MEMORY], 0);

	EXPECT(process != MAP_FAILED);
	process->magic = TRACE_MAGIC;
	process->version = TRACE_VERSION;
	process->pid = 1; /* a lie */
	process->parent_pid = 1;
	__atomic_store_n(&process->state, TRACE_RUNNING, __ATOMIC_RELEASE);
	return 0;
}

/* A child of a child, where the name is out of reach: by the socket of its parent. */
static int join_by_socket(struct mematlas_collector *collector)
{
	struct trace_joining joined;
	char text[TRACE_SESSION_TEXT];
	int status;

	EXPECT(trace_socket_set(collector->session));
	EXPECT(trace_socket_join(0, 0, &joined) == 0 && begin(&joined) == 0);
	uint64_t image = joined.answer.image;
	int pid = fork();
	if (pid == 0) {
		EXPECT(trace_socket_join(image, 7, &joined) == 0 &&
		       joined.answer.image == image + 1);
		_exit(begin(&joined));
	}
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	if (unshare(CLONE_NEWNET) < 0)
		return errno == EPERM ? 0 : 1;
	trace_socket_format(text);
	EXPECT(strchr(strchr(text, ':') + 1, ':'));
	execl("/proc/self/exe", "test_broker", text, NULL);
	return 1;
}

static int connect_raw(int fd, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path + 1, name, strlen(name));
	return connect(fd, (struct sockaddr *)&address,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
}

static int send_raw(const char *name, const void *bytes, size_t size)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	CHECK(connect_raw(fd, name) == 0);
	if (size)
		CHECK(send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
	return fd;
}

/* Anybody may connect: silence, garbage and a wrong token get nothing, and keep nobody out. */
static int forge(struct mematlas_collector *collector)
{
	const char *name = collector->broker.name;
	char wrong[128], byte;
	struct trace_joining joined;
	uint64_t garbage[64] = {TRACE_REQUEST_MAGIC, TRACE_VERSION | 1ull << 32, 5, 5};

	int empty = send_raw(name, "", 1);
	int odd = send_raw(name, garbage, sizeof(struct trace_request));
	int large = send_raw(name, garbage, sizeof garbage);
	EXPECT(recv(empty, &byte, 1, 0) <= 0 && recv(odd, &byte, 1, 0) <= 0);
	EXPECT(recv(large, &byte, 1, 0) <= 0);
	strcpy(wrong, collector->session);
	char *token = strchr(wrong, ':') + 1;
	*token = *token == '0' ? '1' : '0';
	EXPECT(trace_socket_set(wrong) && trace_socket_join(0, 0, &joined) < 0);
	for (int i = 0; i < STRANGERS; i++)
		send_raw(name, NULL, 0);
	return join_by_name(collector);
}

/* With that many descriptors of one end of a pipe; the pipe ends once nobody holds any. */
static int send_descriptors(const char *name, const struct trace_request *request, unsigned count)
{
	char space[CMSG_SPACE(sizeof(int) * MOST_PASSED)] __attribute__((aligned(8))) = {0}, byte;
	struct iovec bytes = {(void *)(uintptr_t)request, sizeof *request};
	struct msghdr header = {.msg_iov = &bytes,
				.msg_iovlen = 1,
				.msg_control = space,
				.msg_controllen = CMSG_SPACE(sizeof(int) * count)};
	int ends[2], fd = send_raw(name, NULL, 0);

	EXPECT(pipe(ends) == 0);
	struct cmsghdr *data = CMSG_FIRSTHDR(&header);
	data->cmsg_level = SOL_SOCKET;
	data->cmsg_type = SCM_RIGHTS;
	data->cmsg_len = CMSG_LEN(sizeof(int) * count);
	for (unsigned i = 0; i < count; i++)
		memcpy(CMSG_DATA(data) + i * sizeof(int), &ends[1], sizeof(int));
	EXPECT(sendmsg(fd, &header, MSG_NOSIGNAL) == (ssize_t)sizeof *request);
	close(ends[1]);
	EXPECT(read(ends[0], &byte, 1) == 0);
	close(ends[0]);
	close(fd);
	return 0;
}

/* More than a request is to bring, by a stranger and by one who has the token. */
static int send_many_descriptors(struct mematlas_collector *collector)
{
	const struct broker *broker = &collector->broker;
	struct trace_request request = {
		.magic = TRACE_REQUEST_MAGIC, .version = TRACE_VERSION, .kind = TRACE_EVENTS};
	const unsigned counts[] = {TRACE_MAX_DESCRIPTORS, TRACE_MAX_DESCRIPTORS + 1, 10,
				   MOST_PASSED};

	for (unsigned known = 0; known < 2; known++) {
		if (known)
			memcpy(request.token, broker->token, sizeof request.token);
		for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++)
			EXPECT(send_descriptors(broker->name, &request, counts[i]) == 0);
	}
	return join_by_name(collector);
}

/* Only perf events are held open, and only for the sender's own image. */
static int send_events(struct mematlas_collector *collector)
{
	struct trace_joining joined;
	struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE,
					     .size = sizeof attributes,
					     .config = PERF_COUNT_SW_DUMMY,
					     .exclude_kernel = 1};
	int pipe_ends[2];
	char byte;

	EXPECT(trace_socket_set(collector->session));
	EXPECT(trace_socket_join(0, 0, &joined) == 0 && begin(&joined) == 0);
	EXPECT(pipe(pipe_ends) == 0);
	trace_session.image = joined.answer.image;
	trace_socket_send_events(&pipe_ends[1], 1);
	close(pipe_ends[1]);
	EXPECT(read(pipe_ends[0], &byte, 1) == 0); /* until nobody holds the other end */
	int event = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
	const int twice[] = {event, event};
	trace_session.image = joined.answer.image - 1;
	trace_socket_send_events(twice, event < 0 ? 0 : 2);
	trace_session.image = joined.answer.image;
	trace_socket_send_events(twice, event < 0 ? 0 : 2);
	trace_socket_refuse("because");
	EXPECT(trace_socket_library() < 0);
	return 0;
}

static int adopted_end;

static int join_by_descriptor(struct mematlas_collector *collector)
{
	struct trace_joining joined;
	char text[TRACE_SESSION_TEXT];

	snprintf(text, sizeof text, "%s:%d", strchr(collector->session, ':'), adopted_end);
	EXPECT(*text == ':' && trace_socket_set(text));
	EXPECT(trace_socket_join(0, 0, &joined) == 0 && joined.answer.image == 1);
	return check_memory(&joined);
}

/* As in a container, whose process has neither the name nor the environment. */
static void test_adopted_socket(void)
{
	struct mematlas_collector *collector = session_start(0);
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	CHECK(mematlas_collector_adopt(collector, open("/dev/null", O_RDONLY)) == -EINVAL);
	CHECK(mematlas_collector_adopt(collector, pair[0]) == 0);
	adopted_end = pair[1];
	CHECK(run_child(join_by_descriptor, collector) == 0);
	close(pair[1]);
	session_end(collector);
}

static void test_joins(bool lacks_pidfd)
{
	struct mematlas_collector *collector = session_start(0);

	collector->broker.lacks_pidfd = lacks_pidfd;
	CHECK(run_child(join_by_name, collector) == 0);
	CHECK(run_child(join_by_socket, collector) == 0);
	poll_all(collector);
	CHECK(collector->count == 3 || collector->count == 2);
	for (uint32_t i = 0; i < collector->count; i++) {
		const struct process *process = collector->processes[i];
		CHECK(process->pid > 1 && process->pid != getpid() && process->uid == getuid());
		CHECK(traced_of(collector, (int)i).pid == process->pid);
	}
	const struct process *child = collector->processes[1];
	CHECK(child->fork_image == collector->processes[0]->image && child->fork_serial == 7);
	CHECK(child->parent == 0 && child->parent_pid == collector->processes[0]->pid);
	session_end(collector);
}

static void test_forgeries(void)
{
	struct mematlas_collector *collector = session_start(0);

	CHECK(run_child(forge, collector) == 0);
	CHECK(run_child(send_many_descriptors, collector) == 0);
	session_end(collector);
}

/* Threads of this process share the broker's table of descriptors. */
static void test_no_descriptors(void)
{
	struct mematlas_collector *collector = session_start(0);
	const char *name = collector->broker.name;
	int ours[256], count = 0;
	char byte;

	int outside = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){256, 256}) == 0);
	while ((ours[count] = dup(outside)) >= 0)
		count++;
	CHECK(errno == EMFILE);
	CHECK(connect_raw(outside, name) == 0);
	CHECK(recv(outside, &byte, 1, 0) <= 0); /* turned away, not left waiting */
	while (count > 0)
		close(ours[--count]);
	close(outside);
	CHECK(run_child(join_by_name, collector) == 0);
	session_end(collector);
}

static void test_messages(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct mematlas_refusal refusals[4];

	CHECK(run_child(join_by_name, collector) == 0);
	CHECK(run_child(send_events, collector) == 0);
	while (mematlas_collector_refusals(collector, 0, refusals, 4) == 0)
		usleep(1000);
	CHECK(strcmp(refusals[0].reason, "because") == 0 && refusals[0].pid > 1);
	pthread_mutex_lock(&collector->broker.lock);
	for (uint32_t i = 0; i < collector->broker.events_count; i++)
		CHECK(collector->broker.events[i].image == 2);
	pthread_mutex_unlock(&collector->broker.lock);
	poll_all(collector);
	session_end(collector);
}

/* Admits a process as if it had asked; returns it as queued. */
static const struct process *admit(struct mematlas_collector *collector,
				   const struct trace_request *request, uid_t uid)
{
	struct sender sender = {getpid(), uid, (int)syscall(SYS_pidfd_open, getpid(), 0)};
	struct broker *broker = &collector->broker;
	struct trace_answer answer;
	int memory = broker_admit(broker, &sender, request, &answer);

	CHECK(memory >= 0 && answer.rings == 1);
	close(memory);
	close(sender.pidfd);
	return broker->arrived[broker->arrived_count - 1];
}

/* A child may take over what its parent had, and nobody else's. */
static void test_foreign_parent(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct trace_request request = {.rings = 1, .image = 1, .fork_serial = 1};
	struct producer parent = produce(collector, getppid(), 1);

	CHECK(parent.image == 1);
	const struct process *child = admit(collector, &request, 65534);
	CHECK(child->parent_pid == getppid());
	CHECK(child->fork_image == 1 && child->fork_serial == 1);
	collector->broker.images[0].pid = 1;
	child = admit(collector, &request, 65534);
	CHECK(child->fork_image == 0 && child->fork_serial == 0);
	session_end(collector);
}

/* Another user's process that descends from none of the session's is not let in, token or not, unless it
 * is the one that is entered. */
static void test_strangers_with_a_token(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct trace_request request = {.rings = 1};
	struct sender init = {1, 65534, (int)syscall(SYS_pidfd_open, 1, 0)};
	struct trace_answer answer;

	if (init.pidfd >= 0) {
		CHECK(broker_admit(&collector->broker, &init, &request, &answer) == -EACCES);
		CHECK(collector->broker.arrived_count == 0);
		mematlas_collector_admit(collector, 1); /* now it is to be entered */
		int memory = broker_admit(&collector->broker, &init, &request, &answer);
		CHECK(memory >= 0 && collector->broker.arrived_count == 1);
		close(memory);
		close(init.pidfd);
	}
	session_end(collector);
}

/* As a program that was executed in another network namespace: argv has the session. */
static int join_as_executed(const char *text)
{
	struct trace_joining joined;
	const char *number = strchr(strchr(text, ':') + 1, ':') + 1;

	EXPECT(trace_socket_set(text) && fcntl(atoi(number), F_GETFD) == 0);
	EXPECT(trace_socket_join(0, 0, &joined) == 0 && joined.answer.image == 4);
	EXPECT(fcntl(atoi(number), F_GETFD) < 0 && errno == EBADF);
	return begin(&joined);
}

#define IMPOSTOR "mematlas-impostor"

/* Listens at a name in a child, and answers one request with memory that it can resize. The child's exit
 * status is 1 once it has received a request. */
static int start_impostor(uid_t uid)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0" IMPOSTOR};
	struct trace_answer reply = {
		.magic = TRACE_REQUEST_MAGIC, .version = TRACE_VERSION, .image = 1, .rings = 1};
	struct trace_request request;
	struct iovec bytes = {&reply, sizeof reply};
	char space[CMSG_SPACE(sizeof(int) * 2)] __attribute__((aligned(8))) = {0};
	struct msghdr header = {.msg_iov = &bytes,
				.msg_iovlen = 1,
				.msg_control = space,
				.msg_controllen = sizeof space};
	int ready[2], listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	char byte = 0;

	CHECK(pipe(ready) == 0);
	int pid = fork();
	if (pid > 0) {
		CHECK(read(ready[0], &byte, 1) == 1);
		close(ready[0]), close(ready[1]), close(listener);
		return pid;
	}
	const int fds[] = {memfd_create("a", MFD_ALLOW_SEALING),
			   memfd_create("b", MFD_ALLOW_SEALING)};
	struct cmsghdr *data = CMSG_FIRSTHDR(&header);
	data->cmsg_level = SOL_SOCKET;
	data->cmsg_type = SCM_RIGHTS;
	data->cmsg_len = CMSG_LEN(sizeof fds);
	memcpy(CMSG_DATA(data), fds, sizeof fds);
	CHECK(setuid(uid) == 0);
	CHECK(bind(listener, (struct sockaddr *)&address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof IMPOSTOR)) == 0);
	CHECK(listen(listener, 1) == 0 && write(ready[1], &byte, 1) == 1);
	int fd = accept(listener, NULL, NULL);
	if (recv(fd, &request, sizeof request, 0) <= 0)
		_exit(0);
	CHECK(sendmsg(fd, &header, 0) > 0);
	_exit(1);
}

/* Once a collector has ended, its name is free for anybody. */
static void test_impostor(uid_t uid)
{
	struct trace_joining joined;
	int status, pid = start_impostor(uid);

	CHECK(trace_socket_set(IMPOSTOR ":00000000000000000000000000000000"));
	int error = trace_socket_join(0, 0, &joined);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK(WEXITSTATUS(status) == (uid == geteuid())); /* nobody else gets the token */
	CHECK(error == (uid == geteuid() ? -EPROTO : -ENOTCONN));
}

int main(int count, char **arguments)
{
	if (count > 1)
		return join_as_executed(arguments[1]);
	test_joins(false);
	test_joins(true);
	test_adopted_socket();
	test_forgeries();
	test_messages();
	test_foreign_parent();
	test_strangers_with_a_token();
	test_impostor(geteuid());
	if (geteuid() == 0)
		test_impostor(12345);
	test_no_descriptors();
	return 0;
}
