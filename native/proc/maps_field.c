/* A field as smaps prints it: the key in 16 columns, the number in 8, and mostly " kB". Nearly all lines of smaps
 * are of this form and come in one order, so that no character needs to be looked for. */
#include <stdbool.h>
#include <string.h>

#include "maps.h"

#define NUMBER 8 /* columns */
#define EACH_BYTE 0x0101010101010101u
#define UNIT " kB\n"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first column is the lowest byte");

/* Spaces, then at least one digit, in eight columns. False: anything else. */
static bool parse_number(const char *at, uint64_t *ret)
{
	uint64_t text, digits, value;

	memcpy(&text, at, sizeof(text));
	digits = text & 0x10 * EACH_BYTE; /* '0' .. '9' have this bit, a space has not */
	value = text & 0x0f * EACH_BYTE;
	if (!digits || text - value != (0x20 * EACH_BYTE | digits) ||
	    (value + 6 * EACH_BYTE) & 0xf0 * EACH_BYTE)
		return false;
	unsigned spaces = (unsigned)__builtin_ctzll(digits) / 8 * 8; /* in bits */
	if (digits != 0x10 * EACH_BYTE << spaces || value & ((1ull << spaces) - 1))
		return false;
	/* Sums of two digits, of four, of eight. */
	value = value * (10 << 8 | 1) >> 8;
	value = (value & 0x00ff00ff00ff00ff) * (100 << 16 | 1) >> 16;
	*ret = (value & 0x0000ffff0000ffff) * (10000ull << 32 | 1) >> 32;
	return true;
}

void maps_key_set_column(struct maps_key *key)
{
	memset(key->column, 0, sizeof(key->column));
	if (key->length >= sizeof(key->column))
		return;
	memset(key->column, ' ', sizeof(key->column));
	memcpy(key->column, key->name, key->length);
	key->column[key->length] = ':';
}

const char *maps_parse_field(struct mematlas_maps *maps, const char *line, const char *end)
{
	uint64_t value;

	if (end - line < MAPS_COLUMN + NUMBER + (ptrdiff_t)strlen(UNIT) || !maps->count ||
	    maps->next_key >= maps->key_count)
		return NULL;
	struct maps_key *key = &maps->keys[maps->next_key];
	const char *rest = line + MAPS_COLUMN + NUMBER;
	if (memcmp(line, key->column, MAPS_COLUMN) != 0 ||
	    !parse_number(line + MAPS_COLUMN, &value))
		return NULL;
	if (memcmp(rest, UNIT, strlen(UNIT)) == 0) {
		value *= 1024;
		rest += strlen(UNIT);
	} else if (*rest++ != '\n') {
		return NULL;
	}
	key->values[maps->count - 1] = value;
	maps->next_key++;
	return rest;
}
