"""Entities as rows of their system table and back."""

from __future__ import annotations

import json
from typing import Any

from kalamdb_lab.model.entities import MASK, AuthType, LiveQuery, Namespace, StorageDef, User
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.model.roles import Role
from kalamdb_lab.partitions.payload import Row


def user_row(user: User) -> Row:
    """Return the row of ``system.users``."""
    return (
        user.user_id,
        user.role.value,
        user.email,
        user.auth_type.value,
        user.auth_data,
        "table" if user.storage_id is None else "user",
        user.storage_id,
        user.created_at_us,
        user.updated_at_us,
        user.last_login_at_us,
        user.deleted_at_us,
        user.password_hash,
    )


def user_of(row: Any) -> User:
    """Return the user of a row."""
    return User(
        user_id=row[0],
        role=Role(row[1]),
        email=row[2],
        auth_type=AuthType(row[3]),
        auth_data=row[4],
        storage_id=row[6],
        created_at_us=row[7],
        updated_at_us=row[8],
        last_login_at_us=row[9],
        deleted_at_us=row[10],
        password_hash=row[11],
    )


def namespace_row(namespace: Namespace) -> Row:
    """Return the row of ``system.namespaces``."""
    return (
        namespace.name,
        namespace.description,
        "{}",
        namespace.table_count,
        namespace.created_at_us,
        namespace.created_by,
    )


def namespace_of(row: Any) -> Namespace:
    """Return the namespace of a row."""
    return Namespace(
        name=row[0],
        description=row[1],
        table_count=row[3],
        created_at_us=row[4],
        created_by=row[5],
    )


def storage_row(storage: StorageDef) -> Row:
    """Return the row of ``system.storages``."""
    return (
        storage.storage_id,
        storage.name,
        storage.storage_type,
        storage.description,
        storage.base_directory,
        storage.shared_tables_template,
        storage.user_tables_template,
        None if storage.credentials is None else MASK,
        storage.config,
        storage.created_at_us,
        storage.updated_at_us,
        storage.credentials,
    )


def storage_of(row: Any) -> StorageDef:
    """Return the storage of a row."""
    return StorageDef(
        storage_id=row[0],
        name=row[1],
        storage_type=row[2],
        description=row[3],
        base_directory=row[4],
        shared_tables_template=row[5],
        user_tables_template=row[6],
        config=row[8],
        created_at_us=row[9],
        updated_at_us=row[10],
        credentials=row[11],
    )


def live_query_row(live: LiveQuery) -> Row:
    """Return the row of ``system.live_queries``."""
    return (
        live.live_id,
        live.user_id,
        live.namespace,
        live.table_name,
        live.query,
        live.options,
        "active",
        live.changes,
        live.last_seq,
        live.node_id,
        live.created_at_us,
        live.last_update_us,
    )


def live_query_of(row: Any) -> LiveQuery:
    """Return the live query of a row."""
    return LiveQuery(
        live_id=row[0],
        user_id=row[1],
        namespace=row[2],
        table_name=row[3],
        query=row[4],
        options=row[5],
        changes=row[7],
        last_seq=row[8],
        node_id=row[9],
        created_at_us=row[10],
        last_update_us=row[11],
    )


def job_row(job: Job) -> Row:
    """Return the row of ``system.jobs``."""
    return (
        job.job_id,
        job.kind.value,
        job.status.value,
        job.message,
        job.exception_trace,
        json.dumps(dict(job.parameters)),
        job.idempotency_key,
        job.retry_count,
        job.max_retries,
        job.progress,
        job.node_id,
        job.created_by,
        job.created_at_us,
        job.updated_at_us,
        job.started_at_us,
        job.finished_at_us,
    )


def job_of(row: Any) -> Job:
    """Return the job of a row."""
    return Job(
        job_id=row[0],
        kind=JobKind(row[1]),
        status=JobStatus(row[2]),
        message=row[3],
        exception_trace=row[4],
        parameters=json.loads(row[5]),
        idempotency_key=row[6],
        retry_count=row[7],
        max_retries=row[8],
        progress=row[9],
        node_id=row[10],
        created_by=row[11],
        created_at_us=row[12],
        updated_at_us=row[13],
        started_at_us=row[14],
        finished_at_us=row[15],
    )
