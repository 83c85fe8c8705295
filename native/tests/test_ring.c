/* The tracer's writer of a ring: records wrap around its end, and the invariants of ring and thread hold
 * after every record. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../tracer/ring.h"
#include "check.h"

#define RING_WORDS (TRACE_MIN_RING_DATA / 8)
#define RECORDS 20000u

static struct trace_control control;
static struct trace_process process;
static struct trace_ring ring;
static struct trace_thread thread;

/* A fresh ring, as a kernel with that page size would have it. */
static void set_up(size_t page_bytes)
{
	memset(&control, 0, sizeof control);
	memset(&process, 0, sizeof process);
	memset(&ring, 0, sizeof ring);
	memset(&thread, 0, sizeof thread);
	trace_session.control = &control;
	trace_session.process = &process;
	trace_session.ring_words = RING_WORDS;
	trace_session.page_bytes = page_bytes;
	atomic_store(&trace_state, TRACE_JOINED);
	control.life[0] = (uint32_t)getpid(); /* a collector that lives */
	thread.ring = &ring;
	thread.mask = RING_WORDS - 1;
	thread.words = mmap(NULL, TRACE_MIN_RING_DATA, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(thread.words != MAP_FAILED);
}

static void check_all(void)
{
	CHECK(trace_ring_is_valid(&ring, RING_WORDS));
	CHECK(trace_thread_is_valid(&thread));
}

/* Reads a record of `count` words as the collector does. */
static void drain(uint64_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		CHECK(thread.words[(ring.tail + i) & thread.mask] == first + i);
	__atomic_store_n(&ring.tail, ring.tail + count, __ATOMIC_RELEASE);
}

static void test_records_wrap(void)
{
	for (uint64_t i = 0; i < RECORDS; i++) {
		unsigned count = 2 + (unsigned)(i % 3);
		uint64_t words[4] = {i, i + 1, i + 2, i + 3};
		CHECK(trace_begin(&thread, count));
		check_all();
		CHECK(thread.populated == UINT64_MAX ||
		      thread.populated * 8 % trace_session.page_bytes == 0);
		trace_record(&thread, words, count);
		check_all();
		drain(i, count);
	}
	CHECK(ring.head > RING_WORDS && ring.head == ring.tail);
	CHECK(thread.populated == UINT64_MAX);
}

static void fill(void)
{
	while (thread.head + 2 <= ring.tail + RING_WORDS) {
		CHECK(trace_begin(&thread, 2));
		trace_record(&thread, (uint64_t[]){1, 2}, 2);
		check_all();
	}
}

/* The writer of a full ring waits for a collector that lives and reads nothing, but not for ever. What it
 * then drops is counted. It goes on as soon as the collector does. */
static void test_a_silent_collector(void)
{
	fill();
	CHECK(!trace_begin(&thread, 2) && process.stalls == 1 && process.lost_events == 1);
	CHECK(!trace_begin(&thread, 2) && process.lost_events == 2); /* without another wait */
	check_all();
	CHECK(trace_is_joined() && process.state != TRACE_DISABLED);
	control.heartbeat++;
	__atomic_store_n(&ring.tail, ring.head, __ATOMIC_RELEASE);
	CHECK(trace_begin(&thread, 2) && process.lost_events == 2);
	check_all();
}

/* The writer of a full ring gives up once the recording has ended, or the collector is dead. */
static void test_a_full_ring(bool ended)
{
	fill();
	control.off = ended;
	control.life[0] = ended ? control.life[0] : 0x40000000; /* FUTEX_OWNER_DIED */
	CHECK(!trace_begin(&thread, 2));
	CHECK(process.state == TRACE_DISABLED && process.reason[0] && process.lost_events == 0);
	check_all();
}

static void test_byte_strings(void)
{
	uint64_t before = thread.head;

	ring.tail = ring.head;
	CHECK(trace_begin(&thread, trace_bytes_words(9)));
	trace_bytes(&thread, "123456789", 9);
	CHECK(thread.head - before == trace_bytes_words(9));
	CHECK(thread.words[before & thread.mask] == 9);
	CHECK(thread.words[(before + 2) & thread.mask] == '9');
}

int main(void)
{
	for (size_t page = TRACE_MIN_PAGE; page <= TRACE_FILE_ALIGN; page *= 4) {
		if (page % (size_t)sysconf(_SC_PAGESIZE))
			continue;
		set_up(page);
		test_records_wrap();
		if (page == (size_t)sysconf(_SC_PAGESIZE))
			test_a_silent_collector();
		test_byte_strings();
		for (int ended = 0; ended < 2; ended++) {
			munmap(thread.words, TRACE_MIN_RING_DATA);
			set_up(page);
			test_a_full_ring(ended);
		}
		munmap(thread.words, TRACE_MIN_RING_DATA);
	}
	return 0;
}
