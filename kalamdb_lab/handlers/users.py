"""CREATE, ALTER and DROP USER."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from kalamdb_lab.authorization.passwords import hashed
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidValueError,
    NotFoundError,
    NotSupportedError,
)
from kalamdb_lab.model.entities import AuthType, User
from kalamdb_lab.model.ids import ROOT_USER, checked_user_id
from kalamdb_lab.model.roles import Role
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import AlterUser, CreateUser, DropUser, SetUserStorage


class UserHandler:
    """Manage users; passwords are kept as Argon2id hashes and shown nowhere."""

    def __init__(self, catalog: Catalog, log: CommitLog) -> None:
        self._catalog = catalog
        self._log = log

    def create(self, statement: CreateUser, request: Request) -> Result:
        """Run CREATE USER; the user can work at once."""
        user_id = checked_user_id(statement.user_id)
        if statement.oauth is not None:
            _check_oauth(statement.oauth)
        if self._catalog.users.get(user_id) is not None:
            raise AlreadyExistsError("User", user_id)
        password_hash = None if statement.password is None else hashed(statement.password)
        with self._log.commit() as commit:
            if self._catalog.users.get(user_id) is not None:
                raise AlreadyExistsError("User", user_id)
            user = User(
                user_id=user_id,
                role=statement.role,
                auth_type=statement.auth_type,
                created_at_us=commit.at_us,
                updated_at_us=commit.at_us,
                email=statement.email,
                auth_data=statement.oauth,
                password_hash=password_hash,
            )
            self._catalog.users.put(commit, user)
        return Result.of_message(statement.kind, f"User '{user_id}' created")

    def alter(self, statement: AlterUser, request: Request) -> Result:
        """Run ALTER USER: one of password, role and e-mail."""
        password_hash = None if statement.password is None else hashed(statement.password)
        with self._log.commit() as commit:
            user = self._living(statement.user_id)
            if statement.role is not None:
                if user.user_id == ROOT_USER and statement.role is not Role.SYSTEM:
                    raise NotSupportedError("User 'root' cannot lose its role")
                user = replace(user, role=statement.role)
            if statement.email is not None:
                user = replace(user, email=statement.email)
            if password_hash is not None:
                user = replace(
                    user, password_hash=password_hash, auth_type=AuthType.PASSWORD, auth_data=None
                )
            self._catalog.users.put(commit, replace(user, updated_at_us=commit.at_us))
        return Result.of_message(statement.kind, f"User '{statement.user_id}' altered")

    def drop(self, statement: DropUser, request: Request) -> Result:
        """Run DROP USER: the rows stay and go to nobody, the id stays taken."""
        if statement.user_id == ROOT_USER:
            raise NotSupportedError("User 'root' cannot be dropped")
        with self._log.commit() as commit:
            found = self._catalog.users.get(statement.user_id)
            if statement.if_exists and (found is None or found.deleted_at_us is not None):
                return Result.of_message(
                    statement.kind,
                    f"User '{statement.user_id}' does not exist; nothing was done",
                )
            user = self._living(statement.user_id)
            self._catalog.users.put(
                commit, replace(user, deleted_at_us=commit.at_us, updated_at_us=commit.at_us)
            )
        return Result.of_message(statement.kind, f"User '{statement.user_id}' dropped")

    def set_storage(self, statement: SetUserStorage, request: Request) -> Result:
        """Let new segments of a user's rows go to a storage of its own, or no longer.

        Tables with USE_USER_STORAGE follow it; what is flushed already stays where it lies.
        """
        user_id, storage_id = checked_user_id(statement.user_id), statement.storage_id
        with self._log.commit() as commit:
            user = self._living(user_id)
            if storage_id is not None and self._catalog.storages.get(storage_id) is None:
                raise NotFoundError("Storage", storage_id)
            self._catalog.users.put(
                commit, replace(user, storage_id=storage_id, updated_at_us=commit.at_us)
            )
        return Result.of_message(statement.kind, f"User '{user_id}' altered")

    def _living(self, user_id: str) -> User:
        user = self._catalog.users.get(user_id)
        if user is None or user.deleted_at_us is not None:
            raise NotFoundError("User", user_id)
        return user


class _OAuth(msgspec.Struct, forbid_unknown_fields=True):
    """What is kept of an OAuth identity: no secret."""

    provider: str
    subject: str


def _check_oauth(payload: str) -> None:
    try:
        msgspec.json.decode(payload, type=_OAuth)
    except msgspec.MsgspecError:
        raise InvalidValueError(
            "The OAUTH payload must be a JSON object with the texts provider and subject"
        ) from None
