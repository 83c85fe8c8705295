/* Tells whether a function that allocates may be called in a stopped thread.
 *
 * The thread's frames are followed from the leaf. Adjacent frames of the C library form a run. The run at
 * the leaf, and one below a signal handler, must be a function that waits, or a plain system call; a run
 * elsewhere must be one that calls the program. Code that was interrupted
 * must not be of a program that defines malloc(): the allocator has no bounds there. A static function counts as its caller. Code without a
 * file, as of a JIT compiler, ends the walk, since no allocator calls such code. */
#include "place.h"

#include "callee.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define MAX_FRAMES 1024

struct run {
	bool open;
	bool leaf; /* nothing of the program was called from it */
	bool named; /* it has an exported function */
};

struct walk {
	struct mematlas_target *target;
	struct mematlas_place *place;
	struct run run;
	bool futex; /* the thread waits in futex(2) */
	bool waits; /* in any other system call */
};

static void worsen(struct walk *walk, enum mematlas_place_verdict verdict, const char *function,
		   const struct module *module)
{
	struct mematlas_place *place = walk->place;

	if ((int32_t)verdict <= place->verdict)
		return;
	place->verdict = (int32_t)verdict;
	snprintf(place->function, sizeof place->function, "%s", function);
	snprintf(place->file, sizeof place->file, "%s", module ? module->name : "");
}

/* An exported function of the C library. */
static void judge_function(struct walk *walk, const struct module *module,
			   const struct function *function)
{
	const char *name = functions_name(&module->functions, function);
	bool innermost = walk->run.leaf && !walk->run.named;

	walk->run.named = true;
	if (function->kind == FUNCTION_OTHER ||
	    (innermost && function->kind == FUNCTION_AROUND && !walk->waits))
		worsen(walk, MEMATLAS_PLACE_LIBRARY, name, module);
	else if (innermost && function->kind == FUNCTION_CALLS && walk->target->own_allocator)
		worsen(walk, MEMATLAS_PLACE_BRIEF, name, module);
}

/* The exported function that the program called may have left no frame. */
static void judge_called(struct walk *walk, const struct frame *caller)
{
	uint64_t called = callee_read(&walk->target->memory, caller->pc);
	struct module *module = called ? target_module_at(walk->target, called) : NULL;
	const struct function *function = module && module->kind == MODULE_LIBC
						  ? functions_at(&module->functions, called)
						  : NULL;

	if (function)
		judge_function(walk, module, function);
}

static bool is_unnamed(const struct run *run)
{
	return run->open && run->leaf && !run->named;
}

/* `caller`: the frame below the run; NULL: the run is the last of the stack, as `at_end` tells, or cut. */
static void close_run(struct walk *walk, const struct frame *caller, bool at_end)
{
	if (is_unnamed(&walk->run) && caller)
		judge_called(walk, caller);
	if (is_unnamed(&walk->run) && !(at_end && walk->waits))
		/* sem_wait() jumps to its slow path; free() may do so as well. */
		worsen(walk, walk->futex ? MEMATLAS_PLACE_BRIEF : MEMATLAS_PLACE_LIBRARY, "", NULL);
	walk->run = (struct run){0};
}

static void judge(struct walk *walk, const struct module *module, const struct frame *frame)
{
	bool library = module->kind == MODULE_LIBC;

	if (module->kind == MODULE_ALLOCATOR || module->kind == MODULE_LOADER) {
		const struct function *function =
			functions_at(&module->functions, frame_code(frame));
		worsen(walk,
		       module->kind == MODULE_LOADER ? MEMATLAS_PLACE_LOADER
						     : MEMATLAS_PLACE_LIBRARY,
		       function ? functions_name(&module->functions, function) : "", module);
	}
	if (module->defines_malloc && frame->interrupted)
		worsen(walk, MEMATLAS_PLACE_BRIEF, "", module);
	if (!library) {
		close_run(walk, frame, false);
		return;
	}
	if (!walk->run.open)
		walk->run = (struct run){.open = true, .leaf = frame->interrupted};
	const struct function *function = functions_at(&module->functions, frame_code(frame));
	if (function)
		judge_function(walk, module, function);
}

static void note_way_out(struct walk *walk, const struct module *module, const struct frame *frame)
{
	struct mematlas_place *place = walk->place;

	if (place->out_pc || place->verdict == MEMATLAS_PLACE_SAFE ||
	    module->kind != MODULE_PROGRAM || frame->interrupted)
		return;
	place->out_pc = frame->pc;
	place->out_stack = frame->registers[CFI_SP];
}

/* False: the walk ends here. */
static bool step(struct walk *walk, struct frame *frame, enum frame_step *result)
{
	struct module *module = target_module_at(walk->target, frame_code(frame));
	struct mematlas_place *place = walk->place;

	*result = FRAME_UNKNOWN;
	place->frames++;
	if (!module || module->kind == MODULE_JIT)
		return false;
	judge(walk, module, frame);
	note_way_out(walk, module, frame);
	*result = frame_step(&walk->target->memory, &module->image, frame);
	if (*result == FRAME_CALLER && frame->interrupted) {
		/* The signal frame itself is a static function of the C library. */
		place->handlers++;
		walk->run = (struct run){0};
	}
	return *result == FRAME_CALLER;
}

/* A stack that cannot be followed may hold a handler that interrupted the allocator. Code of a JIT compiler
 * is no such handler; any other thread must wait for something. */
static void judge_end(struct walk *walk, const struct frame *frame, enum frame_step result)
{
	const struct module *module = target_module_at(walk->target, frame_code(frame));

	walk->place->whole = result == FRAME_END;
	if (result != FRAME_UNKNOWN) /* the end, or MAX_FRAMES without a fault */
		return;
	bool jit = module && module->kind == MODULE_JIT;
	if (!jit && !walk->waits && !(walk->futex && walk->place->frames == 1))
		worsen(walk, MEMATLAS_PLACE_UNKNOWN, "", module);
}

void place_find(struct mematlas_target *target, const struct frame *leaf, int64_t system_call,
		struct mematlas_place *ret)
{
	struct frame frame = *leaf;
	struct walk walk = {.target = target,
			    .place = ret,
			    .futex = system_call == SYS_futex,
			    .waits = system_call >= 0 && system_call != SYS_futex};
	enum frame_step result = FRAME_UNKNOWN;

	*ret = (struct mematlas_place){.verdict = MEMATLAS_PLACE_SAFE};
	process_memory_forget(&target->memory);
	while (ret->frames < MAX_FRAMES && step(&walk, &frame, &result))
		;
	close_run(&walk, NULL, result == FRAME_END);
	judge_end(&walk, &frame, result);
}
