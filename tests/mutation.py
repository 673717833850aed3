"""Do the emitted tests notice when the code that serves requests is changed?

    uv run --group mutation python -m tests.mutation [FILE …]

bakes and installs a project, changes its code in one place at a time, and runs the tests that
are there for that file. A change that they all pass is printed: either a test is missing, or
the change makes no difference; then it stands in mutants.toml, with the reason.

Cosmic Ray finds the places, changes the files and runs the tests. mutmut was tried as well:
it forks a process that has run the tests before, where the threads of serving/threads.py are
dead, so that each change seems to be noticed; and it leaves module level and decorated
functions alone.
"""

import argparse
import ast
import difflib
import itertools
import os
import random
import resource
import shlex
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import parso.python.tree as tree
from cookiecutter.main import cookiecutter
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.operators.operator import Operator
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import TestOutcome

from tests.combinations import CHOICES, TEMPLATE
from tests.project import PYTEST_INSIDE, Project, uv

ASYNC_VIEWS = [
    "serving/test_async_forms.py",
    "serving/test_async_headers.py",
    "serving/test_async_sessions.py",
    "serving/test_async_views.py",
]
HANDLER = [
    "serving/test_handler.py",
    "serving/test_handler_responses.py",
    "serving/test_handler_threads.py",
    *ASYNC_VIEWS,
]
# What serves every request, and the quick tests of it, in tests/inside/.
FILES = {
    "serving/middleware.py": ASYNC_VIEWS,
    "serving/edge.py": [
        "serving/test_edge.py",
        "serving/test_asgi_edge.py",
        "serving/test_wsgi_edge.py",
        "serving/test_sockets.py",
    ],
    "serving/static_files.py": ["serving/test_static_files.py"],
    "serving/threads.py": [
        "serving/test_pools.py",
        "serving/test_jobs.py",
        "serving/test_watchdog.py",
        "serving/test_watchdog_thread.py",
        "serving/test_threads.py",
        "serving/test_processes.py",
    ],
    "serving/request_thread.py": ["serving/test_request_thread.py", *HANDLER],
    "serving/handler.py": HANDLER,
}
KNOWN = Path(__file__).with_name("mutants.toml")
# One change for each place: of those that Cosmic Ray has for an operator, the nearest.
CHANGES = [
    *(f"ReplaceBinaryOperator_{change}" for change in (
        "Add_Sub", "Sub_Add", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "BitOr_BitAnd",
        "BitAnd_BitOr",
    )),
    *(f"ReplaceComparisonOperator_{change}" for change in (
        "Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Is_IsNot", "IsNot_Is",
    )),
    "ReplaceUnaryOperator_Delete_Not", "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue",
    "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer", "RemoveDecorator",
    "ZeroIterationForLoop",
]  # fmt: skip


class RemoveStatement(Operator):
    """Leaves a line out. That is what Cosmic Ray lacks, and what people do."""

    def mutation_positions(self, node):  # type: ignore[no-untyped-def]
        if node.type == "simple_stmt" and node.children[0].type not in (
            "string", "strings", "import_name", "import_from", "nonlocal_stmt", "pass",
        ):  # fmt: skip
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):  # type: ignore[no-untyped-def]
        prefix = node.get_first_leaf().prefix
        node.children = [tree.Keyword("pass", node.start_pos, prefix), node.children[-1]]
        return node

    @classmethod
    def examples(cls):  # type: ignore[no-untyped-def]
        return ()


class ReplaceString(Operator):
    """Makes a name, a header for example, another one."""

    def mutation_positions(self, node):  # type: ignore[no-untyped-def]
        if node.type == "string" and node.parent.type != "simple_stmt":
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):  # type: ignore[no-untyped-def]
        quote = min(node.value.index(mark) for mark in "'\"" if mark in node.value) + 1
        node.value = f"{node.value[:quote]}XX{node.value[quote:]}"
        return node

    @classmethod
    def examples(cls):  # type: ignore[no-untyped-def]
        return ()


@dataclass(frozen=True)
class Key:
    """A change by its text, which stays the same when lines around it come and go."""

    file: str
    within: str
    was: str
    now: str


@dataclass
class Mutant:
    key: Key
    line: int
    operator: Operator
    occurrence: int
    diff: str


def mutants(file: str, code: str, sample: int | None = None) -> list[Mutant]:
    """Return what can be changed in `code`, each result once, in the order of its lines."""
    operators = [plugins.get_operator(f"core/{name}")() for name in CHANGES]
    nodes = list(ast_nodes(get_ast(code)))
    places = [
        (operator, occurrence)
        for operator in [*operators, RemoveStatement(), ReplaceString()]
        for occurrence in range(sum(len([*operator.mutation_positions(n)]) for n in nodes))
    ]
    if sample:
        random.Random(1).shuffle(places)
    seen = {essence(code)}
    found: list[Mutant] = []
    for operator, occurrence in places:
        if len(found) == sample:
            break
        changed = mutate_code(code, operator, occurrence)
        try:
            result = essence(changed or "")
        except SyntaxError:
            continue
        if changed and result not in seen:
            seen.add(result)
            found.append(described(file, code, changed, operator, occurrence))
    return sorted(found, key=lambda mutant: mutant.line)


def essence(code: str) -> str:
    """Return what Python makes of `code`, but for the types in it."""

    class Untyped(ast.NodeTransformer):
        def visit_arg(self, node: ast.arg) -> ast.arg:
            node.annotation = None
            return node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.returns = None
            return self.generic_visit(node)

        visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
            if node.value is None:
                return ast.Pass()
            return ast.Assign([node.target], self.visit(node.value))

        def visit_TypeAlias(self, node: ast.TypeAlias) -> ast.AST:
            return ast.Pass()

    return ast.dump(Untyped().visit(ast.parse(code)))


def alike(some: list[str], others: list[str]) -> int:
    """Return with how many equal lines two texts begin."""
    pairs = zip(some, others, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def described(file: str, code: str, changed: str, operator: Operator, occurrence: int) -> Mutant:
    """Return a mutant with what there is to say of it."""
    before, after = code.splitlines(), changed.splitlines()
    first = alike(before, after)
    same = alike(before[first:][::-1], after[first:][::-1])
    was, now = (
        " ".join(" ".join(lines[first : len(lines) - same]).replace("( ", "(").split())
        for lines in (before, after)
    )
    names = [
        node.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= first + 1 <= (node.end_lineno or 0)
    ]
    diff = "\n".join([*difflib.unified_diff(before, after, file, file, n=2, lineterm="")][2:])
    return Mutant(Key(file, ".".join(names), was, now), first + 1, operator, occurrence, diff)


def known() -> dict[Key, str]:
    """Return the changes that make no difference, and why. `*` is any change of a line."""
    return {
        Key(entry["file"], entry["within"], entry["was"], now): entry["why"]
        for entry in tomllib.loads(KNOWN.read_text(encoding="utf-8"))["mutant"]
        for now in entry["now"]
    }


def survivors(
    project: Project, tests: Path, file: str, sample: int | None
) -> tuple[list[Mutant], int]:
    """Return the mutants of a file that its tests let pass, and how many there were."""
    path = project.path / file
    # Not every answer has all of them.
    chosen_tests = [str(tests / name) for name in FILES[file] if (tests / name).exists()]
    command = shlex.join([str(project.bin / "python"), *PYTEST_INSIDE, "-x", *chosen_tests])
    started = time.monotonic()
    outcome, output = run_tests(command, 300)
    if outcome != TestOutcome.SURVIVED:
        sys.exit(f"The tests fail without a change.\n{output}")
    # One that never ends is noticed, too.
    timeout = 20 + 3 * (time.monotonic() - started)
    chosen = mutants(file, path.read_text(encoding="utf-8"), sample)
    alive = []
    for mutant in chosen:
        with use_mutation(path, mutant.operator, mutant.occurrence):
            outcome, _ = run_tests(command, timeout)
        passed = outcome == TestOutcome.SURVIVED
        alive += [mutant] if passed else []
        print("S" if passed else ".", end="", flush=True)
    print()
    return alive, len(chosen)


def quoted(text: str) -> str:
    return f"'{text}'" if "'" not in text else f"'''{text}'''"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="handler.py for example; all without"
    )
    parser.add_argument(
        "--realtime", choices=CHOICES["realtime"], default="none",
        help="of the project; some lines are in one kind only (none)",
    )  # fmt: skip
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, drawn by chance")
    parser.add_argument("--project", type=Path, help="a project that is installed already")
    asked = parser.parse_args()
    asked.files = [
        file for file in FILES if not asked.files or file.removeprefix("serving/") in asked.files
    ]
    return asked


def main() -> int:
    """Return 1 if there is a survivor that mutants.toml does not know."""
    asked = arguments()
    os.nice(10)
    # Some changes make loops without an end.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
    explained, new = known(), 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        answers = {"interface": "both", "realtime": asked.realtime}
        if asked.project:
            project = Project(asked.project.resolve(), answers)
        else:
            path = cookiecutter(
                str(TEMPLATE), no_input=True, extra_context=answers, output_dir=folder
            )
            project = Project(Path(path), answers)
            project.must(uv(), "sync", "--quiet", "--compile-bytecode")
        tests = project.write_inside_tests(Path(folder))
        os.environ.update(project.environment())
        os.chdir(project.path)
        for file in asked.files:
            alive, tried = survivors(project, tests, file, asked.sample)
            unknown = [
                mutant
                for mutant in alive
                if not {mutant.key, replace(mutant.key, now="*")} & set(explained)
            ]
            new += len(unknown)
            print(
                f"{file}: {tried} changes, {tried - len(alive)} noticed, "
                f"{len(alive) - len(unknown)} known, {len(unknown)} new"
            )
            for mutant in unknown:
                key = mutant.key
                print(f"\n{mutant.diff}\n\n[[mutant]]\nfile = {quoted(file)}")
                print(f"within = {quoted(key.within)}\nwas = {quoted(key.was)}")
                print(f"now = [{quoted(key.now)}]\nwhy = ''\n", flush=True)
            places = {mutant.key for mutant in alive}
            places |= {replace(key, now="*") for key in places}
            for key in explained if not asked.sample else []:
                if key.file == file and key not in places:
                    print(f"Noticed, or not in this project: {key}")
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
