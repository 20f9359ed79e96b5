"""Builds, lints and generates the wire contracts, in a venv of its own (.venv-proto).

Usage: generate.py [--check] [--against IMAGE] [--image-only IMAGE]

Three descriptor sets come out of one compilation:
  * ``image``: everything with source positions, for buf's linter and breaking check;
  * ``services/runtime/rules.binpb``: the contracts with their rules, for the servers;
  * a set without rules, from which the Python stubs are made: an SDK needs no protovalidate.

The stubs come from an older grpcio-tools on purpose: they then import under every protobuf from
that version on, which leaves an SDK's users room.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "clients/python/src"
RULES = ROOT / "services/runtime/rules.binpb"
RULES_FILE = "buf/validate/validate.proto"
# buf's extension of FileDescriptorProto, field 8042 {is_import: true}: it lints our files only.
IS_IMPORT = bytes([0xD2, 0xF6, 0x03, 0x02, 0x08, 0x01])


def main() -> int:
    """Generate, or with ``--check`` compare with what is committed; return an exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--check", action="store_true", help="fail where committed code is stale; write nothing"
    )
    parser.add_argument("--against", type=Path, help="an earlier image: fail on a breaking change")
    parser.add_argument("--image-only", type=Path, help="write the image here and do nothing else")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        image = compile_image(Path(scratch))
        if args.image_only:
            args.image_only.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, args.image_only)
            return 0
        buf("lint", str(image), "--config", str(PROTOS / "buf.yaml"))
        if args.against:
            buf(
                "breaking",
                str(image),
                "--against",
                str(args.against),
                "--config",
                str(PROTOS / "buf.yaml"),
            )
        out = Path(scratch) / "out"
        made = generate(image, out)
        if args.check:
            return report_stale(out, made)
        for path in made:
            target = ROOT / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(out / path, target)
    print(f"generated {len(made)} files")
    return 0


def compile_image(scratch: Path) -> Path:
    """Compile every proto with comments and all imports; return the path of the image."""
    imports = scratch / "imports.binpb"
    rules = descriptor_pb2.FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())
    known = subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{well_known()}",
            "--include_imports",
            f"--descriptor_set_out={imports}",
            *(
                f"google/protobuf/{n}.proto"
                for n in ("descriptor", "duration", "timestamp", "field_mask")
            ),
        ],
        check=False,
    )
    if known.returncode:
        raise SystemExit("protoc could not compile the well-known types")
    files = descriptor_pb2.FileDescriptorSet.FromString(imports.read_bytes())
    files.file.append(rules)
    imports.write_bytes(files.SerializeToString())
    image = scratch / "image.binpb"
    protoc(imports, [f"--descriptor_set_out={image}", "--include_imports", "--include_source_info"])
    full = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    for file in full.file:
        if not file.name.startswith("driftline/"):
            file.MergeFromString(IS_IMPORT)
    image.write_bytes(full.SerializeToString())
    return image


def generate(image: Path, out: Path) -> list[Path]:
    """Write stubs and rules under ``out``; return their paths relative to the project's root."""
    full = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    lean = descriptor_pb2.FileDescriptorSet()
    for file in full.file:
        if file.name != RULES_FILE:
            lean.file.append(without_rules(file))
    lean_path = image.with_name("lean.binpb")
    lean_path.write_bytes(lean.SerializeToString())
    stubs = out / STUBS.relative_to(ROOT)
    stubs.mkdir(parents=True)
    protoc(
        lean_path,
        [
            f"--python_out={stubs}",
            f"--grpc_python_out={stubs}",
            f"--mypy_out={stubs}",
            f"--mypy_grpc_out={stubs}",
        ],
    )
    for file in full.file:
        file.ClearField("source_code_info")
    rules = out / RULES.relative_to(ROOT)
    rules.parent.mkdir(parents=True)
    rules.write_bytes(full.SerializeToString(deterministic=True))
    return sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())


def without_rules(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Return ``file`` without validation rules: every field option extension and the import go."""
    lean = descriptor_pb2.FileDescriptorProto()
    lean.CopyFrom(file)
    if RULES_FILE in lean.dependency:
        lean.dependency.remove(RULES_FILE)
    for message in lean.message_type:
        for field in message.field:
            field.options.DiscardUnknownFields()
            if not field.options.ListFields():
                field.ClearField("options")
    return lean


def protoc(descriptors: Path, flags: list[str]) -> None:
    names = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    in_venv = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--descriptor_set_in={descriptors}",
        *flags,
    ]
    if "--include_source_info" in flags:
        command.insert(3, f"-I{PROTOS}")
    subprocess.run([*command, *names], check=True, cwd=PROTOS, env=in_venv)


def well_known() -> Path:
    import grpc_tools

    return Path(grpc_tools.__file__).parent / "_proto"


def buf(*arguments: str) -> None:
    if subprocess.run(
        [str(Path(sys.executable).parent / "buf"), *arguments], check=False
    ).returncode:
        raise SystemExit(f"buf {arguments[0]} found the faults above")


def report_stale(out: Path, made: list[Path]) -> int:
    stale = [
        p
        for p in made
        if not (ROOT / p).exists() or not filecmp.cmp(out / p, ROOT / p, shallow=False)
    ]
    kept = {path.relative_to(ROOT) for path in (STUBS / "driftline/v1").glob("*_pb2*")}
    orphans = sorted(kept - set(made))
    for path in [*stale, *orphans]:
        print(f"stale: {path}: run `make proto` and commit the result")
    return 1 if stale or orphans else 0


if __name__ == "__main__":
    sys.exit(main())
