"""Fuzz the data plane: compile the fuzzer and run it on each target; called by ``make fuzz``.

Needs stable Rust and a C++ compiler. What it finds is written below ``target/fuzz``: new inputs, crashes, logs.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
ROOT = FUZZ.parents[2]
CORPUS = FUZZ / "corpus"

# As cargo-fuzz sets them, without its sanitizers: those need a nightly compiler, and the crates forbid unsafe code.
COVERAGE = (
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "--cfg=fuzzing",
)

# One input may take so long at most: most take less than a millisecond.
INPUT_LIMIT_SECONDS = 10
# Beside its time a target needs some to read the corpus, and to make a crash small.
REST_SECONDS = 120


def compiled(target_dir: Path) -> Path:
    """Return the fuzzer, compiled to count what it reaches; build scripts and macros are left as they are."""
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "c++", "clang++"))):
        sys.exit("make fuzz: no C++ compiler found, which libFuzzer needs; install g++ or clang, or set CXX")
    versions = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host: str = re.findall(r"^host: (.*)$", versions, re.MULTILINE)[0]
    command = [
        "cargo",
        "build",
        "--locked",
        "--quiet",
        "--release",
        "--manifest-path",
        str(FUZZ / "libfuzzer/Cargo.toml"),
    ]
    command += ["--target", host, "--target-dir", str(target_dir)]
    flags = {"RUSTFLAGS": " ".join(COVERAGE), "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(COVERAGE)}
    if subprocess.run(command, cwd=ROOT, env=os.environ | flags, check=False).returncode:
        sys.exit("make fuzz: the fuzzer does not compile")
    return target_dir / host / "release" / "fuzz"


def fuzz(program: Path, target: str, seconds: int, folder: Path) -> str | None:
    """Fuzz one target and print its line; return what is to be said of a failure."""
    found, crashes, log = folder / "corpus" / target, folder / "crashes", folder / f"{target}.log"
    for path in (found, crashes):
        path.mkdir(parents=True, exist_ok=True)
    before = len(list(found.iterdir()))
    command = [str(program), str(found), str(CORPUS / target), f"-max_total_time={seconds}"]
    command += [f"-artifact_prefix={crashes / target}-", f"-timeout={INPUT_LIMIT_SECONDS}", "-print_final_stats=1"]
    with log.open("w") as output:
        environment = os.environ | {"FUZZ_TARGET": target, "RUST_BACKTRACE": "1"}
        limit = seconds + REST_SECONDS
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{target}: still ran after {limit} s and was stopped; its output: {log}"
    text = log.read_text(errors="replace")
    runs = last(r"stat::number_of_executed_units: (\d+)", text)
    coverage = last(r"\bcov: (\d+)", text)
    new = len(list(found.iterdir())) - before
    line = f"{target:<12} {int(runs):>10,} runs  {coverage:>6} edges covered  {new:>5} new inputs"
    if done.returncode == 0:
        print(line, flush=True)
        return None
    print(f"{line}  FAILED", flush=True)
    crash = last(r"Test unit written to (\S+)", text)
    if crash == "0":
        return f"{target}: the fuzzer ended with {done.returncode} and no input; its output: {log}"
    kept = CORPUS.relative_to(ROOT) / target / Path(crash).name.removeprefix(f"{target}-")
    test = f"cp {crash} {kept} && cargo test -p dl-inference-fuzz"
    return f"{target}: broken by {crash}\n  output:    {log}\n  reproduce: {test}\n  The file stays there as a test."


def last(pattern: str, text: str) -> str:
    """Return what the pattern found last, or ``0``."""
    found: list[str] = re.findall(pattern, text)
    return found[-1] if found else "0"


def main() -> None:
    """Fuzz the targets of the command line; fail with all that was found."""
    targets = sorted(path.name for path in CORPUS.iterdir())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="time for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(targets)}; all if none")
    arguments = parser.parse_args()
    if arguments.seconds < 1:
        parser.error(f"{arguments.seconds} seconds: at least 1 is needed, as 0 has no end")
    if unknown := sorted(set(arguments.targets) - set(targets)):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(targets)}")
    folder = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve() / "fuzz"
    program = compiled(folder / "build")
    chosen = arguments.targets or targets
    failures = [failure for target in chosen if (failure := fuzz(program, target, arguments.seconds, folder))]
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
