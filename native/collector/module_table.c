/* Loaded modules, each kept once, and the epochs that tell apart modules which were mapped at the same
 * addresses one after the other. */
#include <string.h>

#include "../array.h"
#include "state.h"

#define FIRST_CAPACITY 256u
#define LAST_EPOCH (MODULE_EPOCHS - 1)
#define MOST_MODULES 65536u /* of a process; the traced program writes the records */

static bool is_valid(const struct mematlas_module *module)
{
	return module->start < module->end && module->end <= MODULE_ADDRESS(~0ull);
}

static bool is_same(const struct mematlas_module *a, const struct mematlas_module *b)
{
	return MODULE_ADDRESS(a->start) == b->start && MODULE_ADDRESS(a->bias) == b->bias &&
	       strcmp(a->path, b->path) == 0 && strcmp(a->build_id, b->build_id) == 0;
}

static bool overlaps(const struct mematlas_module *stored, uint64_t start, uint64_t end)
{
	return MODULE_ADDRESS(stored->start) < end && start < MODULE_ADDRESS(stored->end);
}

/* Beyond the last epoch the module of an address is unknown, and its name says so. */
static struct mematlas_module make_nameless(const struct mematlas_module *module)
{
	struct mematlas_module nameless = {
		.bias = module->start, .start = module->start, .end = module->end};

	strcpy(nameless.path, MODULE_TOO_MANY);
	return nameless;
}

static bool append(struct state *state, const struct mematlas_module *module, uint64_t epoch)
{
	struct modules *modules = &state->modules;

	if (modules->count >= MOST_MODULES)
		return false;
	if (!ARRAY_RESERVE(modules->items, modules->count, modules->capacity, FIRST_CAPACITY)) {
		state->out_of_memory = true;
		return false;
	}
	struct mematlas_module *stored = &modules->items[modules->count++];
	*stored = epoch < LAST_EPOCH ? *module : make_nameless(module);
	stored->bias = MODULE_WORD(stored->bias, epoch);
	stored->start = MODULE_WORD(stored->start, epoch);
	stored->end = MODULE_WORD(stored->end, epoch);
	if (epoch > modules->last_epoch)
		modules->last_epoch = (uint32_t)epoch;
	return true;
}

/* Is the module, or one without a name that covers it, known? */
static bool is_known(const struct mematlas_module *seen, const struct mematlas_module *module)
{
	if (is_same(seen, module))
		return true;
	return MODULE_EPOCH(seen->start) == LAST_EPOCH &&
	       MODULE_ADDRESS(seen->start) <= module->start &&
	       module->end <= MODULE_ADDRESS(seen->end);
}

uint64_t module_add(struct state *state, const struct mematlas_module *module)
{
	const struct modules *modules = &state->modules;
	uint64_t epoch = 0;

	if (!is_valid(module))
		return 0;
	for (uint32_t i = 0; i < modules->count; i++) {
		const struct mematlas_module *seen = &modules->items[i];
		if (!overlaps(seen, module->start, module->end))
			continue;
		if (is_known(seen, module))
			return MODULE_EPOCH(seen->start);
		if (MODULE_EPOCH(seen->start) >= epoch)
			epoch = MODULE_EPOCH(seen->start) + 1;
	}
	if (*module->path == '\0' && epoch == 0)
		return 0; /* code without a file where no module ever was: nothing to tell apart */
	epoch = epoch < LAST_EPOCH ? epoch : LAST_EPOCH;
	return append(state, module, epoch) ? epoch : LAST_EPOCH;
}

/* Removes [start, end) from the loaded modules. What remains of a module on either side stays. */
static bool loaded_remove(struct loaded_modules *loaded, uint64_t start, uint64_t end)
{
	for (uint32_t i = loaded->count; i-- > 0;) {
		struct loaded_module *each = &loaded->items[i], whole = *each;
		if (whole.start >= end || whole.end <= start)
			continue;
		if (whole.start >= start && whole.end <= end) {
			*each = loaded->items[--loaded->count];
			continue;
		}
		if (whole.start < start)
			each->end = start;
		else
			each->start = end;
		if (whole.start >= start || whole.end <= end)
			continue;
		if (!ARRAY_RESERVE(loaded->items, loaded->count, loaded->capacity, 16))
			return false;
		loaded->items[loaded->count++] =
			(struct loaded_module){end, whole.end, whole.epoch};
	}
	return true;
}

bool loaded_modules_add(struct loaded_modules *loaded, const struct mematlas_module *module,
			uint64_t epoch)
{
	if (!is_valid(module))
		return true;
	if (!loaded_remove(loaded, module->start, module->end))
		return false;
	if (loaded->count >= MOST_MODULES || (*module->path == '\0' && epoch == 0))
		return true;
	if (!ARRAY_RESERVE(loaded->items, loaded->count, loaded->capacity, 16))
		return false;
	loaded->items[loaded->count++] = (struct loaded_module){module->start, module->end, epoch};
	return true;
}

/* Without records of the loader (glibc before 2.35) the module that was found last holds. */
static uint64_t find_stored(const struct modules *modules, uint64_t address)
{
	for (uint32_t i = modules->count; i-- > 0;)
		if (overlaps(&modules->items[i], address, address + 1))
			return MODULE_EPOCH(modules->items[i].start);
	return 0;
}

uint64_t module_word(const struct state *state, const struct loaded_modules *loaded, uint64_t pc)
{
	uint64_t address = MODULE_ADDRESS(pc);

	if (state->modules.last_epoch == 0 || !address)
		return address;
	for (uint32_t i = 0; i < loaded->count; i++)
		if (address - 1 - loaded->items[i].start <
		    loaded->items[i].end - loaded->items[i].start)
			return MODULE_WORD(address, loaded->items[i].epoch);
	if (loaded->count)
		return address;
	return MODULE_WORD(address, find_stored(&state->modules, address - 1));
}
