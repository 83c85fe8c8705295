/* Sockets of traced processes, served by a thread: requests in, sealed memory out. A sender may be
 * hostile: what it says is checked, and who it is comes from the kernel. */
#define _GNU_SOURCE
#include "broker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../array.h"
#include "message.h"
#include "peer.h"

#define BACKLOG 4096
#define NAME_TRIES 16
#define MAX_REFUSALS 4096u
#define NO_DESCRIPTOR_US 10000u

static int take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static struct trace_answer make_answer(int error)
{
	return (struct trace_answer){
		.magic = TRACE_REQUEST_MAGIC, .version = TRACE_VERSION, .error = error};
}

/* Every byte is compared, so that the time tells nothing. */
static bool is_valid(const struct broker *broker, const struct message *message, ssize_t size)
{
	const struct trace_request *request = &message->request;
	uint64_t different =
		(request->token[0] ^ broker->token[0]) | (request->token[1] ^ broker->token[1]);

	return size == sizeof *request && !message->is_cut &&
	       request->magic == TRACE_REQUEST_MAGIC && request->version == TRACE_VERSION &&
	       !different && message->sender.pid > 0;
}

/* A kernel before 6.5 gives a PID, which may be another process's by the time it is opened. A second
 * request from that PID, while the pidfd opened after the first one is alive, proves whose it is. */
static bool must_repeat(const struct broker *broker, struct peer *peer, struct message *message)
{
	struct sender *sender = &message->sender;

	if (broker->lacks_pidfd && sender->pidfd >= 0)
		close(take(&sender->pidfd));
	if (sender->pidfd >= 0)
		return false;
	if (peer->first.pidfd >= 0 && peer->first.pid == sender->pid) {
		sender->pidfd = take(&peer->first.pidfd);
		return false;
	}
	if (peer->first.pidfd >= 0)
		close(peer->first.pidfd);
	peer->first = *sender;
	peer->first.pidfd = (int)syscall(SYS_pidfd_open, sender->pid, 0);
	return peer->first.pidfd >= 0;
}

static void join(struct broker *broker, struct peer *peer, struct message *message)
{
	struct trace_answer reply = make_answer(0);

	if (must_repeat(broker, peer, message)) {
		reply.error = -EAGAIN;
		message_answer(peer->fd, &reply, NULL, 0);
		return;
	}
	CLEANUP_CLOSE int memory =
		broker_admit(broker, &message->sender, &message->request, &reply);
	if (memory < 0) {
		reply.error = memory;
		message_answer(peer->fd, &reply, NULL, 0);
		return;
	}
	const int fds[TRACE_JOINED_MOST] = {broker->control, memory, broker->common};
	message_answer(peer->fd, &reply, fds, TRACE_JOINED_MOST);
}

static bool is_perf_event(int fd)
{
	char path[32], target[32] = "";

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(path, target, sizeof target - 1);
	return length > 0 && strcmp(target, "anon_inode:[perf_event]") == 0;
}

/* Queues them, if the image is the sender's own. */
static bool queue_events(struct broker *broker, const struct held_events *held, pid_t sender)
{
	pthread_mutex_lock(&broker->lock);
	const struct image *image = broker_image(broker, held->image);
	bool kept =
		image && image->pid == sender &&
		ARRAY_RESERVE(broker->events, broker->events_count, broker->events_capacity, 16u);
	if (kept)
		broker->events[broker->events_count++] = *held;
	pthread_mutex_unlock(&broker->lock);
	return kept;
}

/* Nothing else is held open for a process: another descriptor could be the end of a pipe. */
static void hold_events(struct broker *broker, struct message *message)
{
	struct held_events held = {message->request.image, {-1, -1}};

	for (unsigned i = 0; i < 2 && i < message->count; i++)
		if (is_perf_event(message->fds[i]))
			held.fds[i] = message->fds[i];
	if (!queue_events(broker, &held, message->sender.pid))
		return;
	for (unsigned i = 0; i < 2 && i < message->count; i++)
		if (held.fds[i] >= 0)
			take(&message->fds[i]);
	eventfd_write(broker->arrival, 1);
}

static void note_refusal(struct broker *broker, const struct message *message)
{
	pthread_mutex_lock(&broker->lock);
	if (broker->refusal_count < MAX_REFUSALS &&
	    ARRAY_RESERVE(broker->refusals, broker->refusal_count, broker->refusal_capacity, 16u)) {
		struct refusal *refusal = &broker->refusals[broker->refusal_count++];
		refusal->pid = message->sender.pid;
		memcpy(refusal->reason, message->request.reason, sizeof refusal->reason);
	}
	pthread_mutex_unlock(&broker->lock);
}

static bool is_message_socket(int fd)
{
	int domain = 0, type = 0;
	socklen_t size = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

/* A request over an inherited socket brings the end of a pair to answer on. NULL: it is no such. */
static struct peer *peer_to_answer(struct broker *broker, struct peer *peer,
				   struct message *message)
{
	if (message->count == 0)
		return peer;
	if (!is_message_socket(message->fds[0]))
		return NULL;
	return peer_add(broker, take(&message->fds[0]), true);
}

static void serve(struct broker *broker, struct peer *peer, struct message *message)
{
	const struct trace_answer done = make_answer(0), unknown = make_answer(-ENOENT);
	uint32_t kind = message->request.kind;

	if (kind == TRACE_EVENTS) {
		hold_events(broker, message);
		return;
	}
	if (kind == TRACE_REFUSED) {
		note_refusal(broker, message);
		return;
	}
	struct peer *asker = peer_to_answer(broker, peer, message);
	if (!asker)
		return;
	if (kind == TRACE_JOIN)
		join(broker, asker, message);
	else if (kind == TRACE_LIBRARY && broker->library >= 0)
		message_answer(asker->fd, &done, &broker->library, 1);
	else
		message_answer(asker->fd, &unknown, NULL, 0);
}

/* Returns false once the peer is gone. */
static bool serve_peer(struct broker *broker, struct peer *peer)
{
	struct message message;
	ssize_t size = message_receive(peer->fd, &message);

	if (size == -EAGAIN || size == -EINTR)
		return true;
	bool valid = size > 0 && is_valid(broker, &message, size);
	if (valid) {
		broker->strangers -= !peer->is_known;
		peer->is_known = true;
		serve(broker, peer, &message);
	}
	if (size >= 0)
		message_close(&message);
	if (size > 0 && (valid || peer->is_known))
		return true;
	peer_drop(broker, peer);
	return false;
}

/* The program has started, with the limit as it was, when that many processes have joined. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int open_reserve(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Without a descriptor for it, a connection would stay in the queue and wake the thread without end. */
static bool reject_peer(struct broker *broker)
{
	if (broker->reserve < 0)
		broker->reserve = open_reserve();
	if (broker->reserve < 0) {
		usleep(NO_DESCRIPTOR_US);
		return false;
	}
	close(take(&broker->reserve));
	int fd = accept4(broker->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		close(fd);
	broker->reserve = open_reserve();
	return fd >= 0;
}

/* Returns a socket, or -errno. */
static int accept_peer(struct broker *broker)
{
	int fd = accept4(broker->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && errno == EMFILE) {
		raise_descriptor_limit();
		fd = accept4(broker->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	return fd < 0 ? -errno : fd;
}

static void accept_peers(struct broker *broker)
{
	for (;;) {
		int fd = accept_peer(broker);
		if ((fd == -EMFILE || fd == -ENFILE) && reject_peer(broker))
			continue;
		if (fd < 0)
			return;
		peers_limit_strangers(broker);
		struct peer *peer = peer_add(broker, fd, false);
		if (peer)
			serve_peer(broker, peer); /* before it could be pushed out by others */
	}
}

static void *run(void *argument)
{
	struct broker *broker = argument;
	struct epoll_event event;

	for (;;) {
		/* One at a time: serving one peer may drop another. */
		int count = epoll_wait(broker->epoll, &event, 1, -1);
		if (count < 0 && errno != EINTR)
			return NULL;
		if (count <= 0)
			continue;
		if (event.data.ptr == &broker->stop)
			return NULL;
		pthread_mutex_lock(&broker->serving);
		if (event.data.ptr == &broker->listener)
			accept_peers(broker);
		else
			serve_peer(broker, event.data.ptr);
		pthread_mutex_unlock(&broker->serving);
	}
}

static int watch(struct broker *broker, int fd, void *which)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = which};

	return epoll_ctl(broker->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Names are free for all, so one that somebody else holds already is no error. */
static int bind_name(struct broker *broker)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint64_t number;

	for (int tries = 0; tries < NAME_TRIES; tries++) {
		if (getrandom(&number, sizeof number, 0) != sizeof number)
			return -EIO;
		int length = snprintf(broker->name, sizeof broker->name, "mematlas-%016llx",
				      (unsigned long long)number);
		memcpy(address.sun_path + 1, broker->name, (size_t)length);
		socklen_t size =
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
		if (bind(broker->listener, (struct sockaddr *)&address, size) == 0)
			return listen(broker->listener, BACKLOG) < 0 ? -errno : 0;
		if (errno != EADDRINUSE)
			return -errno;
	}
	return -EADDRINUSE;
}

static int open_sockets(struct broker *broker)
{
	if (getrandom(broker->token, sizeof broker->token, 0) != sizeof broker->token)
		return -EIO;
	broker->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	broker->epoll = epoll_create1(EPOLL_CLOEXEC);
	broker->stop = eventfd(0, EFD_CLOEXEC);
	broker->arrival = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (broker->listener < 0 || broker->epoll < 0 || broker->stop < 0 || broker->arrival < 0)
		return -errno;
	/* Inherited by what is accepted, so that the first message has them too. */
	message_ask_sender(broker->listener);
	int error = bind_name(broker);
	if (!error)
		error = watch(broker, broker->listener, &broker->listener);
	return error ? error : watch(broker, broker->stop, &broker->stop);
}

/* Signals are for the program's other threads. */
int broker_start(struct broker *broker)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&broker->thread, NULL, run, broker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	broker->is_running = !error;
	return -error;
}

int broker_open(struct broker *broker, uint32_t ring_bytes, const char *library)
{
	*broker = (struct broker){.listener = -1,
				  .epoll = -1,
				  .stop = -1,
				  .arrival = -1,
				  .reserve = open_reserve(),
				  .control = -1,
				  .common = -1,
				  .library = library ? open(library, O_RDONLY | O_CLOEXEC) : -1,
				  .is_open = true,
				  .ring_bytes = ring_bytes};
	pthread_mutex_init(&broker->lock, NULL);
	pthread_mutex_init(&broker->serving, NULL);
	return open_sockets(broker);
}

static void free_queues(struct broker *broker)
{
	for (uint32_t i = 0; i < broker->arrived_count; i++)
		process_free(broker->arrived[i]);
	for (uint32_t i = 0; i < broker->events_count; i++)
		for (int which = 0; which < 2; which++)
			if (broker->events[i].fds[which] >= 0)
				close(broker->events[i].fds[which]);
	free(broker->arrived);
	free(broker->events);
	free(broker->refusals);
	free(broker->images);
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void broker_close(struct broker *broker)
{
	if (!broker->is_open)
		return;
	if (broker->is_running) {
		eventfd_write(broker->stop, 1);
		pthread_join(broker->thread, NULL);
	}
	while (broker->newest)
		peer_drop(broker, broker->newest);
	const int fds[] = {broker->listener, broker->epoll,   broker->stop,   broker->arrival,
			   broker->reserve,  broker->control, broker->common, broker->library};
	for (unsigned i = 0; i < sizeof fds / sizeof *fds; i++)
		close_if_open(fds[i]);
	free_queues(broker);
	pthread_mutex_destroy(&broker->lock);
	pthread_mutex_destroy(&broker->serving);
}

int broker_adopt(struct broker *broker, int fd)
{
	if (!is_message_socket(fd)) {
		close(fd);
		return -EINVAL;
	}
	pthread_mutex_lock(&broker->serving);
	const struct peer *peer = peer_add(broker, fd, true);
	pthread_mutex_unlock(&broker->serving);
	return peer ? 0 : -ENOMEM;
}
