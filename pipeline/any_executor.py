# SPDX-License-Identifier: Apache-2.0
"""An executor, whatever the kind of the run's items."""

from pipeline.executor import Executor
from pipeline.unit_executor import UnitExecutor

AnyExecutor = Executor | UnitExecutor
