"""Requests to the servers of addresses, through fsspec: credentials, time limits, and what is said where they fail.

What is secret of an address (a password, a signature behind "?") is kept here, in memory, and used for requests alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from pix2pix_training.errors import InputError

TRIES = 3

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "https": "aiohttp", "http": "aiohttp"}
SCHEMES = tuple(_PACKAGES)
_CONNECT_S, _READ_S = 10, 60
_SHORTEST_SECRET = 4

_TIMEOUTS = {"TimeoutError", "ConnectTimeoutError", "ReadTimeoutError", "ServerTimeoutError"}
_NO_CONNECTION = {"ClientConnectionError", "ClientPayloadError", "ConnectionError", "HTTPClientError", "gaierror"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "RefreshError"}
_ENVIRONMENT = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}


class Secret(NamedTuple):
    """What belongs to an address and is not shown: name and password, and what stands behind "?"."""

    user: str | None
    password: str | None
    query: str


_secrets: dict[str, Secret] = {}


def scheme_of(address: str) -> str:
    """What stands before "://"."""
    return address.partition("://")[0]


def keep_secret(address: str, secret: Secret) -> None:
    """Use it for an address, and for whatever lies below that."""
    _secrets[address] = secret


def _secret_of(address: str) -> Secret | None:
    while address and address not in _secrets:
        address = address.rpartition("/")[0]
    return _secrets.get(address)


def with_secret(address: str) -> str:
    """The address for a request, which is not to be shown."""
    secret = _secret_of(address)
    if secret is None:
        return address
    scheme, _, rest = address.partition("://")
    user = "" if secret.user is None else f"{secret.user}:{secret.password or ''}@"
    return f"{scheme}://{user}{rest}" + (f"?{secret.query}" if secret.query else "")


def redacted(text: str) -> str:
    """A text of others without the secrets of addresses."""
    for secret in _secrets.values():
        values = [pair.partition("=")[2] for pair in secret.query.split("&")]
        for hidden in (secret.query, secret.password or "", *values, *map(unquote, values)):
            if len(hidden) >= _SHORTEST_SECRET:
                text = text.replace(hidden, "...")
    return text


def credentials_in_words(address: str) -> str:
    """Where credentials for it come from."""
    return f"those in the environment ({_ENVIRONMENT[scheme_of(address)]})"


def filesystem(address: str, *, asynchronous: bool = False) -> Any:
    """The one of fsspec that serves an address.

    Raises
    ------
    InputError
        A package that it needs is not installed.
    """
    import fsspec

    scheme = scheme_of(address)
    package = _PACKAGES[scheme]
    try:
        __import__(package)
        options = _s3_options() if scheme == "s3" else {} if scheme == "gs" else _web_options(address)
        return fsspec.filesystem(scheme, asynchronous=asynchronous, use_listings_cache=False, **options)
    except ImportError as error:
        wanted = "gcsfs" if scheme == "gs" else '"napari-pix2pix[remote]"'
        raise InputError(f"{address}: {scheme}:// needs the package {package}; pip install {wanted}") from error


def _s3_options() -> dict[str, Any]:
    retries = {"max_attempts": TRIES, "mode": "standard"}
    return {
        "anon": _is_anonymous(),
        "config_kwargs": {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": retries},
    }


@cache
def _is_anonymous() -> bool:
    """Whether there are no credentials, which public buckets do not need."""
    import botocore.session

    return botocore.session.Session().get_credentials() is None


def _web_options(address: str) -> dict[str, Any]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
    options: dict[str, Any] = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    secret = _secret_of(address)
    if secret is not None and secret.query:
        options["params"] = parse_qsl(secret.query, keep_blank_values=True)
    if secret is not None and secret.user is not None:
        options["auth"] = aiohttp.BasicAuth(secret.user, secret.password or "")
    return options


def gdal_settings(address: str) -> dict[str, str]:
    """What GDAL, which makes its own requests, has to find in the environment."""
    settings = {
        "GDAL_HTTP_CONNECTTIMEOUT": str(_CONNECT_S),
        "GDAL_HTTP_MAX_RETRY": str(TRIES),
        "GDAL_HTTP_RETRY_DELAY": "1",
    }
    if scheme_of(address) == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            parts = urlsplit(endpoint)
            settings |= {"AWS_S3_ENDPOINT": parts.netloc, "AWS_HTTPS": "YES" if parts.scheme == "https" else "NO"}
            settings["AWS_VIRTUAL_HOSTING"] = "FALSE"
        if _is_anonymous():
            settings["AWS_NO_SIGN_REQUEST"] = "YES"
    return settings


def trouble_with(address: str, error: BaseException) -> OSError | None:
    """What a server, or the way there, did wrong, in one line; None where an error is of another kind."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, OSError) and cause.filename is not None and cause.strerror:
            return cause  # told already
        found = _trouble(address, cause)
        if found is not None:
            return found
    missing = any(isinstance(cause, FileNotFoundError) for cause in causes)
    return FileNotFoundError(errno.ENOENT, "there is nothing", address) if missing else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it comes from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _trouble(address: str, error: BaseException) -> OSError | None:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status", None)
    if isinstance(error, PermissionError) or status in (401, 403) or kinds & _NO_CREDENTIALS:
        return PermissionError(errno.EACCES, _denied(address), address)
    if kinds & _TIMEOUTS:
        return TimeoutError(errno.ETIMEDOUT, "the server does not answer in time; run again", address)
    if kinds & _NO_CONNECTION:
        return ConnectionError(errno.EHOSTUNREACH, "its server cannot be reached; check address and network", address)
    if status in (404, 410):
        return FileNotFoundError(errno.ENOENT, "there is nothing", address)
    if status is not None:
        return OSError(errno.EIO, f"the server answers with the error {status}; run again later", address)
    if "range requests" in str(error):
        return OSError(errno.ENOTSUP, "its server gives files only as a whole; download it first", address)
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | FileExistsError):
        return OSError(error.errno or errno.EIO, f"the server refuses ({redacted(str(error))[:200]})", address)
    return None


def _denied(address: str) -> str:
    known = _ENVIRONMENT.get(scheme_of(address))
    what = f"credentials in the environment ({known})" if known else "address, and whether its signature has expired"
    return f"access is denied; check the {what}; some servers say so of what is missing, too"
