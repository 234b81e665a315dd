"""The language of `--keep`: a small expression over columns, parsed by hand so that nothing is ever executed.

```
dnsmos_ovrl < 2.5 and measured.snr_db > 0 and split == 'train'
not ('codec' in stages or speaker in ('p234', 'p235')) and measured.rt60_s is not null
```

Names are columns and may hold dots; odd ones stand between backticks. There are numbers, 'strings', true and false;
`< <= > >= == !=`, `in (VALUE, ...)`, `VALUE in COLUMN` for columns that hold lists, `is null`, `is not null`; `not`,
`and`, `or` in this order, and parentheses. A comparison with null is false, `not` of it therefore true.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from manifests.errors import UserError

Value = float | str | bool
Operator = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True)
class Column:
    """A column by its name."""

    name: str
    position: int
    """1-based, in the expression."""


@dataclass(frozen=True)
class Literally:
    """A value that stands in the expression."""

    value: Value
    position: int


Operand = Column | Literally


@dataclass(frozen=True)
class Compare:
    """`left OPERATOR right`."""

    left: Operand
    operator: Operator
    right: Operand


@dataclass(frozen=True)
class OneOf:
    """`operand in (VALUE, ...)`."""

    operand: Column
    values: tuple[Literally, ...]


@dataclass(frozen=True)
class Holds:
    """`VALUE in COLUMN`, for a column of lists."""

    value: Literally
    column: Column


@dataclass(frozen=True)
class IsNull:
    """`column is null`."""

    column: Column


@dataclass(frozen=True)
class IsTrue:
    """A column of truth values that stands alone."""

    column: Column


@dataclass(frozen=True)
class Not:
    """`not part`."""

    part: "Condition"


@dataclass(frozen=True)
class All:
    """`part and part ...`."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True)
class Any:
    """`part or part ...`."""

    parts: tuple["Condition", ...]


Condition = Compare | OneOf | Holds | IsNull | IsTrue | Not | All | Any

MAX_DEPTH = 100
"""Of parentheses and `not` within one another."""


def parse(text: str) -> Condition:
    """Parse an expression.

    Raises:
        UserError: in one sentence, with the position at which it cannot be read.
    """
    return _Parser(text).whole()


def columns_of(condition: Condition) -> Iterator[Column]:
    """Yield the columns that a condition names, in its order."""
    match condition:
        case Compare(left, _, right):
            yield from (operand for operand in (left, right) if isinstance(operand, Column))
        case OneOf(column) | Holds(_, column) | IsNull(column) | IsTrue(column):
            yield column
        case Not(part):
            yield from columns_of(part)
        case All(parts) | Any(parts):
            for part in parts:
                yield from columns_of(part)


class _Token(NamedTuple):
    kind: str
    """`number`, `string`, `name`, `quoted` (a name), `symbol`, `word`, or `end`."""
    text: str
    position: int


_TOKENS = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?(?![\w.]))
      | (?P<string>'[^']*'|"[^"]*")
      | (?P<quoted>`[^`]+`)
      | (?P<name>[^\W\d][\w.\#-]*)
      | (?P<symbol><=|>=|==|!=|[<>(),])""",
    re.VERBOSE,
)
_WORDS = {"and", "or", "not", "in", "is", "null", "true", "false"}
_ORDERS = {"<", "<=", ">", ">=", "==", "!="}


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._at = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._either()
        if self._now.kind != "end":
            raise self._wrong("expected 'and', 'or' or the end")
        return condition

    def _split(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text):
            found = _TOKENS.match(self._text, at)
            if found is None:
                raise _mistake(self._text, at + 1, f"cannot read '{self._text[at : at + 10]}'")
            kind, text = str(found.lastgroup), found.group()
            if kind == "name" and text in _WORDS:
                kind = "word"
            if kind != "space":
                yield _Token(kind, text, at + 1)
            at = found.end()
        yield _Token("end", "the end", at + 1)

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> bool:
        """Go on if the next token is one of some words or symbols."""
        if self._now.kind in ("word", "symbol") and self._now.text in texts:
            self._at += 1
            return True
        return False

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._wrong(f"expected '{text}'")

    def _wrong(self, what: str) -> UserError:
        return _mistake(self._text, self._now.position, f"{what}, not {_shown(self._now)}")

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"more than {MAX_DEPTH} parentheses within one another")
        try:
            if self._take("not"):
                return Not(self._one())
            if self._take("("):
                condition = self._either()
                self._need(")")
                return condition
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        left = self._operand()
        operator = self._now.text
        if operator in _ORDERS and self._take(operator):
            right = self._operand()
            if isinstance(left, Literally) and isinstance(right, Literally):
                raise _mistake(self._text, left.position, "a comparison needs a column on one side")
            return Compare(left, operator, right)  # type: ignore[arg-type]  # one of _ORDERS
        if self._take("is"):
            is_not = self._take("not")
            self._need("null")
            is_null = IsNull(self._column(left))
            return Not(is_null) if is_not else is_null
        if self._take("not"):
            self._need("in")
            return self._membership(left, negated=True)
        if self._take("in"):
            return self._membership(left, negated=False)
        if isinstance(left, Literally):
            raise self._wrong("expected a comparison")
        return IsTrue(left)

    def _membership(self, left: Operand, negated: bool) -> Condition:
        """Parse what follows `in`. With `not`, a null stays out all the same: it is a comparison."""
        if self._take("("):
            column = self._column(left)
            values = [self._value()]
            while self._take(","):
                values.append(self._value())
            self._need(")")
            listed = OneOf(column, tuple(values))
            return All((Not(IsNull(column)), Not(listed))) if negated else listed
        if isinstance(left, Column):
            raise self._wrong("expected '(' and values, as in: split in ('val', 'test')")
        holder = self._column(self._operand())
        holds = Holds(left, holder)
        return All((Not(IsNull(holder)), Not(holds))) if negated else holds

    def _column(self, operand: Operand) -> Column:
        if isinstance(operand, Literally):
            raise _mistake(self._text, operand.position, "expected the name of a column")
        return operand

    def _value(self) -> Literally:
        operand = self._operand()
        if isinstance(operand, Column):
            raise _mistake(self._text, operand.position, "expected a number or a 'string'")
        return operand

    def _operand(self) -> Operand:
        token = self._now
        if token.kind == "number":
            value: Value = float(token.text)
        elif token.kind == "string":
            value = token.text[1:-1]
        elif token.kind == "word" and token.text in ("true", "false"):
            value = token.text == "true"
        elif token.kind in ("name", "quoted"):
            self._at += 1
            return Column(token.text.strip("`"), token.position)
        else:
            raise self._wrong("expected a column or a value")
        self._at += 1
        return Literally(value, token.position)


def _shown(token: _Token) -> str:
    return token.text if token.kind == "end" else f"'{token.text}'" if "'" not in token.text else token.text


def _mistake(text: str, position: int, what: str) -> UserError:
    where = "at its end" if position > len(text) else f"at character {position}"
    return UserError(f'--keep "{text}": {what} {where}')


def mistake(text: str, place: Column | Literally, what: str) -> UserError:
    """Return an error about a column or a value of an expression."""
    return _mistake(text, place.position, what)
