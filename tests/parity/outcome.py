"""What the scripts beside this one have found: they print rows, and at their end a line that run.py adds up."""
import importlib
import sys

counts = {"passed": 0, "failed": 0, "skipped": 0}


def row(text, good):
    """Prints a row of a table, and whether it failed."""
    counts["passed" if good else "failed"] += 1
    print(text.rstrip() + ("" if good else "  FAILED"), flush=True)
    return good


def fail(what, why):
    row(f"{what}: {why}", False)


def skip(what, why):
    counts["skipped"] += 1
    print(f"SKIPPED {what}: {' '.join(str(why).split())[:300]}", flush=True)


def have(what, *modules):
    """Whether these Python modules can be imported; else `what` is skipped, and the module named."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            skip(what, f"needs the Python module {module} ({error})")
            return False
    return True


def finish():
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    sys.exit(1 if counts["failed"] else 0)
