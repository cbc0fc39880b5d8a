# SPDX-License-Identifier: Apache-2.0
"""How a run stands when its report could not be written."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.errors import InfrastructureError
from pipeline.services import Services
from storage.errors import StorageError
from storage.finalisers import fail_run, renew_finaliser

#: Where a finaliser was disturbed, the run may be finalised again after this long.
RETRY_AFTER_S = 2.0


@contextmanager
def ended_in_order(services: Services, run_id: str, fence: int) -> Iterator[None]:
    """A run whose report cannot be written is failed; one that was disturbed is not.

    What disturbs (a server, a store, a full disk, Ctrl-C) passes, so the lease ends
    soon and the run is finalised again. Anything else would come again for ever.
    """
    try:
        yield
    except Exception as exc:
        # Whatever it is, somebody must know how the run stands; it is raised again.
        if is_passing(exc):
            _give_back(services, run_id, fence)
        else:
            with suppress(StorageError):
                fail_run(
                    services.engine,
                    run_id,
                    fence=fence,
                    error=f"Its report could not be written ({type(exc).__name__}); "
                    f"mend the cause and run 'affidavit resume {run_id}'.",
                    actor=services.actor,
                )
        raise
    except BaseException:
        _give_back(services, run_id, fence)
        raise


def is_passing(error: Exception) -> bool:
    """Whether an error is about the surroundings and not about the run.

    The system numbers its errors; an OSError without a number is a library's word for
    bytes that it cannot read.
    """
    if isinstance(error, OSError):
        return error.errno is not None
    return isinstance(error, StorageError | InfrastructureError)


def _give_back(services: Services, run_id: str, fence: int) -> None:
    with suppress(StorageError):
        renew_finaliser(services.engine, run_id, fence=fence, lease_s=RETRY_AFTER_S)
