// A library with a thread-local variable, for lsan_cases.c.
static _Thread_local void *held;

void set_tls(void *p);

void set_tls(void *p)
{
	held = p;
}
