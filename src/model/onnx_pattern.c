/* What each node of an ONNX graph is for. Exporters before opset 17 write a layer norm as nine
 * nodes and GELU as five, and PyTorch's newer one writes what changes only the order in memory as a
 * gather of all elements; each is recognised from its last node, so that what lies between is not
 * needed. */
#include "model/onnx_import.h"

#include <math.h>
#include <string.h>

/* Every name's maker: a node, or an initializer or constant. */
typedef struct graph_view {
    tl_onnx *onnx;
    tl_onnx_table makers;
    int64_t indices_left; /* how many may still be looked at */
} graph_view;

/* Many nodes may share a constant: what is read of all must not grow with both. */
enum { MAX_INDICES = 1 << 20 };

static tl_status add_maker(graph_view *view, tl_onnx_text name, const tl_onnx_entry *maker,
                           uint32_t offset) {
    if (name.begin == name.end) return TL_OK;
    tl_onnx_entry *entry = tl_onnx_lookup(&view->makers, name, true);
    TL_CHECK(entry->kind == TL_ONNX_ABSENT, TL_CORRUPT, "%s: offset %u: '%.*s' is made twice",
             view->onnx->name, offset, TL_ONNX_TEXT(view->onnx, name));
    *entry = *maker;
    entry->name = name;
    return TL_OK;
}

static const tl_onnx_tensor *constant_of(const tl_onnx *onnx, const tl_onnx_node *node) {
    if (!tl_onnx_is(onnx, node->type, "Constant")) return NULL;
    const tl_onnx_attr *attr = tl_onnx_attr_find(onnx, node, "value");
    return attr ? attr->tensor : NULL;
}

static tl_status find_makers(graph_view *view) {
    tl_onnx *onnx = view->onnx;
    int64_t names = onnx->initializer_count;
    for (int i = 0; i < onnx->node_count; i++) names += onnx->node[i].output_count;
    TL_TRY(tl_onnx_table_create(onnx, names, &view->makers));
    for (int i = 0; i < onnx->initializer_count; i++) {
        const tl_onnx_tensor *tensor = &onnx->initializer[i];
        tl_onnx_entry maker = {.kind = TL_ONNX_WEIGHT, .tensor = tensor};
        TL_TRY(add_maker(view, tensor->name, &maker, tensor->offset));
    }
    for (int i = 0; i < onnx->node_count; i++) {
        const tl_onnx_node *node = &onnx->node[i];
        tl_onnx_entry maker = {.kind = TL_ONNX_NODE, .node = i, .tensor = constant_of(onnx, node)};
        for (int k = 0; k < node->output_count; k++) {
            TL_TRY(add_maker(view, node->output[k], &maker, node->offset));
        }
    }
    return TL_OK;
}

/* --- looking at the graph from the end -------------------------------------------------------- */

/* The node of type `type` that makes input `index` of `node`, or NULL. */
static const tl_onnx_node *made_by(graph_view *view, const tl_onnx_node *node, int index,
                                   const char *type) {
    if (!node || index >= node->input_count) return NULL;
    const tl_onnx_entry *maker = tl_onnx_lookup(&view->makers, node->input[index], false);
    if (!maker || maker->kind != TL_ONNX_NODE) return NULL;
    const tl_onnx_node *found = &view->onnx->node[maker->node];
    return tl_onnx_is(view->onnx, found->type, type) ? found : NULL;
}

/* The constant that is input `index` of `node`, or NULL. */
static const tl_onnx_tensor *tensor_at(graph_view *view, const tl_onnx_node *node, int index) {
    if (!node || index >= node->input_count) return NULL;
    const tl_onnx_entry *maker = tl_onnx_lookup(&view->makers, node->input[index], false);
    return maker ? maker->tensor : NULL;
}

/* Whether it is one number. */
static bool number_at(graph_view *view, const tl_onnx_node *node, int index, float *value) {
    const tl_onnx_tensor *tensor = tensor_at(view, node, index);
    if (!tensor || tensor->count != 1) return false;
    tl_onnx_read_row(tensor, 0, 1, value);
    return true;
}

static bool number_is(graph_view *view, const tl_onnx_node *node, int index, double wanted) {
    float value;
    return number_at(view, node, index, &value) &&
           fabs((double)value - wanted) <= 1e-4 * fabs(wanted);
}

static bool same_input(graph_view *view, const tl_onnx_node *a, int i, tl_onnx_text name) {
    return a && i < a->input_count && tl_onnx_same(view->onnx, a->input[i], name);
}

/* --- layer norm: (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * gamma + beta ----------------
 */

/* The axis of a mean over one axis that is kept, or 0. */
static int64_t mean_axis(graph_view *view, const tl_onnx_node *mean) {
    const tl_onnx *onnx = view->onnx;
    const tl_onnx_attr *keep = mean ? tl_onnx_attr_find(onnx, mean, "keepdims") : NULL;
    if (!mean || (keep && keep->i == 0)) return 0;
    const tl_onnx_attr *axes = tl_onnx_attr_find(onnx, mean, "axes");
    if (axes) return axes->type == TL_ONNX_INTS && axes->count == 1 ? axes->ints[0] : 0;
    float value = 0;
    bool known = number_at(view, mean, 1, &value) && fabsf(value) < 8;
    return known ? (int64_t)value : 0;
}

/* (x - mean)^2 as Pow or Mul. */
static bool is_square(graph_view *view, const tl_onnx_node *mean, tl_onnx_text difference) {
    const tl_onnx_node *pow = made_by(view, mean, 0, "Pow"), *mul = made_by(view, mean, 0, "Mul");
    if (pow) return same_input(view, pow, 0, difference) && number_is(view, pow, 1, 2.0);
    return same_input(view, mul, 0, difference) && same_input(view, mul, 1, difference);
}

static bool match_normalised(graph_view *view, const tl_onnx_node *div, tl_onnx_role *role) {
    const tl_onnx_node *sub = made_by(view, div, 0, "Sub"), *root = made_by(view, div, 1, "Sqrt");
    const tl_onnx_node *mean = made_by(view, sub, 1, "ReduceMean");
    const tl_onnx_node *add = made_by(view, root, 0, "Add");
    const tl_onnx_node *variance = made_by(view, add, 0, "ReduceMean");
    role->axis = mean_axis(view, mean);
    if (!role->axis || mean_axis(view, variance) != role->axis) return false;
    if (!is_square(view, variance, div->input[0])) return false;
    if (!number_at(view, add, 1, &role->epsilon)) return false;
    role->x = sub->input[0];
    return same_input(view, mean, 0, role->x);
}

static bool match_layer_norm(graph_view *view, const tl_onnx_node *add, tl_onnx_role *role) {
    if (!tl_onnx_is(view->onnx, add->type, "Add")) return false;
    for (int i = 0; i < 2; i++) {
        const tl_onnx_node *mul = made_by(view, add, i, "Mul");
        for (int k = 0; mul && k < 2; k++) {
            const tl_onnx_node *div = made_by(view, mul, k, "Div");
            if (!div || mul->input_count != 2 || add->input_count != 2) continue;
            if (!match_normalised(view, div, role)) continue;
            role->pattern = "layer_norm";
            role->gamma = mul->input[1 - k];
            role->beta = add->input[1 - i];
            return true;
        }
    }
    return false;
}

/* --- GELU: 0.5 x (1 + erf(x / sqrt(2))), its three factors in any order ------------------------
 */

/* erf(x / sqrt(2)) of some x. */
static bool match_erf(graph_view *view, const tl_onnx_node *erf, tl_onnx_text *x) {
    const tl_onnx_node *div = made_by(view, erf, 0, "Div"), *mul = made_by(view, erf, 0, "Mul");
    if (div && number_is(view, div, 1, sqrt(2.0))) {
        *x = div->input[0];
        return true;
    }
    for (int i = 0; mul && i < 2; i++) {
        if (!number_is(view, mul, i, sqrt(0.5))) continue;
        *x = mul->input[1 - i];
        return true;
    }
    return false;
}

/* 1 + erf(x / sqrt(2)) as input `index` of `node`. */
static bool match_share(graph_view *view, const tl_onnx_node *node, int index, tl_onnx_text *x) {
    const tl_onnx_node *add = made_by(view, node, index, "Add");
    for (int i = 0; add && i < 2; i++) {
        const tl_onnx_node *erf = made_by(view, add, i, "Erf");
        if (erf && number_is(view, add, 1 - i, 1.0)) return match_erf(view, erf, x);
    }
    return false;
}

/* `node` times 0.5, x and 1 + erf, of which `inner`, its other factor, makes two. */
static bool match_factors(graph_view *view, const tl_onnx_node *mul, int outer,
                          const tl_onnx_node *inner, tl_onnx_role *role) {
    const tl_onnx_node *node[3] = {mul, inner, inner};
    const int index[3] = {outer, 0, 1};
    for (int share = 0; share < 3; share++) {
        if (!match_share(view, node[share], index[share], &role->x)) continue;
        int a = (share + 1) % 3, b = (share + 2) % 3;
        if (number_is(view, node[b], index[b], 0.5)) {
            int swap = a;
            a = b;
            b = swap;
        }
        if (number_is(view, node[a], index[a], 0.5) &&
            same_input(view, node[b], index[b], role->x)) {
            return true;
        }
    }
    return false;
}

static bool match_gelu(graph_view *view, const tl_onnx_node *mul, tl_onnx_role *role) {
    if (!tl_onnx_is(view->onnx, mul->type, "Mul") || mul->input_count != 2) return false;
    for (int i = 0; i < 2; i++) {
        const tl_onnx_node *inner = made_by(view, mul, i, "Mul");
        if (!inner || inner->input_count != 2) continue;
        if (!match_factors(view, mul, 1 - i, inner, role)) continue;
        role->pattern = "gelu";
        return true;
    }
    return false;
}

/* --- as_strided: Gather(Reshape(x, [-1]), 0, 1, 2, ...) gives x again ---------------------------
 */

/* Whether the integers of a constant count up from 0. */
static bool counts_up(graph_view *view, const tl_onnx_tensor *tensor) {
    if (tensor->dtype != TL_I64 || tensor->count > view->indices_left) return false;
    view->indices_left -= tensor->count;
    for (int64_t i = 0; i < tensor->count; i++) {
        int64_t value;
        memcpy(&value, (const char *)tensor->data + i * (int64_t)sizeof value, sizeof value);
        if (value != i) return false;
    }
    return tensor->count > 0;
}

/* Range over the batch times what one picture has: the first index of every picture. */
static bool match_rows(graph_view *view, const tl_onnx_node *add, int index, int64_t row) {
    const tl_onnx_node *unsqueeze = made_by(view, add, index, "Unsqueeze");
    const tl_onnx_node *mul = made_by(view, unsqueeze, 0, "Mul");
    const tl_onnx_node *range = made_by(view, mul, 0, "Range");
    const tl_onnx_node *squeeze = made_by(view, range, 1, "Squeeze");
    return number_is(view, mul, 1, (double)row) && number_is(view, range, 0, 0) &&
           number_is(view, range, 2, 1) && made_by(view, squeeze, 0, "Shape");
}

/* The constant that input `index` of `node` consists of: alone for a fixed batch, or the indices
 * of one picture, to which those of its row are added. */
static const tl_onnx_tensor *match_indices(graph_view *view, const tl_onnx_node *node, int index) {
    const tl_onnx_tensor *tensor = tensor_at(view, node, index);
    const tl_onnx_node *add = made_by(view, node, index, "Add");
    /* Axes of one element add 0. */
    for (int i = 0; i < TL_MAX_RANK && number_is(view, add, 1, 0); i++) {
        add = made_by(view, add, 0, "Add");
    }
    if (add) tensor = tensor_at(view, add, 1);
    if (!tensor || !counts_up(view, tensor)) return NULL;
    return !add || match_rows(view, add, 0, tensor->count) ? tensor : NULL;
}

static bool match_as_strided(graph_view *view, const tl_onnx_node *gather, tl_onnx_role *role) {
    if (!tl_onnx_is(view->onnx, gather->type, "Gather")) return false;
    const tl_onnx_node *reshape = made_by(view, gather, 0, "Reshape");
    const tl_onnx_attr *axis = tl_onnx_attr_find(view->onnx, gather, "axis");
    if (!number_is(view, reshape, 1, -1) || (axis && axis->i != 0)) return false;
    role->index = match_indices(view, gather, 1);
    if (!role->index) return false;
    role->pattern = "as_strided";
    role->x = reshape->input[0];
    return true;
}

/* --- roles ------------------------------------------------------------------------------------ */

static void need(graph_view *view, tl_onnx_text name, tl_onnx_role *role) {
    const tl_onnx_entry *maker = tl_onnx_lookup(&view->makers, name, false);
    if (maker && maker->kind == TL_ONNX_NODE) role[maker->node].needed = true;
}

static void need_inputs(graph_view *view, int index, tl_onnx_role *role) {
    const tl_onnx_node *node = &view->onnx->node[index];
    tl_onnx_role *own = &role[index];
    if (match_layer_norm(view, node, own)) {
        need(view, own->gamma, role);
        need(view, own->beta, role);
    }
    if (own->pattern || match_gelu(view, node, own) || match_as_strided(view, node, own)) {
        need(view, own->x, role);
        return;
    }
    for (int k = 0; k < node->input_count; k++) need(view, node->input[k], role);
}

/* Nodes are in topological order: walking backwards, whoever needs a node comes before it. */
static tl_status mark_needed(graph_view *view, tl_onnx_role *role) {
    const tl_onnx *onnx = view->onnx;
    tl_onnx_text output = onnx->output[0].name;
    const tl_onnx_entry *last = tl_onnx_lookup(&view->makers, output, false);
    TL_CHECK(last && last->kind == TL_ONNX_NODE, TL_CORRUPT,
             "%s: the output '%.*s' is made by no node", onnx->name, TL_ONNX_TEXT(onnx, output));
    role[last->node].needed = true;
    for (int i = onnx->node_count - 1; i >= 0; i--) {
        if (role[i].needed) need_inputs(view, i, role);
    }
    return TL_OK;
}

tl_status tl_onnx_assign_roles(tl_onnx *onnx, tl_onnx_role *role) {
    graph_view view = {.onnx = onnx, .indices_left = MAX_INDICES};
    tl_status status = find_makers(&view);
    if (status == TL_OK) status = mark_needed(&view, role);
    tl_onnx_table_free(&view.makers);
    return status;
}
