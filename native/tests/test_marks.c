/* Marks, from the ring to the answer. */
#define _GNU_SOURCE
#include <errno.h>

#include "producer.h"

static void put_mark(struct producer *p, unsigned ring, uint64_t time, uint64_t serial,
		     const char *name)
{
	uint64_t words[2 + TRACE_MARK_BYTES / 8] = {TRACE_MARK | time << 8, serial};

	memcpy(words + 2, name, strnlen(name, TRACE_MARK_BYTES));
	put(p, ring, words, sizeof words / 8);
}

static bool is_marked(struct mematlas_collector *collector)
{
	struct mematlas_event event;
	bool found = false;

	for (int i = 0; i < 8; i++) {
		CHECK(mematlas_collector_poll(collector, 0, &event) >= 0);
		found |= event.type == MEMATLAS_EVENT_MARK && event.process == 0;
	}
	return found;
}

static void test_marks_come_by_time(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 2);
	struct mematlas_mark mark;

	announce(&p);
	put_mark(&p, 0, 30, 1, "second");
	put_mark(&p, 1, 20, 7, "first");
	CHECK(is_marked(collector));
	CHECK(mematlas_collector_mark(collector, 0, &mark) == 1 && mark.ring == 1 &&
	      mark.serial == 7 && strcmp(mark.name, "first") == 0);
	CHECK(p.rings[1].answered == 0);
	CHECK(mematlas_collector_answer(collector, 0, &mark) == 0);
	CHECK(p.rings[1].answered == 7 && p.rings[0].answered == 0);
	CHECK(mematlas_collector_mark(collector, 0, &mark) == 1 &&
	      strcmp(mark.name, "second") == 0);
	mark.serial = 0; /* an answer never takes back another */
	CHECK(mematlas_collector_answer(collector, 0, &mark) == 0 && p.rings[0].answered == 0);
	mark.ring = 5;
	CHECK(mematlas_collector_answer(collector, 0, &mark) == -EINVAL);
	CHECK(mematlas_collector_mark(collector, 0, &mark) == 0);
	put_mark(&p, 0, 40, 2, "third");
	CHECK(is_marked(collector)); /* told again after the queue was emptied */
	session_end(collector);
}

/* A name without a NUL, and more marks than are kept. */
static void test_marks_are_bounded(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_mark mark;
	char name[TRACE_MARK_BYTES + 1];
	uint64_t time = 1;

	announce(&p);
	memset(name, 'x', sizeof name);
	name[TRACE_MARK_BYTES] = 0;
	for (unsigned i = 0; i < MOST_MARKS; i++) {
		put_mark(&p, 0, time++, 0, name);
		if (i % 100 == 0)
			poll_all(collector);
	}
	put_mark(&p, 0, time, 1, "waits");
	poll_all(collector);
	CHECK(traced_of(collector, 0).marks_lost == MOST_MARKS / 2);
	unsigned count = 0;
	while (mematlas_collector_mark(collector, 0, &mark) == 1)
		if (++count <= MOST_MARKS / 2)
			CHECK(strlen(mark.name) == TRACE_MARK_BYTES - 1);
	CHECK(count == MOST_MARKS / 2 + 1 && strcmp(mark.name, "waits") == 0);
	session_end(collector);
}

int main(void)
{
	test_marks_come_by_time();
	test_marks_are_bounded();
	return 0;
}
