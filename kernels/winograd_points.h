/* The one-dimensional Winograd transforms, on whatever type stands behind the operations given:
 * the reference uses them on floats, kernels/simd on vectors. Derivation: for finite points a, with
 * M(x) = prod (x - a), row a of the input transform holds the coefficients of M(x) / (x - a), the
 * row of infinity those of M(x); the output transform evaluates the powers of a; the weights take
 * the factors 1 / prod (a - b) over the other points b.
 *
 * Before including, define WINOGRAD_TYPE and
 *     WINOGRAD_ADD(a, b)  WINOGRAD_SUB(a, b)  WINOGRAD_MUL(constant, b)
 *     WINOGRAD_FMA(constant, b, c) = constant * b + c */

/* Inputs follow from the points alone and are named after their number, the rest after F(m, r).
 *
 * 4 points: M(x) = x^3 - x. The row of 0 has its sign changed, and so have its weights. */
static inline void winograd_input_p4(const WINOGRAD_TYPE d[4], WINOGRAD_TYPE t[4]) {
    t[0] = WINOGRAD_SUB(d[0], d[2]);
    t[1] = WINOGRAD_ADD(d[1], d[2]);
    t[2] = WINOGRAD_SUB(d[2], d[1]);
    t[3] = WINOGRAD_SUB(d[3], d[1]);
}

static inline void winograd_output_2_3(const WINOGRAD_TYPE t[4], WINOGRAD_TYPE y[2]) {
    y[0] = WINOGRAD_ADD(t[0], WINOGRAD_ADD(t[1], t[2]));
    y[1] = WINOGRAD_ADD(WINOGRAD_SUB(t[1], t[2]), t[3]);
}

static inline void winograd_weights_2_3(const WINOGRAD_TYPE w[3], WINOGRAD_TYPE t[4]) {
    WINOGRAD_TYPE sum = WINOGRAD_ADD(w[0], w[2]);
    t[0] = w[0];
    t[1] = WINOGRAD_MUL(0.5f, WINOGRAD_ADD(sum, w[1]));
    t[2] = WINOGRAD_MUL(0.5f, WINOGRAD_SUB(sum, w[1]));
    t[3] = w[2];
}

static inline void winograd_gradient_2_3(const WINOGRAD_TYPE y[2], WINOGRAD_TYPE t[4]) {
    t[0] = y[0];
    t[1] = WINOGRAD_ADD(y[0], y[1]);
    t[2] = WINOGRAD_SUB(y[0], y[1]);
    t[3] = y[1];
}

static inline void winograd_filter_2_3(const WINOGRAD_TYPE t[4], WINOGRAD_TYPE w[3]) {
    WINOGRAD_TYPE sum = WINOGRAD_ADD(t[1], t[2]);
    w[0] = WINOGRAD_FMA(0.5f, sum, t[0]);
    w[1] = WINOGRAD_MUL(0.5f, WINOGRAD_SUB(t[1], t[2]));
    w[2] = WINOGRAD_FMA(0.5f, sum, t[3]);
}

/* 6 points: M(x) = x (x^2 - 1/2) (x^2 - 2) = x^5 - 5/2 x^3 + x. */
#define WINOGRAD_P 0.70710678118654752f
#define WINOGRAD_Q 1.41421356237309505f

static inline void winograd_input_p6(const WINOGRAD_TYPE d[6], WINOGRAD_TYPE t[6]) {
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
static inline void winograd_output_4_3(const WINOGRAD_TYPE t[6], WINOGRAD_TYPE y[4]) {
    WINOGRAD_TYPE sum1 = WINOGRAD_ADD(t[1], t[2]), difference1 = WINOGRAD_SUB(t[1], t[2]);
    WINOGRAD_TYPE sum2 = WINOGRAD_ADD(t[3], t[4]), difference2 = WINOGRAD_SUB(t[3], t[4]);
    y[0] = WINOGRAD_ADD(t[0], WINOGRAD_ADD(sum1, sum2));
    y[1] = WINOGRAD_MUL(WINOGRAD_Q, WINOGRAD_FMA(0.5f, difference1, difference2));
    y[2] = WINOGRAD_FMA(2.0f, sum2, WINOGRAD_MUL(0.5f, sum1));
    y[3] = WINOGRAD_FMA(
        WINOGRAD_Q, WINOGRAD_ADD(WINOGRAD_FMA(0.25f, difference1, difference2), difference2), t[5]);
}

static inline void winograd_weights_4_3(const WINOGRAD_TYPE w[3], WINOGRAD_TYPE t[6]) {
    t[0] = w[0];
    WINOGRAD_TYPE even = WINOGRAD_FMA(0.5f, w[2], w[0]);
    t[1] = WINOGRAD_MUL(-2.0f / 3.0f, WINOGRAD_FMA(WINOGRAD_P, w[1], even));
    t[2] = WINOGRAD_MUL(-2.0f / 3.0f, WINOGRAD_FMA(-WINOGRAD_P, w[1], even));
    even = WINOGRAD_FMA(2.0f, w[2], w[0]);
    t[3] = WINOGRAD_MUL(1.0f / 6.0f, WINOGRAD_FMA(WINOGRAD_Q, w[1], even));
    t[4] = WINOGRAD_MUL(1.0f / 6.0f, WINOGRAD_FMA(-WINOGRAD_Q, w[1], even));
    t[5] = w[2];
}

static inline void winograd_gradient_4_3(const WINOGRAD_TYPE y[4], WINOGRAD_TYPE t[6]) {
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

static inline void winograd_filter_4_3(const WINOGRAD_TYPE t[6], WINOGRAD_TYPE w[3]) {
    WINOGRAD_TYPE sum1 = WINOGRAD_ADD(t[1], t[2]), difference1 = WINOGRAD_SUB(t[1], t[2]);
    WINOGRAD_TYPE sum2 = WINOGRAD_ADD(t[3], t[4]), difference2 = WINOGRAD_SUB(t[3], t[4]);
    w[0] = WINOGRAD_FMA(1.0f / 6.0f, sum2, WINOGRAD_FMA(-2.0f / 3.0f, sum1, t[0]));
    w[1] = WINOGRAD_MUL(WINOGRAD_Q / 6.0f, WINOGRAD_FMA(-2.0f, difference1, difference2));
    w[2] = WINOGRAD_FMA(1.0f / 3.0f, WINOGRAD_SUB(sum2, sum1), t[5]);
}

static inline void winograd_output_2_5(const WINOGRAD_TYPE t[6], WINOGRAD_TYPE y[2]) {
    WINOGRAD_TYPE difference1 = WINOGRAD_SUB(t[1], t[2]), difference2 = WINOGRAD_SUB(t[3], t[4]);
    y[0] = WINOGRAD_ADD(t[0], WINOGRAD_ADD(WINOGRAD_ADD(t[1], t[2]), WINOGRAD_ADD(t[3], t[4])));
    y[1] = WINOGRAD_FMA(WINOGRAD_Q, WINOGRAD_FMA(0.5f, difference1, difference2), t[5]);
}

static inline void winograd_weights_2_5(const WINOGRAD_TYPE w[5], WINOGRAD_TYPE t[6]) {
    t[0] = w[0];
    WINOGRAD_TYPE even = WINOGRAD_FMA(0.25f, w[4], WINOGRAD_FMA(0.5f, w[2], w[0]));
    WINOGRAD_TYPE odd = WINOGRAD_FMA(0.5f, w[3], w[1]);
    t[1] = WINOGRAD_MUL(-2.0f / 3.0f, WINOGRAD_FMA(WINOGRAD_P, odd, even));
    t[2] = WINOGRAD_MUL(-2.0f / 3.0f, WINOGRAD_FMA(-WINOGRAD_P, odd, even));
    even = WINOGRAD_FMA(4.0f, w[4], WINOGRAD_FMA(2.0f, w[2], w[0]));
    odd = WINOGRAD_FMA(2.0f, w[3], w[1]);
    t[3] = WINOGRAD_MUL(1.0f / 6.0f, WINOGRAD_FMA(WINOGRAD_Q, odd, even));
    t[4] = WINOGRAD_MUL(1.0f / 6.0f, WINOGRAD_FMA(-WINOGRAD_Q, odd, even));
    t[5] = w[4];
}

/* 9 points: M(x) = (x^2 - a^2) (x^2 - b^2) (x^2 - c^2) (x^2 - d^2). */
#define WINOGRAD_A 0.24
#define WINOGRAD_B 0.68
#define WINOGRAD_C 1.11
#define WINOGRAD_D 2.42
#define WINOGRAD_SQUARE(p) ((p) * (p))

/* Of +p and -p, where the others' squares are u, v, w. */
static inline void winograd_input_pair(const WINOGRAD_TYPE d[8], double p, double u, double v,
                                       double w, WINOGRAD_TYPE t[2]) {
    const float s1 = (float)-(u + v + w), s2 = (float)(u * v + v * w + w * u),
                s3 = (float)-(u * v * w);
    WINOGRAD_TYPE even = WINOGRAD_FMA(s1, d[4], d[6]), odd = WINOGRAD_FMA(s1, d[5], d[7]);
    even = WINOGRAD_FMA(s3, d[0], WINOGRAD_FMA(s2, d[2], even));
    odd = WINOGRAD_FMA(s3, d[1], WINOGRAD_FMA(s2, d[3], odd));
    t[0] = WINOGRAD_FMA((float)p, even, odd);
    t[1] = WINOGRAD_FMA((float)-p, even, odd);
}

static inline void winograd_input_p9(const WINOGRAD_TYPE x[9], WINOGRAD_TYPE t[9]) {
    const double a = WINOGRAD_SQUARE(WINOGRAD_A), b = WINOGRAD_SQUARE(WINOGRAD_B);
    const double c = WINOGRAD_SQUARE(WINOGRAD_C), d = WINOGRAD_SQUARE(WINOGRAD_D);
    winograd_input_pair(x, WINOGRAD_A, b, c, d, t);
    winograd_input_pair(x, WINOGRAD_B, a, c, d, t + 2);
    winograd_input_pair(x, WINOGRAD_C, a, b, d, t + 4);
    winograd_input_pair(x, WINOGRAD_D, a, b, c, t + 6);
    const float s1 = (float)-(a + b + c + d);
    const float s2 = (float)((a + b) * (c + d) + a * b + c * d);
    const float s3 = (float)-(a * b * (c + d) + c * d * (a + b)), s4 = (float)(a * b * c * d);
    t[8] = WINOGRAD_FMA(s2, x[4], WINOGRAD_FMA(s1, x[6], x[8]));
    t[8] = WINOGRAD_FMA(s4, x[0], WINOGRAD_FMA(s3, x[2], t[8]));
}

static inline void winograd_output_3_7(const WINOGRAD_TYPE t[9], WINOGRAD_TYPE y[3]) {
    const double point[] = {WINOGRAD_A, WINOGRAD_B, WINOGRAD_C, WINOGRAD_D};
    y[0] = WINOGRAD_ADD(t[0], t[1]);
    y[1] = WINOGRAD_MUL((float)WINOGRAD_A, WINOGRAD_SUB(t[0], t[1]));
    y[2] = WINOGRAD_FMA((float)WINOGRAD_SQUARE(WINOGRAD_A), y[0], t[8]);
    for (int i = 1; i < 4; i++) {
        WINOGRAD_TYPE sum = WINOGRAD_ADD(t[2 * i], t[2 * i + 1]);
        y[0] = WINOGRAD_ADD(y[0], sum);
        y[1] = WINOGRAD_FMA((float)point[i], WINOGRAD_SUB(t[2 * i], t[2 * i + 1]), y[1]);
        y[2] = WINOGRAD_FMA((float)WINOGRAD_SQUARE(point[i]), sum, y[2]);
    }
}

/* Of +p and -p, the product of p's differences from the other points being 2 p n. */
static inline void winograd_weights_pair(const WINOGRAD_TYPE w[7], double p, double n,
                                         WINOGRAD_TYPE t[2]) {
    const float square = (float)(p * p), factor = (float)(0.5 / (p * n));
    WINOGRAD_TYPE even = WINOGRAD_FMA(square, w[6], w[4]), odd = WINOGRAD_FMA(square, w[5], w[3]);
    even = WINOGRAD_FMA(square, WINOGRAD_FMA(square, even, w[2]), w[0]);
    odd = WINOGRAD_FMA(square, odd, w[1]);
    t[0] = WINOGRAD_MUL(factor, WINOGRAD_FMA((float)p, odd, even));
    t[1] = WINOGRAD_MUL(-factor, WINOGRAD_FMA((float)-p, odd, even));
}

static inline void winograd_weights_3_7(const WINOGRAD_TYPE w[7], WINOGRAD_TYPE t[9]) {
    const double a = WINOGRAD_SQUARE(WINOGRAD_A), b = WINOGRAD_SQUARE(WINOGRAD_B);
    const double c = WINOGRAD_SQUARE(WINOGRAD_C), d = WINOGRAD_SQUARE(WINOGRAD_D);
    winograd_weights_pair(w, WINOGRAD_A, (a - b) * (a - c) * (a - d), t);
    winograd_weights_pair(w, WINOGRAD_B, (b - a) * (b - c) * (b - d), t + 2);
    winograd_weights_pair(w, WINOGRAD_C, (c - a) * (c - b) * (c - d), t + 4);
    winograd_weights_pair(w, WINOGRAD_D, (d - a) * (d - b) * (d - c), t + 6);
    t[8] = w[6];
}
