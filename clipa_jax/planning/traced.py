"""FLOPs of a traced program: matrix products and convolutions, each as often as it runs.

The jaxpr states the length of every scan and holds rematerialized computation once for each
time that it runs. XLA's cost analysis counts the body of a loop once.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters import partial_eval


def flops(traced: jax.stages.Traced) -> float:
    """FLOPs of all devices together, two for each multiply-add; unused results do not count."""
    jaxpr = traced.jaxpr.jaxpr
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return count(live)


def count(jaxpr: Jaxpr) -> float:
    """FLOPs of a jaxpr, its calls included."""
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: JaxprEqn) -> float:
    params = equation.params
    match equation.primitive.name:
        case "dot_general":
            return _product(equation)
        case "conv_general_dilated":
            return _convolution(equation)
        case "scan":
            return params["length"] * count(params["jaxpr"].jaxpr)
        case "cond":  # one branch runs; the most expensive one counts
            return max(count(branch.jaxpr) for branch in params["branches"])
        case "pallas_call":
            return float(params["cost_estimate"].flops)
        case "shard_map":  # the body is the work of one device
            return params["mesh"].size * count(params["jaxpr"])
        case "custom_jvp_call" | "custom_vjp_call":  # the rules of differentiation do not run
            return count(params["call_jaxpr"].jaxpr)
    return sum(count(inner) for inner in _inner(params))


def _product(equation: JaxprEqn) -> float:
    lhs, out = _shape(equation.invars[0]), _shape(equation.outvars[0])
    (contracted, _), _ = equation.params["dimension_numbers"]
    return 2.0 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)


def _convolution(equation: JaxprEqn) -> float:
    """Padding counts as input, so this is exact for windows without padding or dilation."""
    kernel, out = _shape(equation.invars[1]), _shape(equation.outvars[0])
    out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * math.prod(out) * math.prod(kernel) / out_features


def _shape(operand: Any) -> tuple[int, ...]:
    return operand.aval.shape


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The jaxprs among the parameters of an equation."""
    for leaf in jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr)):
        if isinstance(leaf, Jaxpr | ClosedJaxpr):
            yield leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf
