"""`config.pbtxt`, read and checked. Law: a field that is not implemented is refused by name, never ignored.

The allowed fields are those that `Settings` holds, and those that change neither results nor scheduling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf import text_format
from google.protobuf.message import Message

from protos import model_config_pb2 as pb
from workers import sequence_config
from workers.datatypes import DATATYPES
from workers.errors import LoadError
from workers.sequence_config import Sequences, sequences

ONNX: Final = "onnxruntime"
PYTHON: Final = "python"
PLATFORMS: Final = {ONNX: "onnxruntime_onnx", PYTHON: ""}
FILENAMES: Final = {ONNX: "model.onnx", PYTHON: "model.py"}

_BATCHING = "dynamic_batching"
_QUEUE = f"{_BATCHING}.default_queue_policy"
_IMPLEMENTED: Final = frozenset(
    {
        *("name", "platform", "backend", "max_batch_size", "default_model_filename", "parameters"),
        *("version_policy.latest.num_versions", "version_policy.all", "version_policy.specific.versions"),
        *(f"input.{field}" for field in ("name", "data_type", "dims", "reshape.shape", "optional")),
        *(f"output.{field}" for field in ("name", "data_type", "dims", "reshape.shape")),
        *(f"instance_group.{field}" for field in ("kind", "count", "gpus")),
        *(f"{_BATCHING}.{field}" for field in ("preferred_batch_size", "max_queue_delay_microseconds")),
        *(
            f"{_QUEUE}.{field}"
            for field in ("max_queue_size", "default_timeout_microseconds", "allow_timeout_override")
        ),
        "model_transaction_policy.decoupled",
        *sequence_config.IMPLEMENTED,
    }
)
# Names for people, labels that no call here asks for, image layouts that only document, and where Triton keeps memory.
_HARMLESS: Final = frozenset(
    {
        *("metric_tags", "instance_group.name", "output.label_filename", "input.format"),
        *("optimization.input_pinned_memory.enable", "optimization.output_pinned_memory.enable"),
        "optimization.gather_kernel_buffer_threshold",
        *sequence_config.HARMLESS,
    }
)
_THREADS: Final = ("intra_op_thread_count", "inter_op_thread_count")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: `dims` without the batch dimension, -1 where variable; `reshape` is what the model sees."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests wait for company. Times in seconds, 0 where there is none; `preferred` ascending."""

    delay: float = 0.0
    preferred: tuple[int, ...] = ()
    queue: int = 0
    timeout: float = 0.0
    timeout_override: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What a served version goes by.

    `batching` is None where each request runs alone, `sequences` where there are none, `gpu` where no GPU is asked for
    by number; `threads` are ONNX Runtime's within one operator and among operators, 0 for its own choice.
    """

    name: str
    backend: str
    filename: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batching: Batching | None
    sequences: Sequences | None
    instances: int
    kind: str
    gpu: int | None
    decoupled: bool
    threads: tuple[int, int]


def parse(text: str, model: str) -> pb.ModelConfig:
    """The checked `config.pbtxt` of `model`. Raises LoadError that names the line or the field."""
    try:
        config = text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise LoadError(f"config.pbtxt of model '{model}' cannot be read: {error}") from None
    for path in set_fields(config):
        if path not in _IMPLEMENTED and path not in _HARMLESS:
            raise LoadError(f"config.pbtxt of model '{model}' sets {path}, which this worker does not implement")
    check(config, model)
    return config


def set_fields(message: Message, prefix: str = "") -> Iterator[str]:
    """The dotted names of all leaf fields that the message sets; a map or an empty message is a leaf."""
    for field, value in message.ListFields():
        path = prefix + field.name
        kind = field.message_type
        if kind is None or kind.GetOptions().map_entry:
            yield path
            continue
        for part in value if field.is_repeated else (value,):
            inner = list(set_fields(part, f"{path}."))
            yield from inner or ([] if path in _CONTAINERS else [path])


# Messages that say nothing when empty, or (the two kinds of batching) whose presence alone is implemented.
_CONTAINERS: Final = frozenset(
    {
        *("version_policy", "version_policy.latest", "version_policy.specific", _BATCHING, _QUEUE),
        *("input", "output", "input.reshape", "output.reshape", "instance_group", "model_transaction_policy"),
        *sequence_config.CONTAINERS,
    }
)


def backend_of(config: pb.ModelConfig, model: str) -> str:
    """`onnxruntime` or `python`; ONNX where the configuration names none. Raises LoadError."""
    backend = config.backend or (ONNX if config.platform in ("", PLATFORMS[ONNX]) else config.platform)
    if backend not in FILENAMES:
        raise LoadError(
            f"config.pbtxt of model '{model}' asks for the backend {backend}; there are {ONNX} and {PYTHON}"
        )
    if backend == PYTHON and config.platform:
        raise LoadError(f"config.pbtxt of model '{model}' sets platform, which the backend {PYTHON} does not have")
    return backend


def settings(config: pb.ModelConfig) -> Settings:
    """The settings that a complete configuration makes."""
    group = config.instance_group[0] if config.instance_group else pb.ModelInstanceGroup()
    batching = None
    if config.HasField(_BATCHING):
        asked = config.dynamic_batching
        policy = asked.default_queue_policy
        batching = Batching(
            delay=asked.max_queue_delay_microseconds / 1e6,
            preferred=tuple(sorted(asked.preferred_batch_size)),
            queue=policy.max_queue_size,
            timeout=policy.default_timeout_microseconds / 1e6,
            timeout_override=policy.allow_timeout_override,
        )
    intra, inter = (int(config.parameters[key].string_value) if key in config.parameters else 0 for key in _THREADS)
    return Settings(
        name=config.name,
        backend=config.backend,
        filename=config.default_model_filename,
        max_batch_size=config.max_batch_size,
        inputs=tuple(_tensor(port, optional=port.optional) for port in config.input),
        outputs=tuple(_tensor(port) for port in config.output),
        batching=batching,
        sequences=sequences(config),
        instances=group.count or 1,
        kind=pb.ModelInstanceGroup.Kind.Name(group.kind),
        gpu=group.gpus[0] if group.gpus else None,
        decoupled=config.model_transaction_policy.decoupled,
        threads=(intra, inter),
    )


def _tensor(port: pb.ModelInput | pb.ModelOutput, *, optional: bool = False) -> Tensor:
    reshape = tuple(port.reshape.shape) if port.HasField("reshape") else None
    return Tensor(port.name, DATATYPES[port.data_type], tuple(port.dims), reshape, optional)


def check(config: pb.ModelConfig, model: str) -> None:
    """Refuse values that contradict each other or that are not implemented. Raises LoadError."""
    backend = backend_of(config, model)
    wrong = next((problem for problem in _problems(config, model, backend) if problem), None)
    if wrong:
        raise LoadError(f"config.pbtxt of model '{model}': {wrong}")


def _problems(config: pb.ModelConfig, model: str, backend: str) -> Iterator[str]:
    if config.name not in ("", model):
        yield f"name is '{config.name}', but the folder is '{model}'"
    if config.max_batch_size < 0:
        yield "max_batch_size must not be negative"
    filename = config.default_model_filename
    if "/" in filename or filename in (".", ".."):
        yield "default_model_filename must be the name of a file in the version's folder"
    if config.HasField(_BATCHING):
        yield from _batching_problems(config)
    if config.HasField(sequence_config.FIELD):
        yield from sequence_config.problems(config)
    yield from _group_problems(config, backend)
    if backend == ONNX:
        yield from _onnx_problems(config)
    elif not config.output:
        yield f"a model of the backend {PYTHON} needs its output (and its input) described"
    ports: list[pb.ModelInput | pb.ModelOutput] = [*config.input, *config.output]
    for port in ports:
        yield from _port_problems(port)


def _port_problems(port: pb.ModelInput | pb.ModelOutput) -> Iterator[str]:
    if port.data_type not in DATATYPES:
        yield f"'{port.name}' has no data_type"
    if not port.dims:
        yield f"'{port.name}' has no dims"
    if any(size < -1 or size == 0 for size in port.dims):
        yield f"the dims of '{port.name}' must be sizes, or -1 where a size varies"
    if port.HasField("reshape") and list(port.reshape.shape).count(-1) != list(port.dims).count(-1):
        yield f"the reshape of '{port.name}' must have as many -1 as its dims"


def _batching_problems(config: pb.ModelConfig) -> Iterator[str]:
    if config.max_batch_size == 0 and config.input and config.output:
        yield "dynamic_batching needs a max_batch_size"
    if config.model_transaction_policy.decoupled:
        yield "dynamic_batching of a decoupled model is not implemented"
    most = config.max_batch_size or max(config.dynamic_batching.preferred_batch_size, default=1)
    if not all(0 < size <= most for size in config.dynamic_batching.preferred_batch_size):
        yield "preferred_batch_size must be between 1 and max_batch_size"


def _group_problems(config: pb.ModelConfig, backend: str) -> Iterator[str]:
    if len(config.instance_group) > 1:
        yield "more than one instance_group is not implemented"
    for group in config.instance_group:
        if group.count < 0:
            yield "instance_group.count must not be negative"
        if group.kind == pb.ModelInstanceGroup.KIND_MODEL:
            yield "instance_group.kind KIND_MODEL is not implemented"
        if backend == PYTHON and (group.kind == pb.ModelInstanceGroup.KIND_GPU or group.gpus):
            yield f"the backend {PYTHON} runs as KIND_CPU only"
        if backend == PYTHON and group.count > 1 and config.HasField(sequence_config.FIELD):
            yield f"sequences of the backend {PYTHON} have one instance, which may keep their state itself"
        if len(group.gpus) > 1:
            yield "more than one of instance_group.gpus is not implemented"
        if group.gpus and group.kind == pb.ModelInstanceGroup.KIND_CPU:
            yield "instance_group.gpus contradicts KIND_CPU"


def _onnx_problems(config: pb.ModelConfig) -> Iterator[str]:
    if config.model_transaction_policy.decoupled:
        yield f"a model of the backend {ONNX} cannot be decoupled"
    for key, value in config.parameters.items():
        if key not in _THREADS:
            yield f"the parameter {key} is not implemented"
        elif not value.string_value.isdecimal():
            yield f"the parameter {key} must be a whole number"
