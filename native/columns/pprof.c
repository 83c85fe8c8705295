/* Samples of pprof's profile.proto, one per row of a table of stacks. */
#include <errno.h>
#include <string.h>

#include "mematlas.h"

#define SHORT_PATH 1024u /* bytes */
#define LONGEST_VARINT 10u /* bytes */

/* Tags of the fields: number << 3 | 2, length-delimited. */
enum { TAG_SAMPLE = 2 << 3 | 2, TAG_LOCATIONS = 1 << 3 | 2, TAG_VALUES = 2 << 3 | 2 };

static uint64_t varint_size(uint64_t value)
{
	/* 7 bits a byte: ceil(bits / 7) without a division; 0 has one bit. */
	return (uint64_t)(64 - __builtin_clzll(value | 1)) * 9 / 64 + 1;
}

static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		*at++ = (uint8_t)(value | 0x80);
	*at++ = (uint8_t)value;
	return at;
}

/* Writes a path and returns its size; 0 if there is no room, or it is no path. Most paths fit, and
 * are walked once. */
static uint64_t put_short_path(const struct mematlas_pprof *profile, uint32_t node,
			       uint8_t out[static SHORT_PATH])
{
	uint8_t *at = put_varint(out, profile->locations[node]);

	while (node) {
		uint32_t parent = profile->parents[node];

		if (parent >= node || at > out + SHORT_PATH - LONGEST_VARINT)
			return 0;
		if (parent)
			at = put_varint(at, profile->locations[parent]);
		node = parent;
	}
	return (uint64_t)(at - out);
}

/* The size of a path; 0 if a parent does not come before its child, which a walk never leaves. */
static uint64_t path_size(const struct mematlas_pprof *profile, uint32_t node)
{
	uint64_t size = varint_size(profile->locations[node]);

	while (node) {
		uint32_t parent = profile->parents[node];

		if (parent >= node)
			return 0;
		if (parent)
			size += varint_size(profile->locations[parent]);
		node = parent;
	}
	return size;
}

static uint8_t *put_path(const struct mematlas_pprof *profile, uint32_t node, uint8_t *at)
{
	at = put_varint(at, profile->locations[node]);
	while (node && (node = profile->parents[node]))
		at = put_varint(at, profile->locations[node]);
	return at;
}

/* Writes one sample, or only counts its bytes if there is no room. 0: not a trie. */
static uint64_t put_sample(const struct mematlas_pprof *profile, uint32_t node, uint64_t row,
			   uint8_t suffix, uint8_t *out, uint64_t room)
{
	const int64_t *values = profile->values + row * profile->types;
	uint64_t label = profile->suffix_starts[suffix];
	uint64_t labels = profile->suffix_starts[suffix + 1] - label;
	uint8_t short_path[SHORT_PATH];
	uint64_t written = put_short_path(profile, node, short_path);
	uint64_t path = written ? written : path_size(profile, node), value_bytes = 0, body, whole;

	if (!path)
		return 0;
	for (uint32_t type = 0; type < profile->types; type++)
		value_bytes += varint_size((uint64_t)values[type]);
	body = 2 + varint_size(path) + path + varint_size(value_bytes) + value_bytes + labels;
	whole = 1 + varint_size(body) + body;
	if (whole > room)
		return whole;
	*out++ = TAG_SAMPLE;
	out = put_varint(out, body);
	*out++ = TAG_LOCATIONS;
	out = put_varint(out, path);
	if (written)
		memcpy(out, short_path, written);
	out = written ? out + written : put_path(profile, node, out);
	*out++ = TAG_VALUES;
	out = put_varint(out, value_bytes);
	for (uint32_t type = 0; type < profile->types; type++)
		out = put_varint(out, (uint64_t)values[type]);
	memcpy(out, profile->suffixes + label, labels);
	return whole;
}

int64_t mematlas_pprof_samples(const struct mematlas_pprof *profile, const uint32_t *stacks,
			       const uint8_t *suffix_of, uint64_t rows, uint8_t *out,
			       uint64_t capacity, uint64_t *done)
{
	uint64_t used = 0, row;

	for (row = 0; row < rows; row++) {
		uint64_t size;

		if (stacks[row] >= profile->nodes || suffix_of[row] >= profile->suffix_count)
			return -EINVAL;
		size = put_sample(profile, stacks[row], row, suffix_of[row], out + used,
				  capacity - used);
		if (!size)
			return -EINVAL;
		if (size > capacity - used)
			break;
		used += size;
	}
	*done = row;
	return row || !rows ? (int64_t)used : -ENOSPC;
}
