"""Random weights of the size that trained ones have, with batch-norm statistics of a batch.

Branches are weaker than what they are added to and most units are open, as in trained networks: else a deep
one amplifies rounding errors so much that PyTorch itself is 1e-4 away from its answers in float64."""
import numpy as np


def randomize_torch(model, x):
    import torch
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.3, 0.7)
            torch.nn.init.normal_(module.bias, 0.3, 0.1)
            module.momentum = 1.0
    for module in model.modules():
        if hasattr(module, "downsample") and hasattr(module, "bn2"):
            torch.nn.init.uniform_(getattr(module, "bn3", module.bn2).weight, 0.1, 0.3)
    for key, parameter in model.named_parameters():
        if key.endswith("layer_scale") or key.endswith("gamma"):
            torch.nn.init.uniform_(parameter, 0.1, 0.5)
        elif parameter.ndim == 1 and parameter.unique().numel() == 1:
            torch.nn.init.normal_(parameter, mean=parameter[0].item(), std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def randomize_keras(model, network, x):
    """`network` is the part of the model that x enters."""
    import keras
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    for variable in model.trainable_variables:
        if variable.path.endswith("_3_bn/gamma"):
            variable.assign(random.uniform(0.1, 0.3, variable.shape))
        elif variable.path.endswith("gamma"):
            variable.assign(random.uniform(0.3, 0.7, variable.shape))
        elif variable.path.endswith("beta"):
            variable.assign(random.normal(0.3, 0.1, variable.shape))
        elif variable.path.endswith("bias"):
            variable.assign(random.normal(0, 0.1, variable.shape))
    network(x, training=True)
