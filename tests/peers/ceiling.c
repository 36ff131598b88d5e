/* GFLOP/s of one core that does nothing but multiply-adds on registers: what no kernel can exceed.
 * Built with -march=native by `make bench-peers`. */
#include <stdio.h>
#include <time.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

/* More independent chains than a multiply-add has cycles of latency times units. */
enum { CHAINS = 12, ROUNDS = 2000000, REPEATS = 10 };

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One variable a chain: an array would be kept in memory. */
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define DECLARE(i) vector sum##i = term * (float)(i);
#define STEP(i)                                                                                    \
    sum##i = sum##i * factor + term;                                                               \
    __asm__ volatile("" : "+v"(sum##i));
#define COLLECT(i) check += sum##i[0];

int main(void) {
    vector factor = {0}, term = {0};
    factor += 0.999f;
    term += 0.001f;
    EACH_CHAIN(DECLARE)
    double least = 1e9;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = seconds();
        for (int round = 0; round < ROUNDS; round++) {
            EACH_CHAIN(STEP)
        }
        double took = seconds() - start;
        if (took < least) least = took;
    }
    float check = 0;
    EACH_CHAIN(COLLECT)
    printf("%.1f %g\n", 2.0 * LANES * CHAINS * ROUNDS / least / 1e9, (double)check);
}
