/* The bands of a plan: which steps pass on a few rows at a time, and how many. */
#include <string.h>

#include "graph/plan.h"

enum {
    LANE_BYTES = 640 << 10,  /* of rows and weights: they stay in a core's second-level cache */
    VALUE_BYTES = 512 << 10, /* a value that is not larger stays there by itself */
    MIN_PIXELS = 56,         /* of a few rows: enough to fill the kernels' tiles */
    ALIGNMENT = 64
};

/* --- rows ------------------------------------------------------------------------------------- */

static bool is_empty(tl_rows rows) {
    return rows.begin >= rows.end;
}

static void widen(tl_rows *rows, tl_rows by) {
    if (is_empty(*rows)) {
        *rows = by;
        return;
    }
    if (by.begin < rows->begin) rows->begin = by.begin;
    if (by.end > rows->end) rows->end = by.end;
}

/* Those wanted that are not there, so that they follow on those that are. */
static tl_rows still_missing(tl_rows want, tl_rows have) {
    if (have.begin > want.begin || have.end <= want.begin) return want;
    if (have.end > want.end) have.end = want.end;
    return (tl_rows){have.end, want.end};
}

/* The band's step that makes the value, or -1. */
static int maker(const tl_plan *plan, const tl_band *band, int value) {
    int step = plan->value[value].step;
    return step >= band->first && step <= band->last ? step : -1;
}

/* Adds to want[] what computing rows `out` of the step's output takes. */
static void want_inputs(const tl_plan *plan, const tl_band *band, const tl_step *step, tl_rows out,
                        tl_rows *want) {
    const tl_node *node = &plan->graph->node[step->node];
    tl_rows rows = tl_rows_under(&step->window, out);
    for (int i = 0; i < node->input_count; i++) {
        int from = maker(plan, band, node->input[i]);
        if (from >= 0) widen(&want[from - band->first], rows);
    }
    int from = step->residual >= 0 ? maker(plan, band, step->residual) : -1;
    if (from >= 0) widen(&want[from - band->first], out);
}

void tl_band_trace(const tl_plan *plan, const tl_band *band, tl_rows out, const tl_rows *have,
                   tl_rows *want, tl_rows *fresh) {
    int count = band->last - band->first + 1;
    memset(want, 0, (size_t)count * sizeof *want);
    want[count - 1] = out;
    for (int i = count - 1; i >= 0; i--) {
        fresh[i] = have ? still_missing(want[i], have[i]) : want[i];
        if (!is_empty(fresh[i]))
            want_inputs(plan, band, &plan->step[band->first + i], fresh[i], want);
    }
}

/* --- sizes ------------------------------------------------------------------------------------ */

static int64_t height_of(const tl_plan *plan, const tl_band *band) {
    return plan->value[plan->step[band->last].out].shape.dim[1];
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* The scratch that a step takes for rows `out` of its output. */
static size_t step_work(const tl_plan *plan, const tl_step *step, tl_rows out) {
    const tl_node *node = &plan->graph->node[step->node];
    if (!node->op->memory) return 0;
    tl_view in[TL_BAND_INPUTS];
    float *param[TL_MAX_PARAMS];
    tl_op_call call = tl_step_call_into(plan, step, 1, in, param);
    tl_rows rows = tl_rows_under(&step->window, out);
    tl_op_band band = {out, in[0].shape.dim[1]};
    for (int i = 0; i < node->input_count; i++) in[i].shape.dim[1] = rows.end - rows.begin;
    call.out.shape.dim[1] = out.end - out.begin;
    call.ctx = tl_context_lane(plan->ctx);
    call.band = &band;
    tl_op_memory memory = {0};
    node->op->memory(&call, &memory);
    return memory.work_forward;
}

/* The most that rows beginning with `first` take, into most[] (of each value) and *work. */
static void measure_at(const tl_plan *plan, const tl_band *band, int64_t first, size_t *most,
                       size_t *work) {
    tl_rows want[TL_BAND_STEPS], fresh[TL_BAND_STEPS];
    int64_t height = height_of(plan, band);
    int64_t end = first + band->rows < height ? first + band->rows : height;
    tl_band_trace(plan, band, (tl_rows){first, end}, NULL, want, fresh);
    for (int i = 0; i <= band->last - band->first; i++) {
        const tl_step *step = &plan->step[band->first + i];
        size_t bytes =
            (size_t)(want[i].end - want[i].begin) * tl_value_row(&plan->value[step->out]);
        size_t scratch = step_work(plan, step, want[i]);
        if (bytes > most[i]) most[i] = bytes;
        if (scratch > *work) *work = scratch;
    }
}

/* A place in the lane for every value, and for scratch after them. */
static void lay_out(tl_plan *plan, tl_band *band, const size_t *most, size_t work) {
    size_t at = 0;
    for (int s = band->first; s < band->last; s++) {
        plan->step[s].lane_value = at;
        at += aligned(most[s - band->first]);
    }
    band->lane_work = at;
    band->lane_size = at + aligned(work);
}

/* Rows in the middle take the most, but where padding is uneven not quite. */
static void measure(tl_plan *plan, tl_band *band, bool exact) {
    size_t most[TL_BAND_STEPS] = {0}, work = 0;
    int64_t last = height_of(plan, band) - band->rows;
    if (!exact) measure_at(plan, band, last / 2, most, &work);
    for (int64_t first = 0; exact && first <= last; first++)
        measure_at(plan, band, first, most, &work);
    lay_out(plan, band, most, work);
}

static size_t weight_bytes(const tl_plan *plan, const tl_band *band) {
    size_t bytes = 0;
    for (int s = band->first; s <= band->last; s++) bytes += plan->step[s].memory.packed;
    return bytes;
}

/* Sets the band's rows to as many as stay in the cache; false when there is no room for enough. */
static bool fit_rows(tl_plan *plan, tl_band *band) {
    int64_t height = height_of(plan, band);
    int64_t width = plan->value[plan->step[band->last].out].shape.dim[2];
    size_t weights = weight_bytes(plan, band);
    int64_t least = (MIN_PIXELS + width - 1) / width;
    if (least > height) least = height;
    int64_t fits = 0;
    for (band->rows = least; band->rows <= height; band->rows *= 2) {
        measure(plan, band, false);
        if (weights + band->lane_size > LANE_BYTES) break;
        fits = band->rows;
    }
    band->rows = fits;
    return fits > 0;
}

/* --- which ------------------------------------------------------------------------------------ */

/* Whether the step can be in a band at all; sets its window. */
static bool can_join(const tl_plan *plan, tl_step *step) {
    const tl_node *node = &plan->graph->node[step->node];
    if (step->backward || step->live || step->packs || step->alias || !node->op->rows) return false;
    if (node->input_count > TL_BAND_INPUTS) return false;
    if (tl_plan_copy_bytes(plan, (int)(step - plan->step), TL_PASS_FORWARD) > 0) return false;
    tl_view in[TL_BAND_INPUTS];
    float *param[TL_MAX_PARAMS];
    tl_op_call whole = tl_step_call_into(plan, step, 1, in, param);
    for (int i = 0; i < node->input_count; i++)
        if (in[i].shape.rank != 4) return false;
    return whole.out.shape.rank == 4 && node->op->rows(&whole, &step->window);
}

static int reads(const tl_plan *plan, const tl_step *step, int value) {
    const tl_node *node = &plan->graph->node[step->node];
    int count = step->residual == value;
    for (int i = 0; i < node->input_count; i++) count += node->input[i] == value;
    return count;
}

/* Whether nobody but the band's steps reads what they make, but for the last. */
static bool is_closed(const tl_plan *plan, const tl_band *band) {
    for (int s = band->first; s < band->last; s++) {
        int value = plan->step[s].out, readers = 0;
        for (int t = s + 1; t <= band->last; t++) readers += reads(plan, &plan->step[t], value);
        if (value == plan->options.to || readers < plan->value[value].consumers) return false;
    }
    return true;
}

/* Whether some value between the steps is too large for the cache. */
static bool is_worthwhile(const tl_plan *plan, const tl_band *band) {
    for (int s = band->first; s < band->last; s++)
        if (plan->value[plan->step[s].out].bytes > VALUE_BYTES) return true;
    return false;
}

/* The good band that begins with step s and ends where values grow again: its last one is written
 * and read whole, and with more steps fewer rows at a time stay in the cache. */
static bool find_band(tl_plan *plan, int s, tl_band *best) {
    size_t best_bytes = SIZE_MAX;
    tl_band band = {.first = s};
    for (int e = s; e < plan->step_count && e < s + TL_BAND_STEPS; e++) {
        if (!can_join(plan, &plan->step[e])) break;
        band.last = e;
        size_t bytes = plan->value[plan->step[e].out].bytes;
        if (bytes > best_bytes) break;
        if (e == s || !is_closed(plan, &band)) continue;
        if (!is_worthwhile(plan, &band) || !fit_rows(plan, &band)) continue;
        *best = band;
        best_bytes = bytes;
    }
    return best_bytes < SIZE_MAX;
}

/* As many lanes as threads, unless the rows are few. */
static int lane_count(const tl_plan *plan, const tl_band *band) {
    int64_t rows = plan->options.input.dim[0] * height_of(plan, band);
    int64_t shares = (rows + band->rows - 1) / band->rows;
    int threads = tl_context_threads(plan->compute);
    return shares < threads ? (int)shares : threads;
}

static void add_band(tl_plan *plan, tl_band band) {
    measure(plan, &band, true);
    band.lanes = lane_count(plan, &band);
    for (int s = band.first; s <= band.last; s++) {
        plan->step[s].band = plan->band_count;
        plan->value[plan->step[s].out].banded = s < band.last;
    }
    plan->band[plan->band_count++] = band;
}

void tl_plan_choose_bands(tl_plan *plan) {
    if (plan->options.unfused || plan->options.unshared) return;
    tl_band band;
    for (int s = 0; s < plan->step_count; s++) {
        if (!find_band(plan, s, &band)) continue;
        add_band(plan, band);
        s = band.last;
    }
}
