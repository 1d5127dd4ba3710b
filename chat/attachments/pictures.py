"""Pictures are drawn anew: upright, without anything that was written beside them (place, camera, comments, hidden files)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image, ImageOps, ImageSequence

# Of one picture, or of all frames of a moving one together: about 200 MB while it is open.
MOST_PIXELS = 50_000_000
MOST_FRAMES = 500
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
_KEPT_AS = {"JPEG": "JPEG", "MPO": "JPEG", "GIF": "GIF", "WEBP": "WEBP"}
_MEDIA_TYPES = {"JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp", "PNG": "image/png"}
_SUFFIXES = {"JPEG": ".jpg", "GIF": ".gif", "WEBP": ".webp", "PNG": ".png"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 92, "optimize": True},
    "WEBP": {"quality": 92, "method": 3},
    "PNG": {"optimize": False},
    "GIF": {},
}


class PictureUnreadable(Exception):
    """``sentence`` says what is wrong with it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture became."""

    media_type: str
    suffix: str
    width: int
    height: int


def redraw(source: BinaryIO, target: BinaryIO) -> Picture:
    """Write the picture in ``source`` to ``target``. Raises ``PictureUnreadable``; its size is looked at before anything is unpacked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The formats are known only when all of Pillow's are.
            Image.init()
            with Image.open(source, formats=_FORMATS) as image:
                return _redraw(image, target)
    except PictureUnreadable:
        raise
    except Image.DecompressionBombError:
        raise _too_large() from None
    except MemoryError:
        raise _too_large() from None
    except OSError as error:
        # A full disk is no fault of the picture's.
        if error.errno is not None:
            raise
        raise PictureUnreadable("The picture cannot be read; it may be damaged.") from error
    except Exception as error:
        raise PictureUnreadable("The picture cannot be read; it may be damaged.") from error


def _too_large() -> PictureUnreadable:
    return PictureUnreadable(
        f"The picture has too many pixels; at most {MOST_PIXELS // 1_000_000} million are taken. Make it smaller."
    )


def _redraw(image: Image.Image, target: BinaryIO) -> Picture:
    kind = _KEPT_AS.get(image.format or "", "PNG")
    frames = int(getattr(image, "n_frames", 1)) if kind in ("GIF", "WEBP") else 1
    if image.width * image.height * min(frames, MOST_FRAMES) > MOST_PIXELS or image.width * image.height == 0:
        raise _too_large()
    if frames > 1:
        return _redraw_moving(image, target, kind)
    clean = _bare(ImageOps.exif_transpose(image), kind)
    clean.save(target, kind, **_OPTIONS[kind], **_colours(image))
    return Picture(_MEDIA_TYPES[kind], _SUFFIXES[kind], clean.width, clean.height)


def _redraw_moving(image: Image.Image, target: BinaryIO, kind: str) -> Picture:
    frames, durations = [], []
    loop = int(image.info.get("loop", 0))
    for number, frame in enumerate(ImageSequence.Iterator(image)):
        if number >= MOST_FRAMES:
            break
        durations.append(int(frame.info.get("duration", 100)) or 100)
        frames.append(_bare(frame.convert("RGBA"), kind))
    frames[0].save(
        target,
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=loop,
        **({"disposal": 2} if kind == "GIF" else _OPTIONS[kind]),
    )
    return Picture(_MEDIA_TYPES[kind], _SUFFIXES[kind], frames[0].width, frames[0].height)


def _bare(image: Image.Image, kind: str) -> Image.Image:
    """The pixels alone, in a mode that the format can hold."""
    if kind == "JPEG":
        if image.mode not in ("RGB", "L", "CMYK"):
            image = image.convert("RGB")
    elif image.mode not in ("RGB", "RGBA", "L", "LA", "P", "1"):
        image = image.convert("RGBA" if "A" in image.mode else "RGB")
    clean = image.copy()
    transparency = clean.info.get("transparency")
    clean.info = {} if transparency is None else {"transparency": transparency}
    return clean


def _colours(image: Image.Image) -> dict[str, Any]:
    """How its colours are meant, which says nothing of anybody."""
    profile = image.info.get("icc_profile")
    return {"icc_profile": profile} if profile and image.mode in ("RGB", "RGBA", "L") else {}
