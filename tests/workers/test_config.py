"""Fields are implemented, harmless, or refused by name."""

from __future__ import annotations

import pytest

from protos import model_config_pb2 as pb
from workers import config
from workers.errors import LoadError

IO = 'input { name: "x" data_type: TYPE_FP32 dims: [2] } output { name: "y" data_type: TYPE_FP32 dims: [2] } '


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sequence_batching { iterative_sequence: true }", "sequence_batching.iterative_sequence"),
        (
            "sequence_batching { direct { max_queue_delay_microseconds: 5 } }",
            "sequence_batching.direct.max_queue_delay_microseconds",
        ),
        (
            'sequence_batching { state { initial_state { data_file: "x" } } }',
            "sequence_batching.state.initial_state.data_file",
        ),
        ("ensemble_scheduling { }", "ensemble_scheduling"),
        ("optimization { graph { level: 1 } }", "optimization.graph.level"),
        ("optimization { eager_batching: true }", "optimization.eager_batching"),
        ("optimization { cuda { graphs: true } }", "optimization.cuda.graphs"),
        ("instance_group { rate_limiter { priority: 1 } }", "instance_group.rate_limiter.priority"),
        ("instance_group { passive: true }", "instance_group.passive"),
        ("dynamic_batching { preserve_ordering: true }", "dynamic_batching.preserve_ordering"),
        ("dynamic_batching { priority_levels: 2 }", "dynamic_batching.priority_levels"),
        (
            "dynamic_batching { default_queue_policy { timeout_action: DELAY } }",
            "dynamic_batching.default_queue_policy.timeout_action",
        ),
        ('model_warmup { name: "w" }', "model_warmup.name"),
        ("response_cache { enable: true }", "response_cache.enable"),
        ("batch_input { kind: BATCH_ITEM_SHAPE }", "batch_input.kind"),
        ('cc_model_filenames { key: "7.5" value: "x" }', "cc_model_filenames"),
        ('model_repository_agents { agents { name: "x" } }', "model_repository_agents.agents.name"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 1 allow_ragged_batch: true }', "input.allow_ragged_batch"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 1 is_shape_tensor: true }', "input.is_shape_tensor"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(LoadError, match="model 'm'") as caught:
        config.parse(text, "m")
    assert f"sets {named}, which" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('nmae: "m"', "1:1"),
        ('name: "other"', "the folder is 'm'"),
        ("max_batch_size: -1", "must not be negative"),
        ('default_model_filename: "../x"', "must be the name of a file"),
        ('backend: "tensorrt"', "tensorrt"),
        (IO + "dynamic_batching { }", "needs a max_batch_size"),
        (IO + "max_batch_size: 4 dynamic_batching { preferred_batch_size: 5 }", "between 1 and max_batch_size"),
        ("instance_group { kind: KIND_MODEL }", "KIND_MODEL"),
        ("instance_group { } instance_group { }", "more than one instance_group"),
        ("instance_group { gpus: [0, 1] }", "more than one of instance_group.gpus"),
        ("instance_group { kind: KIND_CPU gpus: 0 }", "contradicts KIND_CPU"),
        ('parameters { key: "execution_mode" value { string_value: "1" } }', "execution_mode is not implemented"),
        ('parameters { key: "intra_op_thread_count" value { string_value: "x" } }', "whole number"),
        ("model_transaction_policy { decoupled: true }", "cannot be decoupled"),
        ('backend: "python"', "needs its output"),
        ('backend: "python" instance_group { kind: KIND_GPU } ' + IO, "KIND_CPU only"),
        ('input { name: "x" dims: 1 }', "no data_type"),
        ('input { name: "x" data_type: TYPE_FP32 }', "no dims"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 0 }', "must be sizes"),
        ('input { name: "x" data_type: TYPE_FP32 dims: -1 reshape { shape: [1] } }', "as many -1"),
    ],
)
def test_mistakes_are_named(text: str, says: str) -> None:
    with pytest.raises(LoadError, match=r"config\.pbtxt of model 'm'") as caught:
        config.parse(text, "m")
    assert says in str(caught.value)


def test_everything_implemented_or_harmless_is_taken() -> None:
    made = config.parse(
        """
        name: "m" platform: "onnxruntime_onnx" max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [-1, 3] format: FORMAT_NONE optional: true }
        output { name: "y" data_type: TYPE_STRING dims: [1] label_filename: "l.txt" reshape { } }
        version_policy { specific { versions: [1, 3] } }
        instance_group { name: "a" count: 2 kind: KIND_CPU }
        dynamic_batching {
          preferred_batch_size: [8, 4] max_queue_delay_microseconds: 1500
          default_queue_policy { max_queue_size: 7 default_timeout_microseconds: 2000000 allow_timeout_override: true }
        }
        optimization { input_pinned_memory { enable: true } gather_kernel_buffer_threshold: 1 }
        metric_tags { key: "team" value: "a" }
        parameters { key: "intra_op_thread_count" value { string_value: "2" } }
        """,
        "m",
    )
    made.backend = config.backend_of(made, "m")
    settings = config.settings(made)
    assert settings.backend == "onnxruntime"
    assert settings.inputs == (config.Tensor("x", "FP32", (-1, 3), None, optional=True),)
    assert settings.outputs == (config.Tensor("y", "BYTES", (1,), ()),)
    assert settings.batching == config.Batching(0.0015, (4, 8), 7, 2.0, timeout_override=True)
    assert (settings.instances, settings.kind, settings.threads) == (2, "KIND_CPU", (2, 0))


def test_every_field_of_the_contract_is_judged() -> None:
    """No field can be set without being told apart: what is allowed is a list of leaves that exist."""
    leaves = set(_leaves(pb.ModelConfig.DESCRIPTOR, ""))
    allowed = config._IMPLEMENTED | config._HARMLESS
    assert allowed - leaves == {"version_policy.all"}  # an empty message, whose presence is what it says


def _leaves(descriptor, prefix, depth=0):
    for field in descriptor.fields:
        kind = field.message_type
        if kind is None or kind.GetOptions().map_entry:
            yield prefix + field.name
        elif depth < 6:
            yield from _leaves(kind, f"{prefix}{field.name}.", depth + 1)


STATE = 'input_name: "s" output_name: "t" data_type: TYPE_FP32 dims: [2, -1]'
ZEROS = "initial_state { data_type: TYPE_FP32 dims: [2, 8] zero_data: true }"


def _sequences(text: str) -> config.Settings:
    return config.settings(config.parse(f"{IO} sequence_batching {{ {text} }}", "m"))


def test_sequences() -> None:
    assert config.settings(config.parse(IO, "m")).sequences is None
    found = _sequences("direct { }").sequences
    assert found is not None and (found.idle, found.states, found.controls) == (1.0, (), ())
    found = _sequences(
        f"oldest {{ max_candidate_sequences: 4 }} max_sequence_idle_microseconds: 5000000 state {{ {STATE} {ZEROS} }}"
        'control_input { name: "first" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } }'
        'control_input { name: "id" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }'
    ).sequences
    assert found is not None and found.idle == 5.0
    assert [(one.input, one.output, one.datatype, one.dims, one.initial) for one in found.states] == [
        ("s", "t", "FP32", (2, -1), (2, 8))
    ]
    assert [(one.input, one.kind, one.datatype, one.values) for one in found.controls] == [
        ("first", "START", "FP32", (0.0, 1.0)),
        ("id", "CORRID", "UINT64", ()),
    ]
    (state,) = _sequences(f"state {{ {STATE} }}").sequences.states
    assert state.initial == (2, 1)  # as in Triton


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('state { input_name: "x" output_name: "t" data_type: TYPE_FP32 dims: 1 }', "'x' is none"),
        ('state { output_name: "t" data_type: TYPE_FP32 dims: 1 }', "'' is none"),
        ('state { input_name: "s" data_type: TYPE_FP32 dims: 1 }', "has no output_name"),
        ('state { input_name: "s" output_name: "t" dims: 1 }', "needs a data_type"),
        ('state { input_name: "s" output_name: "t" data_type: TYPE_STRING dims: 1 }', "may not be TYPE_STRING"),
        ('state { input_name: "s" output_name: "t" data_type: TYPE_FP32 }', "must be sizes"),
        (f"state {{ {STATE} {ZEROS.replace('8', '-1')} }}", "must be zero_data"),
        (f"state {{ {STATE} {ZEROS.replace('[2', '[3')} }}", "must be zero_data"),
        (f"state {{ {STATE} {ZEROS.replace('FP32', 'FP64')} }}", "must be zero_data"),
        (f"state {{ {STATE} {ZEROS} {ZEROS} }}", "more than one initial_state"),
        (f"state {{ {STATE} }} state {{ {STATE} }}", "'s' is none"),
        ('control_input { name: "c" }', "must have one control"),
        ('control_input { name: "c" control { kind: CONTROL_SEQUENCE_END } }', "what is false and what is true"),
        ('control_input { name: "c" control { fp32_false_true: [0] } }', "what is false and what is true"),
        ('control_input { name: "c" control { kind: CONTROL_SEQUENCE_CORRID } }', "gets a sequence's id"),
    ],
)
def test_sequences_that_contradict_themselves(text: str, says: str) -> None:
    with pytest.raises(LoadError, match="model 'm'") as caught:
        _sequences(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "model_transaction_policy { decoupled: true } sequence_batching { }",
        "instance_group { count: 2 } sequence_batching { }",
    ],
)
def test_sequences_of_a_python_model(text: str) -> None:
    with pytest.raises(LoadError):
        config.parse(f'backend: "python" {IO} {text}', "m")
