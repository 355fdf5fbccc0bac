"""Parameter dataclasses: read from tables and texts, checked, printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_core.errors import ParameterError
from xai_core.parameters import as_dict, from_table, identity, parse_call, require


@dataclass(frozen=True)
class Inner:
    width: int = 1


@dataclass(frozen=True)
class Sample:
    steps: int = 50
    sigma: float = 3.0
    rule: Literal["left", "right"] = "left"
    names: tuple[str, ...] = ("a",)
    inner: Inner = Inner()
    derived: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}")


@dataclass(frozen=True)
class Bare:
    pass


def test_a_table_fills_the_fields_and_leaves_the_defaults() -> None:
    table = {"steps": 7, "sigma": 2, "rule": "right", "names": ["b", "c"], "inner": {"width": 4}}
    made = from_table(Sample, table, what="sample")
    assert made == Sample(7, 2.0, "right", ("b", "c"), Inner(4))
    assert from_table(Sample, {}, what="sample") == Sample()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"stepz": 7}, "^sample 'x' has no parameter 'stepz': did you mean 'steps'"),
        ({"derived": 7}, "^sample 'x' has no parameter 'derived'"),
        ({"steps": "7"}, "^sample 'x': Expected `int`, got `str` - at `steps`$"),
        ({"steps": 7.5}, "^sample 'x': Expected `int`, got `float` - at `steps`$"),
        ({"steps": True}, "^sample 'x': Expected `int`, got `bool` - at `steps`$"),
        ({"sigma": "wide"}, "^sample 'x': Expected `float`, got `str` - at `sigma`$"),
        ({"rule": "middle"}, "^sample 'x': Invalid enum value 'middle' - at `rule`$"),
        ({"names": "b"}, "^sample 'x': Expected `array`, got `str` - at `names`$"),
        ({"steps": 0}, "^sample 'x': `steps` must be at least 1, got 0$"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        from_table(Sample, table, what="sample 'x'")


def test_what_has_no_parameters_says_so() -> None:
    with pytest.raises(ParameterError, match=r"^bare takes no parameters, got 'size'$"):
        from_table(Bare, {"size": 1}, what="bare")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gaussian", ("gaussian", {})),
        ("gaussian()", ("gaussian", {})),
        (" gaussian( sigma = 3 ) ", ("gaussian", {"sigma": 3})),
        ("f(a=-1.5, b='x', c=True, d=None)", ("f", {"a": -1.5, "b": "x", "c": True, "d": None})),
        ("f(a=('x', 'y'), b=[1, 2])", ("f", {"a": ("x", "y"), "b": [1, 2]})),
    ],
)
def test_a_text_is_split_into_name_and_values(
    text: str, expected: tuple[str, dict[str, object]]
) -> None:
    assert parse_call(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "f(3)", "f(", "f(x)", "f(**{'a': 1})", "a.b", "a.b(c=1)", "3", "f()()", "f\0"],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="expected 'name' or 'name\\(key=value\\)', got "):
        parse_call(text)


@pytest.mark.parametrize("value", ["name", "1 + x", "open('f')", "{[1]: 2}", "-'a'"])
def test_a_value_that_is_not_a_literal_is_refused(value: str) -> None:
    with pytest.raises(ParameterError, match=r"a in .* is not a literal value"):
        parse_call(f"f(a={value})")


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ParameterError, match="expected 'name' or"):
        parse_call("f(a=1, a=2)")


@given(st.text(max_size=20))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        name, values = parse_call(text)
    except ParameterError:
        return
    assert name.isidentifier()
    assert isinstance(values, dict)


@given(
    values=st.dictionaries(
        st.sampled_from(["sigma", "steps", "baseline", "rule"]),
        st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    )
)
def test_a_printed_call_is_read_back(values: dict[str, object]) -> None:
    text = f"f({', '.join(f'{key}={value!r}' for key, value in values.items())})"
    assert parse_call(text) == ("f", values)


def test_an_instance_is_printed_with_all_its_parameters() -> None:
    shown = identity("sample", Sample(steps=7))
    assert shown == (
        "sample(steps=7, sigma=3.0, rule='left', names=('a',), inner={'width': 1}, derived=0)"
    )
    assert identity("bare", Bare()) == "bare()"


def test_identity_does_not_depend_on_how_the_instance_was_made() -> None:
    from_file = from_table(Sample, {"sigma": 3, "names": ["a"]}, what="sample")
    assert identity("sample", from_file) == identity("sample", Sample())
    assert identity("sample", Sample(sigma=3.5)) != identity("sample", Sample())


def test_fields_become_builtin_types() -> None:
    assert as_dict(Sample(names=("b",))) == {
        "steps": 50,
        "sigma": 3.0,
        "rule": "left",
        "names": ("b",),
        "inner": {"width": 1},
        "derived": 0,
    }


def test_require_raises_only_where_the_condition_does_not_hold() -> None:
    require(True, "fine")
    with pytest.raises(ParameterError, match=r"^not fine$"):
        require(False, "not fine")
