"""What became of a reconstruction that has no result, or none that can be given out."""

from __future__ import annotations

from service.errors.error import ServiceError


class NotFinished(ServiceError):
    """The reconstruction has no result yet. Follow its events, or ask again a little later."""

    code = "not-finished"


class Cancelled(ServiceError):
    """The reconstruction was cancelled before it was done. Send the pictures again if you still
    want it."""

    code = "cancelled"


class NonFiniteOutput(ServiceError):
    """The network's answer for these pictures holds infinities or NaN, so no cameras can be given.
    Send other pictures."""

    code = "non-finite-output"


class Interrupted(ServiceError):
    """The service, or its replica of the network, ended more than once while it worked on this
    reconstruction. Send fewer pictures, or try again later."""

    code = "interrupted"


class DeadlineExceeded(ServiceError):
    """The reconstruction was not done within its time limit and was stopped. Send fewer pictures,
    or allow more time."""

    code = "deadline-exceeded"


class DeviceLost(ServiceError):
    """The device that the network runs on has failed. The process ends and starts again, and what
    it worked on is done again. Ask again in a moment."""

    code = "device-lost"


class ModelUnavailable(ServiceError):
    """The model that this reconstruction was accepted for is not served any more, or its files
    can't be read. Send the pictures again and name another model; GET /models lists them."""

    code = "model-unavailable"


class ResultDamaged(ServiceError):
    """The files of this reconstruction were changed or cut off on the service's disk, so they are
    not given out. Send the pictures again: they are reconstructed anew."""

    code = "result-damaged"
