/* How other frameworks order the elements of a parameter. Every order is four strides: where in the
 * file the element at output o, row y, column x, input i of ours is. */
#include "layer/loop.h"
#include "model/model.h"

/* A dense layer's inputs when they are a flattened map, [1, h, w, c]; else NULL. */
static const tl_shape *flattened_map(const tl_graph *graph, const tl_param *param) {
    const tl_node *dense = &graph->node[param->node];
    const tl_node *input = &graph->node[dense->input[0]];
    if (param->shape.rank != 2 || input->input_count != 1) return NULL;
    const tl_shape *map = &graph->node[input->input[0]].shape;
    bool whole = map->rank == 4 && tl_shape_count(map) == tl_shape_count(&input->shape);
    return whole && input->shape.rank == 2 ? map : NULL;
}

/* Our shape as [o, y, x, i]: a dense layer's with the map that it sees, or a single pixel. */
static tl_shape four_dims(const tl_graph *graph, const tl_param *param) {
    const tl_shape *s = &param->shape;
    if (s->rank != 2) return *s;
    const tl_shape *map = flattened_map(graph, param);
    if (map) return tl_shape_make(4, s->dim[0], map->dim[1], map->dim[2], map->dim[3]);
    return tl_shape_make(4, s->dim[0], INT64_C(1), INT64_C(1), s->dim[1]);
}

/* A convolution of as many filters as channels that sees one channel at a time. */
static bool is_depthwise(const tl_graph *graph, const tl_param *param) {
    const tl_node *node = &graph->node[param->node];
    const tl_shape *input = &graph->node[node->input[0]].shape;
    return param->shape.rank == 4 && param->shape.dim[3] == 1 &&
           param->shape.dim[0] == tl_shape_channels(input);
}

tl_shape tl_layout_shape(tl_layout layout, const tl_graph *graph, const tl_param *param) {
    const tl_shape *s = &param->shape;
    if (s->rank == 1) return *s;
    if (s->rank == 2)
        return layout == TL_LAYOUT_KERAS ? tl_shape_make(2, s->dim[1], s->dim[0]) : *s;
    if (layout == TL_LAYOUT_PYTORCH)
        return tl_shape_make(4, s->dim[0], s->dim[3], s->dim[1], s->dim[2]);
    if (is_depthwise(graph, param))
        return tl_shape_make(4, s->dim[1], s->dim[2], s->dim[0], s->dim[3]);
    return tl_shape_make(4, s->dim[1], s->dim[2], s->dim[3], s->dim[0]);
}

/* As many ones as wanted may follow: a scale of every channel is [C] or [C, 1, 1]. */
static bool fits_vector(const tl_shape *shape, int64_t count) {
    return shape->rank >= 1 && shape->dim[0] == count && tl_shape_count(shape) == count;
}

bool tl_layout_fits(tl_layout layout, const tl_graph *graph, const tl_param *param,
                    const tl_shape *shape) {
    if (param->shape.rank == 1) return fits_vector(shape, param->shape.dim[0]);
    tl_shape expected = tl_layout_shape(layout, graph, param);
    if (tl_shape_equal(shape, &expected)) return true;
    tl_shape s = four_dims(graph, param);
    bool keras = layout == TL_LAYOUT_KERAS;
    if (shape->rank == 2) /* a dense layer applied to every pixel is a convolution of one tap */
        return s.dim[1] * s.dim[2] == 1 && shape->dim[keras] == s.dim[0] &&
               shape->dim[!keras] == s.dim[3];
    tl_shape window = keras ? tl_shape_make(4, s.dim[1], s.dim[2], s.dim[3], s.dim[0])
                            : tl_shape_make(4, s.dim[0], s.dim[3], s.dim[1], s.dim[2]);
    /* Keras has depthwise convolutions as grouped ones, too, in the same order. */
    return (param->shape.rank == 2 || is_depthwise(graph, param)) && tl_shape_equal(shape, &window);
}

typedef tl_layout_strides strides;

static strides file_strides(tl_layout layout, bool depthwise, const tl_shape *s) {
    int64_t outputs = s->dim[0], height = s->dim[1], width = s->dim[2], inputs = s->dim[3];
    if (layout == TL_LAYOUT_PYTORCH)
        return (strides){inputs * height * width, width, 1, height * width};
    int64_t pixel = outputs * inputs;
    return (strides){1, width * pixel, pixel, depthwise ? 1 : outputs};
}

static bool differs(tl_layout layout, const tl_shape *s) {
    int64_t taps = s->dim[1] * s->dim[2];
    if (layout == TL_LAYOUT_PYTORCH) return taps > 1 && s->dim[3] > 1;
    return s->dim[0] > 1 && taps * s->dim[3] > 1;
}

tl_layout_map tl_layout_map_of(tl_layout layout, const tl_graph *graph, const tl_param *param) {
    if (param->shape.rank == 1) return (tl_layout_map){.differs = false};
    tl_layout_map map = {.shape = four_dims(graph, param)};
    map.differs = differs(layout, &map.shape);
    map.stride = file_strides(layout, is_depthwise(graph, param), &map.shape);
    map.by_output = layout == TL_LAYOUT_PYTORCH;
    return map;
}

/* One tap of outputs begin .. end - 1. Where an output is by itself in the file, its inputs are
 * taken in a row; in Keras's files it is the outputs that are side by side. */
static void convert_tap(const tl_layout_map *map, const float *from, int64_t begin, int64_t end,
                        int64_t row, float *to) {
    int64_t inputs = map->shape.dim[3];
    const strides *stride = &map->stride;
    if (map->by_output) {
        for (int64_t o = begin; o < end; o++)
            tl_copy_strided(from + o * stride->output, stride->input, to + o * row, 1, inputs);
        return;
    }
    for (int64_t i = 0; i < inputs; i++)
        tl_copy_strided(from + begin * stride->output + i * stride->input, stride->output,
                        to + begin * row + i, row, end - begin);
}

/* A few outputs together, which share cache lines in Keras's files. */
enum { OUTPUTS = 16 };

void tl_layout_convert(const tl_layout_map *map, const float *from, int64_t begin, int64_t end,
                       float *to) {
    int64_t taps_wide = map->shape.dim[2], taps = map->shape.dim[1] * taps_wide;
    int64_t inputs = map->shape.dim[3], block = map->by_output ? 1 : OUTPUTS;
    for (int64_t o = begin; o < end; o += block) {
        int64_t last = o + block < end ? o + block : end;
        for (int64_t t = 0; t < taps; t++) {
            const float *tap =
                from + t / taps_wide * map->stride.row + t % taps_wide * map->stride.column;
            convert_tap(map, tap, o, last, taps * inputs, to + t * inputs);
        }
    }
}
