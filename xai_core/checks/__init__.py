"""The properties of explainers, runnable one by one and all at once.

Every ``check_<name>(explainer)`` raises `CheckFailedError`, with a message that says what was
measured and what was expected, where the property does not hold. `run_checks` runs all of them
and returns what each found. Those of the contract hold for every explainer; the others for those
that promise them.

PYTEST_DONT_REWRITE
"""

from xai_core.checks.contract import (
    check_batch_independence,
    check_contract,
    check_counted_passes,
    check_declaration,
    check_determinism,
    check_memory_bound,
    check_no_trace,
)
from xai_core.checks.examples import example_heatmaps, example_images, example_masks
from xai_core.checks.networks import (
    LinearNetwork,
    Network,
    OnePixelNetwork,
    SmallCNN,
    SumNetwork,
    SymmetricNetwork,
    TinyTransformer,
)
from xai_core.checks.promises import (
    check_completeness,
    check_dummy,
    check_flip_equivariance,
    check_implementation_invariance,
    check_input_invariance,
    check_linearity,
    check_randomised_weights,
    check_sensitivity,
    check_shift_equivariance,
    check_symmetry,
    check_target_sensitivity,
)
from xai_core.checks.running import (
    CHECKS,
    Check,
    CheckFailedError,
    CheckResult,
    RefusedError,
    run_check,
    run_checks,
)

__all__ = [
    "CHECKS",
    "Check",
    "CheckFailedError",
    "CheckResult",
    "LinearNetwork",
    "Network",
    "OnePixelNetwork",
    "RefusedError",
    "SmallCNN",
    "SumNetwork",
    "SymmetricNetwork",
    "TinyTransformer",
    "check_batch_independence",
    "check_completeness",
    "check_contract",
    "check_counted_passes",
    "check_declaration",
    "check_determinism",
    "check_dummy",
    "check_flip_equivariance",
    "check_implementation_invariance",
    "check_input_invariance",
    "check_linearity",
    "check_memory_bound",
    "check_no_trace",
    "check_randomised_weights",
    "check_sensitivity",
    "check_shift_equivariance",
    "check_symmetry",
    "check_target_sensitivity",
    "example_heatmaps",
    "example_images",
    "example_masks",
    "run_check",
    "run_checks",
]
