"""Pictures of many kinds as files, good and bad.

The file of a kind that Pillow writes comes from `encoded`; the others are built from their bytes.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
PHOTO = np.add.outer(np.arange(40) * 3, np.arange(60) * 2)[..., None] % 256
PHOTO = np.broadcast_to(PHOTO, (40, 60, 3)).astype(np.uint8) // np.array([1, 2, 3], np.uint8)


def encoded(kind: str, image=PHOTO, **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb_png(side: int) -> bytes:
    """A PNG of side x side grey pixels, of which it has a few rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (side + 1) * 3)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def bomb_jpeg(side: int) -> bytes:
    """A small JPEG whose header says side x side."""
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def bomb_gif(side: int) -> bytes:
    data = bytearray(encoded("GIF"))
    data[6:10] = struct.pack("<HH", side, side)
    return bytes(data)


def bomb_webp(width: int) -> bytes:
    """The largest that WebP can tell, as an extended header."""
    size = (width - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def garbled(data: bytes) -> bytes:
    """The same with its middle overwritten."""
    middle = len(data) // 2
    return data[:middle] + RNG.integers(0, 256, 40, np.uint8).tobytes() + data[middle + 40 :]


def animation(kind: str) -> bytes:
    other = Image.fromarray(255 - PHOTO)
    return encoded(kind, save_all=True, append_images=[other], duration=10, lossless=True)


def bmp(header: bytes, pixels: np.ndarray) -> bytes:
    """A BMP of these headers behind the first one, and rows of pixels as they are stored."""
    begin = 14 + len(header)
    return (
        b"BM" + struct.pack("<IHHI", begin + pixels.nbytes, 0, 0, begin) + header + pixels.tobytes()
    )


def bmp_header(width: int, height: int, bits: int) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)


def bmp_of_32_bits() -> bytes:
    """Its fourth byte is unused, and 0."""
    return bmp(
        bmp_header(60, 40, 32), np.dstack([PHOTO[::-1, :, ::-1], np.zeros_like(PHOTO[..., :1])])
    )


def bmp_of_16_bits() -> bytes:
    red, green, blue = np.moveaxis(PHOTO[::-1].astype(np.uint16) >> 3, -1, 0)
    return bmp(bmp_header(60, 40, 16), red << 10 | green << 5 | blue)


def rotated_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("JPEG", exif=exif)


GREY16 = Image.fromarray((PHOTO[..., 0].astype(np.uint16) << 8) + 77)
CMYK = Image.fromarray(PHOTO).convert("CMYK")
ALPHA = Image.fromarray(np.dstack([PHOTO, np.full((40, 60), 255, np.uint8)]))
HALF = Image.fromarray(
    np.dstack([PHOTO, np.repeat([[0], [255]], 20, 0).repeat(60, 1)]).astype(np.uint8)
)


PALETTE = Image.fromarray(PHOTO).quantize(15)
GOOD = {
    "grey JPEG": encoded("JPEG", PHOTO[..., 0]),
    "CMYK JPEG": encoded("JPEG", CMYK),
    "progressive JPEG": encoded("JPEG", progressive=True),
    "grey PNG": encoded("PNG", PHOTO[..., 0]),
    "PNG with alpha": encoded("PNG", ALPHA),
    "16-bit PNG": encoded("PNG", GREY16),
    "PNG with a palette": encoded("PNG", Image.fromarray(PHOTO).quantize(16)),
    "WebP": encoded("WEBP"),
    "WebP with alpha": encoded("WEBP", ALPHA),
    "animated WebP": animation("WEBP"),
    "animated GIF": animation("GIF"),
    "BMP": encoded("BMP"),
    "32-bit BMP": bmp_of_32_bits(),
    "16-bit BMP": bmp_of_16_bits(),
    "BMP with its first row on top": bmp(bmp_header(60, -40, 24), PHOTO[..., ::-1]),
    "BMP with an old header": bmp(struct.pack("<IHHHH", 12, 60, 40, 1, 24), PHOTO[::-1, :, ::-1]),
    "BMP with a palette": encoded("BMP", PALETTE),
    "BMP of 1 bit": encoded("BMP", Image.fromarray(PHOTO).convert("1")),
    "transparent GIF": encoded("GIF", PALETTE, transparency=PALETTE.getpixel((0, 0))),
    "gray PNG with alpha": encoded("PNG", HALF.convert("LA")),
    "PNG with a transparent part": encoded("PNG", HALF),
    "PNG with a transparent palette entry": encoded(
        "PNG", PALETTE, transparency=PALETTE.getpixel((0, 0))
    ),
    "PNG with a transparent color": encoded("PNG", transparency=tuple(PHOTO[0, 0].tolist())),
    "WebP with a transparent part": encoded("WEBP", HALF, lossless=True),
    "JPEG rotated by EXIF": rotated_by_exif(),
    "1x1 JPEG": encoded("JPEG", PHOTO[:1, :1]),
    "1x1 PNG": encoded("PNG", PHOTO[:1, :1]),
    "one row": encoded("PNG", PHOTO[:1]),
    "JPEG with bytes behind it": encoded("JPEG") + b"more",
}
BAD = {
    **{f"truncated {k}": (encoded(k)[: len(encoded(k)) // 2], "decode") for k in ("JPEG", "PNG")},
    "truncated WebP": (encoded("WEBP")[:150], "decode"),
    "truncated GIF": (encoded("GIF")[:600], "decode"),
    "JPEG cut in its header": (encoded("JPEG")[:100], "decode"),
    "PNG of damaged data": (garbled(encoded("PNG")), "decode"),
    "WebP of damaged data": (encoded("WEBP")[:60] + b"\xff" * 200, "decode"),
    "text": (b"<html>404</html>", "decode"),
    "TIFF": (encoded("TIFF"), "decode"),
    "empty": (b"", "missing_key"),
    "30,000 x 30,000 PNG": (bomb_png(30_000), "too_large"),
    "30,000 x 30,000 JPEG": (bomb_jpeg(30_000), "too_large"),
    "30,000 x 30,000 GIF": (bomb_gif(30_000), "too_large"),
    "16,384 x 16,384 WebP": (bomb_webp(16_384), "too_large"),
    "PNG of 2^32 - 1 a side": (bomb_png(30_000)[:16] + b"\xff" * 8 + b"\0" * 20, "too_large"),
}
