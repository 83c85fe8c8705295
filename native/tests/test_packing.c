/* Packing and unpacking return the same values, and malformed columns are refused. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "mematlas.h"
#include "random.h"

#define MOST 5000

static uint64_t seed = 1;
static uint8_t packed[8 * MOST];

static uint64_t any(void)
{
	return random_next(&seed);
}

/* Packs a column and unpacks it from a copy of exactly its size; returns the packing. */
static struct mematlas_packing there_and_back(const void *values, uint64_t count, uint32_t bytes,
					      uint32_t way, int64_t *taken)
{
	struct mematlas_packing packing;
	bool doubles = way == MEMATLAS_PACKING_WHOLE;
	uint8_t *copy, *back = malloc(count * bytes + 1);

	*taken = mematlas_column_pack(values, count, bytes, way, 77, &packing, packed);
	CHECK(*taken >= 0 && *taken <= (int64_t)(8 * count));
	CHECK(mematlas_column_size(&packing, count) == *taken);
	copy = malloc((size_t)*taken + 1);
	memcpy(copy, packed, (size_t)*taken);
	CHECK(mematlas_column_unpack(&packing, copy, (uint64_t)*taken, count, NULL,
				     doubles ? MEMATLAS_COLUMN_DOUBLE : MEMATLAS_COLUMN_WHOLE,
				     bytes, back) == 0);
	CHECK(memcmp(back, values, count * bytes) == 0);
	free(copy);
	free(back);
	return packing;
}

static void test_doubles(void)
{
	static double values[MOST];
	static const double odd[] = {0.5, -1, -0.0, 1e300, 9223372036854775808.0};
	int64_t taken;

	for (int i = 0; i < MOST; i++)
		values[i] = (double)(any() % 200);
	values[3000] = 9007199254740994.0; /* 2^53 + 2 */
	CHECK(there_and_back(values, MOST, 8, MEMATLAS_PACKING_WHOLE, &taken).way ==
	      MEMATLAS_PACKING_WHOLE);
	CHECK(taken == MOST + 2 + 6);
	CHECK(there_and_back(values, 1, 8, MEMATLAS_PACKING_WHOLE, &taken).width == 0);
	CHECK(taken == 0);
	there_and_back(values, 0, 8, MEMATLAS_PACKING_WHOLE, &taken);
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		values[1500] = odd[i];
		CHECK(there_and_back(values, MOST, 8, MEMATLAS_PACKING_WHOLE, &taken).way ==
		      MEMATLAS_PACKING_BITS);
	}
	values[1500] = NAN;
	there_and_back(values, MOST, 8, MEMATLAS_PACKING_WHOLE, &taken);
	memset(values, 0, sizeof values);
	for (int i = 7; i < MOST; i += 100)
		values[i] = 1000 + i;
	CHECK(there_and_back(values, MOST, 8, MEMATLAS_PACKING_WHOLE, &taken).odd == MOST / 100);
	CHECK(taken == MOST / 100 * 4);
}

static void test_numbers(void)
{
	static uint32_t values[MOST];
	int64_t taken;

	for (uint32_t i = 0; i < MOST; i++)
		values[i] = 1000000 + 3 * i - (i % 500 ? 0 : 100000);
	there_and_back(values, MOST, 4, MEMATLAS_PACKING_STEPS, &taken);
	CHECK(taken < MOST + 200);
	for (uint32_t i = 0; i < MOST; i++)
		values[i] = i + 77 - 1 - (i % 300 ? 0 : i / 2);
	there_and_back(values, MOST, 4, MEMATLAS_PACKING_BEHIND, &taken);
	CHECK(taken < MOST + 200);
	for (uint32_t i = 0; i < MOST; i++)
		values[i] = (uint32_t)any();
	for (uint32_t way = 0; way <= MEMATLAS_PACKING_BEHIND; way++)
		if (way != MEMATLAS_PACKING_WHOLE)
			there_and_back(values, MOST, 4, way, &taken);
	CHECK(taken == 4 * MOST);
}

static void test_words(void)
{
	static uint64_t values[MOST], names[300];
	static uint32_t numbers[MOST];
	struct mematlas_packing packing;
	int64_t taken;

	for (int i = 0; i < MOST; i++)
		values[i] = (any() % 300 + 1) * 0x9E3779B97F4A7C15ULL;
	packing = there_and_back(values, MOST, 8, MEMATLAS_PACKING_WORDS, &taken);
	CHECK(packing.words == 300 && taken < 300 * 8 + 2 * MOST);
	for (uint64_t i = 0; i < 300; i++)
		names[i] = i + 70000;
	CHECK(mematlas_column_unpack(&packing, packed, (uint64_t)taken, MOST, names,
				     MEMATLAS_COLUMN_WHOLE, 4, numbers) == 0);
	for (int i = 0; i < MOST; i++)
		CHECK(memcmp(&values[i], packed + 8 * (numbers[i] - 70000ULL), 8) == 0);
	CHECK(mematlas_column_unpack(&packing, packed, (uint64_t)taken, MOST, names,
				     MEMATLAS_COLUMN_WHOLE, 2, numbers) == -ERANGE);
	packing.words = 299;
	CHECK(mematlas_column_unpack(&packing, packed, (uint64_t)taken - 8, MOST, names,
				     MEMATLAS_COLUMN_WHOLE, 4, numbers) == -EINVAL);
	for (int i = 0; i < MOST; i++)
		values[i] = any();
	CHECK(there_and_back(values, MOST, 8, MEMATLAS_PACKING_WORDS, &taken).words == 0);
}

/* Mostly 0 or small, so that many descriptions are valid. */
static uint32_t any_count(uint32_t limit)
{
	if (any() % 2)
		return 0;
	return any() % 4 ? (uint32_t)any() % limit : (uint32_t)any();
}

static void unpack_any(const struct mematlas_packing *packing, uint64_t size, uint64_t rows)
{
	uint64_t column[64];
	uint8_t *data = malloc(size + 1);

	for (uint64_t at = 0; at < size; at++)
		data[at] = any() % 3 ? 0 : (uint8_t)any() % 8;
	for (uint32_t type = 0; type < 3; type++)
		for (uint32_t bytes = 0; bytes <= 8; bytes++)
			mematlas_column_unpack(packing, data, size, rows, NULL, type, bytes,
					       column);
	CHECK(mematlas_column_unpack(packing, data, size + 1, rows, NULL, 0, 8, column) == -EINVAL);
	free(data);
}

/* Random descriptions and bytes: refused, or unpacked without access outside the buffers. */
static void test_hostile(void)
{
	for (int i = 0; i < 200000; i++) {
		uint64_t rows = any() % 60;
		struct mematlas_packing packing = {
			.way = (uint8_t)(any() % 6),
			.width = (uint8_t)(any() % 10),
			.gap_width = (uint8_t)(any() % 6),
			.odd_width = (uint8_t)(any() % 10),
			.first = (uint32_t)any(),
			.words = any_count(8),
			.odd = any_count(70),
			.base = any() % 2 ? 0 : any(),
		};
		int64_t size = mematlas_column_size(&packing, rows);
		if (size >= 0 && size <= 4096)
			unpack_any(&packing, (uint64_t)size, rows);
	}
}

static void test_no_columns(void)
{
	struct mematlas_packing packing = {.way = MEMATLAS_PACKING_BITS};
	uint64_t value = 0;

	CHECK(mematlas_column_pack(&value, 1, 2, 0, 0, &packing, packed) == -EINVAL);
	CHECK(mematlas_column_pack(&value, 1, 8, MEMATLAS_PACKING_STEPS, 0, &packing, packed) ==
	      -EINVAL);
	CHECK(mematlas_column_pack(&value, 1, 4, MEMATLAS_PACKING_WORDS, 0, &packing, packed) ==
	      -EINVAL);
	CHECK(mematlas_column_pack(&value, 1ULL << 32, 8, 0, 0, &packing, packed) == -EINVAL);
	CHECK(mematlas_column_size(&packing, 1ULL << 32) == -EINVAL);
}

static void test_order(void)
{
	static uint32_t rows[MOST][3], order[MOST];
	static const uint8_t bytes[] = {4, 4, 4};
	static uint32_t split[3 * MOST];

	for (uint32_t i = 0; i < MOST; i++)
		rows[i][0] = i, rows[i][1] = i % 3, rows[i][2] = i;
	CHECK(mematlas_rows_order((uint8_t *)rows, MOST, 12, order) == 0);
	CHECK(mematlas_rows_order((uint8_t *)rows, 0, 12, order) == 0);
	CHECK(mematlas_rows_order((uint8_t *)rows, MOST, 7, order) == -EINVAL);
	for (uint32_t i = 0; i < MOST; i++)
		rows[i][0] = (uint32_t)any() % 70000, rows[i][1] = (uint32_t)any() % 2;
	CHECK(mematlas_rows_order((uint8_t *)rows, MOST, 12, order) == 1);
	mematlas_rows_split((uint8_t *)rows, MOST, order, bytes, 3, (uint8_t *)split);
	for (uint32_t i = 0; i < MOST; i++) {
		uint32_t *row = rows[split[2 * MOST + i]];

		CHECK(split[i] == row[0] && split[MOST + i] == row[1]);
		if (!i)
			continue;
		uint64_t before = (uint64_t)split[i - 1] << 32 | split[MOST + i - 1];
		uint64_t now = (uint64_t)split[i] << 32 | split[MOST + i];
		CHECK(before < now ||
		      (before == now && split[2 * MOST + i - 1] < split[2 * MOST + i]));
	}
}

int main(void)
{
	test_doubles();
	test_numbers();
	test_words();
	test_hostile();
	test_no_columns();
	test_order();
	return 0;
}
