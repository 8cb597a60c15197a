"""What models were made ready with, kept for the next call."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

from napari_pix2pix.translation.settings import TranslationSettings
from napari_pix2pix.translation.translator import Translator
from pix2pix_training.model_file import Model

_MOST_KEPT = 4


def lent_translator(model: Model, settings: TranslationSettings) -> AbstractContextManager[Translator]:
    """A translator of a model, kept for the next who asks for the same; see `KeptTranslators`."""
    return _KEPT.lent(model, settings)


class KeptTranslators:
    """Translators of the models that were used last, each lent to one user at a time; thread-safe.

    A model is known by itself and by the state of its weights, so one whose tensors were changed is made ready anew.
    When nobody else holds a model any more, its translator goes too.
    """

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._most = most
        self._lock = Lock()
        self._idle: OrderedDict[tuple[int, TranslationSettings], tuple[_State, Translator]] = OrderedDict()
        self._alive: dict[int, weakref.ref[Model]] = {}

    def __len__(self) -> int:
        """How many are kept at this moment."""
        return len(self._idle)

    @contextmanager
    def lent(self, model: Model, settings: TranslationSettings) -> Iterator[Translator]:
        """A translator for nobody else within the context, kept afterwards."""
        key, state = (id(model), settings), _State(model)
        translator = self._taken(key, state) or Translator(model, settings)
        yield translator
        self._keep(model, key, state, translator)

    def _taken(self, key: tuple[int, TranslationSettings], state: _State) -> Translator | None:
        with self._lock:
            kept = self._idle.pop(key, None)
        return kept[1] if kept is not None and kept[0].is_that_of(state) else None

    def _keep(self, model: Model, key: tuple[int, TranslationSettings], state: _State, translator: Translator) -> None:
        with self._lock:
            self._alive[key[0]] = weakref.ref(model, lambda _: self._forget(key[0]))
            self._idle[key] = (state, translator)
            while len(self._idle) > self._most:
                self._idle.popitem(last=False)

    def _forget(self, number: int) -> None:
        """The model of that number is gone, and another one may get it."""
        self._alive.pop(number, None)
        for key in [key for key in list(self._idle) if key[0] == number]:
            self._idle.pop(key, None)


class _State:
    """The weights of a model, by which a change is noticed: of a tensor for another one, or in its place."""

    def __init__(self, model: Model) -> None:
        self._weights = dict(model.weights)
        tracked = not any(tensor.is_inference() for tensor in self._weights.values())
        self._versions = [tensor._version for tensor in self._weights.values()] if tracked else None

    def is_that_of(self, other: _State) -> bool:
        """False where that cannot be told, which is so for tensors that were made in inference mode."""
        same = self._weights.keys() == other._weights.keys() and all(
            tensor is other._weights[name] for name, tensor in self._weights.items()
        )
        return same and self._versions is not None and self._versions == other._versions


_KEPT = KeptTranslators()
