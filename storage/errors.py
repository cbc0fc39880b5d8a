# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the database, named by the reaction it needs.

```
StorageError
├─ DatabaseUnavailableError   the server does not answer: try again, exit 4
├─ DatabaseDamagedError       the SQLite file is broken: restore a backup, exit 4
├─ DatabaseUrlError           the setting names no database of a known kind: exit 2
├─ SchemaOutdatedError        run `affidavit db upgrade`
├─ StatementRefusedError      a row or statement is not allowed: our own fault
├─ FencedOutError             another attempt owns the shard: stop, write nothing
├─ StateConflictError         the run is in a state that forbids the request
├─ UnknownRunError            no run has that id
└─ UnknownScheduleError       no schedule has that id or audit
```
"""


class StorageError(Exception):
    """The root of every error that this package raises on purpose."""


class DatabaseUnavailableError(StorageError):
    """The database cannot be reached or broke off."""


class DatabaseUrlError(StorageError):
    """The setting of the database is malformed, or names an unknown kind."""


class DatabaseDamagedError(StorageError):
    """The SQLite file is damaged, or is no database; trying again does not help."""


class SchemaOutdatedError(StorageError):
    """The tables are missing or older than this program."""


class StatementRefusedError(StorageError):
    """The database refused a row or a statement; the transaction left nothing."""


class FencedOutError(StorageError):
    """The lease was lost: another attempt owns the shard, nothing was written."""


class StateConflictError(StorageError):
    """The run's state forbids what was asked."""


class UnknownRunError(StorageError):
    """No run, or more than one, matches the given id."""


class UnknownScheduleError(StorageError):
    """No schedule, or more than one, matches the given id or audit."""
