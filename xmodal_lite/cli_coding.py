"""The commands that code: encode, decode and info."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import bitstream
from .cli_common import (
    MODES,
    add_command,
    add_machine,
    add_mode,
    busy,
    check_output,
    columns,
    number,
    shipped_by,
    use_machine,
)


def add_encode(commands: Any) -> None:
    command = add_command(
        commands,
        "encode",
        _run_encode,
        "Code a pair into one .xmc file. The visible frame is brought to twice the infrared "
        "size. Prints bytes, bits per pixel of each image's own pixels, and the PSNR in dB that "
        "the decoder will see.",
    )
    add = command.add_argument
    add("frames", nargs="+", type=Path, metavar="FRAME", help="VISIBLE then INFRARED, 8-bit "
        "images; just the one frame for weights that code one")  # fmt: skip
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="such as pair.xmc")
    add("--lmbda", type=number, default=1024, metavar="L", help="λ: weight of the MSE on [0, 1] "
        "against bits per pixel, 256 (small file) to 4096 (best) (default: 1024)")  # fmt: skip
    add("--reference-lmbda", type=number, metavar="L", help="λ of the reference frame (default: "
        "the same)")  # fmt: skip
    add("--weights", default="pair", metavar="NAME", help="shipped weights by name, or a "
        ".safetensors file (default: pair)")  # fmt: skip
    add_mode(command)
    add_machine(command)


def _run_encode(args: argparse.Namespace) -> None:
    check_output(args.output)
    from . import coding
    from .frames import read_infrared, read_pair, read_visible
    from .pair_codec import PairCodec
    from .pretrained import load_codec, write_whole

    use_machine(args)
    codec = load_codec(args.weights, args.device)
    target = coding.target_of(codec)
    pair_codec = isinstance(codec, PairCodec) and codec.reference_codec is not None
    if len(args.frames) != (2 if pair_codec else 1):
        wanted = "two frames, VISIBLE and INFRARED" if pair_codec else f"one, {target.upper()}"
        raise ValueError(f"weights {args.weights!r} take {wanted}; got {len(args.frames)}")
    if pair_codec:
        pair = read_pair(*args.frames)
        images = {"visible": pair.visible, "infrared": pair.infrared}
    else:
        if args.reference_lmbda is not None:
            raise ValueError(
                f"weights {args.weights!r} code no reference; --reference-lmbda is of no use"
            )
        read = read_infrared if target == "infrared" else read_visible
        images = {target: read(args.frames[0])}
    with busy("coding"):
        coded = coding.code(codec, images, args.lmbda, args.reference_lmbda, args.mode)
    write_whole(args.output, coded.data)
    rows = []
    for name, image in images.items():
        own = coding.target_bytes(coded.data, target)
        own = own if name == target else len(coded.data) - own
        height, width = image.shape[:2]
        quality = coding.psnr_image(image, getattr(coded.reconstruction, name))
        rows.append([name, f"{width}×{height}", str(own), f"{8 * own / (height * width):.4f}",
                     f"{quality:.2f}"])  # fmt: skip
    print(columns(["image", "size", "bytes", "bpp", "PSNR dB"], rows))
    used = ""
    if isinstance(codec, PairCodec) and pair_codec:
        used = f", {MODES[codec.mode_of(bitstream.unpack(coded.data)[0])]}"
    print(f"{args.output}: {len(coded.data)} bytes at λ = {args.lmbda:g}{used}")


def add_decode(commands: Any) -> None:
    command = add_command(
        commands,
        "decode",
        _run_decode,
        "Decode an .xmc file into visible.png and infrared.png. The file and the weights it was "
        "written with are all that is needed.",
    )
    add = command.add_argument
    add("file", type=Path)
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the images go, "
        "made if it is not there")  # fmt: skip
    add("--only", choices=("visible", "infrared"), help="decode and write this one; the "
        "reference alone is quicker")  # fmt: skip
    add("--weights", metavar="NAME", help="shipped weights by name, or a .safetensors file "
        "(default: the shipped ones that wrote the file)")  # fmt: skip
    add_machine(command)


def _run_decode(args: argparse.Namespace) -> None:
    data = args.file.read_bytes()
    header = _of_file(args.file, bitstream.unpack, data, args.only)[0]
    weights = args.weights or shipped_by(header.fingerprint)
    if weights is None:
        raise ValueError(
            f"{args.file}: written with weights {header.fingerprint.hex()}, which are none of the "
            "shipped; name their file with --weights"
        )
    from . import coding
    from .pretrained import load_codec, write_whole

    use_machine(args)
    codec = load_codec(weights, args.device)
    with busy("decoding"):
        decoded = _of_file(args.file, coding.decode, codec, data, args.only)
    images = {name: image for name, image in decoded._asdict().items() if image is not None}
    args.output.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        path = args.output / f"{name}.png"
        write_whole(path, _png(image))
        print(f"{path}: {image.shape[1]}×{image.shape[0]}")


def _png(image: Any) -> bytes:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _of_file(path: Path, run: Callable[..., Any], *arguments: Any) -> Any:
    """What ``run`` returns; a stream's error gets the file's name."""
    try:
        return run(*arguments)
    except bitstream.BitstreamError as error:
        raise bitstream.BitstreamError(f"{path}: {error}") from None


def add_info(commands: Any) -> None:
    command = add_command(
        commands,
        "info",
        _run_info,
        "Print what an .xmc file holds, without decoding it. Sizes in pixels, λ, the context "
        "model, and bytes per section; bpp is per pixel of the image that a section belongs to, "
        "of the target where it belongs to both (of the infrared image where neither refers to "
        "the other).",
    )
    command.add_argument("file", type=Path)


def _run_info(args: argparse.Namespace) -> None:
    data = args.file.read_bytes()
    header = _of_file(args.file, bitstream.unpack, data)[0]
    sizes = bitstream.section_sizes(data)
    print(f"{args.file}: {len(data)} bytes, version {bitstream.VERSION}")
    pixels = {}
    for name in header.images:
        height, width = getattr(header, f"{name}_size")
        pixels[name] = height * width
        role = ", the target" if header.target == name else ", the reference"
        if header.target is None:
            role = ", coded by itself" if len(header.images) > 1 else ""
        print(f"{name}: {width}×{height} at λ = {getattr(header, f'{name}_lmbda'):g}{role}")
    shipped = shipped_by(header.fingerprint)
    print(f"context {header.context}, coefficients {header.coefficient_format}")
    print(f"weights {header.fingerprint.hex()}, " + (
        f"shipped as {shipped!r}" if shipped else "none of the shipped ones"))  # fmt: skip
    shared = pixels[header.target or header.images[-1]]
    rows = []
    for name, size in sizes.items():
        bpp = 8 * size / pixels.get(name.partition("_")[0], shared)
        rows.append([name, str(size), f"{100 * size / len(data):.1f}", f"{bpp:.4f}"])
    print("\n" + columns(["section", "bytes", "%", "bpp"], rows))
