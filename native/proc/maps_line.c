/* One line of maps or smaps: a mapping ("55d0-55d1 r-xp ..."), a field ("Rss: 4 kB") or VmFlags. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "maps.h"

#define FIRST_ROWS 256

static const char *skip_spaces(const char *at, const char *end)
{
	while (at < end && *at == ' ')
		at++;
	return at;
}

/* The number at `at`; returns what follows, NULL: no digit. More than 16 digits wrap, which no
 * kernel prints. */
static const char *parse_hex(const char *at, const char *end, uint64_t *ret)
{
	uint64_t value = 0;
	const char *start = at;

	for (; at < end; at++) {
		unsigned char digit = (unsigned char)*at;

		if (digit >= '0' && digit <= '9')
			value = value << 4 | (uint64_t)(digit - '0');
		else if (digit >= 'a' && digit <= 'f')
			value = value << 4 | (uint64_t)(digit - 'a' + 10);
		else
			break;
	}
	*ret = value;
	return at > start ? at : NULL;
}

static const char *parse_decimal(const char *at, const char *end, uint64_t *ret)
{
	uint64_t value = 0;
	const char *start = at;

	for (; at < end && *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (uint64_t)(*at - '0');
	*ret = value;
	return at > start ? at : NULL;
}

static int grow_column(uint64_t **column, uint64_t rows)
{
	uint64_t *grown = realloc(*column, rows * sizeof(**column));

	if (!grown)
		return -ENOMEM;
	*column = grown;
	return 0;
}

/* Room for one more row in all columns. On -ENOMEM some columns may be longer than `capacity`,
 * which does no harm. */
static int make_capacity(struct mematlas_maps *maps)
{
	uint64_t rows = maps->capacity ? maps->capacity * 2 : FIRST_ROWS;

	if (maps->count < maps->capacity)
		return 0;
	for (int column = 0; column < MEMATLAS_MAPS_BASE; column++)
		if (grow_column(&maps->base[column], rows))
			return -ENOMEM;
	for (uint32_t key = 0; key < maps->key_count; key++)
		if (grow_column(&maps->keys[key].values, rows))
			return -ENOMEM;
	maps->capacity = rows;
	return 0;
}

/* `ret` is an offset, because the names may move. -ENOMEM: unchanged. */
static int add_name(struct mematlas_maps *maps, const char *name, uint64_t length, uint64_t *ret)
{
	uint64_t last = maps->count ? maps->count - 1 : 0;
	uint64_t at = maps->count ? maps->base[MEMATLAS_MAPS_NAME_AT][last] : 0;

	/* The mappings of one file are neighbours, so its name is stored once. */
	if (maps->count && maps->base[MEMATLAS_MAPS_NAME_LENGTH][last] == length &&
	    (length == 0 || memcmp(maps->names + at, name, length) == 0)) {
		*ret = at;
		return 0;
	}
	if (maps->names_size + length > maps->names_capacity) {
		uint64_t capacity = (maps->names_size + length) * 2 + 4096;
		char *grown = realloc(maps->names, capacity);

		if (!grown)
			return -ENOMEM;
		maps->names = grown;
		maps->names_capacity = capacity;
	}
	if (length)
		memcpy(maps->names + maps->names_size, name, length);
	*ret = maps->names_size;
	maps->names_size += length;
	return 0;
}

/* `text` has four characters, as parse_range() has checked. */
static uint64_t permission_bits(const char *text)
{
	return (text[0] == 'r' ? MEMATLAS_MAPS_READ : 0) |
	       (text[1] == 'w' ? MEMATLAS_MAPS_WRITE : 0) |
	       (text[2] == 'x' ? MEMATLAS_MAPS_EXECUTE : 0) |
	       (text[3] == 's' ? MEMATLAS_MAPS_SHARED : 0);
}

/* "start-end perms": fills row[], returns what follows; NULL: malformed. */
static const char *parse_range(const char *at, const char *end, uint64_t *row)
{
	at = parse_hex(at, end, &row[MEMATLAS_MAPS_START]);
	if (!at || at == end || *at != '-')
		return NULL;
	at = parse_hex(at + 1, end, &row[MEMATLAS_MAPS_END]);
	if (!at || end - at < 6 || *at != ' ' || row[MEMATLAS_MAPS_END] <= row[MEMATLAS_MAPS_START])
		return NULL;
	row[MEMATLAS_MAPS_PERMISSIONS] = permission_bits(at + 1);
	return at + 5;
}

/* "offset major:minor inode": the same. */
static const char *parse_file(const char *at, const char *end, uint64_t *row)
{
	uint64_t major, minor;

	at = parse_hex(skip_spaces(at, end), end, &row[MEMATLAS_MAPS_OFFSET]);
	at = at ? parse_hex(skip_spaces(at, end), end, &major) : NULL;
	if (!at || at == end || *at != ':')
		return NULL;
	at = parse_hex(at + 1, end, &minor);
	at = at ? parse_decimal(skip_spaces(at, end), end, &row[MEMATLAS_MAPS_INODE]) : NULL;
	row[MEMATLAS_MAPS_DEVICE] = at ? major << 32 | minor : 0;
	return at;
}

/* Fills row[]; returns the start of the name. */
static const char *parse_mapping(const char *at, const char *end, uint64_t *row)
{
	at = parse_range(at, end, row);
	at = at ? parse_file(at, end, row) : NULL;
	/* No name begins with a space; a name may end with one. */
	return at ? skip_spaces(at, end) : NULL;
}

/* The kernel unlocks the address space between reads. A mapping that grew between two reads is
 * printed again as a whole. It replaces the rows it covers, so that nothing counts twice. */
static void drop_covered(struct mematlas_maps *maps, uint64_t start)
{
	const uint64_t *starts = maps->base[MEMATLAS_MAPS_START];

	if (!maps->count || maps->base[MEMATLAS_MAPS_END][maps->count - 1] <= start)
		return;
	maps->overlaps++;
	while (maps->count && starts[maps->count - 1] >= start)
		maps->count--;
}

static int add_mapping(struct mematlas_maps *maps, const uint64_t *row, const char *name,
		       const char *end)
{
	uint64_t name_at;
	int error;

	drop_covered(maps, row[MEMATLAS_MAPS_START]);
	error = make_capacity(maps);
	if (!error)
		error = add_name(maps, name, (uint64_t)(end - name), &name_at);
	if (error)
		return error;
	for (int column = 0; column < MEMATLAS_MAPS_BASE; column++)
		maps->base[column][maps->count] = row[column];
	maps->base[MEMATLAS_MAPS_NAME_AT][maps->count] = name_at;
	maps->base[MEMATLAS_MAPS_NAME_LENGTH][maps->count] = (uint64_t)(end - name);
	for (uint32_t key = 0; key < maps->key_count; key++)
		maps->keys[key].values[maps->count] = MEMATLAS_MAPS_ABSENT;
	maps->count++;
	maps->next_key = 0;
	return 0;
}

static int key_matches(const struct maps_key *key, const char *line, uint32_t length)
{
	return key->length == length && memcmp(key->name, line, length) == 0;
}

/* Index of the key, which is added if it is new. -ENOSPC: more keys than any kernel prints. */
static int find_key(struct mematlas_maps *maps, const char *line, uint32_t length)
{
	struct maps_key *key;

	for (uint32_t tried = 0; tried < maps->key_count; tried++) {
		uint32_t index = (maps->next_key + tried) % maps->key_count;

		if (key_matches(&maps->keys[index], line, length))
			return (int)index;
	}
	if (maps->key_count == MAPS_KEYS || length > MAPS_KEY_LENGTH)
		return -ENOSPC;
	key = &maps->keys[maps->key_count];
	if (grow_column(&key->values, maps->capacity))
		return -ENOMEM;
	memcpy(key->name, line, length);
	key->length = length;
	maps_key_set_column(key);
	for (uint64_t row = 0; row < maps->count; row++)
		key->values[row] = MEMATLAS_MAPS_ABSENT;
	return (int)maps->key_count++;
}

/* -ENOSPC: more flags than bits; such a flag is left out. */
static int find_flag(struct mematlas_maps *maps, const char *flag)
{
	uint8_t *likely = &maps->flag_at[(flag[0] & 31) << 5 | (flag[1] & 31)];

	if (*likely < maps->flag_count && memcmp(maps->flags[*likely], flag, 2) == 0)
		return *likely;
	for (uint32_t index = 0; index < maps->flag_count; index++)
		if (memcmp(maps->flags[index], flag, 2) == 0)
			return (int)(*likely = (uint8_t)index);
	if (maps->flag_count == MAPS_FLAGS)
		return -ENOSPC;
	memcpy(maps->flags[maps->flag_count], flag, 2);
	*likely = (uint8_t)maps->flag_count;
	return (int)maps->flag_count++;
}

/* "VmFlags: rd wr mr": two letters each; the list may be empty. */
static void parse_flags(struct mematlas_maps *maps, const char *at, const char *end)
{
	uint64_t bits = 0;

	for (at = skip_spaces(at, end); end - at >= 2; at = skip_spaces(at + 2, end)) {
		int index = find_flag(maps, at);

		if (index >= 0)
			bits |= 1ULL << index;
	}
	maps->base[MEMATLAS_MAPS_FLAGS][maps->count - 1] = bits;
}

/* "Rss:     4 kB" */
static int parse_value(struct mematlas_maps *maps, const char *line, const char *colon,
		       const char *end)
{
	uint64_t value;
	const char *rest = parse_decimal(skip_spaces(colon + 1, end), end, &value);

	if (!rest)
		return -EINVAL;
	int index = find_key(maps, line, (uint32_t)(colon - line));
	if (index < 0)
		return index;
	if (end - rest >= 3 && memcmp(rest, " kB", 3) == 0)
		value *= 1024;
	maps->keys[index].values[maps->count - 1] = value;
	maps->next_key = (uint32_t)index + 1;
	return 0;
}

/* Belongs to the mapping before. -EINVAL: not a field, or no mapping yet. */
static int parse_field(struct mematlas_maps *maps, const char *line, const char *end)
{
	const char *colon = memchr(line, ':', (size_t)(end - line));

	if (!colon || !maps->count)
		return -EINVAL;
	if (colon - line == 7 && memcmp(line, "VmFlags", 7) == 0) {
		parse_flags(maps, colon + 1, end);
		return 0;
	}
	return parse_value(maps, line, colon, end);
}

/* Lines that no known kernel prints are counted and skipped, so that a new kind of line in a
 * later kernel does not end the reading. Returns 0 or -ENOMEM. */
int maps_parse_line(struct mematlas_maps *maps, const char *line, const char *end)
{
	uint64_t row[MEMATLAS_MAPS_BASE] = {0};
	int error;

	/* Field names begin with a capital; addresses are printed in lower case. */
	if (line < end && *line >= 'A' && *line <= 'Z') {
		error = parse_field(maps, line, end);
	} else {
		const char *name = parse_mapping(line, end, row);

		error = name ? add_mapping(maps, row, name, end) : -EINVAL;
	}
	if (error == -EINVAL || error == -ENOSPC) {
		maps->ignored++;
		return 0;
	}
	return error;
}
