/* Processes that leave the collector's table after their end. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "producer.h"

static int paused_child(void)
{
	pid_t child = fork();

	if (child == 0)
		pause();
	return child;
}

/* What a recording for weeks keeps of processes that have ended: nothing, and no number comes again. */
static void test_ended_processes_are_removed(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct mematlas_traced traced;
	struct mematlas_event event = {MEMATLAS_EVENT_NONE, -1};
	struct producer parent = produce(collector, getpid(), 1);

	announce(&parent);
	poll_all(collector);
	for (int i = 1; i <= 300; i++) {
		pid_t pid = paused_child();
		struct producer child = produce_fork(collector, pid, 1, parent.image, (uint64_t)i);
		announce(&child);
		poll_all(collector);
		CHECK(traced_of(collector, i).parent == 0);
		CHECK(family_size(collector, process_at(collector, i)) == 2);
		CHECK(mematlas_collector_remove(collector, i) == -EBUSY);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		for (event.process = -1; event.type != MEMATLAS_EVENT_ENDED || event.process != i;)
			CHECK(mematlas_collector_poll(collector, 1000, &event) == 1);
		CHECK(mematlas_collector_remove(collector, i) == -EBUSY);
		CHECK(mematlas_collector_forget(collector, i) == 0);
		CHECK(mematlas_collector_remove(collector, i) == 0);
		CHECK(mematlas_collector_process(collector, i, &traced) == -ESRCH);
		CHECK(collector->count == 1 && collector->broker.image_count == 1);
		munmap(child.process, FILE_BYTES);
	}
	CHECK(traced_of(collector, 0).ending == MEMATLAS_RUNNING);
	CHECK(mematlas_collector_remove(collector, 1) == -ESRCH);
	session_end(collector);
}

/* A process outlives the one that forked it, and a user all processes that it had. */
static void test_removed_parents(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct mematlas_event event = {MEMATLAS_EVENT_NONE, -1};
	pid_t first = paused_child();
	struct producer parent = produce(collector, first, 1);

	announce(&parent);
	poll_all(collector);
	struct producer twins[2];
	for (int i = 0; i < 2; i++) {
		twins[i] = produce_fork(collector, getpid(), 1, parent.image, (uint64_t)i + 1);
		collector->broker.arrived[0]->pid += i; /* or the second would be the next image */
		announce(&twins[i]);
		poll_all(collector);
	}
	kill(first, SIGKILL);
	waitpid(first, NULL, 0);
	while (event.type != MEMATLAS_EVENT_ENDED)
		CHECK(mematlas_collector_poll(collector, 1000, &event) == 1);
	collector->broker.images[0].uid = 65534;
	CHECK(mematlas_collector_forget(collector, 0) == 0);
	CHECK(mematlas_collector_remove(collector, 0) == 0);
	CHECK(family_size(collector, process_at(collector, 1)) == 2);
	CHECK(traced_of(collector, 2).parent == 0);
	CHECK(!broker_image(&collector->broker, parent.image));
	CHECK(collector->broker.image_count == 3 && collector->broker.images[0].uid == 65534);
	session_end(collector);
}

int main(void)
{
	test_ended_processes_are_removed();
	test_removed_parents();
	return 0;
}
