"""`inference.GRPCInferenceService` for one repository. Law: protocol messages in, protocol messages out; no gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, NoReturn

from protos import grpc_service_pb2 as pb
from protos.errors import HeadraceError
from workers.calls import Call
from workers.config import Tensor
from workers.errors import LoadError, malformed, not_here, not_loadable
from workers.model import Answer, Version
from workers.models import Models

EXTENSIONS: Final = ("model_configuration", "model_repository", "sequence", "statistics")
_EMPTY_FINAL: Final = "triton_enable_empty_final_response"
_FINAL: Final = "triton_final_response"


class Service:
    """Every RPC as a method; all raise HeadraceError.

    `version` is headrace's; `providers` says what computes here; `live` whether the worker still takes calls.
    """

    def __init__(
        self, models: Models, version: str, providers: Callable[[], Sequence[str]], live: Callable[[], bool]
    ) -> None:
        self._models = models
        self._version = version
        self._providers = providers
        self._live = live

    async def server_live(self, _: pb.ServerLiveRequest, __: Call) -> pb.ServerLiveResponse:
        """The process answers."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest, __: Call) -> pb.ServerReadyResponse:
        """All models were loaded at the start; not ready while the worker drains."""
        return pb.ServerReadyResponse(ready=self._live())

    async def server_metadata(self, _: pb.ServerMetadataRequest, __: Call) -> pb.ServerMetadataResponse:
        """Name, version, extensions; each execution provider is an extension `execution_provider(NAME)`."""
        providers = (f"execution_provider({name})" for name in self._providers())
        return pb.ServerMetadataResponse(
            name="headrace-worker", version=self._version, extensions=[*EXTENSIONS, *providers]
        )

    async def model_ready(self, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
        """Not ready is an answer; a model that is not known is NOT_FOUND, as in Triton."""
        call.asked(request.name, request.version, "")
        return pb.ModelReadyResponse(ready=self._live() and self._models.ready(request.name, request.version))

    async def model_metadata(self, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
        """Inputs and outputs as a request has them, with -1 for the batch."""
        call.asked(request.name, request.version, "")
        found = self._models.find(request.name, request.version)
        numbers = [found.number] if request.version else [one.number for one in self._models.serving(request.name)]
        batched = found.settings.max_batch_size > 0
        return pb.ModelMetadataResponse(
            name=found.name,
            versions=[str(number) for number in numbers],
            platform=found.config.platform or found.config.backend,
            inputs=[_metadata(tensor, batched=batched) for tensor in found.settings.inputs],
            outputs=[_metadata(tensor, batched=batched) for tensor in found.settings.outputs],
        )

    async def model_config(self, request: pb.ModelConfigRequest, call: Call) -> pb.ModelConfigResponse:
        """The configuration, completed."""
        call.asked(request.name, request.version, "")
        return pb.ModelConfigResponse(config=self._models.find(request.name, request.version).config)

    async def model_statistics(self, request: pb.ModelStatisticsRequest, call: Call) -> pb.ModelStatisticsResponse:
        """Of one version, of every version of a model, or of all."""
        call.asked(request.name, request.version, "")
        if request.name:
            found = self._models.find(request.name, request.version)
            versions = [found] if request.version else list(self._models.serving(request.name))
        else:
            versions = list(self._models.serving())
        return pb.ModelStatisticsResponse(
            model_stats=[one.statistics.message(one.name, one.number) for one in versions]
        )

    async def model_infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """The one answer to a request."""
        call.asked(request.model_name, request.model_version, request.id)
        version = self._models.find(request.model_name, request.model_version)
        if version.settings.decoupled:
            raise not_here(f"model '{version.name}' is decoupled: it answers through ModelStreamInfer only")
        call.reached(version.number)
        with version.held():
            async with aclosing(version.answers(request, call.remaining(), call.span.place.context)) as answers:
                answer = await anext(answers)
        call.inferred(answer)
        return _response(answer, version, request, call)

    async def model_stream_infer(
        self, request: pb.ModelInferRequest, call: Call
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """The answers to one message of a stream. An error is one of them, and the stream goes on."""
        call.asked(request.model_name, request.model_version, request.id)
        try:
            version = self._models.find(request.model_name, request.model_version)
            call.reached(version.number)
            with version.held():
                async with aclosing(version.answers(request, call.remaining(), call.span.place.context)) as answers:
                    async for answer in answers:
                        if answer.final:
                            call.inferred(answer)
                        if answer.response is not None or request.parameters[_EMPTY_FINAL].bool_param:
                            yield _stream_response(_response(answer, version, request, call), final=answer.final)
        except Exception as error:  # noqa: BLE001 - in a stream the boundary is in-band
            yield _stream_error(request, call.judge(error))

    async def repository_index(self, request: pb.RepositoryIndexRequest, _: Call) -> pb.RepositoryIndexResponse:
        """Every model of the folder; with `ready`, those that serve."""
        _one_repository(request.repository_name)
        rows = [row for row in await self._models.index() if row.state == "READY" or not request.ready]
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(
                    name=row.name,
                    version=str(row.version) if row.version else "",
                    state=row.state or "",
                    reason=row.reason,
                )
                for row in rows
            ]
        )

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest, call: Call
    ) -> pb.RepositoryModelLoadResponse:
        """Read the model's folder anew."""
        call.asked(request.model_name, "", "")
        _one_repository(request.repository_name)
        for key in request.parameters:
            raise malformed(f"the load parameter '{key}' is refused: a model is what its folder holds")
        try:
            await self._models.load(request.model_name)
        except LoadError as error:
            call.complain(f"model {request.model_name} did not load: {error}")
            raise not_loadable(error) from error
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest, call: Call
    ) -> pb.RepositoryModelUnloadResponse:
        """Stop serving a model. `unload_dependents` says nothing here: no model depends on another."""
        call.asked(request.model_name, "", "")
        _one_repository(request.repository_name)
        for key in request.parameters.keys() - {"unload_dependents"}:
            raise malformed(f"the unload parameter '{key}' is not known")
        await self._models.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def shared_memory(self, _: object, __: Call) -> NoReturn:
        """Tensors travel in messages: callers and worker share no machine."""
        raise not_here("this worker does not serve shared memory")

    async def trace_setting(self, _: pb.TraceSettingRequest, __: Call) -> NoReturn:
        """Traces are the caller's sampling decision."""
        raise not_here("this worker has no trace settings: it follows the caller's sampled flag")

    async def log_settings(self, _: pb.LogSettingsRequest, __: Call) -> NoReturn:
        """Logs go to standard error."""
        raise not_here("this worker has no log settings: it logs to standard error")


def _metadata(tensor: Tensor, *, batched: bool) -> pb.ModelMetadataResponse.TensorMetadata:
    shape = (-1, *tensor.dims) if batched else tensor.dims
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=shape)


def _response(answer: Answer, version: Version, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
    call.served(version.number, answer)
    response = answer.response if answer.response is not None else pb.ModelInferResponse()
    response.model_name = version.name
    response.model_version = str(version.number)
    response.id = request.id
    return response


def _stream_response(response: pb.ModelInferResponse, *, final: bool) -> pb.ModelStreamInferResponse:
    response.parameters[_FINAL].bool_param = final
    return pb.ModelStreamInferResponse(infer_response=response)


def _stream_error(request: pb.ModelInferRequest, error: HeadraceError) -> pb.ModelStreamInferResponse:
    response = pb.ModelInferResponse(id=request.id, model_name=request.model_name, model_version=request.model_version)
    return pb.ModelStreamInferResponse(
        error_message=error.public, infer_response=_stream_response(response, final=True).infer_response
    )


def _one_repository(name: str) -> None:
    if name:
        raise malformed("repository_name must be empty: a worker serves one repository")
