/* The census of Python objects. The "Python" is this test's own memory, with objects, blocks that
 * only look like objects, and memory that cannot be read. */
#include <errno.h>

#include "producer.h"

#define OBJECTS 40u
#define TYPE_WORDS 24

static uint64_t metatype[TYPE_WORDS], derived[TYPE_WORDS], plain[TYPE_WORDS], abstract[TYPE_WORDS];
static uint64_t nameless[TYPE_WORDS], wild[TYPE_WORDS];

static unsigned type_word = 1; /* word of an object that points to its type; 3 if free-threaded */

static void make_type(uint64_t *type, const uint64_t *of, const char *name, uint64_t flags)
{
	memset(type, 0, TYPE_WORDS * 8);
	type[0] = 1;
	type[type_word] = (uintptr_t)of;
	type[type_word + 2] = (uintptr_t)name;
	type[type_word + 20] = flags;
}

static void make_types(void)
{
	make_type(metatype, metatype, "type", 1ull << 31);
	make_type(derived, metatype, "Meta", 1ull << 31);
	make_type(plain, metatype, "Plain", 0);
	make_type(abstract, derived, "Abstract", 0);
	make_type(nameless, metatype, "", 0);
	make_type(wild, metatype, (const char *)16, 0);
}

static void check_type(const struct mematlas_object *rows, int64_t count,
		       char (*names)[MEMATLAS_TYPE_NAME], const char *name, double bytes,
		       double objects)
{
	double found_bytes = 0, found = 0;

	for (int64_t i = 0; i < count; i++) {
		if (strcmp(names[rows[i].type], name) != 0)
			continue;
		found_bytes += rows[i].bytes;
		found += rows[i].count;
	}
	CHECK(found_bytes == bytes && found == objects);
}

static void put_block(struct producer *p, uint64_t *block, unsigned words)
{
	static uint64_t time = 1;

	put_alloc(p, 0, time++, TRACE_PYOBJECT, (uintptr_t)block, words * 8, 1, 0);
}

/* A block of `words` with a reference count at word `at` and a type behind it. */
static void put_object(struct producer *p, uint64_t *block, unsigned words, unsigned at,
		       uint64_t count, const uint64_t *type)
{
	block[at] = count;
	block[at + 1] = (uintptr_t)type;
	put_block(p, block, words);
}

/* The same for free-threaded CPython: owner; owner's count, lock and flags; count of other
 * threads. */
static void put_shared(struct producer *p, uint64_t *block, unsigned at, uint64_t owner,
		       uint64_t counts, uint64_t shared, const uint64_t *type)
{
	memcpy(block + at, (uint64_t[]){owner, counts, shared, (uintptr_t)type}, 32);
	put_block(p, block, 8);
}

static void check_free_threaded(void)
{
	static struct mematlas_object rows[256];
	static char names[64][MEMATLAS_TYPE_NAME];
	static uint64_t blocks[OBJECTS * 64] __attribute__((aligned(4096)));
	const uint64_t thread = 0x7f1234567740, mine = 3ull << 32;
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	type_word = 3;
	make_types();
	p.process->python_version = 0x030e07f0;
	p.process->python_free_threaded = 1;
	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	for (uint64_t *at = blocks; at < blocks + OBJECTS * 64; at += 64) {
		put_shared(&p, at, 0, thread, mine | 1 << 24, 0, plain); /* tracked by the GC */
		put_shared(&p, at + 8, 2, thread, mine | 1 << 16 | 4, 0, abstract); /* locked */
		put_shared(&p, at + 16, 0, 0, 0, 8, derived); /* all counts are merged */
		put_shared(&p, at + 24, 0, thread, 0, 0, plain); /* freed */
		put_shared(&p, at + 32, 0, 5, mine, 0, plain); /* not the address of a thread */
		put_shared(&p, at + 40, 0, thread, mine | 200 << 16, 0,
			   plain); /* not a state of the lock */
		put_shared(&p, at + 48, 0, thread, mine, 0, at);
	}
	poll_all(collector);
	int64_t count = mematlas_collector_objects(collector, 0, rows, 256, names, 64);
	CHECK(count == 3);
	check_type(rows, count, names, "Plain", OBJECTS * 64, OBJECTS);
	check_type(rows, count, names, "Abstract", OBJECTS * 64, OBJECTS);
	check_type(rows, count, names, "Meta", OBJECTS * 64, OBJECTS);
	session_end(collector);
}

static void check_locked(void)
{
	static struct mematlas_object rows[256];
	static char names[64][MEMATLAS_TYPE_NAME];
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	make_types();
	p.process->python_version = 0x030b00f0;
	announce(&p);
	put_stack(&p, 0, 1, 0x1000);

	char *pages =
		mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(pages != MAP_FAILED);
	uint64_t *at = (uint64_t *)pages;
	for (unsigned i = 0; i < OBJECTS; i++, at += 80) {
		uint64_t self = (uintptr_t)at;
		put_object(&p, at, 8, 0, 1 + i, plain); /* no words before it */
		put_object(&p, at + 8, 8, 2, 1 | 0x5ull << 48, abstract); /* links; 3.14's flags */
		put_object(&p, at + 16, 6, 4, 0xffffffff, derived); /* a dict, too; immortal */
		put_object(&p, at + 24, 8, 0, 0, plain); /* no count: freed */
		put_object(&p, at + 32, 8, 0, self, plain); /* an array of pointers */
		put_object(&p, at + 40, 8, 0, 1, at); /* its type pointer points to no type */
		put_object(&p, at + 48, 8, 0, 1, nameless);
		put_object(&p, at + 56, 8, 0, 1, wild);
		put_object(&p, at + 64, 8, 0, 1, (const uint64_t *)8);
		put_object(&p, at + 72, 8, 0, 1, (const uint64_t *)0x7fff00000000ull);
	}
	/* In unmapped pages, and in one never touched. */
	char *gone = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	put_object(&p, (uint64_t *)gone, 8, 0, 1, plain);
	put_alloc(&p, 0, 100000, TRACE_PYOBJECT, (uintptr_t)gone + 4096, 64, 1, 0);
	CHECK(munmap(gone, 4096) == 0);
	poll_all(collector);

	int64_t count = mematlas_collector_objects(collector, 0, rows, 256, names, 64);
	CHECK(count == 3);
	check_type(rows, count, names, "Plain", OBJECTS * 64, OBJECTS);
	check_type(rows, count, names, "Abstract", OBJECTS * 64, OBJECTS);
	check_type(rows, count, names, "Meta", OBJECTS * 48, OBJECTS);
	CHECK(mematlas_collector_objects(collector, 7, rows, 256, names, 64) == -ESRCH);
	CHECK(mematlas_collector_objects(collector, 0, rows, 2, names, 1) == 2);
	p.process->python_version = 0;
	CHECK(mematlas_collector_objects(collector, 0, rows, 256, names, 64) == 0);
	session_end(collector);
}

int main(void)
{
	check_locked();
	check_free_threaded();
	return 0;
}
