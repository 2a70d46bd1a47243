#!/usr/bin/env python3
"""Writes a corpus of small JPEG files of every structure, with the pixels that libjpeg-turbo decodes from them.

`python tests/jpegs.py OUT` needs a Python with numpy and pillow, and the programs cjpeg, djpeg and jpegtran of libjpeg-turbo
2.1. It writes to the folder OUT:

- NAME.jpg: the files.
- NAME.png: the RGB pixels, for each file that libjpeg-turbo decodes without an error. They are Pillow's, which contains
  libjpeg-turbo; for files that Pillow refuses and djpeg decodes, they are djpeg's. Pillow takes the values of all CMYK files as
  inverted, like Adobe's programs write them.
- corpus.json: a list of objects with the file's name, group and state.

The states are:

- "picture": an intact file, from which a decoder must make the pixels of the PNG.
- "damaged": a file that is truncated or has a wrong structure, which a decoder must refuse. libjpeg-turbo warns of all but
  those that lack a component's scan or have it twice. It decodes some nevertheless; their PNG is no truth.
- "unsupported": an intact file in a format that few decoders know. A decoder may refuse it, but must not decode it to pixels
  other than those of the PNG, if there is one.

The script fails if djpeg warns of a file that should be intact. The corpus depends only on the versions of the libraries.
"""

import io
import json
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

SOI, EOI, SOS, DQT, DNL, DRI, DHT, DAC = 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xc4, 0xcc
APP0, APP1, APP2, APP14, COM = 0xe0, 0xe1, 0xe2, 0xee, 0xfe
END = bytes([0xff, EOI])

# How djpeg exits after warnings; an error gives 1.
WARNED = 2

SIZE = 67, 45
LARGE = 200, 150
SMALL = (1, 1), (2, 3), (5, 17), (7, 9), (8, 8), (9, 8), (15, 16), (16, 16), (17, 17), (17, 1), (1, 17), (33, 9)

# Sampling factors of luma, Cb and Cr that cjpeg takes: all factors divide the largest.
COMMON = "1x1,1x1,1x1", "2x1,1x1,1x1", "1x2,1x1,1x1", "2x2,1x1,1x1", "4x1,1x1,1x1"
LUMA_FINER = (
    "1x3,1x1,1x1", "1x4,1x1,1x1", "2x3,1x1,1x1", "2x4,1x1,1x1", "3x1,1x1,1x1", "3x2,1x1,1x1", "3x3,1x1,1x1", "3x4,1x1,1x1",
    "4x2,1x1,1x1", "4x3,1x1,1x1", "4x4,1x1,1x1", "2x2,2x1,2x1", "2x2,1x2,1x2", "4x1,2x1,2x1", "1x4,1x2,1x2", "4x2,2x1,2x1",
    "2x4,1x2,1x2", "4x2,2x2,2x2", "4x4,2x2,2x2", "4x4,2x1,2x1", "3x2,3x1,3x1", "2x3,1x3,1x3", "4x2,1x2,1x2",
)
EQUAL = "2x1,2x1,2x1", "1x2,1x2,1x2", "2x2,2x2,2x2", "3x1,3x1,3x1", "1x3,1x3,1x3", "4x1,4x1,4x1", "3x2,3x2,3x2"
CHROMA_FINER = (
    "1x1,2x1,2x1", "1x1,1x2,1x2", "1x1,2x2,2x2", "2x1,2x2,2x2", "1x2,2x2,2x2", "2x1,1x2,1x2", "1x2,2x1,2x1", "1x1,4x1,4x1",
    "1x1,3x1,3x1", "1x1,1x3,1x3", "1x1,3x3,3x3", "2x2,4x2,4x2",
)
DIFFERENT = (
    "2x2,2x1,1x1", "2x2,1x1,2x1", "2x2,1x2,1x1", "2x2,2x1,1x2", "2x2,1x1,2x2", "2x2,2x2,1x1", "1x1,2x1,1x1", "1x1,1x1,2x2",
    "2x1,1x1,2x1", "2x1,2x1,1x1", "2x1,1x2,1x1", "1x2,1x1,1x2", "4x1,2x1,1x1", "4x2,1x1,2x1", "3x1,1x1,3x1", "1x1,3x1,1x3",
    "4x4,2x2,1x1", "1x1,4x1,2x1",
)

SEPARATE = "0;\n1;\n2;\n"
REVERSED = "2;\n1;\n0;\n"
LUMA_ALONE = "0;\n1,2;\n"
CR_ALONE = "0,1;\n2;\n"
PROGRESSIVE_SEPARATE = "".join(
    f"{i}: 0-0, 0, 1;\n{i}: 1-5, 0, 2;\n{i}: 6-63, 0, 2;\n{i}: 1-63, 2, 1;\n{i}: 0-0, 1, 0;\n{i}: 1-63, 1, 0;\n"
    for i in range(3)
)
PROGRESSIVE_LUMA_ALONE = "0: 0-0, 0, 0;\n1,2: 0-0, 0, 0;\n" + "".join(f"{i}: 1-63, 0, 0;\n" for i in (2, 0, 1))
PROGRESSIVE_INTERLEAVED = "0,1,2: 0-0, 0, 0;\n" + "".join(f"{i}: 1-9, 0, 0;\n{i}: 10-63, 0, 0;\n" for i in range(3))
PROGRESSIVE_MANY = "0,1,2: 0-0, 0, 0;\n" + "".join(
    f"{i}: {first}-{last}, 0, 0;\n" for first, last in [*((k, k) for k in range(1, 32)), (32, 63)] for i in range(3)
)


@dataclass(frozen=True)
class Segment:
    """A marker with its segment's content, and the entropy-coded data that follow a start of scan."""
    marker: int
    body: bytes
    data: bytes = b""

    def encoded(self):
        """The segment as in a file."""
        return bytes([0xff, self.marker]) + struct.pack(">H", len(self.body) + 2) + self.body + self.data

    def is_frame(self):
        """Whether this is a start of frame."""
        return 0xc0 <= self.marker <= 0xcf and self.marker not in (DHT, 0xc8, DAC)


def is_scan(segment):
    """Whether this is a start of scan."""
    return segment.marker == SOS


def is_table(segment):
    """Whether this has quantisation tables."""
    return segment.marker == DQT


def is_huffman(segment):
    """Whether this has Huffman tables."""
    return segment.marker == DHT


def parse(jpeg):
    """The segments of a file that a program wrote."""
    segments, position = [], 2
    while jpeg[position + 1] != EOI:
        marker, length = jpeg[position + 1], struct.unpack_from(">H", jpeg, position + 2)[0]
        end = after = position + 2 + length
        while marker == SOS and not (jpeg[after] == 0xff and jpeg[after + 1] != 0 and not 0xd0 <= jpeg[after + 1] <= 0xd7):
            after += 1
        segments.append(Segment(marker, jpeg[position + 4:end], jpeg[end:after]))
        position = after
    return segments


def build(segments, end=END):
    """A file of the given segments."""
    return bytes([0xff, SOI]) + b"".join(segment.encoded() for segment in segments) + end


def of(segments, *markers):
    """The segments with one of the markers."""
    return [segment for segment in segments if segment.marker in markers]


def without(segments, *markers):
    """The segments with none of the markers."""
    return [segment for segment in segments if segment.marker not in markers]


def before(segments, marker, *new):
    """The segments with new ones before the first that has the marker."""
    at = next(i for i, segment in enumerate(segments) if segment.marker == marker)
    return segments[:at] + list(new) + segments[at:]


def before_scan(segments, number, *new):
    """The segments with new ones before the scan of the given number and its tables."""
    at = [i for i, segment in enumerate(segments) if segment.marker == SOS][number]
    return segments[:at] + list(new) + segments[at:]


def change(segments, chosen, **changed):
    """The segments with attributes replaced in those for which `chosen` holds; the new values are functions of the old."""
    def value(segment):
        return {name: function(getattr(segment, name)) for name, function in changed.items()}
    return [replace(segment, **value(segment)) if chosen(segment) else segment for segment in segments]


def patched(body, at, value):
    """The bytes with some replaced."""
    return body[:at] + bytes(value) + body[at + len(value):]


def set_frame(segments, at, value):
    """The segments with bytes of the frame header replaced: 0 is the precision, 1 the height, 3 the width, 5 the count."""
    return change(segments, Segment.is_frame, body=lambda body: patched(body, at, value))


def set_marker(segments, marker):
    """The segments with another start of frame marker."""
    return change(segments, Segment.is_frame, marker=lambda _: marker)


def set_ids(segments, ids):
    """The segments with other component identifiers, in the frame and in the scans."""
    frame = next(filter(Segment.is_frame, segments)).body
    new = {frame[6 + 3 * i]: ids[i] for i in range(frame[5])}
    for i in range(frame[5]):
        segments = set_frame(segments, 6 + 3 * i, [ids[i]])

    def scan(body):
        for i in range(body[0]):
            body = patched(body, 1 + 2 * i, [new[body[1 + 2 * i]]])
        return body
    return change(segments, is_scan, body=scan)


def set_colour(segments, jfif, adobe):
    """The segments with or without a JFIF marker, and with an Adobe marker of the given transform, or none."""
    segments = without(segments, APP0, APP14)
    if adobe is not None:
        segments = [adobe_segment(adobe), *segments]
    return [JFIF, *segments] if jfif else segments


def adobe_segment(transform):
    """An Adobe marker."""
    return Segment(APP14, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


JFIF = Segment(APP0, b"JFIF\0" + bytes([1, 1, 0, 0, 1, 0, 1, 0, 0]))
NOTE = Segment(COM, b"a comment with \xff\xd9 and \xff\xda in it")


def exif(orientation, rest=b""):
    """An EXIF block with an orientation."""
    return Segment(APP1, b"Exif\0\0MM\0\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0) + rest)


def picture(width, height):
    """RGB pixels: gradients that differ between the channels, waves, and a rectangle of another colour."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    right, down = x / max(width - 1, 1), y / max(height - 1, 1)
    pixels = np.stack([40 + 180 * right, 220 - 170 * down, 60 + 90 * (right + down)], axis=2)
    pixels += 18 * np.sin(x / 2.3 + y / 3.1)[..., None] * [1, -0.5, 0.7]
    inside = (right > 0.3) & (right < 0.5) & (down > 0.4) & (down < 0.8)
    pixels[inside] = [200, 60, 40]
    return np.clip(pixels, 0, 255).round().astype(np.uint8)


def plane(width, height, number):
    """The values of one component of a picture with four."""
    pixels = picture(width, height).astype(int)
    return (pixels[..., number] if number < 3 else 255 - pixels[..., ::-1, 1] // 3).astype(np.uint8)


def netpbm(pixels):
    """The file that cjpeg reads."""
    kind = "P6" if pixels.ndim == 3 else "P5"
    return f"{kind} {pixels.shape[1]} {pixels.shape[0]} 255\n".encode() + pixels.tobytes()


class Tools:
    """The programs of libjpeg-turbo, and a folder for the scan scripts that they read."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def run(self, program, data, *args, scans=None):
        """The output of a program, whose scan script is given as text."""
        if scans is not None:
            with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False) as script:
                script.write(scans)
            args = [*args, "-scans", script.name]
        result = subprocess.run([program, *args], input=data, capture_output=True)
        if result.returncode not in (0, WARNED) or not result.stdout:
            raise RuntimeError(f"{program} {args}: {result.stderr.decode()}")
        return result.stdout

    def cjpeg(self, pixels, *args, **options):
        """Encodes pixels."""
        return self.run("cjpeg", netpbm(pixels), "-quality", "85", *args, **options)

    def segments(self, *args, size=SIZE, **options):
        """The segments of the usual picture that cjpeg encodes with the given switches."""
        return parse(self.cjpeg(picture(*size), *args, **options))

    def jpegtran(self, jpeg, *args, **options):
        """Changes the coding of a file and keeps its coefficients."""
        return self.run("jpegtran", jpeg, "-copy", "all", *args, **options)

    def planes(self, size, factors):
        """A file without an application marker of any number of components, each in its own scan."""
        width, height = size
        largest = [max(factor[i] for factor in factors) for i in range(2)]
        frame, scans, first = struct.pack(">BHHB", 8, height, width, len(factors)), [], None
        for number, (across, down) in enumerate(factors):
            own_size = -(-width * across // largest[0]), -(-height * down // largest[1])
            component = parse(self.cjpeg(plane(*own_size, number % 4), "-grayscale"))
            first = first or component
            frame += bytes([number + 1, across << 4 | down, 0])
            scans.append(Segment(SOS, bytes([1, number + 1, 0, 0, 63, 0]), of(component, SOS)[0].data))
        return [*of(first, DQT), Segment(0xc0, frame), *of(first, DHT), *scans]


def djpeg(jpeg):
    """The exit status of djpeg, and its pixels as RGB."""
    result = subprocess.run(["djpeg"], input=jpeg, capture_output=True)
    if result.returncode not in (0, WARNED):
        return result.returncode, None
    return result.returncode, np.asarray(Image.open(io.BytesIO(result.stdout)).convert("RGB"))


def pillow(jpeg):
    """Pillow's pixels as RGB; `None` if it refuses the file."""
    try:
        return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, struct.error):
        return None


class Corpus:
    """The files in the order in which they were added; `write` decodes them."""

    def __init__(self):
        self.files = {}

    def add(self, group, name, jpeg, state="picture", same=None):
        """Adds a file, given as bytes or as segments; `same` is a file that has its pixels, if libjpeg-turbo needs another.

        The state "noticed" is "damaged", but the file is left out if libjpeg-turbo does not warn of it.
        """
        name = f"{group}-{name}".replace(",", "_")
        assert name not in self.files, name
        jpeg = jpeg if isinstance(jpeg, bytes) else build(jpeg)
        self.files[name] = group, state, jpeg, same or jpeg

    def write(self, folder):
        """Writes all files, and the list of them, which it returns."""
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda item: self.write_one(folder, item[0], *item[1]), self.files.items()))
        entries, wrong = [], []
        for (name, (group, state, *_)), status in zip(self.files.items(), statuses):
            if state == "picture" and status != 0:
                wrong.append(name)
            if state != "noticed" or status != 0:
                entries.append({"name": name, "group": group, "state": state.replace("noticed", "damaged")})
        if wrong:
            raise RuntimeError(f"djpeg finds faults in files that should be intact: {' '.join(wrong)}")
        lines = ",\n".join(json.dumps(entry) for entry in entries)
        (folder / "corpus.json").write_text(f"[\n{lines}\n]\n")
        return entries

    @staticmethod
    def write_one(folder, name, group, state, jpeg, same):
        """Writes one file and its pixels, unless it is left out; returns the exit status of djpeg."""
        status, pixels = djpeg(jpeg)
        if state != "noticed" or status != 0:
            truth = pillow(same)
            truth = pixels if truth is None else truth
            (folder / f"{name}.jpg").write_bytes(jpeg)
            if truth is not None:
                Image.fromarray(truth).save(folder / f"{name}.png", compress_level=1)
        return status


def blocks(factors):
    """The blocks in an interleaved unit of the components with the given factors; at most ten are allowed."""
    return sum(int(factor[0]) * int(factor[2]) for factor in factors)


def sampling_modes(sampling):
    """For a sampling, the names, switches and scan scripts of all ways to order and code the data."""
    factors = sampling.split(",")
    if blocks(factors) <= 10:
        yield "interleaved", (), None
        yield "optimised", ("-optimize",), None
        yield "restart-blocks", ("-restart", "1B"), None
        yield "restart-rows", ("-restart", "1"), None
        yield "progressive", ("-progressive",), None
        yield "progressive-bands", (), PROGRESSIVE_INTERLEAVED
        yield "progressive-restart", ("-progressive", "-restart", "3B"), None
        yield "arithmetic", ("-arithmetic",), None
        yield "arithmetic-progressive", ("-arithmetic", "-progressive"), None
    if blocks(factors[1:]) <= 10:
        yield "luma-alone", (), LUMA_ALONE
        yield "luma-alone-restart", ("-restart", "2B"), LUMA_ALONE
        yield "progressive-luma-alone", (), PROGRESSIVE_LUMA_ALONE
    if blocks(factors[:2]) <= 10:
        yield "cr-alone", (), CR_ALONE
    yield "separate", (), SEPARATE
    yield "separate-optimised", ("-optimize",), SEPARATE
    yield "separate-reversed", (), REVERSED
    yield "separate-restart-blocks", ("-restart", "2B"), SEPARATE
    yield "separate-restart-rows", ("-restart", "1"), SEPARATE
    yield "progressive-separate", (), PROGRESSIVE_SEPARATE
    yield "progressive-separate-restart", ("-restart", "5B"), PROGRESSIVE_SEPARATE
    yield "arithmetic-separate", ("-arithmetic",), SEPARATE


def add_samplings(corpus, tools):
    """Every sampling, with the components together or in scans of their own, sequential and progressive."""
    kinds = {"common": COMMON, "luma-finer": LUMA_FINER, "equal": EQUAL, "chroma-finer": CHROMA_FINER, "different": DIFFERENT}
    jobs = [
        (f"sampling-{kind}", f"{mode}-{sampling}", SIZE, ("-sample", sampling, *switches), scans)
        for kind, samplings in kinds.items() for sampling in samplings for mode, switches, scans in sampling_modes(sampling)
    ]
    for size in (LARGE, *SMALL):
        for sampling in (*COMMON, "1x1,2x2,2x2", "2x2,2x1,1x1", "3x2,1x1,1x1", "2x2,1x2,1x2"):
            for mode, switches, scans in sampling_modes(sampling):
                if mode in ("interleaved", "separate", "luma-alone", "progressive", "progressive-separate", "restart-rows"):
                    name = f"{mode}-{sampling}-{size[0]}x{size[1]}"
                    jobs.append(("size", name, size, ("-sample", sampling, *switches), scans))
    with ThreadPoolExecutor(4) as pool:
        files = pool.map(lambda job: tools.cjpeg(picture(*job[2]), *job[3], scans=job[4]), jobs)
        for (group, name, _, switches, _), jpeg in zip(jobs, files):
            corpus.add(group, name, jpeg, "unsupported" if "-arithmetic" in switches else "picture")


def add_flat(corpus, tools):
    """Pictures of one colour, and with a flat lower half.

    Their last rows are so few bytes that a decoder that reads ahead finds the next marker before it has decoded them.
    """
    half = picture(*SIZE)
    half[SIZE[1] // 2:] = [200, 90, 30]
    pictures = {"whole": np.full((SIZE[1], SIZE[0], 3), [200, 90, 30], np.uint8), "half": half}
    for name, pixels in pictures.items():
        for sampling in COMMON:
            for mode, switches, scans in sampling_modes(sampling):
                state = "unsupported" if "-arithmetic" in switches else "picture"
                jpeg = tools.cjpeg(pixels, "-sample", sampling, *switches, scans=scans)
                corpus.add("flat", f"{name}-{mode}-{sampling}", jpeg, state)
            commented = [*parse(tools.cjpeg(pixels, "-sample", sampling)), NOTE]
            corpus.add("flat", f"{name}-comment-at-end-{sampling}", commented)
            cut = parse(tools.cjpeg(pixels, "-sample", sampling, scans=SEPARATE))
            for number in range(3):
                for count in (1, 2):
                    damaged = in_scan(cut, number, lambda data: data[:-count])
                    corpus.add("flat", f"{name}-scan-{number}-less-{count}-{sampling}", damaged, "noticed")


def add_fractions(corpus, tools):
    """Samplings of which one is no multiple of the other; libjpeg-turbo does not decode them."""
    for name, factors in {
        "3x1_2x1": [(3, 1), (2, 1), (2, 1)], "1x3_1x2": [(1, 3), (1, 2), (1, 2)], "2x1_3x1": [(2, 1), (3, 1), (1, 1)],
        "3x2_2x1": [(3, 2), (2, 1), (2, 1)], "4x1_3x1": [(4, 1), (3, 1), (3, 1)],
    }.items():
        separate = build(tools.planes(SIZE, factors))
        corpus.add("fraction", f"separate-{name}", separate, "unsupported")
        if sum(across * down for across, down in factors) <= 10:
            corpus.add("fraction", f"interleaved-{name}", tools.jpegtran(separate), "unsupported")
        corpus.add("fraction", f"progressive-{name}", tools.jpegtran(separate, scans=PROGRESSIVE_SEPARATE), "unsupported")


def add_grey(corpus, tools):
    """Grey files; their sampling factors must not matter."""
    modes = {
        "baseline": (), "progressive": ("-progressive",), "restart": ("-restart", "1B"), "restart-rows": ("-restart", "1"),
        "arithmetic": ("-arithmetic",),
    }
    for mode, switches in modes.items():
        state = "unsupported" if mode == "arithmetic" else "picture"
        for size in (SIZE, (1, 1), (8, 8), (17, 9), LARGE):
            for factors in ((1, 1), (2, 2), (2, 1), (1, 2), (4, 4), (3, 1), (1, 4)):
                segments = set_frame(tools.segments("-grayscale", *switches, size=size), 7, [factors[0] << 4 | factors[1]])
                corpus.add("grey", f"{mode}-{size[0]}x{size[1]}-{factors[0]}x{factors[1]}", segments, state)
    grey = tools.segments("-grayscale")
    for adobe in (None, 0, 1, 2):
        for number in (0, 1, ord("R")):
            for jfif in (False, True):
                name = f"adobe-{adobe}-id-{number}-{'jfif' if jfif else 'bare'}"
                corpus.add("grey", name, set_colour(set_ids(grey, [number]), jfif, adobe))


COMPONENT_IDS = {
    "123": (1, 2, 3), "012": (0, 1, 2), "RGB": b"RGB", "rgb": b"rgb", "other": (10, 20, 30), "wide": (1, 34, 35),
    "321": (3, 2, 1), "RG0": (82, 71, 0),
}


def add_colours(corpus, tools):
    """What tells whether three components are YCbCr or RGB: the JFIF marker, the Adobe marker, the identifiers."""
    bases = {
        "full": tools.segments("-sample", "1x1"), "half": tools.segments("-sample", "2x2"),
        "progressive": tools.segments("-sample", "1x1", "-progressive"), "separate": tools.segments(scans=SEPARATE),
    }
    for base, segments in bases.items():
        for ids_name, ids in COMPONENT_IDS.items():
            for jfif in (False, True):
                for adobe in (None, 0, 1, 2):
                    name = f"{base}-{ids_name}-{'jfif' if jfif else 'bare'}-adobe-{adobe}"
                    # An Adobe transform of 2 is for four components; with a JFIF marker, the Adobe marker does not matter.
                    state = "unsupported" if adobe == 2 and not jfif else "picture"
                    corpus.add("colour", name, set_colour(set_ids(segments, ids), jfif, adobe), state)
    rgb = tools.segments("-rgb")
    corpus.add("colour", "rgb", rgb)
    corpus.add("colour", "rgb-progressive", tools.cjpeg(picture(*SIZE), "-rgb", "-progressive"))
    corpus.add("colour", "rgb-sampled", tools.cjpeg(picture(*SIZE), "-rgb", "-sample", "1x1,2x2,1x1"))
    corpus.add("colour", "rgb-separate", tools.cjpeg(picture(*SIZE), "-rgb", scans=SEPARATE))
    ycc = without(bases["full"], APP0)
    adobe = adobe_segment(0)
    frame = next(filter(Segment.is_frame, ycc)).marker
    corpus.add("colour", "adobe-after-frame", before(ycc, DHT, adobe))
    corpus.add("colour", "adobe-before-scan", before(ycc, SOS, adobe))
    corpus.add("colour", "adobe-before-jfif", [adobe, JFIF, *ycc])
    corpus.add("colour", "adobe-twice", before(ycc, frame, adobe_segment(1), adobe))
    corpus.add("colour", "adobe-twice-reversed", before(ycc, frame, adobe, adobe_segment(1)))
    corpus.add("colour", "adobe-short", [Segment(APP14, b"Adobe\0\x64\0\0\0\0"), *ycc])
    corpus.add("colour", "adobe-long", [Segment(APP14, adobe.body + bytes(20)), *ycc])
    corpus.add("colour", "adobe-transform-3", [adobe_segment(3), *ycc], "unsupported")
    corpus.add("colour", "app14-other", [Segment(APP14, b"Other\0\x64\0\0\0\0\0"), *ycc])
    corpus.add("colour", "app0-jfxx", [Segment(APP0, b"JFXX\0\x10"), *set_ids(ycc, b"RGB")])
    corpus.add("colour", "app0-short", [Segment(APP0, b"JFIF\0"), *set_ids(ycc, b"RGB")])
    corpus.add("colour", "jfif-after-frame", before(set_ids(ycc, b"RGB"), DHT, JFIF))
    corpus.add("colour", "jfif-thumbnail", [Segment(APP0, JFIF.body[:-2] + bytes([2, 2]) + bytes(12)), *set_ids(ycc, b"RGB")])
    other = set_ids(ycc, (10, 20, 30))
    corpus.add("colour", "app0-short-adobe", [Segment(APP0, b"JFIF\0"), adobe, *other])
    late = without(bases["separate"], APP0)
    corpus.add("colour", "adobe-between-scans", before_scan(set_ids(late, (10, 20, 30)), 1, adobe))
    corpus.add("colour", "jfif-between-scans", before_scan(set_ids(late, b"RGB"), 1, JFIF))
    late = without(bases["progressive"], APP0)
    corpus.add("colour", "adobe-between-scans-progressive", before_scan(set_ids(late, (10, 20, 30)), 1, adobe))
    corpus.add("colour", "jfif-between-scans-progressive", before_scan(set_ids(late, b"RGB"), 1, JFIF))
    corpus.add("colour", "ids-equal", set_ids(set_frame(ycc, 6, [1, 17, 0, 2, 17, 1, 3, 17, 1]), (7, 7, 7)))


def add_four(corpus, tools):
    """CMYK and YCCK files, with and without an Adobe marker."""
    samplings = {
        "full": [(1, 1)] * 4, "luma-black": [(2, 2), (1, 1), (1, 1), (2, 2)], "luma": [(2, 2), (1, 1), (1, 1), (1, 1)],
        "across": [(2, 1), (1, 1), (1, 1), (2, 1)], "down": [(1, 2), (1, 1), (1, 1), (1, 2)],
        "black": [(1, 1), (1, 1), (1, 1), (2, 2)],
    }
    for sampling, factors in samplings.items():
        separate = tools.planes(SIZE, factors)
        interleaved = tools.jpegtran(build(separate))
        bases = {
            "separate": separate, "interleaved": parse(interleaved),
            "progressive": parse(tools.jpegtran(interleaved, "-progressive")),
            "restart": parse(tools.jpegtran(interleaved, "-restart", "1B")),
            "pairs": parse(tools.jpegtran(interleaved, scans="0,3;\n1,2;\n")),
        }
        for base, segments in bases.items():
            for adobe in (None, 0, 1, 2):
                # An Adobe transform of 1 is for three components.
                state = "unsupported" if adobe == 1 else "picture"
                corpus.add("four", f"{base}-{sampling}-adobe-{adobe}", set_colour(segments, False, adobe), state)
        corpus.add("four", f"jfif-{sampling}", set_colour(bases["interleaved"], True, None))
        corpus.add("four", f"jfif-{sampling}-adobe-2", set_colour(bases["interleaved"], True, 2))
        corpus.add("four", f"arithmetic-{sampling}", tools.jpegtran(interleaved, "-arithmetic"), "unsupported")
    full = tools.planes(SIZE, samplings["full"])
    corpus.add("four", "ids-CMYK", set_ids(full, b"CMYK"))
    corpus.add("four", "ids-0123", set_ids(parse(tools.jpegtran(build(full))), (0, 1, 2, 3)))
    image = Image.fromarray(picture(*SIZE)).convert("CMYK")
    for name, options in {"pillow": {}, "pillow-progressive": {"progressive": True}, "pillow-half": {"subsampling": 2}}.items():
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85, **options)
        corpus.add("four", name, file.getvalue())


def add_counts(corpus, tools):
    """Numbers of components that have no colours."""
    for count in (2, 5):
        segments = tools.planes(SIZE, [(1, 1)] * count)
        corpus.add("count", f"separate-{count}", segments, "unsupported")
    segments = tools.planes(SIZE, [(1, 1)] * 2)
    corpus.add("count", "interleaved-2", tools.jpegtran(build(segments)), "unsupported")
    corpus.add("count", "progressive-2", tools.jpegtran(build(segments), "-progressive"), "unsupported")
    corpus.add("count", "0", set_frame(tools.segments(), 5, [0]), "damaged")


def lossless(size, channels):
    """A lossless JPEG in which each sample is predicted by its left neighbour."""
    width, height = size
    pixels = picture(width, height)[..., :channels].astype(int)
    previous = np.roll(pixels, 1, axis=1)
    previous[1:, 0] = pixels[:-1, 0]
    previous[0, 0] = 128
    bits = ""
    for difference in (pixels - previous).reshape(-1):
        category = int(abs(difference)).bit_length()
        bits += f"{category:04b}"
        if category:
            bits += f"{int(difference) if difference > 0 else int(difference) + (1 << category) - 1:0{category}b}"
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    components = [bytes([i + 1, 0x11, 0]) for i in range(channels)]
    table = Segment(DHT, bytes([0, 0, 0, 0, 9] + [0] * 12) + bytes(range(9)))
    scan = bytes([channels]) + b"".join(bytes([i + 1, 0]) for i in range(channels)) + bytes([1, 0, 0])
    frame = struct.pack(">BHHB", 8, height, width, channels) + b"".join(components)
    return [Segment(0xc3, frame), table, Segment(SOS, scan, data)]


def add_processes(corpus, tools):
    """Coding processes other than baseline and progressive."""
    base, progressive = tools.segments(), tools.segments("-progressive")
    corpus.add("process", "extended", set_marker(base, 0xc1))
    corpus.add("process", "extended-separate", set_marker(tools.segments(scans=SEPARATE), 0xc1))
    corpus.add("process", "wide-quantisation", tools.cjpeg(picture(*SIZE), "-quality", "1"))
    corpus.add("process", "wide-quantisation-separate", tools.cjpeg(picture(*SIZE), "-quality", "1", scans=SEPARATE))
    corpus.add("process", "wide-quantisation-progressive", tools.cjpeg(picture(*SIZE), "-quality", "1", "-progressive"))
    wide = change(base, is_table, body=lambda body: bytes([body[0] | 16]) + b"".join(bytes([0, value]) for value in body[1:65]))
    corpus.add("process", "wide-quantisation-baseline", wide)
    corpus.add("process", "wide-quantisation-extended", set_marker(wide, 0xc1))
    corpus.add("process", "huffman-tables-2-3", set_marker(huffman_slots(base, 2), 0xc1))
    corpus.add("process", "huffman-tables-2-3-progressive", huffman_slots(progressive, 2))
    corpus.add("process", "quantisation-tables-2-3", quantisation_slots(base, 2))
    corpus.add("process", "lossless-grey", lossless(SIZE, 1), "unsupported")
    corpus.add("process", "lossless-rgb", lossless(SIZE, 3), "unsupported")
    corpus.add("process", "12-bit", set_marker(set_frame(base, 0, [12]), 0xc1), "unsupported")
    corpus.add("process", "12-bit-grey", set_marker(set_frame(tools.segments("-grayscale"), 0, [12]), 0xc1), "unsupported")
    corpus.add("process", "12-bit-progressive", set_frame(progressive, 0, [12]), "unsupported")
    corpus.add("process", "12-bit-baseline", set_frame(base, 0, [12]), "damaged")
    corpus.add("process", "9-bit", set_frame(base, 0, [9]), "damaged")
    corpus.add("process", "16-bit-extended", set_marker(set_frame(base, 0, [16]), 0xc1), "damaged")
    for marker in (0xc5, 0xc6, 0xc7, 0xcb, 0xcd, 0xce, 0xcf):
        corpus.add("process", f"sof{marker & 15}", set_marker(base, marker), "unsupported")
    corpus.add("process", "sof3-with-dct-data", set_marker(base, 0xc3), "damaged")
    corpus.add("process", "sof2-with-sequential-data", set_marker(base, 0xc2), "damaged")
    corpus.add("process", "sof0-with-progressive-data", set_marker(progressive, 0xc0), "damaged")
    corpus.add("process", "sof9-with-huffman-data", set_marker(base, 0xc9), "damaged")
    corpus.add("process", "hierarchical", [Segment(0xde, next(filter(Segment.is_frame, base)).body), *base], "unsupported")
    corpus.add("process", "progressive-bands-many", tools.cjpeg(picture(*SIZE), scans=PROGRESSIVE_MANY))


def huffman_slots(segments, offset):
    """The segments with all Huffman tables in later slots."""
    def scan(body):
        for i in range(body[0]):
            body = patched(body, 2 + 2 * i, [body[2 + 2 * i] + 17 * offset])
        return body
    segments = change(segments, is_huffman, body=lambda body: patched(body, 0, [body[0] + offset]))
    return change(segments, is_scan, body=scan)


def quantisation_slots(segments, offset):
    """The segments with all quantisation tables in later slots."""
    segments = change(segments, is_table, body=lambda body: patched(body, 0, [body[0] + offset]))
    for i in range(3):
        segments = set_frame(segments, 8 + 3 * i, [(i > 0) + offset])
    return segments


def with_fill(jpeg, segments, count):
    """The file with fill bytes before each segment."""
    for segment in segments:
        jpeg = jpeg.replace(segment.encoded(), b"\xff" * count + segment.encoded(), 1)
    return jpeg


def add_markers(corpus, tools):
    """Intact files with their markers in an unusual order, and with bytes between and behind them."""
    base, progressive, separate = tools.segments(), tools.segments("-progressive"), tools.segments(scans=SEPARATE)
    restart, thumbnail = tools.segments("-restart", "2B"), tools.cjpeg(picture(16, 16))
    for name, segments in {"baseline": base, "progressive": progressive, "separate": separate}.items():
        jpeg = build(segments)
        scans = of(segments, SOS)
        add_common_markers(corpus, name, segments, thumbnail)
        corpus.add("markers", f"fill-1-{name}", with_fill(jpeg, segments, 1))
        corpus.add("markers", f"fill-3-{name}", with_fill(jpeg, segments, 3))
        corpus.add("markers", f"fill-before-end-{name}", jpeg[:-2] + b"\xff\xff" + END)
        corpus.add("markers", f"after-end-zeros-{name}", jpeg + bytes(100))
        corpus.add("markers", f"after-end-text-{name}", jpeg + b"some text after the end of the image")
        corpus.add("markers", f"after-end-fill-{name}", jpeg + b"\xff" * 20)
        corpus.add("markers", f"after-end-again-{name}", jpeg + END + END)
        corpus.add("markers", f"after-end-jpeg-{name}", jpeg + thumbnail)
        corpus.add("markers", f"after-end-cut-jpeg-{name}", jpeg + thumbnail[:200])
        if name != "progressive":
            corpus.add("markers", f"tables-standard-{name}", without(segments, DHT))
            missing_ac = [s for s in segments if not (is_huffman(s) and s.body[0] >= 16)]
            corpus.add("markers", f"tables-standard-ac-{name}", missing_ac)
        if len(scans) > 1:
            add_between_scans(corpus, name, segments)
    motion = without(base, DHT, APP0)
    corpus.add("markers", "tables-standard-avi", [Segment(APP0, b"AVI1\0" + bytes(9)), *motion])
    corpus.add("markers", "tables-standard-grey", without(tools.segments("-grayscale"), DHT))
    add_restart_intervals(corpus, tools, base, restart)
    add_redefined_tables(corpus, tools, separate, progressive)
    stuffed = change(base, is_scan, data=lambda data: data.replace(b"\xff\0", b"\xff\xff\0"))
    corpus.add("markers", "stuffing-after-fill", stuffed)
    filled = change(restart, is_scan, data=lambda data: data.replace(b"\xff\xd1", b"\xff\xff\xff\xd1"))
    corpus.add("markers", "restart-after-fill", filled)
    corpus.add("markers", "height-within-block", set_frame(base, 1, struct.pack(">H", SIZE[1] + 2)))
    corpus.add("markers", "width-within-block", set_frame(base, 3, struct.pack(">H", SIZE[0] + 5)))
    corpus.add("markers", "quantisation-zero", change(base, is_table, body=lambda body: patched(body, 60, [0] * 5)))
    mpo = io.BytesIO()
    first, second = Image.fromarray(picture(*SIZE)), Image.fromarray(picture(20, 20))
    first.save(mpo, "MPO", save_all=True, append_images=[second])
    corpus.add("markers", "multi-picture", mpo.getvalue())


def add_common_markers(corpus, name, segments, thumbnail):
    """Orders of the segments, and segments without pixels, that every coding process allows."""
    frame = next(filter(Segment.is_frame, segments))
    head = segments[:segments.index(of(segments, SOS)[0])]
    tail = segments[len(head):]
    dqt, dht, others = of(head, DQT), of(head, DHT), without(head, DQT, DHT, frame.marker)
    corpus.add("markers", f"order-huffman-first-{name}", [*others, *dht, *dqt, frame, *tail])
    corpus.add("markers", f"order-frame-first-{name}", [*others, frame, *dht, *dqt, *tail])
    corpus.add("markers", f"order-application-last-{name}", [*dqt, frame, *dht, *others, *tail])
    corpus.add("markers", f"order-reversed-{name}", [*dht[::-1], frame, *dqt[::-1], *others, *tail])
    merged = [Segment(DQT, b"".join(s.body for s in dqt)), frame, Segment(DHT, b"".join(s.body for s in dht))]
    corpus.add("markers", f"tables-merged-{name}", [*others, *merged, *tail])
    corpus.add("markers", f"tables-twice-{name}", [*others, *dqt, *dht, *dqt, frame, *dht, *tail])
    corpus.add("markers", f"comments-{name}", [s for segment in segments for s in (NOTE, segment)])
    corpus.add("markers", f"comment-empty-{name}", [Segment(COM, b""), *segments])
    corpus.add("markers", f"bare-{name}", without(segments, APP0))
    applications = [Segment(APP0 + i, b"something\0else" * 3) for i in range(16)]
    corpus.add("markers", f"applications-{name}", [*segments[:1], *applications, *segments[1:]])
    empty = [Segment(APP0 + i, b"") for i in range(16)]
    corpus.add("markers", f"applications-empty-{name}", [*segments[:1], *empty, *segments[1:]])
    corpus.add("markers", f"exif-{name}", [*segments[:1], exif(1), *segments[1:]])
    corpus.add("markers", f"exif-several-{name}", [exif(1), *segments[:1], exif(1), NOTE, exif(1), *segments[1:]])
    corpus.add("markers", f"exif-thumbnail-{name}", [exif(1, thumbnail), *segments])
    corpus.add("markers", f"xmp-{name}", [Segment(APP1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), *segments])
    corpus.add("markers", f"icc-bad-{name}", [Segment(APP2, b"ICC_PROFILE\0\2\1" + bytes(9)), *segments])
    corpus.add("markers", f"photoshop-{name}", [Segment(0xed, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\3abc\0"), *segments])
    corpus.add("markers", f"photoshop-bad-{name}", [Segment(0xed, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\x10\0abc"), *segments])
    corpus.add("markers", f"arithmetic-conditions-{name}", [Segment(DAC, b""), *segments])
    jpeg = build(segments)
    corpus.add("markers", f"parameterless-{name}", jpeg[:2] + b"\xff\x01\xff\xd3" + jpeg[2:])
    corpus.add("markers", f"height-repeated-{name}", before_dnl(segments, SIZE[1]))
    corpus.add("markers", f"height-later-{name}", before_dnl(set_frame(segments, 1, b"\0\0"), SIZE[1]), "unsupported")


def before_dnl(segments, height):
    """The segments with the number of lines behind the first scan."""
    first = segments.index(of(segments, SOS)[0])
    return [*segments[:first + 1], Segment(DNL, struct.pack(">H", height)), *segments[first + 1:]]


def add_between_scans(corpus, name, segments):
    """Segments without pixels between the scans."""
    unusual = {
        "comment": [NOTE], "comments-many": [NOTE] * 100, "exif": [exif(6)], "adobe": [adobe_segment(0)], "jfif": [JFIF],
        "restart-interval": [Segment(DRI, b"\0\0")], "application": [Segment(0xe5, b"something")],
    }
    for between, new in unusual.items():
        corpus.add("markers", f"between-scans-{between}-{name}", before_scan(segments, 1, *new))
    corpus.add("markers", f"between-scans-before-last-{name}", before_scan(segments, -1, NOTE, Segment(0xe5, b"something")))
    corpus.add("markers", f"after-scans-comment-{name}", [*segments, NOTE])
    corpus.add("markers", f"after-scans-tables-{name}", [*segments, *of(segments, DQT)])


def add_restart_intervals(corpus, tools, base, restart):
    """Restart intervals defined at other places, several times, and different for the scans."""
    interval = of(restart, DRI)
    others = without(restart, DRI)
    frame = next(filter(Segment.is_frame, restart)).marker
    corpus.add("markers", "restart-before-frame", before(others, frame, *interval))
    corpus.add("markers", "restart-after-frame", before(others, DHT, *interval))
    corpus.add("markers", "restart-first", [*interval, *others])
    corpus.add("markers", "restart-twice", before(others, SOS, Segment(DRI, b"\0\7"), *interval))
    corpus.add("markers", "restart-zero", before(base, SOS, Segment(DRI, b"\0\0")))
    corpus.add("markers", "restart-longer-than-scan", before(base, SOS, Segment(DRI, b"\xff\xff")))
    last = change(tools.segments("-restart", "1"), is_scan, data=lambda data: data + b"\xff\xd2")
    corpus.add("markers", "restart-at-end", last)
    plain, often = tools.segments(scans=SEPARATE), tools.segments("-restart", "2B", scans=SEPARATE)
    scans, others = of(often, SOS), without(plain, SOS)
    corpus.add("markers", "restart-changes", [*others, of(plain, SOS)[0], Segment(DRI, b"\0\2"), *scans[1:]])
    ends = [*others, Segment(DRI, b"\0\2"), scans[0], Segment(DRI, b"\0\0"), *of(plain, SOS)[1:]]
    corpus.add("markers", "restart-ends", ends)


def add_redefined_tables(corpus, tools, separate, progressive):
    """Tables that are defined again between the scans: a component keeps the quantisation table of its first scan."""
    for sampling in ("1x1", "2x2"):
        segments = tools.segments("-sample", sampling, scans=SEPARATE)
        first, second = of(segments, DQT)
        frame = set_frame(set_frame(segments, 11, [0]), 14, [0])
        frame = [s for s in frame if s is not second]
        again = before_scan(frame, 1, Segment(DQT, patched(second.body, 0, [0])))
        corpus.add("markers", f"quantisation-redefined-{sampling}", again)
    coarse = Segment(DQT, b"\0" + bytes([50] * 64))
    corpus.add("markers", "quantisation-redefined-too-late", before_scan(progressive, -1, coarse))
    corpus.add("markers", "quantisation-redefined-after-luma", before_scan(separate, 1, coarse))
    corpus.add("markers", "quantisation-between-scans", move_table(separate))


def move_table(segments):
    """The segments with the second quantisation table moved to where it is first needed."""
    table = of(segments, DQT)[1]
    return before_scan([s for s in segments if s is not table], 1, table)


def full_tree():
    """A grey file of two blocks whose Huffman table uses the code of ones only, which the standard forbids."""
    table = Segment(DHT, bytes([0, 2] + [0] * 15 + [0, 5]) + bytes([0x10, 1] + [0] * 15 + [0]))
    # The bits: category 5, difference 20, end of block; category 0, end of block.
    data = int("1" + "10100" + "0" + "0" + "0" + "1111111", 2).to_bytes(2, "big")
    quantisation = Segment(DQT, b"\0" + bytes([16] * 64))
    frame = Segment(0xc0, struct.pack(">BHHB", 8, 8, 16, 1) + bytes([1, 0x11, 0]))
    return [quantisation, frame, table, Segment(SOS, bytes([1, 1, 0, 0, 63, 0]), data)]


def damage_bases(tools):
    """The files that the damages are made of."""
    return {
        "baseline": tools.segments(), "grey": tools.segments("-grayscale"), "full": tools.segments("-sample", "1x1"),
        "optimised": tools.segments("-optimize"), "separate": tools.segments(scans=SEPARATE),
        "luma-alone": tools.segments(scans=LUMA_ALONE), "restart": tools.segments("-restart", "2B"),
        "separate-restart": tools.segments("-restart", "2B", scans=SEPARATE), "progressive": tools.segments("-progressive"),
        "progressive-separate": tools.segments(scans=PROGRESSIVE_SEPARATE),
        "progressive-restart": tools.segments("-progressive", "-restart", "2B"),
        "progressive-grey": tools.segments("-progressive", "-grayscale"),
    }


def add_truncated(corpus, bases):
    """Files that end too early, also with an end marker."""
    for name, segments in bases.items():
        jpeg = build(segments)
        for tenth in range(1, 10):
            cut = jpeg[:len(jpeg) * tenth // 10]
            corpus.add("truncated", f"{name}-{tenth}", cut, "damaged")
            corpus.add("truncated", f"{name}-{tenth}-ended", cut.rstrip(b"\xff") + END, "noticed")
        corpus.add("truncated", f"{name}-no-end", jpeg[:-2], "damaged")
        corpus.add("truncated", f"{name}-half-end", jpeg[:-1], "damaged")
        corpus.add("truncated", f"{name}-no-end-zeros", jpeg[:-2] + bytes(100), "noticed")
        for count in (1, 2, 3, 10):
            last = segments[-1]
            ended = build([*segments[:-1], replace(last, data=last.data[:-count])])
            corpus.add("truncated", f"{name}-less-{count}-ended", ended, "noticed")
    corpus.add("truncated", "empty", b"", "damaged")
    corpus.add("truncated", "start", bytes([0xff, SOI]), "damaged")
    corpus.add("truncated", "start-end", bytes([0xff, SOI]) + END, "damaged")
    corpus.add("truncated", "no-scan", build(without(bases["baseline"], SOS)), "damaged")
    corpus.add("truncated", "header-only", build(bases["baseline"])[:-len(bases["baseline"][-1].data) - 2], "damaged")


def in_scan(segments, number, function):
    """The segments with the entropy-coded data of one scan changed."""
    chosen = of(segments, SOS)[number]
    return change(segments, lambda segment: segment is chosen, data=function)


def flipped(data, at, bit):
    """The data with one bit inverted."""
    return patched(data, at, [data[at] ^ 1 << bit])


def add_corrupt(corpus, bases):
    """Files with wrong entropy-coded data."""
    for name, segments in bases.items():
        scans = len(of(segments, SOS))
        for number in sorted({0, scans // 2, scans - 1}):
            length = len(of(segments, SOS)[number].data)
            for step in range(1, 8):
                at = length * step // 8
                changes = {
                    f"flip-{step}": lambda data: flipped(data, at, step),
                    f"ones-{step}": lambda data: patched(data, at, b"\xfe\xfe\xfe"[:length - at]),
                }
                for kind, function in changes.items():
                    corpus.add("corrupt", f"{name}-scan-{number}-{kind}", in_scan(segments, number, function), "noticed")
            half = length // 2
            others = {
                "empty": lambda data: b"", "half": lambda data: data[:half], "zeros": lambda data: bytes(length),
                "stuffing-at-end": lambda data: data + b"\xff\0",
                "stuffing-inside": lambda data: data[:half] + b"\xff\0\xff\0" + data[half:],
                "extra-at-end": lambda data: data + b"abcdefgh",
                "marker-inside": lambda data: data[:half] + b"\xff\xd3" + data[half:],
                "unknown-marker-inside": lambda data: data[:half] + b"\xff\x02" + data[half:],
                "end-inside": lambda data: data[:half] + END + data[half:],
                "comment-inside": lambda data: data[:half] + NOTE.encoded() + data[half:],
                "lost": lambda data: data[:half] + data[half + 5:],
            }
            for kind, function in others.items():
                corpus.add("corrupt", f"{name}-scan-{number}-{kind}", in_scan(segments, number, function), "noticed")


def swapped_restarts(data):
    """The entropy-coded data with the second and the third restart marker exchanged."""
    second, third = data.index(b"\xff\xd1"), data.index(b"\xff\xd2")
    return patched(patched(data, second, b"\xff\xd2"), third, b"\xff\xd1")


def add_restarts(corpus, bases):
    """Files with restart markers missing, superfluous, or out of order."""
    for name in ("restart", "separate-restart", "progressive-restart"):
        segments = bases[name]

        def add(kind, function):
            corpus.add("restarts", f"{kind}-{name}", in_scan(segments, 0, function), "noticed")
        add("missing", lambda data: data.replace(b"\xff\xd1", b"", 1))
        add("missing-all", lambda data: b"".join(data.split(b"\xff\xd1")).replace(b"\xff\xd0", b"").replace(b"\xff\xd2", b""))
        add("interval-missing", lambda data: data[:data.index(b"\xff\xd1")] + data[data.index(b"\xff\xd2"):])
        add("swapped", swapped_restarts)
        add("wrong", lambda data: data.replace(b"\xff\xd1", b"\xff\xd4", 1))
        add("doubled", lambda data: data.replace(b"\xff\xd1", b"\xff\xd1\xff\xd1", 1))
        add("all-zero", lambda data: data.replace(b"\xff\xd1", b"\xff\xd0").replace(b"\xff\xd2", b"\xff\xd0"))
        add("last-missing", lambda data: data[:data.rindex(b"\xff\xd0")])
        plain = bases[name.replace("-restart", "") if "-" in name else "baseline"]
        corpus.add("restarts", f"none-{name}", before(plain, SOS, *of(segments, DRI)), "noticed")
        corpus.add("restarts", f"undefined-{name}", without(segments, DRI), "noticed")
        for interval in (1, 3, 200):
            other = change(segments, lambda s: s.marker == DRI, body=lambda _: struct.pack(">H", interval))
            corpus.add("restarts", f"interval-{interval}-{name}", other, "noticed")


def add_sizes(corpus, bases):
    """Files whose header tells another size than their data have."""
    width, height = SIZE
    for name, segments in bases.items():
        sizes = {
            "taller": (width, height + 40), "much-taller": (width, 10 * height), "lower": (width, height - 20),
            "flat": (width, 1), "wider": (width + 40, height), "much-wider": (10 * width, height),
            "narrower": (width - 20, height), "thin": (1, height), "turned": (height, width),
        }
        for kind, (other_width, other_height) in sizes.items():
            changed = set_frame(segments, 1, struct.pack(">HH", other_height, other_width))
            corpus.add("header-size", f"{kind}-{name}", changed, "noticed")
        corpus.add("header-size", f"no-height-{name}", set_frame(segments, 1, b"\0\0"), "damaged")
        corpus.add("header-size", f"no-width-{name}", set_frame(segments, 3, b"\0\0"), "damaged")


def add_structures(corpus, tools, bases):
    """Files with wrong segments."""
    base, separate, progressive = bases["baseline"], bases["separate"], bases["progressive"]

    def add(name, jpeg):
        corpus.add("structure", name, jpeg, "damaged")

    jpeg = build(base)
    scan = of(base, SOS)[0]
    for number in range(3):
        lost = of(separate, SOS)[number]
        add(f"component-{number}-missing", [s for s in separate if s is not lost])
    lost = {number: of(progressive, SOS)[number] for number in (0, 1)}
    add("component-missing-progressive", parse(tools.cjpeg(picture(*SIZE), scans=PROGRESSIVE_SEPARATE))[:-6])
    add("first-scan-missing-progressive", [s for s in progressive if s is not lost[0]])
    add("component-twice", [*separate[:-1], of(separate, SOS)[0], separate[-1]])
    add("scan-twice", [*base, scan])
    add("scan-ends-with-luma", separate[:separate.index(of(separate, SOS)[0]) + 1])
    add("frame-missing", [s for s in base if not s.is_frame()])
    add("frame-twice", before(base, SOS, next(filter(Segment.is_frame, base))))
    add("frame-after-scan", [*[s for s in base if not s.is_frame()], next(filter(Segment.is_frame, base))])
    add("quantisation-missing", without(base, DQT))
    add("quantisation-missing-second", [s for s in base if s is not of(base, DQT)[1]])
    add("quantisation-slot", set_frame(base, 8, [9]))
    add("huffman-missing-progressive", without(progressive, DHT))
    add("huffman-missing-optimised", without(bases["optimised"], DHT))
    add("start-missing", jpeg[2:])
    add("start-twice", jpeg[:2] + jpeg)
    add("start-inside", jpeg[:2] + base[0].encoded() + jpeg)
    add("bytes-before-start", b"abc" + jpeg)
    add("bytes-between-segments", jpeg[:2] + base[0].encoded() + b"garbage" + jpeg[2 + len(base[0].encoded()):])
    add("length-too-long", jpeg.replace(of(base, DQT)[0].encoded(), bytes([0xff, DQT, 0, 90]) + of(base, DQT)[0].body, 1))
    add("length-too-short", jpeg.replace(of(base, DQT)[0].encoded(), bytes([0xff, DQT, 0, 30]) + of(base, DQT)[0].body, 1))
    add("length-zero", jpeg.replace(b"\xff\xdb\0\x43", b"\xff\xdb\0\0", 1))
    add("unknown-marker", jpeg[:2] + b"\xff\x02\0\4ab" + jpeg[2:])
    add("unknown-marker-f0", jpeg[:2] + b"\xff\xf0\0\4ab" + jpeg[2:])
    add_headers(add, base, progressive)
    add_tables(add, base, bases["optimised"])


def add_headers(add, base, progressive):
    """Frame and scan headers with impossible values."""
    def scan(segments, at, value):
        return change(segments, is_scan, body=lambda body: patched(body, at, value))
    add("sampling-zero", set_frame(base, 7, [0x01]))
    add("sampling-five", set_frame(base, 7, [0x51]))
    add("sampling-too-many-blocks", set_frame(base, 7, [0x44]))
    add("sampling-wrong", set_frame(base, 7, [0x21]))
    add("frame-length", [replace(s, body=s.body + b"\0") if s.is_frame() else s for s in base])
    add("frame-count", set_frame(base, 5, [2]))
    add("scan-component-unknown", scan(base, 1, [9]))
    add("scan-component-twice", scan(base, 1, [1, 0, 1, 17, 3, 17]))
    add("scan-components-reordered", scan(base, 1, [3, 17, 1, 0, 2, 17]))
    add("scan-count-zero", scan(base, 0, [0]))
    add("scan-count-five", scan(base, 0, [5]))
    add("scan-table-undefined", scan(base, 2, [0x33]))
    add("scan-table-slot", scan(base, 2, [0x77]))
    add("scan-length", change(base, is_scan, body=lambda body: body + b"\0"))
    for name, values in {"dc-only": (0, 0, 0), "band": (1, 5, 0), "shift": (0, 63, 1), "all-zero-end": (0, 64, 0)}.items():
        add(f"scan-parameters-{name}", scan(base, 7, values))
    add("scan-parameters-progressive", scan(progressive, 7, (0, 63, 0)))
    add("scan-parameters-progressive-shift", scan(progressive, 7, (0, 0, 0x0e)))
    add("scan-parameters-progressive-refine", scan(progressive, 7, (0, 0, 0x31)))


def add_tables(add, base, optimised):
    """Huffman and quantisation tables with impossible values."""
    def table(segments, number, function):
        chosen = of(segments, DHT)[number]
        return change(segments, lambda s: s is chosen, body=function)
    add("huffman-too-many-short", table(base, 0, lambda body: patched(body, 1, [3, 0, 1])))
    add("huffman-none", table(base, 0, lambda body: body[:1] + bytes(16)))
    add("huffman-none-ac", table(base, 1, lambda body: body[:1] + bytes(16)))
    add("huffman-count", table(base, 0, lambda body: patched(body, 16, [200])))
    add("huffman-more-than-256", table(base, 0, lambda body: patched(body, 1, [255] * 16)))
    add("huffman-slot", table(base, 0, lambda body: patched(body, 0, [7])))
    add("huffman-class", table(base, 0, lambda body: patched(body, 0, [0x20])))
    add("huffman-category", table(base, 0, lambda body: patched(body, 17, [200] * 12)))
    add("huffman-category-16", table(optimised, 0, lambda body: patched(body, 17, [16] * 3)))
    add("huffman-exchanged", table(base, 1, lambda body: body[:1] + of(base, DHT)[0].body[1:]))
    add("huffman-short", table(base, 0, lambda body: body[:10]))
    add("huffman-full-tree", full_tree())
    add("quantisation-short", change(base, is_table, body=lambda body: body[:40]))
    add("quantisation-precision", change(base, is_table, body=lambda body: patched(body, 0, [body[0] | 0x20])))
    add("restart-interval-short", before(base, SOS, Segment(DRI, b"\0")))
    add("restart-interval-long", before(base, SOS, Segment(DRI, b"\0\0\0")))


def add_incomplete(corpus, tools):
    """Progressive files with an end marker after some scans. Their pixels are those of the coefficients that are there.

    libjpeg-turbo decodes these without a warning, but smooths the blocks. It does not smooth jpegtran's sequential files.
    """
    for name, segments in {
        "progressive": tools.segments("-progressive"), "full": tools.segments("-progressive", "-sample", "1x1"),
        "grey": tools.segments("-progressive", "-grayscale"),
    }.items():
        positions = [i for i, segment in enumerate(segments) if segment.marker == SOS]
        for scans in range(1, len(positions)):
            jpeg = build(segments[:positions[scans - 1] + 1])
            corpus.add("incomplete", f"{name}-{scans}", jpeg, "unsupported", tools.jpegtran(jpeg))


def main():
    """Writes the corpus."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    corpus = Corpus()
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(folder)
        for add in (
            add_samplings, add_flat, add_fractions, add_grey, add_colours, add_four, add_counts, add_processes, add_markers,
            add_incomplete,
        ):
            add(corpus, tools)
        bases = damage_bases(tools)
        for add in (add_truncated, add_corrupt, add_restarts, add_sizes):
            add(corpus, bases)
        add_structures(corpus, tools, bases)
    entries = corpus.write(Path(sys.argv[1]))
    counts = {state: sum(entry["state"] == state for entry in entries) for state in ("picture", "damaged", "unsupported")}
    print(f"{len(entries)} files: " + ", ".join(f"{count} {state}" for state, count in counts.items()))


if __name__ == "__main__":
    main()
