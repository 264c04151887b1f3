"""Plug-ins: execution providers in Python packages of their own, which onnxruntime 1.23 and later loads.

"plugin:webgpu" is the package onnxruntime-ep-webgpu: `predict` runs there, the other phases on the CPU provider.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping
from functools import partial
from types import ModuleType

from sise_ort.errors import ParameterError, ProviderError, first_line, option, shown
from sise_ort.runtime.providers.spec import ProviderSpec, Wishes

PREFIX = "onnxruntime_ep_"
"""How the modules of plug-ins begin: onnxruntime's advice to their makers."""
OTHERS = {"qnn": "onnxruntime_qnn"}
"""Modules of plug-ins that begin otherwise, by the names they have here."""
DEFAULTS: Mapping[str, Mapping[str, str]] = {"qnn": {"backend_type": "htp"}}
"""Options that a plug-in cannot do without."""


def installed() -> dict[str, str]:
    """Modules of the plug-ins that are installed, by the names they have here; none of them is imported."""
    found = {
        module.name[len(PREFIX) :].replace("_", "-"): module.name
        for module in pkgutil.iter_modules()
        if module.name.startswith(PREFIX)
    }
    found |= {name: module for name, module in OTHERS.items() if importlib.util.find_spec(module)}
    return dict(sorted(found.items()))


def plugin(name: str) -> ProviderSpec:
    """The provider that a plug-in holds.

    Parameters
    ----------
    name : str
        Its package without "onnxruntime-ep-", such as "webgpu".

    Raises
    ------
    ParameterError
        That is no name of a package.
    ProviderError
        It is not installed, cannot be imported, or is no plug-in.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ParameterError(
            f"{option('provider')} is {shown('plugin:' + name)}; a package's name is needed, such as plugin:webgpu for "
            "onnxruntime-ep-webgpu"
        )
    own = name.lower().replace("_", "-")
    module = OTHERS.get(own, PREFIX + own.replace("-", "_"))
    package = module.replace("_", "-")
    names = ep_names(library_module(module, own))
    return ProviderSpec(
        name=f"plugin:{own}",
        onnxruntime=names[0],
        device="cpu",
        batch_pixels=8 * 224 * 224,
        pads=True,
        install=package,
        beside="cpu",
        bounded=False,
        placed=True,
        plugin=module,
        wished=partial(_wished, own),
        computes=_computes,
    )


def library_module(module: str, name: str) -> ModuleType:
    """The imported module of a plug-in, which tells where its library is and what it holds."""
    package = module.replace("_", "-")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            there = ", ".join(installed()) or "none"
            raise ProviderError(
                f"the plug-in '{name}' is not installed: pip install {package}; installed plug-ins: {there}"
            ) from error
        raise ProviderError(
            f"the plug-in '{name}' cannot be imported ({first_line(error)}): install {package} again"
        ) from error
    except Exception as error:
        raise ProviderError(
            f"the plug-in '{name}' cannot be imported ({first_line(error)}): install {package} again"
        ) from error
    if not callable(getattr(found, "get_library_path", None)):
        raise ProviderError(
            f"the package {package} is no plug-in of onnxruntime: it has no get_library_path(); installed plug-ins: "
            f"{', '.join(installed())}"
        )
    return found


def ep_names(module: ModuleType) -> tuple[str, ...]:
    """The names that a plug-in gives its execution providers; its module's, where it says none."""
    for name in ("get_ep_names", "get_ep_name"):
        told = getattr(module, name, None)
        if callable(told):
            found = told()
            names = (found,) if isinstance(found, str) else tuple(map(str, found))
            if names:
                return names
    return (module.__name__,)


def _wished(name: str, wishes: Wishes) -> Mapping[str, str]:
    """The user's options over those that a plug-in cannot do without."""
    return {**DEFAULTS.get(name, {}), **wishes.texts()}


def _computes(precision: str) -> str:
    """The precision that is wished; what the plug-in really computes in is measured."""
    return "fp32" if precision == "auto" else precision
