"""The model's shape."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSettings:
    """The model's shape."""

    towers: tuple[str, ...] = ()
    """towers other than the default, as STREAM=TOWER; rgb and flow: conv3d (3D convolutions with batch norm), plain3d
    (without), r2plus1d, cnn (2D convolutions, each picture by itself), c3d (Tran et al. 2015), i3d (Carreira and
    Zisserman 2017), torchvision's r3d_18, r2plus1d_18 or s3d, or the image networks efficientnet_lite0 to 2, which
    start from weights trained on ImageNet; audio: conv1d, conv2d (for few videos) or vgg2d (speech); timm:NAME (rgb,
    flow), torchvision:NAME (rgb) and hf:NAME or hf:FOLDER (rgb, audio) are networks of these libraries, from their
    published weights; yamnet:FILE (audio), from .safetensors or .onnx; given features: dense, conv1d, or middle, which
    is for samples among their neighbours;
    STREAM=TOWER+TEMPORAL also names its model of time: rgb=cnn+lstm, rgb=efficientnet_lite0+tcn"""
    temporal: str = "lstm"
    """model of time after every tower for which --towers names none
    lstm: long short-term memory;
    gru: gated recurrent units, three quarters of an LSTM's weights;
    tcn: dilated causal convolutions over the 60 steps before (Bai et al. 2018);
    mean: a linear layer alone, to which order means nothing"""
    width: int = 32
    """channels of the first stage of each tower; others' have their own"""
    feature: int = 128
    """size D of each stream's feature"""
    head: str = "concat"
    """fusion head
    concat: the streams' features side by side, and a perceptron;
    mean: of the streams' own logits, nothing learned;
    weighted: mean with weights and a temperature for each combination of streams, fitted on the validation videos;
    stacked: sum of the streams' own log-probabilities, each through an affine map fitted on the validation videos;
    mixture: sum of the streams' own probabilities, each weighted by how sure it is of the clip, fitted likewise;
    gated: features through learned gates that depend on all streams, then context gating;
    attention: a learned query attends to all time steps of all streams;
    lowrank: products of all streams' features, with few weights;
    binding: towers joined at each time step, then one LSTM;
    convolution: towers joined at each time step by a convolution, then its largest response"""
    dropout: float = 0.3
    """share of features hidden in training, before the models of time and in the head"""
