/* Many functions, so that a compiler has work. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef NAME
#define NAME plain
#endif
#define JOIN(a, b) a##_##b
#define FUNCTION(a, b) JOIN(a, b)

#define BODY(n)                                                                                    \
	double FUNCTION(NAME, n)(double x, int k)                                                  \
	{                                                                                          \
		double sum = x;                                                                    \
		for (int i = 0; i < k; i++)                                                        \
			sum += (i % 3 ? x * i : x / (i + 1)) + strlen("text") * n;                 \
		return sum > 100 ? sum / 3 : sum * (k + n);                                        \
	}

#define TEN(n)                                                                                     \
	BODY(n##0)                                                                                 \
	BODY(n##1)                                                                                 \
	BODY(n##2) BODY(n##3) BODY(n##4) BODY(n##5) BODY(n##6) BODY(n##7) BODY(n##8) BODY(n##9)
#define HUNDRED(n)                                                                                 \
	TEN(n##0)                                                                                  \
	TEN(n##1) TEN(n##2) TEN(n##3) TEN(n##4) TEN(n##5) TEN(n##6) TEN(n##7) TEN(n##8) TEN(n##9)

HUNDRED(1)
HUNDRED(2)
HUNDRED(3)
HUNDRED(4)

#ifdef MAIN
int main(void)
{
	puts("made");
	return 0;
}
#endif
