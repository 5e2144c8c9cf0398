"""Any module built of HookPoints: the same caching, ablating and patching, and nothing left behind.

For modules that take no prompts, as the toy model of the TransformerLens demo (seed 002). A
language model is run by `cache`, which takes the same edits: `edited(model, zeroed(hook))`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from claimlens.circuits.kernels.cache import Edit, Hooks
from claimlens.circuits.verdict import NotMeasured

NamesFilter = str | Callable[[str], bool]


@runtime_checkable
class Hooked(Protocol):
    """What transformer_lens' HookedRootModule and TransformerBridge have in common."""

    hook_dict: Any

    def hooks(self, *args: Any, **kwargs: Any) -> Any:
        """A context in which hooks are in force."""
        ...


@dataclass(frozen=True, eq=False)
class ModuleRun:
    """What a module returned, and the activations that were kept."""

    output: Any
    activations: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.activations[name]


def matching(module: Hooked, names: NamesFilter) -> tuple[str, ...]:
    """The hooks that a filter selects: a pattern as `*hook_pattern`, or a function of the name.

    Raises NotMeasured where it selects none: a filter that matches nothing would do nothing.
    """
    known = sorted(module.hook_dict)
    fits = names if callable(names) else lambda name: fnmatchcase(name, names)
    if found := tuple(name for name in known if fits(name)):
        return found
    shown = "this function" if callable(names) else repr(names)
    raise NotMeasured(f"no hook is selected by {shown}; the first of {len(known)}: {known[:5]}")


def zeroed(hook: str) -> Edit:
    """Zero ablation of a whole activation."""
    return Edit(hook, torch.zeros_like, f"zero ablation of {hook}", key=("zero", hook))


def replaced(hook: str, value: Tensor, *, noop: bool = False) -> Edit:
    """Patching of a whole activation by one of the same shape, as from another run."""
    key = ("replace", hook, id(value))
    return Edit(hook, lambda old: value, f"patching {hook}", noop, key, holds=value)


def run_module(
    module: Hooked, *inputs: Any, edits: Sequence[Edit] = (), names: Sequence[str] = ()
) -> ModuleRun:
    """Run a module once with edits, and keep the activations of the named hooks.

    Raises NotMeasured for a hook that it lacks or that did not fire, and where an edit changed
    nothing.
    """
    with in_force(module, *edits, names=names) as kept, torch.no_grad():
        output = module(*inputs)  # type: ignore[operator]  # every nn.Module is called
    return ModuleRun(output, kept)


@contextmanager
def in_force(
    module: Hooked, *edits: Edit, names: Sequence[str] = ()
) -> Iterator[dict[str, Tensor]]:
    """Within this block, every call of the module runs with these edits.

    Gives a mapping that holds the named activations of the last call. At its end, or at an error,
    the hooks of this block are gone; those that were there before are still there. Raises
    NotMeasured as `run_module`.
    """
    hooks = Hooks(edits, names)
    hooks.check_names(module.hook_dict)
    with module.hooks(fwd_hooks=hooks.pairs()):
        yield hooks.kept
    hooks.check_fired()
