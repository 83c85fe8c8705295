/* A library for test_symbols: several versions of one name, a function chosen by a resolver, data. */
int trace_test_two_old(void);
int trace_test_two_new(void);
int trace_test_old_only(void);
int trace_test_chosen(void);
extern int trace_test_number;

int trace_test_number = 7;

int trace_test_two_old(void)
{
	return 1;
}

int trace_test_two_new(void)
{
	return 2;
}

int trace_test_old_only(void)
{
	return 3;
}

__asm__(".symver trace_test_two_old, trace_test_two@TEST_1");
__asm__(".symver trace_test_two_new, trace_test_two@@TEST_2");
__asm__(".symver trace_test_old_only, trace_test_old@TEST_1");

static int chosen(void)
{
	return 4;
}

__attribute__((no_sanitize("address", "undefined", "thread"))) static int (*choose(void))(void)
{
	return chosen;
}

int trace_test_chosen(void) __attribute__((ifunc("choose")));
