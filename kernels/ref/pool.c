/* Reference pooling: one output pixel after the other, its channels in the innermost loop. */
#include "ref/ref.h"

#include <string.h>

static int place_of(const tl_pool_row *row, int i, int j) {
    return row->first_place + i * row->place_row + j;
}

/* Channels whose state lies on the stack: a compiler vectorises what is of one width. */
enum { BLOCK = 64 };

/* Takes into `best` what is larger in x, and notes the place. */
static void compete(const float *x, int place, float *best, int32_t *winner, int64_t c) {
    for (int64_t k = 0; k < c; k++) {
        bool wins = (x[k] > best[k]) | (x[k] != x[k]);
        best[k] = wins ? x[k] : best[k];
        winner[k] = wins ? place : winner[k];
    }
}

/* Whether the activation's slope is not 0. */
static bool passes(tl_act act, float x) {
    return act == TL_ACT_NONE || (x > 0.0f && (act == TL_ACT_RELU || x < 6.0f));
}

static void max_block(const tl_pool_row *row, const float *x, int64_t c, float *y,
                      uint8_t *winner) {
    float best[BLOCK];
    int32_t place[BLOCK];
    memcpy(best, x, (size_t)c * sizeof(float));
    for (int64_t k = 0; k < c; k++) place[k] = row->first_place;
    for (int i = 0; i < row->kh; i++)
        for (int j = 0; j < row->kw; j++)
            compete(x + i * row->x_row + j * row->x_tap, place_of(row, i, j), best, place, c);
    tl_ref_act_forward(row->act, best, y, c);
    if (!winner) return;
    for (int64_t k = 0; k < c; k++)
        winner[k] = (uint8_t)(passes(row->act, best[k]) ? place[k] : TL_NO_PLACE);
}

void tl_ref_max_pool(const tl_pool_row *row, const void *in, void *out, uint8_t *winner) {
    const float *x = in;
    float *y = out;
    for (int64_t p = 0; p < row->pixels; p++, x += row->x_step, y += row->y_step) {
        for (int64_t first = 0; first < row->c; first += BLOCK) {
            int64_t left = row->c - first, c = left < BLOCK ? left : BLOCK;
            max_block(row, x + first, c, y + first, winner ? winner + first : NULL);
        }
        if (winner) winner += row->y_step;
    }
}

void tl_ref_max_pool_backward(const tl_pool_row *row, const uint8_t *winner, const void *slopes,
                              void *result) {
    const float *dy = slopes;
    float *dx = result;
    for (int64_t p = 0; p < row->pixels; p++) {
        for (int i = 0; i < row->kh; i++) {
            for (int j = 0; j < row->kw; j++) {
                float *to = dx + i * row->x_row + j * row->x_tap;
                for (int64_t k = 0; k < row->c; k++)
                    to[k] += winner[k] == place_of(row, i, j) ? dy[k] : 0.0f;
            }
        }
        winner += row->y_step;
        dy += row->y_step;
        dx += row->x_step;
    }
}

void tl_ref_avg_pool(const tl_pool_row *row, const void *in, void *out) {
    const float *x = in;
    float *y = out;
    for (int64_t p = 0; p < row->pixels; p++, x += row->x_step, y += row->y_step) {
        memset(y, 0, (size_t)row->c * sizeof(float));
        for (int i = 0; i < row->kh; i++) {
            for (int j = 0; j < row->kw; j++) {
                const float *from = x + i * row->x_row + j * row->x_tap;
                for (int64_t k = 0; k < row->c; k++) y[k] += from[k];
            }
        }
        for (int64_t k = 0; k < row->c; k++) y[k] *= row->weight;
    }
}

void tl_ref_avg_pool_backward(const tl_pool_row *row, const void *slopes, void *result) {
    const float *dy = slopes;
    float *dx = result;
    for (int64_t p = 0; p < row->pixels; p++, dx += row->x_step, dy += row->y_step) {
        for (int i = 0; i < row->kh; i++) {
            for (int j = 0; j < row->kw; j++) {
                float *to = dx + i * row->x_row + j * row->x_tap;
                for (int64_t k = 0; k < row->c; k++) to[k] += dy[k] * row->weight;
            }
        }
    }
}
