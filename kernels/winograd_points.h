/* The one-dimensional Winograd transforms, on whatever type stands behind the operations given:
 * the reference uses them on floats, kernels/simd on vectors. Derivation: for finite points a, with
 * M(x) = prod (x - a), row a of the input transform holds the coefficients of M(x) / (x - a), the
 * row of infinity those of M(x); the output transform evaluates the powers of a; the weights take
 * the factors 1 / prod (a - b) over the other points b.
 *
 * Before including, define WINOGRAD_TYPE and
 *     WINOGRAD_ADD(a, b)  WINOGRAD_SUB(a, b)  WINOGRAD_MUL(constant, b)
 *     WINOGRAD_FMA(constant, b, c) = constant * b + c */

/* m = 2: M(x) = x^3 - x. The row of 0 has its sign changed, and so have its weights. */
static inline void winograd_input_2(const WINOGRAD_TYPE d[4], WINOGRAD_TYPE t[4]) {
    t[0] = WINOGRAD_SUB(d[0], d[2]);
    t[1] = WINOGRAD_ADD(d[1], d[2]);
    t[2] = WINOGRAD_SUB(d[2], d[1]);
    t[3] = WINOGRAD_SUB(d[3], d[1]);
}

static inline void winograd_output_2(const WINOGRAD_TYPE t[4], WINOGRAD_TYPE y[2]) {
    y[0] = WINOGRAD_ADD(t[0], WINOGRAD_ADD(t[1], t[2]));
    y[1] = WINOGRAD_ADD(WINOGRAD_SUB(t[1], t[2]), t[3]);
}

static inline void winograd_weights_2(const WINOGRAD_TYPE w[3], WINOGRAD_TYPE t[4]) {
    WINOGRAD_TYPE sum = WINOGRAD_ADD(w[0], w[2]);
    t[0] = w[0];
    t[1] = WINOGRAD_MUL(0.5f, WINOGRAD_ADD(sum, w[1]));
    t[2] = WINOGRAD_MUL(0.5f, WINOGRAD_SUB(sum, w[1]));
    t[3] = w[2];
}

static inline void winograd_gradient_2(const WINOGRAD_TYPE y[2], WINOGRAD_TYPE t[4]) {
    t[0] = y[0];
    t[1] = WINOGRAD_ADD(y[0], y[1]);
    t[2] = WINOGRAD_SUB(y[0], y[1]);
    t[3] = y[1];
}

static inline void winograd_filter_2(const WINOGRAD_TYPE t[4], WINOGRAD_TYPE w[3]) {
    WINOGRAD_TYPE sum = WINOGRAD_ADD(t[1], t[2]);
    w[0] = WINOGRAD_FMA(0.5f, sum, t[0]);
    w[1] = WINOGRAD_MUL(0.5f, WINOGRAD_SUB(t[1], t[2]));
    w[2] = WINOGRAD_FMA(0.5f, sum, t[3]);
}

/* m = 4: M(x) = x (x^2 - 1/2) (x^2 - 2) = x^5 - 5/2 x^3 + x. */
#define WINOGRAD_P 0.70710678118654752f
#define WINOGRAD_Q 1.41421356237309505f

static inline void winograd_input_4(const WINOGRAD_TYPE d[6], WINOGRAD_TYPE t[6]) {
    t[0] = WINOGRAD_ADD(WINOGRAD_FMA(-2.5f, d[2], d[4]), d[0]);
    WINOGRAD_TYPE even = WINOGRAD_FMA(-2.0f, d[2], d[4]), odd = WINOGRAD_FMA(-2.0f, d[1], d[3]);
    t[1] = WINOGRAD_FMA(WINOGRAD_P, odd, even);
    t[2] = WINOGRAD_FMA(-WINOGRAD_P, odd, even);
    even = WINOGRAD_FMA(-0.5f, d[2], d[4]);
    odd = WINOGRAD_FMA(-0.5f, d[1], d[3]);
    t[3] = WINOGRAD_FMA(WINOGRAD_Q, odd, even);
    t[4] = WINOGRAD_FMA(-WINOGRAD_Q, odd, even);
    t[5] = WINOGRAD_ADD(WINOGRAD_FMA(-2.5f, d[3], d[5]), d[1]);
}

/* Powers: p = q / 2, p^2 = 1/2, q^2 = 2, p^3 = q / 4, q^3 = 2 q. */
static inline void winograd_output_4(const WINOGRAD_TYPE t[6], WINOGRAD_TYPE y[4]) {
    WINOGRAD_TYPE sum1 = WINOGRAD_ADD(t[1], t[2]), difference1 = WINOGRAD_SUB(t[1], t[2]);
    WINOGRAD_TYPE sum2 = WINOGRAD_ADD(t[3], t[4]), difference2 = WINOGRAD_SUB(t[3], t[4]);
    y[0] = WINOGRAD_ADD(t[0], WINOGRAD_ADD(sum1, sum2));
    y[1] = WINOGRAD_MUL(WINOGRAD_Q, WINOGRAD_FMA(0.5f, difference1, difference2));
    y[2] = WINOGRAD_FMA(2.0f, sum2, WINOGRAD_MUL(0.5f, sum1));
    y[3] = WINOGRAD_FMA(
        WINOGRAD_Q, WINOGRAD_ADD(WINOGRAD_FMA(0.25f, difference1, difference2), difference2), t[5]);
}

static inline void winograd_weights_4(const WINOGRAD_TYPE w[3], WINOGRAD_TYPE t[6]) {
    t[0] = w[0];
    WINOGRAD_TYPE even = WINOGRAD_FMA(0.5f, w[2], w[0]);
    t[1] = WINOGRAD_MUL(-2.0f / 3.0f, WINOGRAD_FMA(WINOGRAD_P, w[1], even));
    t[2] = WINOGRAD_MUL(-2.0f / 3.0f, WINOGRAD_FMA(-WINOGRAD_P, w[1], even));
    even = WINOGRAD_FMA(2.0f, w[2], w[0]);
    t[3] = WINOGRAD_MUL(1.0f / 6.0f, WINOGRAD_FMA(WINOGRAD_Q, w[1], even));
    t[4] = WINOGRAD_MUL(1.0f / 6.0f, WINOGRAD_FMA(-WINOGRAD_Q, w[1], even));
    t[5] = w[2];
}

static inline void winograd_gradient_4(const WINOGRAD_TYPE y[4], WINOGRAD_TYPE t[6]) {
    t[0] = y[0];
    WINOGRAD_TYPE even = WINOGRAD_FMA(0.5f, y[2], y[0]);
    WINOGRAD_TYPE odd = WINOGRAD_MUL(0.5f, WINOGRAD_FMA(0.5f, y[3], y[1]));
    t[1] = WINOGRAD_FMA(WINOGRAD_Q, odd, even);
    t[2] = WINOGRAD_FMA(-WINOGRAD_Q, odd, even);
    even = WINOGRAD_FMA(2.0f, y[2], y[0]);
    odd = WINOGRAD_FMA(2.0f, y[3], y[1]);
    t[3] = WINOGRAD_FMA(WINOGRAD_Q, odd, even);
    t[4] = WINOGRAD_FMA(-WINOGRAD_Q, odd, even);
    t[5] = y[3];
}

static inline void winograd_filter_4(const WINOGRAD_TYPE t[6], WINOGRAD_TYPE w[3]) {
    WINOGRAD_TYPE sum1 = WINOGRAD_ADD(t[1], t[2]), difference1 = WINOGRAD_SUB(t[1], t[2]);
    WINOGRAD_TYPE sum2 = WINOGRAD_ADD(t[3], t[4]), difference2 = WINOGRAD_SUB(t[3], t[4]);
    w[0] = WINOGRAD_FMA(1.0f / 6.0f, sum2, WINOGRAD_FMA(-2.0f / 3.0f, sum1, t[0]));
    w[1] = WINOGRAD_MUL(WINOGRAD_Q / 6.0f, WINOGRAD_FMA(-2.0f, difference1, difference2));
    w[2] = WINOGRAD_FMA(1.0f / 3.0f, WINOGRAD_SUB(sum2, sum1), t[5]);
}
