"""A model of any opset in opset 20: converted by onnx, with what it does not convert rewritten before or after."""

from __future__ import annotations

import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir

from sise_ort.errors import SourceError, first_line
from sise_ort.exporter.sources.cutting import forget_dictionaries
from sise_ort.exporter.sources.fused import FUSED
from sise_ort.exporter.sources.retired import declare_shapes, mark_retired, rewrite_retired
from sise_ort.exporter.sources.rewriting import needs_rewriting, replace_nodes, rewrite

OPSET, IR_VERSION = 20, 10
OLDEST_OPSET, NEWEST_OPSET = 1, 24
OLDEST_RUN = 7
"""The oldest opset whose operators onnxruntime has."""


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of ONNX's operators that a model imports.

    Raises
    ------
    SourceError
        It imports none.
    """
    versions = {o.domain: o.version for o in proto.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None:
        if proto.ir_version and proto.ir_version < 3:
            return 1  # before opsets were written down
        raise SourceError(
            "the model imports no version of the ONNX operators; it may not be a neural network"
        )
    return version


def to_opset(proto: onnx.ModelProto) -> ir.Model:
    """A model in opset 20.

    Parameters
    ----------
    proto : onnx.ModelProto
        Of opset 1 to 24. Its operators stay as they are.

    Raises
    ------
    SourceError
        It has another opset, operators that its opset lacks, or some that cannot be converted.
    """
    version = opset_of(proto)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise SourceError(
            f"the model uses opset {version}; {OLDEST_OPSET} to {NEWEST_OPSET} can be read. "
            "Export it anew with opset_version=20."
        )
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
    proto = mark_retired(proto, version)
    _require_operators(proto, version)
    if needs_rewriting(proto):
        model = ir.from_proto(proto)
        rewrite_newer(model)
        proto = ir.to_proto(model)
    if version != OPSET:
        del proto.graph.value_info[:]  # stale shapes stop the converter
        declare_shapes(proto, version)
        try:
            proto = onnx.version_converter.convert_version(proto, OPSET)
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
            raise SourceError(
                f"the model's opset {version} cannot be converted to opset {OPSET}: {first_line(error)}. "
                "Export it anew with opset_version=20."
            ) from error
        forget_dictionaries(proto)
        if version < 11:
            _resize_as_before(proto)
    model = ir.from_proto(proto)
    try:
        rewrite_retired(model)
        replace_nodes(model, FUSED, ("com.microsoft",))
    except ValueError as error:
        raise SourceError(f"the model cannot be brought to opset {OPSET}: {error}") from error
    return model


def rewrite_newer(model: ir.Model) -> None:
    """Write operators that opset 20 lacks, or gives another meaning, in others.

    Raises
    ------
    SourceError
        One of them is used in a way that cannot be written otherwise.
    """
    try:
        rewrite(model)
    except ValueError as error:
        raise SourceError(f"the model cannot be brought to opset {OPSET}: {error}") from error


def _require_operators(proto: onnx.ModelProto, version: int) -> None:
    functions = {(f.domain, f.name) for f in proto.functions}
    for node in proto.graph.node:
        if node.domain in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
            try:
                onnx.defs.get_schema(node.op_type, version, "")
            except onnx.defs.SchemaError as error:
                raise SourceError(
                    f"operator {node.op_type} (node '{node.name or ', '.join(node.output)}') is not in ONNX's opset {version}, "
                    "which the model says that it uses. Export it anew with opset_version=20"
                ) from error


def _resize_as_before(proto: onnx.ModelProto) -> None:
    """Say how Upsample and Resize found their places before opset 11: the converter leaves it out, and the default is another."""
    for node in proto.graph.node:
        if node.op_type == "Resize" and "coordinate_transformation_mode" not in {
            a.name for a in node.attribute
        }:
            node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))
