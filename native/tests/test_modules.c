/* Modules that are mapped at the same addresses one after the other. */
#define _GNU_SOURCE
#include "producer.h"

#define M TRACE_MALLOC
#define WORD(pc, epoch) ((pc) | (uint64_t)(epoch) << 57)

/* A MODULE record with a path of at most 8 bytes and a build ID of at most 8. */
static void put_module(struct producer *p, unsigned ring, uint64_t start, const char *path,
		       const char *build)
{
	char padded[2][9] = {{0}, {0}};
	uint64_t words[8] = {TRACE_MODULE, start, start, start + 0x1000, strlen(path)};
	unsigned at = 5;

	strcpy(padded[0], path);
	strcpy(padded[1], build);
	if (words[4])
		memcpy(&words[at++], padded[0], 8);
	words[at++] = strlen(build);
	if (strlen(build))
		memcpy(&words[at++], padded[1], 8);
	words[0] |= (uint64_t)at << 8;
	put(p, ring, words, at);
}

static void put_block(struct producer *p, unsigned ring, uint64_t time, uint64_t stack, uint64_t pc)
{
	put_stack(p, ring, stack, pc);
	put_alloc(p, ring, time, M, 0x10000 * time, 1, stack, 0);
}

static double live_at(struct mematlas_collector *collector, uint64_t word)
{
	return total_at(collector, 0, word, M).live_bytes;
}

static uint64_t modules_of(struct mematlas_collector *collector)
{
	return traced_of(collector, 0).modules;
}

static void test_successor_has_its_own_words(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 2);

	announce(&p);
	put_module(&p, 0, 0x5000, "/a", "01");
	put_block(&p, 0, 1, 1, 0x5100);
	put_module(&p, 0, 0x5000, "/b", "02");
	put_block(&p, 0, 2, 2, 0x5100);
	put_module(&p, 0, 0x5000, "/a", "01"); /* again: no new module */
	put_block(&p, 0, 3, 3, 0x5100);
	put_module(&p, 0, 0x5800, "/a", "03"); /* another build, over the end of the first */
	put_block(&p, 0, 4, 4, 0x5900);
	put_block(&p, 0, 5, 5, 0x5800); /* a return address: the call lies in front of it */
	/* another thread is late: for its stacks the first module is still there */
	put_module(&p, 1, 0x5000, "/a", "01");
	put_block(&p, 1, 6, 1, 0x5900);
	poll_all(collector);
	CHECK(live_at(collector, 0x5100) == 2 && live_at(collector, WORD(0x5100, 1)) == 1);
	CHECK(live_at(collector, WORD(0x5900, 2)) == 1 && live_at(collector, 0x5900) == 1);
	CHECK(live_at(collector, 0x5800) == 1);
	CHECK(modules_of(collector) == 3);
	struct mematlas_module module;
	CHECK(mematlas_collector_module(collector, 0, 1, &module) == 0);
	CHECK(module.start == WORD(0x5000, 1) && module.end == WORD(0x6000, 1));
	CHECK(module.bias == WORD(0x5000, 1) && strcmp(module.path, "/b") == 0);
	session_end(collector);
}

/* A JIT's code where a library was has no name; elsewhere it makes no module. */
static void test_code_without_a_file(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_module(&p, 0, 0x9000, "", "");
	put_module(&p, 0, 0x5000, "/a", "01");
	put_block(&p, 0, 1, 1, 0x9100);
	put_module(&p, 0, 0x5000, "", "");
	put_block(&p, 0, 2, 2, 0x5100);
	poll_all(collector);
	CHECK(live_at(collector, 0x9100) == 1 && live_at(collector, WORD(0x5100, 1)) == 1);
	CHECK(modules_of(collector) == 2);
	session_end(collector);
}

/* More modules than epochs: the words of the surplus have no module of a name. */
static void test_epochs_end(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_module module;
	char path[8];

	announce(&p);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(path, sizeof path, "/%u", i);
		put_module(&p, 0, 0x5000, path, "");
		put_block(&p, 0, 1 + i, 1 + i, 0x5100);
	}
	poll_all(collector);
	for (unsigned epoch = 0; epoch < 63; epoch++)
		CHECK(live_at(collector, WORD(0x5100, epoch)) == 1);
	CHECK(live_at(collector, WORD(0x5100, 63)) == 37);
	CHECK(modules_of(collector) == 64);
	CHECK(mematlas_collector_module(collector, 0, 63, &module) == 0);
	CHECK(strcmp(module.path, MODULE_TOO_MANY) == 0);
	session_end(collector);
}

/* Ranges that make no sense are no modules. */
static void test_malformed(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_module(&p, 0, WORD(0x5000, 3), "/a", "01");
	put_module(&p, 0, ~0ull - 0xfff, "/b", "01");
	put_block(&p, 0, 1, 1, WORD(0x5100, 3)); /* bits that no address has */
	put_block(&p, 0, 2, 2, 1ull << 63);
	poll_all(collector);
	CHECK(modules_of(collector) == 0 && live_at(collector, 0x5100) == 1);
	CHECK(traced_of(collector, 0).broken_rings == 0);
	session_end(collector);
}

int main(void)
{
	test_successor_has_its_own_words();
	test_code_without_a_file();
	test_epochs_end();
	test_malformed();
	return 0;
}
