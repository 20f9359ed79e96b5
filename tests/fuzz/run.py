"""`python -m tests.fuzz.run TARGET SECONDS`: libFuzzer by atheris; what it finds lies in build/fuzz/TARGET.

It starts from the kept corpus (tests/fuzz/corpus), which `make test` replays. A find is a file named crash-*: mend what
it shows, then keep the file in the corpus.
"""

import sys
from pathlib import Path

import atheris

KEPT = Path(__file__).parent / "corpus"
FOUND = Path("build/fuzz")
# Largest input, bytes; and the longest that one may take, seconds.
MOST_BYTES, LONGEST_S = 4096, 10


def main(target: str, seconds: str) -> None:
    """Fuzz until the time is over or something is found."""
    with atheris.instrument_imports(include=["services", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS
    run = TARGETS[target]
    folder = FOUND / target
    folder.mkdir(parents=True, exist_ok=True)

    def one(data: bytes) -> None:
        try:
            run(data)
        except Exception:
            raise
        except BaseException as panic:  # a library's panic must not pass as a signal to stop
            if isinstance(panic, KeyboardInterrupt | SystemExit):
                raise
            raise RuntimeError(f"{type(panic).__name__}: {panic}") from panic

    atheris.Setup(
        [
            sys.argv[0], str(folder), str(KEPT / target), f"-max_total_time={seconds}",
            f"-max_len={MOST_BYTES}", f"-timeout={LONGEST_S}", "-rss_limit_mb=2048",
            f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=1",
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
