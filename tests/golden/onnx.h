/* Made by tests/golden/make_onnx.py with PyTorch 1.13.0a0. */
/* clang-format off */
static const double golden_residual_unfolded[] = {-0.137322456, 0.292426676, -0.0387186259, -0.279590845, 0.345879108, -0.047673285, 0.255859643, -0.00298202038, -0.300044656, 0.307101667};
static const double golden_residual_opset7[] = {-0.0815701038, -0.45509997, -0.542873323, -0.470304012, -0.652454913, -0.0765439719, -0.445861548, -0.629478931, -0.415149689, -0.565846026};
static const double golden_depthwise[] = {0.247600466, 0.439780921, 0.312618673, 0.242599487, 0.451462269, 0.305938244};
static const double golden_squeeze_excite[] = {0.321653247, -0.0588211454, -0.385618031, -0.0964057148, 0.33652702, -0.0417063124, -0.391901493, -0.100811854};
static const double golden_squeeze_excite_opset14[] = {0.641091287, 0.50792706, -0.146609783, 0.175241575, 0.623555481, 0.507310271, -0.130563959, 0.177142069};
static const double golden_pools[] = {-0.0104916096, 0.261970133, -0.676455379, 0.0141892135, 0.270743102, -0.682516158};
static const double golden_dense_block[] = {-0.0404227227, -0.0360683799, 0.0564760864, 0.326775849, -0.0461686999, -0.04114905, 0.0670001507, 0.323821545};
static const double golden_shuffle_dynamic[] = {0.0123590231, -0.02356603, 0.0214828607, -0.0212345421, -0.00495708734, -0.0163953789};
static const double golden_shuffle_split[] = {0.308360368, -0.589916289, -0.13952747, 0.344018638, -0.554737806, -0.231425703};
static const double golden_flatten[] = {-0.138547406, -0.0580126345, -0.349719882, -0.0768686756, -0.0678177923, -0.344120115};
static const double golden_squeeze[] = {0.0638728067, 0, 0.0727217346, 0.0253061652, 0.370754331, 0.0658226386, 0, 0.0734238178, 0.0328787528, 0.371215105};
static const double golden_keras[] = {0.113726571, 0.107860193, 0.664633036, 0.113780178, 0.113714173, 0.107800759, 0.66467464, 0.113810487};
static const double golden_convnext[] = {0.196203947, 0.550266266, 0.697623491, 0.0158097446, 0.418397129, 0.399636567, 0.783705711, -0.398460776};
static const double golden_convnext_opset17[] = {-0.404338896, -0.347642958, -4.70876694e-06, -0.483066112, -0.309678704, -0.151193678, -0.142753154, -0.304673105};
static const double golden_transform_input[] = {0.0340979546, -0.665301323, 0.255729944, 0.00142531097, -0.707852304, 0.251242071};
static const double golden_crop[] = {-0.305364549, 0.557676017, 0.19866173, -0.27532658, 0.534875095, 0.165892467};
static const golden_network golden_networks[] = {
    {"residual_unfolded", 9, 8, 5, golden_residual_unfolded},
    {"residual_opset7", 9, 8, 5, golden_residual_opset7},
    {"depthwise", 8, 9, 3, golden_depthwise},
    {"squeeze_excite", 7, 6, 4, golden_squeeze_excite},
    {"squeeze_excite_opset14", 7, 6, 4, golden_squeeze_excite_opset14},
    {"pools", 12, 11, 3, golden_pools},
    {"dense_block", 6, 5, 4, golden_dense_block},
    {"shuffle_dynamic", 8, 7, 3, golden_shuffle_dynamic},
    {"shuffle_split", 8, 7, 3, golden_shuffle_split},
    {"flatten", 9, 12, 3, golden_flatten},
    {"squeeze", 6, 7, 5, golden_squeeze},
    {"keras", 16, 14, 4, golden_keras},
    {"convnext", 8, 6, 4, golden_convnext},
    {"convnext_opset17", 8, 6, 4, golden_convnext_opset17},
    {"transform_input", 7, 7, 3, golden_transform_input},
    {"crop", 11, 12, 3, golden_crop},
};
