"""Renders the files of a resource, and writes all of them or none."""

import ast
import io
import logging
import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.operations import ops
from alembic.util import CommandError
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kit.discovery import place_of
from kit.extensions import enabled_extensions
from kit.process import start_local_services
from kit.resource import _service as there
from kit.resource._fields import Field, Names, names_of, parse_fields
from kit.resource._kinds import Address, Bool, Date, DateTime, Enum, Json, List, Str, TextKind
from kit.settings import BASE_DIR, StartupError

LONGEST_NAME = 63
"""Characters of a name in PostgreSQL."""

_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Request:
    """What the owner asks for."""

    name: str
    fields: str = ""
    plural: str = ""
    extension: str = ""
    with_page: bool = False
    from_model: bool = False
    """Whether the model is there already, and what it lacks is to be written."""


@dataclass
class Resource:
    """A resource whose files can be rendered."""

    names: Names
    fields: list[Field]
    model_module: str
    model: Any = None
    """The class, if it is there already."""
    with_page: bool = False
    missing_forms: tuple[str, ...] = ()
    key: str = "int"
    has_created_at: bool = True
    unknown_rules: dict[str, str] = field(default_factory=dict)
    """Rules that its owner wrote, each with its place."""
    files: dict[Path, str] = field(default_factory=dict)
    """Templates of the files to write."""


def write_resource(
    request: Request, *, is_dry: bool = False, notes: list[str] | None = None
) -> Iterator[tuple[Path, str]]:
    """Write the files of a resource, and its migration; yields each path with its text.

    Args:
        request: what is asked for.
        is_dry: whether nothing is written.
        notes: gets what is left to its owner.

    Raises:
        StartupError: when something is in the way, all of which it names; nothing is written then.
    """
    texts, resource = _texts(request)
    if notes is not None:
        notes += (f"{place}: {rule}" for rule, place in resource.unknown_rules.items())
    added = _formatted(texts)
    merged = {
        path: _merged(path.read_text("utf-8"), text)
        for path, text in added.items()
        if path.exists()
    }
    whole = added | _formatted(merged, "--select", "I")
    if is_dry:
        yield from whole.items()
        return
    with _written(whole):
        if resource.model is None:
            migration = _migration(resource, added)
            whole[migration] = migration.read_text("utf-8")
    yield from whole.items()


def _texts(request: Request) -> tuple[dict[Path, str], Resource]:
    resource, others = _prepare(request)
    texts = {path: text for each in (*others, resource) for path, text in _rendered(each).items()}
    _refuse_double_names(texts)
    return texts, resource


def _prepare(request: Request) -> tuple[Resource, list[Resource]]:
    """Check the request against the service.

    Raises:
        StartupError: with everything that is in the way.
    """
    names = names_of(request.name, request.plural, request.extension)
    problems = [] if request.from_model else list(names.problems())
    if request.extension and request.extension not in enabled_extensions():
        problems.append(f"extension={request.extension}: it is not enabled")
    if problems:
        raise StartupError(*problems)
    model = None
    if request.from_model:
        found = there.models(names.extension)
        model = found.get(names.table) or found.get(names.name)
        if model is None:
            raise StartupError(f"there is no model {names.model} in {names.package}.models")
        names = names_of(
            names.name,
            names.plural,
            names.extension,
            own_model=model.__name__,
            own_table=str(sa.inspect(model).local_table),
        )
        fields = there.fields_of(model, problems)
    else:
        fields = parse_fields(request.fields, problems)
        if not fields and not problems:
            problems.append("fields: there are none; write name:kind for each")
        for each in fields:
            if isinstance(each.kind, Enum):
                each.kind.name_class(f"{names.model}{names_of(each.name).camel}")
    there.resolve_references(names, fields, model, problems)
    module = f"{names.package}.models" if names.extension else f"app.models.{names.name}"
    module = module if model is None else model.__module__
    resource = Resource(names, fields, module, model, request.with_page)
    if model is not None:
        _complete(resource, problems)
    problems += there.in_the_way(names, model)
    problems += _too_long(names, fields)
    _choose_files(resource, problems)
    others = _other_factories(resource, problems)
    if problems:
        raise StartupError(*problems)
    return resource, others


def _complete(resource: Resource, problems: list[str]) -> None:
    """Note which forms a model that is there lacks."""
    model, names = resource.model, resource.names
    module = import_module(resource.model_module)
    resource.missing_forms = tuple(
        form for form in ("Input", "Patch", "Output") if not hasattr(module, f"{names.model}{form}")
    )
    # What a patch may hold is said by the input, where there is one.
    ruled = getattr(module, f"{names.model}Input", model)
    own = ", ".join(there.own_rules(ruled, resource.fields))
    problems += (
        f"{place_of(ruled)}: write {names.model}{form} beside it, since only you know the "
        f"rules of {own}"
        for form in ("Input", "Patch")
        if own and form in resource.missing_forms
    )
    forms = [getattr(module, f"{names.model}{form}", model) for form in ("Input", "Patch")]
    resource.unknown_rules = there.unknown_rules(model, forms)
    key = there.key_of(model)
    if key is None:
        problems.append(f"{place_of(model)}: its key is no `id` of integer or uuid")
    resource.key = key or "int"
    resource.has_created_at = "created_at" in model.model_fields


def _too_long(names: Names, fields: list[Field]) -> Iterator[str]:
    for each in fields:
        made = [f"uq_{names.table}_{each.column}"] if each.is_unique else []
        if each.reference:
            made.append(f"fk_{names.table}_{each.column}_{each.reference.table}")
            made.append(f"ix_{names.table}_{each.column}")
        for name in made:
            if len(name) > LONGEST_NAME:
                yield f"{each.name}: {name} has more than {LONGEST_NAME} characters"


def _choose_files(resource: Resource, problems: list[str]) -> None:
    """Choose the files; one that is there is in the way, unless it is to be completed."""
    names, files = resource.names, resource.files
    app, tests = names.folder, names.tests_folder
    if resource.model is None and not names.extension:
        files[app / "models" / f"{names.name}.py"] = "model.j2"
    files |= {
        app / "api" / f"{names.plural}.py": "api.j2",
        app / "admin" / f"{names.name}.py": "admin.j2",
        tests / "factories" / f"{names.name}.py": "factory.j2",
        tests / "api" / f"test_{names.plural}.py": "test_api.j2",
        tests / "admin" / f"test_{names.plural}.py": "test_admin.j2",
    }
    if resource.with_page:
        templates = (names.folder if names.extension else BASE_DIR) / "templates"
        files[templates / names.page_template] = "page.j2"
    if resource.model is not None:
        registered = {name for name, _ in there.registered()}
        is_there = {f"view {names.model}": "admin", f"GET {names.page}": "api"}
        left_out = {folder for name, folder in is_there.items() if name in registered}
        left_out |= {"api"} if (app / "api" / f"{names.plural}.py").exists() else set()
        files = resource.files = {p: t for p, t in files.items() if p.parent.name not in left_out}
    for path in [path for path in files if path.exists()]:
        if resource.model is None:
            problems.append(f"{path.relative_to(BASE_DIR)}:1: this file is there already")
        del files[path]
    packages = [app / part / "__init__.py" for part in ("api", "admin") if names.extension]
    problems += (
        f"{path.relative_to(BASE_DIR)}: this file has to be there; `make extension` writes its like"
        for path in packages
        if not path.exists()
    )
    if names.extension and resource.model is None:
        package = app / "models" / "__init__.py"
        files[package if package.exists() else app / "models.py"] = "model.j2"
    if resource.with_page:
        pages = app / "api" / "pages.py"
        files[pages] = "page_route.j2"
        if not pages.exists() or f"{names.page_router} = " not in pages.read_text("utf-8"):
            problems.append(
                f"{pages.relative_to(BASE_DIR)}: page=1 needs `{names.page_router}` there"
            )


def _other_factories(resource: Resource, problems: list[str]) -> list[Resource]:
    """The factories that the resource's own needs, of models that have none yet."""
    missing: dict[str, Resource] = {}
    pending = [resource]
    while pending:
        for each in pending.pop().fields:
            reference = each.reference
            if reference is None or not reference.factory or reference.factory in missing:
                continue
            path = BASE_DIR / f"{reference.factory.replace('.', '/')}.py"
            if path.exists():
                continue
            model = getattr(import_module(reference.module), reference.model)
            names = names_of(
                reference.model,
                extension=there.extension_of(model),
                own_model=reference.model,
                own_table=reference.table,
            )
            fields = there.fields_of(model, problems)
            there.resolve_references(names, fields, model, problems)
            other = Resource(names, fields, reference.module, model, files={path: "factory.j2"})
            missing[reference.factory] = other
            pending.append(other)
    return [*missing.values()]


# Rendering

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 (it is code)
)


def _rendered(resource: Resource) -> dict[Path, str]:
    context = _context(resource)
    return {
        path: _templates.get_template(template).render(context)
        for path, template in resource.files.items()
    }


def _context(resource: Resource) -> dict[str, Any]:
    names, fields = resource.names, resource.fields
    plain = [each for each in fields if not each.reference]
    labels = [each.column for each in plain if type(each.kind) is Str and not each.is_nullable]
    label = labels[0] if labels else ""
    made_up = [
        each
        for each in fields
        if each.reference and each.reference.factory and not each.is_nullable
    ]
    related = [each for each in fields if each.reference]
    for each in related:
        if each.reference and not each.reference.factory:
            each.reference = each.reference._replace(label=label or "id")
    searched = [each for each in plain if isinstance(each.kind, Str)]
    moments = [each.column for each in plain if isinstance(each.kind, DateTime)]
    created = ["created_at"] if resource.has_created_at else []
    shown = [each.name for each in fields if not isinstance(each.kind, TextKind | Json)]
    unlisted = (TextKind, Json, List)
    enums = [each for each in plain if isinstance(each.kind, Enum)]
    forms = [form for form in ("Input", "Patch", "Output") if form not in resource.missing_forms]
    input_module = (
        f"{names.package}.api.{names.plural}"
        if "Input" in resource.missing_forms
        else resource.model_module
    )
    sorts = ["id", *(each.column for each in plain if each.is_sortable)]
    conflicts = [f"its {each.words} is taken" for each in fields if each.is_unique]
    conflicts += [f"its {each.words} is not there" for each in related]
    if len(" or ".join(conflicts)) > 40:  # noqa: PLR2004 (what is left of a line)
        conflicts = ["a value is taken"] * any(each.is_unique for each in fields)
        conflicts += ["a reference is none"] * bool(related)
    unknown = {"uuid": "00000000-0000-0000-0000-000000000000", "bigint": str(2**63 - 1)}
    return {
        "n": names,
        "fields": fields,
        "addresses": sorted(
            {
                (each.kind.annotation, each.kind.pattern)
                for each in plain
                if isinstance(each.kind, Address)
            }
        ),
        "enums": enums,
        "model_module": resource.model_module,
        "input_module": input_module,
        "imported": [names.model, *(f"{names.model}{form}" for form in forms)],
        "missing_forms": resource.missing_forms,
        "key": resource.key,
        "key_annotation": "UUID" if resource.key == "uuid" else "int",
        "unknown": unknown.get(resource.key, str(2**31 - 1)),
        "unknown_rules": [*resource.unknown_rules],
        "has_created_at": resource.has_created_at,
        "label": label,
        "made_up": made_up,
        "related": related,
        "has_numbers": bool(plain),
        "required": [each for each in fields if each.is_required],
        "optional": [each for each in fields if not each.is_required],
        "patched": plain,
        "sometimes_null": [each for each in plain if each.is_sometimes_null],
        "spelt_otherwise": [each for each in plain if each.kind.spelt_otherwise],
        "has_filters": any(each.filters for each in fields),
        "sorts": sorts,
        "conflict": f"; 409 when {' or '.join(conflicts)}" if conflicts else "",
        "columns": ("id", *shown[:7], *created),
        "searched": tuple(each.column for each in searched),
        "searched_samples": [(each.column, each.sample(1)) for each in searched],
        "sorted_columns": (
            "id",
            *(each.column for each in plain if not isinstance(each.kind, unlisted)),
            *created,
        ),
        "filters": [_admin_filter(names, each) for each in plain if _admin_filter(names, each)],
        "formatted": (*moments, *created),
        "page": resource.with_page,
    }


def _admin_filter(names: Names, each: Field) -> str:
    attribute = f"{names.model}.{each.column}"
    if isinstance(each.kind, Enum):
        return f"{each.kind.annotation}Filter({attribute})"
    if isinstance(each.kind, Bool):
        return f'BooleanFilter("{each.column}", title="{each.words.capitalize()}")'
    if isinstance(each.kind, Date | DateTime):
        return f"DateRangeFilter({attribute})"
    return f"IsSetFilter({attribute})" if each.is_nullable else ""


def _refuse_double_names(texts: dict[Path, str]) -> None:
    """Refuse a resource whose names would have two meanings in a file, one that is there included.

    Raises:
        StartupError: with the names.
    """
    doubles = set()
    for path, text in texts.items():
        if path.suffix == ".py":
            own = _origins(path.read_text("utf-8")) if path.exists() else {}
            doubles |= {
                name
                for name, found in _origins(text).items()
                if len(found | own.get(name, set())) > 1
            }
    if doubles:
        shown = ", ".join(sorted(doubles))
        raise StartupError(
            f"the files would have two things with one name: {shown}. Choose another name"
        )


def _origins(text: str) -> dict[str, set[str]]:
    """What each name of a module is: where it is imported from, its value, or itself."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, _IMPORTS):
            for alias in node.names:
                origin = str(getattr(node, "module", alias.name))
                found.setdefault(alias.asname or alias.name, set()).add(origin)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                found.setdefault(ast.unparse(target), set()).add(ast.unparse(node.value))
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.setdefault(node.name, set()).add(f"line {node.lineno} of {len(text)}")
    return found


def _formatted(texts: dict[Path, str], *fixes: str) -> dict[Path, str]:
    """Format code as the project does, and leave out imports that it does not need.

    Raises:
        StartupError: when Ruff is not installed or cannot read it.
    """
    code = {path: text for path, text in texts.items() if path.suffix == ".py"}
    if not code:
        return texts
    with tempfile.TemporaryDirectory() as folder:
        copies = {path: Path(folder) / path.relative_to(BASE_DIR) for path in code}
        for path, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(code[path], "utf-8")
        options = ["--quiet", "--config", str(BASE_DIR / "pyproject.toml"), folder]
        for arguments in (["check", "--fix-only", *fixes], ["format"]):
            ruff = [sys.executable, "-m", "ruff", *arguments, *options]
            done = subprocess.run(ruff, capture_output=True, text=True, check=False)
            if done.returncode:
                raise StartupError(f"nothing was written: ruff: {done.stdout or done.stderr}")
        return texts | {path: copy.read_text("utf-8") for path, copy in copies.items()}


def _merged(text: str, addition: str) -> str:
    """Add imports and definitions to a module, behind its own; what it has is not added again."""
    own, added = ast.parse(text), ast.parse(addition)
    imports = [node for node in added.body if isinstance(node, _IMPORTS)]
    rest = [node for node in added.body if node not in imports][1:]  # without the docstring
    lines, new = text.splitlines(), addition.splitlines()
    above = (*own.body[:1], *(each for each in own.body if isinstance(each, _IMPORTS)))
    last = max((each.end_lineno or 0 for each in above), default=0)
    first = min([rest[0].lineno, *(each.lineno for each in getattr(rest[0], "decorator_list", []))])
    inserted = [ast.unparse(node) for node in imports]
    defined = {ast.unparse(node) for node in own.body if isinstance(node, ast.Assign)}
    for node in rest:
        if ast.unparse(node) in defined:
            new[node.lineno - 1 : node.end_lineno] = [""] * (
                (node.end_lineno or 0) - node.lineno + 1
            )
    return "\n".join([*lines[:last], *inserted, *lines[last:], "", "", *new[first - 1 :], ""])


# Writing


@contextmanager
def _written(texts: dict[Path, str]) -> Iterator[dict[Path, str | None]]:
    """Write files; if what follows fails, everything is as before."""
    before: dict[Path, str | None] = {}
    folders: list[Path] = []
    try:
        for path, new in texts.items():
            before[path] = path.read_text("utf-8") if path.exists() else None
            folders += [each for each in reversed(path.parents) if not each.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new, "utf-8")
        yield before
    except BaseException:
        for path, text in before.items():
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(text, "utf-8")
        for folder in reversed(folders):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _migration(resource: Resource, added: dict[Path, str]) -> Path:
    """Write the migration of the resource's table, as `make db-migrate` does.

    Raises:
        StartupError: when the models differ from the migrations in something else too.
    """
    names = resource.names
    module = import_module(resource.model_module)
    path = Path(str(module.__file__))
    if not hasattr(module, names.model):  # it was imported before the class was added
        exec(compile(added[path], str(path), "exec"), vars(module))  # noqa: S102
    start_local_services()
    others: set[str] = set()

    def refuse_others(
        _context: object, _revision: object, directives: list[ops.MigrationScript]
    ) -> None:
        tables = [
            str(getattr(each, "table_name", each)) for each in directives[0].upgrade_ops_list[0].ops
        ]
        others.update(table for table in tables if table != names.table)
        if others:
            raise CommandError("other changes")

    options = Namespace(
        cmd=(command.revision,),
        autogenerate=True,
        x=[f"extension={names.extension}"] if names.extension else None,
        name="alembic",
    )
    said = io.StringIO()
    config = Config(str(BASE_DIR / "alembic.ini"), stdout=said, cmd_opts=options)
    logging.disable(logging.INFO)
    try:
        with redirect_stdout(said):
            script: Any = command.revision(
                config,
                f"add {names.plural_words}",
                autogenerate=True,
                process_revision_directives=refuse_others,
            )
    except CommandError as error:
        if not others:
            raise StartupError(f"nothing was written: {error}") from None
        raise StartupError(
            "nothing was written: the models differ from the migrations already, in "
            f"{', '.join(sorted(others))}. Run `make db-migrate message=…` first."
        ) from None
    finally:
        logging.disable(logging.NOTSET)
    return Path(script.path)
