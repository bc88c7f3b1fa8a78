"""Reads named queries from the `.sql` files beside this module: `-- name: what_it_is`, a line on why, the statement."""

from pathlib import Path


def load_queries(file_name: str) -> dict[str, str]:
    """Every query of one file by its name; a name given twice is an error at start."""
    queries: dict[str, str] = {}
    name = ""
    for line in (Path(__file__).parent / file_name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-- name: "):
            name = line.removeprefix("-- name: ").strip()
            if name in queries:
                raise ValueError(f"{file_name}: query {name} is there twice")
            queries[name] = ""
        elif name and not line.startswith("--"):
            queries[name] += line + "\n"
    return {key: text.strip().rstrip(";") for key, text in queries.items()}
