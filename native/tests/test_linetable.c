/* Line tables: the lines of offsets, and tables that are cut or damaged, which give no line and are not read past. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "mematlas.h"
#include "random.h"
#include "trace_format.h"

static int64_t line_at(uint32_t format, const uint8_t *table, uint64_t size, uint32_t offset)
{
	int64_t line = 0;

	CHECK(mematlas_linetable_lines(format, table, size, 10, &offset, 1, &line) == 0);
	return line;
}

static void test_offsets_of_one_entry_have_its_line(void)
{
	/* Two code units on line 11 (one-line form 1), one on none, four on line 9 (no columns, step -2). */
	const uint8_t table[] = {0x80 | 11 << 3 | 1, 0, 0, 0x80 | 15 << 3, 0x80 | 13 << 3 | 3, 5};
	const uint32_t offsets[] = {0, 2, 4, 6, 6, 12, 14, UINT32_MAX};
	const int64_t wanted[] = {11, 11, INT64_MIN, 9, 9, 9, INT64_MIN, INT64_MIN};
	int64_t lines[8];

	CHECK(mematlas_linetable_lines(TRACE_LINES_LOCATIONS, table, sizeof table, 10, offsets, 8,
				       lines) == 0);
	CHECK(memcmp(lines, wanted, sizeof lines) == 0);
	CHECK(line_at(99, table, sizeof table, 0) == INT64_MIN);
	const uint32_t descending[] = {2, 0};
	CHECK(mematlas_linetable_lines(TRACE_LINES_LOCATIONS, table, sizeof table, 10, descending,
				       2, lines) == -EINVAL);
}

static void test_lines_stop_where_a_number_does_not_fit(void)
{
	const uint8_t endless[] = {0x80 | 13 << 3, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f,
				   0x7f,           0x7f, 0x7f, 0x7f, 0x7f, 0x3f};
	const uint8_t one[] = {0x80 | 11 << 3, 0, 0};
	uint32_t offset = 0;
	int64_t line = 0;

	CHECK(line_at(TRACE_LINES_LOCATIONS, endless, sizeof endless, 0) == INT64_MIN);
	CHECK(mematlas_linetable_lines(TRACE_LINES_LOCATIONS, one, sizeof one, INT64_MAX, &offset,
				       1, &line) == 0);
	CHECK(line == INT64_MIN);
}

/* Each table is a block of its own, so that a read past its end is seen by AddressSanitizer. */
static void test_any_bytes_are_a_table(void)
{
	for (uint32_t seed = 1; seed <= 2000; seed++) {
		uint64_t state = seed, size = random_next(&state) % 40;
		uint8_t *table = malloc(size ? size : 1);
		uint32_t offsets[] = {0, 8, 100, 10000};
		int64_t lines[4];

		CHECK(table);
		for (uint64_t i = 0; i < size; i++)
			table[i] = (uint8_t)random_next(&state);
		for (uint32_t format = 0; format < 4; format++)
			CHECK(mematlas_linetable_lines(format, table, size, 1, offsets, 4, lines) ==
			      0);
		free(table);
	}
}

int main(void)
{
	test_offsets_of_one_entry_have_its_line();
	test_lines_stop_where_a_number_does_not_fit();
	test_any_bytes_are_a_table();
	return 0;
}
