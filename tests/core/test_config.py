from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from apprentice.core import config
from apprentice.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Optim:
    lr: float = 1e-4
    """Step size, above 0."""
    name: Literal["adamw", "sgd"] = "adamw"
    warmup: float | None = 0.1

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError("lr must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    rank: int = 8
    targets: tuple[str, ...] = ("q", "v")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    base: str = "smollm2"
    seed: int = 0
    out: Path = Path("run")
    resume: bool = True
    optim: Optim = field(default_factory=lambda: Optim(lr=3e-4))
    lora: Lora | None = None
    weights: dict[str, float] = field(default_factory=dict)


def toml(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_give_way_to_the_file_and_the_file_to_overrides(tmp_path: Path) -> None:
    path = toml(tmp_path, 'base = "debug"\nseed = 3\n[optim]\nname = "sgd"\n[weights]\ncopied = 0.02\n')
    recipe = config.load(Recipe, path, ["seed=5", "optim.warmup=none", "out=a/b"])
    assert recipe == Recipe(
        base="debug", seed=5, out=Path("a/b"), optim=Optim(lr=3e-4, name="sgd", warmup=None), weights={"copied": 0.02}
    )


def test_a_group_that_is_absent_by_default_appears_when_a_key_of_it_is_set(tmp_path: Path) -> None:
    assert config.load(Recipe, overrides=["lora.rank=4"]).lora == Lora(rank=4)
    assert config.load(Recipe, toml(tmp_path, "[lora]\n")).lora == Lora()
    assert config.load(Recipe, toml(tmp_path, "[lora]\nrank = 2\n"), ["lora=none"]).lora is None
    assert config.load(Recipe, overrides=["lora.rank=2", "lora=none", "lora.targets=['k']"]).lora == Lora(targets=("k",))


def test_a_preset_can_be_the_start() -> None:
    start = Recipe(optim=Optim(lr=1.0), seed=9)
    assert config.load(Recipe, overrides=["optim.name=sgd"], defaults=start) == Recipe(optim=Optim(lr=1.0, name="sgd"), seed=9)


@pytest.mark.parametrize(
    ("override", "value"), [("base=7", "7"), ("base=true", "true"), ("base='a b'", "a b"), ("base=x = y", "x = y"), ("base=1\nseed = 2", "1\nseed = 2")]
)  # fmt: skip
def test_text_needs_no_quotes_and_nothing_can_be_smuggled_in(override: str, value: str) -> None:
    assert config.load(Recipe, overrides=[override]) == Recipe(base=value)


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("sead=1", "there is no key `sead` (from `--set sead=1`)", "did you mean `seed`?"),
        ("optim.rl=1", "there is no key `optim.rl` (from `--set optim.rl=1`)", "did you mean `optim.lr`?"),
        ("lr=1", "there is no key `lr` (from `--set lr=1`)", "did you mean `optim.lr`?"),
        ("seed.x=1", "`seed` has no keys below it (from `--set seed.x=1`)", None),
        ("optim=1", "`optim` is a group of keys (from `--set optim=1`)", "name one: `optim.lr`, `optim.name`, `optim.warmup`"),
        ("seed", "`--set seed` has no value", "write `--set key=value`, for example `--set seed=1`"),
        ("seed=x", "`seed`: expected `int`, got `str` (from `--set seed=x`)", None),
        ("resume=1", "`resume`: expected `bool`, got `int` (from `--set resume=1`)", None),
        ("optim.lr=-1", "`optim.lr` must be above 0 (from `--set optim.lr=-1`)", None),
        ("optim.lr=nan", "`optim.lr` is `nan` (from `--set optim.lr=nan`)", "give a finite number"),
        ("optim.name=adam", "`optim.name` is `adam` (from `--set optim.name=adam`)", "it is one of `adamw`, `sgd`"),
    ],
)
def test_a_wrong_override_is_named_with_its_remedy(override: str, message: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(Recipe, overrides=[override])
    assert caught.value.message == message
    assert hint in (None, caught.value.hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optimm]\nlr = 1", "there is no key `optimm`"),
        ("[optim]\nlr = 'x'", "`optim.lr`: expected `float`, got `str`"),
        ("optim = 3", "`optim`: expected `object`"),
        ("seed = ", "is not valid TOML"),
        ("[lora]\ntargets = [1]", "`lora.targets`: expected `str`, got `int`"),
    ],
)
def test_an_error_in_a_file_names_key_and_file(tmp_path: Path, text: str, message: str) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(Recipe, path)
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_a_recipe_that_is_missing_or_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml"):
        config.load(Recipe, tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(Recipe, tmp_path / "bytes.toml")


def test_a_field_without_a_default_is_asked_for() -> None:
    @dataclass(frozen=True)
    class Needed:
        base: str

    with pytest.raises(ConfigError, match="`base` is missing"):
        config.load(Needed)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(base='a "b" \\ \x7f\n\té', lora=Lora(targets=()), resume=False, weights={"a.b": 1.0, 'c"': 1e-30}),
        Recipe(optim=Optim(warmup=None)),
    ],
)
def test_the_resolved_text_loads_as_an_equal_config(tmp_path: Path, recipe: Recipe) -> None:
    assert config.load(Recipe, toml(tmp_path, config.resolved_toml(recipe))) == recipe


def test_the_plain_form_has_only_types_of_json() -> None:
    assert config.to_dict(Recipe(lora=Lora())) == {
        "base": "smollm2", "seed": 0, "out": "run", "resume": True, "weights": {},
        "optim": {"lr": 3e-4, "name": "adamw", "warmup": 0.1}, "lora": {"rank": 8, "targets": ["q", "v"]},
    }  # fmt: skip
