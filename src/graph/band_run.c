/* Running a band. */
#include <string.h>

#include "graph/plan.h"

/* One lane on its way down the rows of one sample. */
typedef struct band_walk {
    const tl_plan *plan;
    const tl_band *band;
    char *lane;
    int64_t sample;
    /* Of each step's output: the rows in the lane, and those of them that are to be computed. */
    tl_rows rows[TL_BAND_STEPS], fresh[TL_BAND_STEPS];
} band_walk;

/* Where a row of a value is. */
static void *row_data(const band_walk *w, int index, int64_t row) {
    const tl_value *value = &w->plan->value[index];
    char *data = tl_plan_value_data(w->plan, index);
    row += w->sample * value->shape.dim[1];
    if (value->banded) {
        data = w->lane + w->plan->step[value->step].lane_value;
        row -= w->sample * value->shape.dim[1] + w->rows[value->step - w->band->first].begin;
    }
    return data + row * (int64_t)tl_value_row(value);
}

static void run_step(const band_walk *w, int s) {
    const tl_plan *plan = w->plan;
    const tl_step *step = &plan->step[s];
    const tl_node *node = &plan->graph->node[step->node];
    tl_rows out = w->fresh[s - w->band->first], from = tl_rows_under(&step->window, out);
    tl_view in[TL_BAND_INPUTS];
    float *param[TL_MAX_PARAMS];
    tl_op_call call = tl_step_call_into(plan, step, 1, in, param);
    tl_op_band band = {out, in[0].shape.dim[1]};
    for (int i = 0; i < node->input_count; i++) {
        in[i].data = row_data(w, node->input[i], from.begin);
        in[i].shape.dim[1] = from.end - from.begin;
    }
    call.out.data = row_data(w, step->out, out.begin);
    call.out.shape.dim[1] = out.end - out.begin;
    call.ctx = tl_context_lane(plan->ctx);
    call.band = &band;
    call.work = w->lane + w->band->lane_work;
    if (step->pack) call.packed = step->pack->weights;
    tl_epilogue epilogue;
    if (tl_step_epilogue(step, &epilogue)) {
        if (step->residual >= 0) epilogue.residual = row_data(w, step->residual, out.begin);
        call.epilogue = &epilogue;
    }
    tl_step_run(plan, step, &call, TL_PASS_FORWARD, w->band->lanes);
}

/* Moves the rows of a value that are wanted again to the lane's begin. */
static void keep_rows(const band_walk *w, int s, tl_rows want) {
    const tl_step *step = &w->plan->step[s];
    tl_rows have = w->rows[s - w->band->first];
    if (have.begin >= want.begin || have.end <= want.begin) return;
    size_t row = tl_value_row(&w->plan->value[step->out]);
    char *value = w->lane + step->lane_value;
    memmove(value, value + (size_t)(want.begin - have.begin) * row,
            (size_t)(have.end - want.begin) * row);
}

static void run_rows(band_walk *w, tl_rows out) {
    tl_rows want[TL_BAND_STEPS];
    int first = w->band->first, last = w->band->last;
    tl_band_trace(w->plan, w->band, out, w->rows, want, w->fresh);
    for (int s = first; s < last; s++) keep_rows(w, s, want[s - first]);
    memcpy(w->rows, want, (size_t)(last - first + 1) * sizeof *want);
    for (int s = first; s <= last; s++)
        if (w->fresh[s - first].begin < w->fresh[s - first].end) run_step(w, s);
    /* The last value is nowhere in the lane. */
    w->rows[last - first] = (tl_rows){0, 0};
}

/* Rows [begin, end) of one sample's output, in parts of nearly the same size. */
static void run_sample(band_walk *w, int64_t begin, int64_t end) {
    memset(w->rows, 0, sizeof w->rows);
    int64_t count = end - begin, parts = (count + w->band->rows - 1) / w->band->rows;
    for (int64_t i = 0; i < parts; i++)
        run_rows(w, (tl_rows){begin + count * i / parts, begin + count * (i + 1) / parts});
}

typedef struct band_job {
    const tl_plan *plan;
    const tl_band *band;
    int64_t height; /* of the output */
} band_job;

/* A lane's share of all samples' rows counted through. */
static void run_lane(const band_job *job, int64_t lane) {
    int64_t total = job->plan->batch * job->height;
    int64_t at = total * lane / job->band->lanes, end = total * (lane + 1) / job->band->lanes;
    band_walk walk = {.plan = job->plan, .band = job->band};
    walk.lane = job->plan->arena + job->plan->buffer[job->band->buffer].offset +
                job->band->lane_size * (size_t)lane;
    while (at < end) {
        int64_t begin = at % job->height, left = job->height - begin;
        int64_t count = end - at < left ? end - at : left;
        walk.sample = at / job->height;
        run_sample(&walk, begin, begin + count);
        at += count;
    }
}

static void run_lanes(void *arg, int64_t begin, int64_t end) {
    for (int64_t lane = begin; lane < end; lane++) run_lane(arg, lane);
}

void tl_band_forward(tl_plan *plan, const tl_band *band) {
    band_job job = {plan, band, plan->value[plan->step[band->last].out].shape.dim[1]};
    tl_parallel(plan->compute, band->lanes, run_lanes, &job);
}
