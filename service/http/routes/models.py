"""Which models a request can choose from. Public."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.application import Application
from service.http.routes.documentation import SERVICE
from service.result.document import ModelDocument, Unit


class ServedModel(BaseModel):
    """A model by the name that the option `model` takes."""

    name: str
    usual: bool = Field(description="whether it is used where a request names none")
    loaded: bool = Field(description="whether it is in memory; else the next request loads it")
    memory_bytes: int = Field(description="what its weights take in memory while it is loaded")
    heads: list[str] = Field(description="what the network predicts")
    unit: Unit = Field(description="of the lengths that it predicts")
    single_pictures: bool = Field(description="whether it takes one picture and no more")
    model: ModelDocument = Field(description="family, precision, domain, licence; as in results")


class ServedModels(BaseModel):
    """The usual model first."""

    models: list[ServedModel]
    memory_limit: int | None = Field(
        description="bytes that loaded models may take together; null for no limit"
    )


def models_router(application: Application) -> APIRouter:
    """The list of models."""
    router = APIRouter(tags=[SERVICE])

    @router.get("/models", summary="The models that a request can choose from")
    async def list_models() -> ServedModels:
        models = application.models
        return ServedModels(
            models=[
                ServedModel(
                    name=name,
                    usual=name == models.usual_name,
                    loaded=engine.ready,
                    memory_bytes=engine.bytes,
                    heads=list(engine.heads),
                    unit=engine.unit,
                    single_pictures=engine.single_pictures,
                    model=engine.document(),
                )
                for name, engine in models.engines.items()
            ],
            memory_limit=models.memory,
        )

    return router
