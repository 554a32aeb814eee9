"""What is wrong with a request, so that sending it again as it is would not help."""

from __future__ import annotations

from service.errors.error import Refusal


class MalformedBody(Refusal):
    """The body is not well-formed multipart/form-data: no boundary, a broken part header, or it
    ends early. Let an HTTP library build the form."""

    code = "malformed-body"


class KeyRequired(Refusal):
    """This service wants an API key, and none was given or one that it does not know. Send a key as
    ``Authorization: Bearer …``; whoever runs the service hands them out."""

    code = "key-required"


class NotYours(Refusal):
    """Whoever knows the address of a reconstruction may look at it, but only who made it may name
    or remove it: the browser that sent the pictures, or whoever sends the same ``Owner-Token``."""

    code = "not-yours"


class CrossSite(Refusal):
    """A web page of another site asked. Only the service's own page may, and those of the sites
    that whoever runs the service has named."""

    code = "cross-site"


class UnknownHost(Refusal):
    """The service was called by a name that is not its own. It listens on its own machine only, so
    that may be an attack on whoever uses it. If the name is right, whoever runs the service adds it
    with ``--allowed-hosts``."""

    code = "unknown-host"


class NotFound(Refusal):
    """There is no such reconstruction, picture or file: it was never made, it was removed by age,
    size or DELETE, or it is another client's. Send the pictures again."""

    code = "not-found"


class NotAcceptable(Refusal):
    """The Accept header names no media type in which this exists. Ask for one of ``available``."""

    code = "not-acceptable"


class UploadTimeout(Refusal):
    """The body, with what its URLs name, took longer to arrive than the service waits. Send fewer
    or smaller files."""

    code = "upload-timeout"


class TooManyPictures(Refusal):
    """There are more pictures in one request than the service accepts. Send at most
    ``max_images``."""

    code = "too-many-pictures"


class TooManyBytes(Refusal):
    """A picture, an option, an archive once unpacked, or the whole body has more bytes than the
    service accepts. Send smaller or fewer pictures; the limit is a field of the answer."""

    code = "too-many-bytes"


class TooManyPixels(Refusal):
    """A picture, or all of them together, have more pixels than the service decodes. Scale them
    down; the network sees them much smaller anyway."""

    code = "too-many-pixels"


class TooMuchMemory(Refusal):
    """Not even in the smallest chunks and at the lowest resolution do these pictures fit into the
    memory budget. Send pictures that are less wide or less high."""

    code = "too-much-memory"


class TooMuchTime(Refusal):
    """The reconstruction is predicted to take longer than the service lets any take. Send fewer
    pictures, or have them run with fewer keys or frames a pass (``attention_keys``, ``passes``);
    ``dry_run`` predicts it."""

    code = "too-much-time"


class UnsupportedBody(Refusal):
    """The body has another content type than multipart/form-data. Send the pictures as a form."""

    code = "unsupported-body"


class UnsupportedPicture(Refusal):
    """A file is no picture, archive or video, or one in a format that the service does not read.
    ``/capabilities`` lists the formats."""

    code = "unsupported-picture"


class RangeNotSatisfiable(Refusal):
    """The Range header asks for bytes beyond the end of the file. Its length is ``bytes``."""

    code = "range-not-satisfiable"


class NoPictures(Refusal):
    """The form has no part named ``images``, ``files``, ``archive``, ``video`` or ``urls``, or an
    archive is empty. Add one file part named ``images`` for each picture."""

    code = "no-pictures"


class BrokenPicture(Refusal):
    """A file starts like a picture but can't be decoded: it is empty, cut off, damaged or of an
    absurd shape. Send it again, or leave it out."""

    code = "broken-picture"


class BrokenArchive(Refusal):
    """A zip archive can't be used: it is damaged, encrypted, nested, or has names that lead out of
    its folder. Send the pictures themselves, or a plain zip archive of them."""

    code = "broken-archive"


class BrokenVideo(Refusal):
    """A video can't be decoded within the limits of time and memory, or has no sharp frame. Send a
    shorter one, or single pictures of it."""

    code = "broken-video"


class InvalidOption(Refusal):
    """A form field, query option, header or path segment has an unknown name or a value out of its
    range. ``option`` names it; ``/capabilities`` lists what there is."""

    code = "invalid-option"


class URLsOff(Refusal):
    """The form names pictures by URL, which this service does not fetch; ``/capabilities`` says
    so. Send the files."""

    code = "urls-off"


class URLRefused(Refusal):
    """A URL, or one that it redirects to, is never fetched from here; ``detail`` says why and
    ``index`` for which picture. Without a list of hosts only ``https://`` URLs of public servers on
    port 443 are fetched, with one only those servers; never with a user name, never from https to
    http. Send the file itself."""

    code = "url-refused"


class NoTracks(Refusal):
    """Query points were sent, but this model has no track head; ``/capabilities`` lists its heads.
    Leave ``query_points`` out."""

    code = "no-tracks"


class NotInResult(Refusal):
    """The file is made of refined cameras or dense depth, which this result does not have, or by a
    package that this service lacks; ``detail`` says which. ``refinement`` in the result's document
    says why nothing was refined. Send the pictures again with ``refine=dense``."""

    code = "not-in-result"


class FetchFailed(Refusal):
    """A URL was asked for and gave no file: no such server, not in time, an error or redirects
    instead, or cut off. Which of them is not told where it would say something about the service's
    own network. Try again later, or send the file itself."""

    code = "fetch-failed"


class KeyReused(Refusal):
    """The Idempotency-Key was used before with other pictures or options. Use a new key for a new
    request."""

    code = "idempotency-key-reused"


def gone() -> NotFound:
    """What to say of a reconstruction that is not there."""
    return NotFound("There is no reconstruction of this id; it may have been removed to make room.")
